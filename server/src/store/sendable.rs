//! Which subscriptions may be sent to: the one definition for claims, fan-outs and publishes.
//!
//! Blocks and rates are none of it: those hold back some of what is due, not all of it.

use sea_orm::{Condition, sea_query::Expr};

use super::entity::subscriptions;

/// In SQL: it is there, neither disabled nor paused, and its receiver has agreed.
pub(super) const SENDABLE: &str =
    "deleted_at IS NULL AND disabled_at IS NULL AND paused_at IS NULL AND handshake_due_at IS NULL";

/// The same as a condition.
pub(super) fn condition() -> Condition {
    Condition::all().add(Expr::cust(SENDABLE))
}

/// Whether what is matched with a living subscription has to wait.
pub(super) fn is_held(row: &subscriptions::Model) -> bool {
    row.paused_at.is_some() || row.handshake_due_at.is_some()
}
