//! The failing policy in rows: what is noted of a subscription that fails, and how it is disabled.
//!
//! Whose time has come is found by [`look`] and [`probes`]. Any node may look; a row is locked while it is decided on, and who comes second
//! finds that there is nothing left to do. Looking costs one look at an index that holds only those that fail.

use std::time::Duration;

use sea_orm::{ActiveModelTrait, DatabaseTransaction, DbErr, IntoActiveModel};

use super::{codes, entity::subscriptions, operational_events, rows};
use crate::domain::{
    failing::{Failing, FailurePolicy},
    subscription::DisabledReason,
    timestamp::Timestamp,
};

mod look;
mod probes;

pub use look::Looked;
pub use probes::ToProbe;

/// When to look again at a row that this node cannot read.
const UNREADABLE_FOR: Duration = Duration::from_mins(10);

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
    let micros = |at: Option<Timestamp>| at.map(Timestamp::as_micros);
    (row.failing_suspected_at, row.unacknowledged_since) = (None, None);
    (row.last_failed_at, row.last_failure) = (None, None);
    (row.failing_announced_at, row.disable_at, row.failing_look_at) = (None, None, None);
    let Some(failing) = failing else { return };
    row.failing_suspected_at = Some(failing.suspected_at.as_micros());
    row.unacknowledged_since = micros(failing.since);
    row.last_failed_at = Some(failing.last_failed_at.as_micros());
    row.last_failure = Some(failing.last_failure);
    row.failing_announced_at = micros(failing.announced_at);
    row.disable_at = micros(failing.disable_at);
    row.failing_look_at = micros(failing.look_at);
}

/// What failed so far says nothing any more. One that was disabled for it stays as it is, and goes on being probed.
pub(super) fn forget(row: &mut subscriptions::Model) {
    if row.disabled_at.is_none() {
        set(row, None);
    }
}

/// The owner has changed the policy: somebody has to look by the new one.
pub(super) fn policy_changed(
    row: &mut subscriptions::Model,
    before: &FailurePolicy,
    policy: &FailurePolicy,
    now: Timestamp,
) {
    let is_disabled = row.disabled_reason == Some(codes::disabled_reason_code(DisabledReason::Failing));
    let look_at = match policy.probe_interval {
        _ if !is_disabled => row.unacknowledged_since.map(|_| now),
        interval => interval.map(|interval| now + interval),
    };
    row.failing_look_at = look_at.map(Timestamp::as_micros);
    if policy.disable != before.disable && !is_disabled {
        // Its tenant was told of another time, and is told of the new one.
        row.failing_announced_at = None;
    }
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
