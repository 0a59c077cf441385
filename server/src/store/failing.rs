//! The failing policy in rows: whose time has come to be announced, disabled or probed, and what is written then.
//!
//! Any node may look; a row is locked while it is decided on, and who comes second finds that there is nothing left to do. Looking
//! costs one look at an index that holds only those that fail.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect, prelude::Uuid, sea_query::Expr,
};

use super::{
    Error, Store, codes, entity::subscriptions, lookup, operational_events, rows, sending,
    subscriptions::unblock, tenants,
};
use crate::domain::{
    claim::Target,
    failing::{Disable, Failing, FailurePolicy, Probed, Step},
    operational::Notice,
    subscription::DisabledReason,
    timestamp::Timestamp,
};

/// How many rows one transaction decides on.
const BATCH: u64 = 100;
/// When to look again at a row that this node cannot read.
const UNREADABLE_FOR: Duration = Duration::from_mins(10);

/// What came of a look at those that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Looked {
    /// How many were looked at.
    pub found: usize,
    /// How many tenants' subscriptions were announced to be failing.
    pub announced: usize,
    /// How many were disabled.
    pub disabled: usize,
}

/// A subscription that this node is to probe.
#[derive(Debug, Clone)]
pub struct ToProbe {
    /// Where to.
    pub target: Arc<Target>,
    /// Until when nobody else does; also the fence for what comes of it.
    pub held_until: Timestamp,
}

/// What is noted in a row.
pub(super) fn of_row(row: &subscriptions::Model) -> Option<Failing> {
    let suspected_at = row.failing_suspected_at?;
    Some(Failing {
        suspected_at: Timestamp::from_micros(suspected_at),
        since: row.unacknowledged_since.map(Timestamp::from_micros),
        last_failed_at: Timestamp::from_micros(row.last_failed_at.unwrap_or(suspected_at)),
        last_failure: row.last_failure.clone().unwrap_or_default(),
        announced_at: row.failing_announced_at.map(Timestamp::from_micros),
        disable_at: row.disable_at.map(Timestamp::from_micros),
        look_at: row.failing_look_at.map(Timestamp::from_micros),
    })
}

/// Notes this in a row, or that there is nothing to note.
pub(super) fn set(row: &mut subscriptions::Model, failing: Option<Failing>) {
    let failing = failing.as_ref();
    let micros = |at: Option<Timestamp>| at.map(Timestamp::as_micros);
    row.failing_suspected_at = failing.map(|failing| failing.suspected_at.as_micros());
    row.unacknowledged_since = micros(failing.and_then(|failing| failing.since));
    row.last_failed_at = failing.map(|failing| failing.last_failed_at.as_micros());
    row.last_failure = failing.map(|failing| failing.last_failure.clone());
    row.failing_announced_at = micros(failing.and_then(|failing| failing.announced_at));
    row.disable_at = micros(failing.and_then(|failing| failing.disable_at));
    row.failing_look_at = micros(failing.and_then(|failing| failing.look_at));
}

/// What failed so far says nothing any more. One that was disabled for it stays as it is, and goes on being probed.
pub(super) fn forget(row: &mut subscriptions::Model) {
    if row.disabled_at.is_none() {
        set(row, None);
    }
}

/// The owner has changed the policy: somebody has to look by the new one.
pub(super) fn policy_changed(row: &mut subscriptions::Model, policy: &FailurePolicy, now: Timestamp) {
    let is_disabled = row.disabled_reason == Some(codes::disabled_reason_code(DisabledReason::Failing));
    let look_at = match policy.probe_interval {
        _ if !is_disabled => row.unacknowledged_since.map(|_| now),
        interval => interval.map(|interval| now + interval),
    };
    row.failing_look_at = look_at.map(Timestamp::as_micros);
}

/// Disables a subscription whose row is locked, and tells its tenant; the caller raises the tenant's version.
pub(super) async fn disable(
    transaction: &DatabaseTransaction,
    mut row: subscriptions::Model,
    reason: DisabledReason,
    failing: Option<Failing>,
    now: Timestamp,
) -> Result<(), DbErr> {
    let about = rows::Named::of(&row);
    let notice = about.about().disabled(reason, failing.as_ref(), now);
    operational_events::put(transaction, vec![notice], now).await?;
    set(&mut row, failing);
    (row.disabled_at, row.disabled_reason) =
        (Some(now.as_micros()), Some(codes::disabled_reason_code(reason)));
    store_changed(transaction, row, now).await
}

/// Writes a row whose subscription has changed.
async fn store_changed(
    transaction: &DatabaseTransaction,
    mut row: subscriptions::Model,
    now: Timestamp,
) -> Result<(), DbErr> {
    row.revision += 1;
    row.updated_at = now.as_micros();
    store(transaction, row).await
}

/// Writes a row that is locked.
pub(super) async fn store(transaction: &DatabaseTransaction, row: subscriptions::Model) -> Result<(), DbErr> {
    row.into_active_model().reset_all().update(transaction).await.map(drop)
}

impl Store {
    /// Does what is due at `now` with some of the subscriptions that fail; those whose owners say nothing go by this policy. There may be
    /// more of them if any was found.
    pub async fn look_after_failing(&self, default: Disable, now: Timestamp) -> Result<Looked, Error> {
        let is_due = Condition::all()
            .add(subscriptions::Column::FailingLookAt.lte(now.as_micros()))
            .add(subscriptions::Column::DisabledAt.is_null());
        let due: Vec<Uuid> = subscriptions::Entity::find()
            .select_only()
            .column(subscriptions::Column::Uid)
            .filter(is_due.clone())
            .order_by_asc(subscriptions::Column::FailingLookAt)
            .limit(BATCH)
            .into_tuple()
            .all(&self.connections.reader)
            .await?;
        if due.is_empty() {
            return Ok(Looked::default());
        }
        let transaction = self.connections.begin().await?;
        let mut looked = Looked::default();
        let mut tenants = BTreeSet::new();
        let mut notices = Vec::new();
        for row in lookup::locked_all(&transaction, due, is_due).await? {
            looked.found += 1;
            let tenant = row.tenant_id.clone();
            match self.look(&transaction, row, default, now, &mut notices).await? {
                Step::Wait => {}
                Step::Announce => looked.announced += 1,
                Step::Disable => {
                    looked.disabled += 1;
                    tenants.insert(tenant);
                }
            }
        }
        operational_events::put(&transaction, notices, now).await?;
        for tenant in &tenants {
            tenants::raise_version(&transaction, tenant).await?;
        }
        transaction.commit().await?;
        Ok(looked)
    }

    async fn look(
        &self,
        transaction: &DatabaseTransaction,
        mut row: subscriptions::Model,
        default: Disable,
        now: Timestamp,
        notices: &mut Vec<Notice>,
    ) -> Result<Step, Error> {
        let policy = match rows::settings(&row, &self.keyring) {
            Ok(settings) => settings.failure.unwrap_or_default(),
            Err(cause) => {
                tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    subscription.id = row.id,
                    "a failing subscription cannot be read and is left as it is"
                );
                row.failing_look_at = Some((now + UNREADABLE_FOR).as_micros());
                store(transaction, row).await?;
                return Ok(Step::Wait);
            }
        };
        let Some(mut failing) = of_row(&row) else {
            row.failing_look_at = None;
            store(transaction, row).await?;
            return Ok(Step::Wait);
        };
        let named = rows::Named::of(&row);
        let step = failing.look(policy.disable(default), now);
        match step {
            Step::Disable => {
                tracing::warn!(
                    tenant.id = %named.tenant,
                    subscription.id = %named.id,
                    reason = failing.told(),
                    "a subscription is disabled: there is nothing but failure"
                );
                failing.look_at = policy.probe_interval.map(|interval| now + interval);
                disable(transaction, row, DisabledReason::Failing, Some(failing), now).await?;
            }
            Step::Announce | Step::Wait => {
                if step == Step::Announce {
                    tracing::warn!(
                        tenant.id = %named.tenant,
                        subscription.id = %named.id,
                        reason = failing.told(),
                        "a subscription fails and will be disabled"
                    );
                    notices.push(named.about().failing(&failing, now));
                }
                set(&mut row, Some(failing));
                store(transaction, row).await?;
            }
        }
        Ok(step)
    }

    /// Takes over the probe of a subscription that was disabled for failing, if any is due.
    pub async fn take_probe(&self, now: Timestamp, held_until: Timestamp) -> Result<Option<ToProbe>, Error> {
        use subscriptions::Column;
        let is_due = Condition::all()
            .add(Column::FailingLookAt.lte(now.as_micros()))
            .add(Column::DisabledReason.eq(codes::disabled_reason_code(DisabledReason::Failing)))
            .add(Column::DeletedAt.is_null());
        loop {
            let next: Option<Uuid> = subscriptions::Entity::find()
                .select_only()
                .column(Column::Uid)
                .filter(is_due.clone())
                .order_by_asc(Column::FailingLookAt)
                .limit(1)
                .into_tuple()
                .one(&self.connections.reader)
                .await?;
            let Some(uid) = next else { return Ok(None) };
            let taken = subscriptions::Entity::update_many()
                .col_expr(Column::FailingLookAt, Expr::value(Some(held_until.as_micros())))
                .filter(Column::Uid.eq(uid))
                .filter(is_due.clone())
                .exec(&self.connections.writer)
                .await?;
            if taken.rows_affected != 1 {
                // Another node was quicker; there may be others.
                continue;
            }
            let mut targets = sending::targets(
                &self.connections.writer,
                &self.keyring,
                [uid].into_iter(),
                Condition::all(),
            )
            .await?;
            match targets.remove(&uid) {
                Some(Ok(target)) => return Ok(Some(ToProbe { target, held_until })),
                Some(Err(cause)) => tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    subscription.uid = %uid,
                    "a subscription cannot be read and is not probed"
                ),
                None => {}
            }
        }
    }

    /// Writes what a probe came to, unless somebody else has decided otherwise; says whether it did.
    pub async fn settle_probe(
        &self,
        probe: &ToProbe,
        probed: &Probed,
        now: Timestamp,
    ) -> Result<bool, Error> {
        use subscriptions::Column;
        let transaction = self.connections.begin().await?;
        let is_ours = Condition::all()
            .add(Column::FailingLookAt.eq(probe.held_until.as_micros()))
            .add(Column::DisabledReason.eq(codes::disabled_reason_code(DisabledReason::Failing)));
        let uid = probe.target.uid.uuid();
        let Some(mut row) = lookup::locked_all(&transaction, vec![uid], is_ours).await?.pop() else {
            transaction.rollback().await?;
            return Ok(false);
        };
        let tenant = row.tenant_id.clone();
        let failing = of_row(&row);
        match probed {
            Probed::Recovered => {
                if let Some(failing) = &failing {
                    let notice = rows::Named::of(&row).about().recovered(failing, true, now);
                    operational_events::put(&transaction, vec![notice], now).await?;
                }
                (row.disabled_at, row.disabled_reason) = (None, None);
                set(&mut row, None);
                unblock(&mut row, now);
                // Whoever sends to it begins with one attempt at a time.
                row.recovered_at = Some(now.as_micros());
                store_changed(&transaction, row, now).await?;
                tenants::raise_version(&transaction, &tenant).await?;
            }
            Probed::Failed(told) => {
                let settings = rows::settings(&row, &self.keyring).ok();
                let policy = settings.and_then(|settings| settings.failure).unwrap_or_default();
                let failing = failing.map(|failing| Failing {
                    last_failed_at: now,
                    last_failure: told.clone(),
                    look_at: policy.probe_interval.map(|interval| now + interval),
                    ..failing
                });
                set(&mut row, failing);
                store(&transaction, row).await?;
            }
            Probed::Unwanted(reason) => {
                row.disabled_reason = Some(codes::disabled_reason_code(*reason));
                row.failing_look_at = None;
                store_changed(&transaction, row, now).await?;
            }
        }
        transaction.commit().await?;
        Ok(true)
    }
}
