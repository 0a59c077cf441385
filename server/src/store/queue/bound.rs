//! The parameters of the claim and of the look for what is overdue, by name. Every statement that begins with
//! [what is open](super::open) has all of them, in this order, and its lists behind them.

use sea_orm::Value;

use super::stretch::Stretch;
use crate::dispatch::{Ask, RECOVERY};

/// The most deliveries of one claim: bounds its transaction, its memory, and how many values its statements carry.
pub(super) const MAX_CLAIMED: usize = 500;

/// The time.
pub(super) const NOW: &str = "$1";
/// The end of the lease.
pub(super) const LEASED_UNTIL: &str = "$2";
/// How many deliveries this node may hold of one subscription.
pub(super) const PER_SUBSCRIPTION: &str = "$3";
/// How many more the node has room for.
pub(super) const ROOM: &str = "$4";
/// Since when a recovery is a recent one.
pub(super) const RECENTLY: &str = "$5";
/// How many places this node may give to one tenant.
pub(super) const PER_TENANT: &str = "$6";
/// Behind which subscription the stretch begins.
pub(super) const AFTER: &str = "$7";
/// With which one it ends.
pub(super) const UNTIL: &str = "$8";

/// What they are.
pub(super) fn values(ask: &Ask, stretch: Stretch) -> Vec<Value> {
    vec![
        ask.now.as_micros().into(),
        ask.leased_until.as_micros().into(),
        integer(ask.max_per_subscription),
        integer(ask.max.min(MAX_CLAIMED)),
        ask.now.before(RECOVERY).as_micros().into(),
        integer(ask.max_per_tenant),
        stretch.after.into(),
        stretch.until.into(),
    ]
}

/// A number as the database takes it.
pub(super) fn integer(count: usize) -> Value {
    i32::try_from(count).unwrap_or(i32::MAX).into()
}
