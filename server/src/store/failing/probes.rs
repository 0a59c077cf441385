//! Takes over the probes of those that were disabled for failing, and writes what they came to.

use std::sync::Arc;

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, prelude::Uuid, sea_query::Expr,
};

use super::{UNREADABLE_FOR, of_row, set, store, store_changed};
use crate::{
    domain::{
        claim::Target,
        failing::{Failing, Probed},
        subscription::DisabledReason,
        timestamp::Timestamp,
    },
    store::{
        Error, Store, codes, entity::subscriptions, lookup, operational_events, rows, sending,
        subscriptions::unblock, tenants,
    },
};

/// A subscription that this node is to probe.
#[derive(Debug, Clone)]
pub struct ToProbe {
    /// Where to.
    pub target: Arc<Target>,
    /// Until when nobody else does; also the fence for what comes of it.
    pub held_until: Timestamp,
}

impl Store {
    /// Takes over the probe of a subscription that was disabled for failing, if any is due.
    pub async fn take_probe(&self, now: Timestamp, held_until: Timestamp) -> Result<Option<ToProbe>, Error> {
        use subscriptions::Column;
        let is_due = may_be_probed().add(Column::FailingLookAt.lte(now.as_micros()));
        loop {
            let next: Option<Uuid> = subscriptions::Entity::find()
                .select_only()
                .column(Column::Uid)
                .filter(is_due.clone())
                .order_by_asc(Column::FailingLookAt)
                .limit(1)
                .into_tuple()
                .one(&self.connections.keeper)
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
                Some(Ok(target)) if target.settings.is_some() => {
                    return Ok(Some(ToProbe { target, held_until }));
                }
                Some(Err(cause)) => tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    subscription.uid = %uid,
                    "a subscription cannot be read and is not probed"
                ),
                // What is wrong was logged. A later lease, or another node, may have the key.
                Some(Ok(_)) | None => {}
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
        let is_ours = may_be_probed()
            .add(Column::FailingLookAt.eq(probe.held_until.as_micros()))
            // What another target answers says nothing of this one.
            .add(Column::TargetUrl.eq(probe.target.url.as_str()));
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
                let pause = match rows::settings(&row, &self.keyring) {
                    Ok(settings) => settings.failure.unwrap_or_default().probe_interval,
                    // Another node may have its key.
                    Err(_) => Some(UNREADABLE_FOR),
                };
                let failing = failing.map(|failing| Failing {
                    last_failed_at: now,
                    last_failure: told.clone(),
                    look_at: pause.map(|pause| now + pause),
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

/// It was disabled for failing, and nothing else keeps it from being sent to.
fn may_be_probed() -> Condition {
    use subscriptions::Column;
    Condition::all()
        .add(Column::DisabledReason.eq(codes::disabled_reason_code(DisabledReason::Failing)))
        .add(Column::DeletedAt.is_null())
        .add(Column::PausedAt.is_null())
        .add(Column::HandshakeDueAt.is_null())
}
