//! Records attempts and what follows from them: for their deliveries, for those that wait for these, and for their subscriptions.
//!
//! Most batches concern deliveries alone, and are settled [`at_once`].

use std::collections::{BTreeSet, HashSet};

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult,
    prelude::Uuid,
};

use crate::{
    dispatch::{Settled, Settling},
    domain::{claim::Target, id::DeliveryId, operational::About, timestamp::Timestamp},
    store::{
        self, Error, Store,
        bulk::Script,
        entity::subscriptions,
        lanes::{self, Lane},
        lookup, operational_events, tenants,
    },
};

mod at_once;
mod breaker;
mod failing;
mod statements;
mod window;

impl Store {
    pub(super) async fn settle_batch(&self, batch: &[Settled]) -> Result<Settling, Error> {
        let concerns_deliveries_alone = |settled: &Settled| {
            !settled.concerns_its_subscription()
                && settled.ordering_key.is_none()
                && settled.exhausted.is_none()
        };
        if batch.iter().all(concerns_deliveries_alone)
            && let Some(lost) = at_once::settle(&self.connections.engine, batch).await?
        {
            return Ok(Settling { lost, ..Settling::default() });
        }
        let transaction = self.connections.begin_engine().await?;
        lanes::lock(&transaction, &lanes_of(batch)).await?;
        let Moved { ours, mut left } = record_and_move(&transaction, batch).await?;
        let lost = lost(batch, &ours);
        left.extend(attempts_over(&transaction, batch, &ours).await?);
        let released = release(&transaction, batch, &left).await?;
        tell_of_exhausted(&transaction, batch, &lost).await?;
        breaker::lock_all(&transaction, batch).await?;
        let breakers_turned = breaker::change(&transaction, batch).await?;
        window::keep(&transaction, batch).await?;
        let mut tenants = failing::note(&transaction, batch).await?;
        let disabled = disable_unwanted(&transaction, batch, &mut tenants).await?;
        for tenant in &tenants {
            tenants::raise_version(&transaction, tenant).await?;
        }
        transaction.commit().await?;
        Ok(Settling { lost, disabled, breakers_turned, released })
    }
}

/// What became of deliveries.
#[derive(Default)]
struct Moved {
    /// Those that were still ours: not taken over by somebody else, nor cancelled.
    ours: HashSet<Uuid>,
    /// The lanes of those that ended.
    left: BTreeSet<Lane>,
}

impl Moved {
    fn add(&mut self, rows: Vec<QueryResult>) -> Result<(), DbErr> {
        for row in rows {
            self.ours.insert(row.try_get("", "id")?);
            if row.try_get("", "ended")? {
                let subscription = row.try_get("", "subscription_uid")?;
                let (key, position) = (row.try_get("", "ordering_key")?, row.try_get("", "position")?);
                self.left.extend(Lane::of_row(subscription, key, position));
            }
        }
        Ok(())
    }
}

/// The lanes that deliveries stand in, or did before they ended.
fn lanes_of(batch: &[Settled]) -> BTreeSet<Lane> {
    batch.iter().filter_map(lane_of).collect()
}

fn lane_of(settled: &Settled) -> Option<Lane> {
    Some(Lane::new(settled.target.uid, settled.ordering_key.as_ref()?))
}

/// Frees the lanes that attempts kept busy whose deliveries had ended before them. Returns those lanes.
async fn attempts_over(
    transaction: &DatabaseTransaction,
    batch: &[Settled],
    ours: &HashSet<Uuid>,
) -> Result<Vec<Lane>, DbErr> {
    let lost = batch.iter().filter(|settled| !ours.contains(&settled.delivery.uuid()));
    let leases: Vec<_> = lost.filter_map(|settled| Some((lane_of(settled)?, settled.leased_until))).collect();
    lanes::attempts_over(transaction, &leases).await?;
    Ok(leases.into_iter().map(|(lane, _)| lane).collect())
}

/// When the last of a batch was decided on.
fn latest(batch: &[Settled]) -> Timestamp {
    batch.iter().map(|settled| settled.at).max().unwrap_or_default()
}

/// Lets the next ones of these lanes go.
async fn release(
    transaction: &DatabaseTransaction,
    batch: &[Settled],
    left: &BTreeSet<Lane>,
) -> Result<bool, DbErr> {
    Ok(lanes::release(transaction, left, latest(batch)).await? > 0)
}

/// Records the attempts and moves the deliveries on. The log is true also of attempts from which nothing follows any more.
async fn record_and_move(transaction: &DatabaseTransaction, batch: &[Settled]) -> Result<Moved, DbErr> {
    let mut moved = Moved::default();
    if transaction.get_database_backend() != DbBackend::Sqlite {
        moved.add(transaction.query_all_raw(statements::within_transaction(batch)).await?)?;
    } else if batch.len() <= Script::MAX_ROWS {
        moved.add(Script::default().with(statements::lists(batch)).run(transaction).await?)?;
    } else {
        for list in statements::lists(batch) {
            moved.add(transaction.query_all_raw(list.into()).await?)?;
        }
    }
    Ok(moved)
}

/// Those of a batch that are not among `ours`.
fn lost(batch: &[Settled], ours: &HashSet<Uuid>) -> Vec<DeliveryId> {
    let deliveries = batch.iter().map(|settled| settled.delivery);
    deliveries.filter(|delivery| !ours.contains(&delivery.uuid())).collect()
}

/// Has the tenants told whose deliveries have used up their schedules, of those that were still ours.
async fn tell_of_exhausted(
    transaction: &DatabaseTransaction,
    batch: &[Settled],
    lost: &[DeliveryId],
) -> Result<(), DbErr> {
    let notice = |settled: &Settled| {
        let exhausted = settled.exhausted.as_ref()?;
        let Target { tenant, id, uid, .. } = &*settled.target;
        let about = About { tenant, id, uid: *uid };
        let is_ours = !lost.contains(&settled.delivery);
        is_ours.then(|| about.exhausted(exhausted, settled.delivery, settled.number, settled.at))
    };
    let notices = batch.iter().filter_map(notice).collect();
    operational_events::put(transaction, notices, latest(batch)).await
}

/// Disables the subscriptions whose receivers want nothing more, unless they have been given another target since the attempt was
/// made; adds their tenants, and returns whether there were any.
async fn disable_unwanted(
    transaction: &DatabaseTransaction,
    batch: &[Settled],
    tenants: &mut BTreeSet<String>,
) -> Result<bool, DbErr> {
    let mut disabled = false;
    for settled in batch {
        let Some(reason) = settled.disables() else { continue };
        let is_open = Condition::all()
            .add(subscriptions::Column::TargetUrl.eq(settled.target.url.as_str()))
            .add(subscriptions::Column::DisabledAt.is_null())
            .add(subscriptions::Column::DeletedAt.is_null());
        let rows = lookup::locked_all(transaction, vec![settled.target.uid.uuid()], is_open).await?;
        for row in rows {
            tenants.insert(row.tenant_id.clone());
            store::failing::disable(transaction, row, reason, None, settled.at).await?;
            disabled = true;
        }
    }
    Ok(disabled)
}
