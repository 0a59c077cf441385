//! The rate that claims go by: the owner's limit, or what the receiver has allowed by its handshake, if that is lower.
//!
//! Claims know one rate. Where both sides have set one the columns of the claim hold the lower one, and the owner's is kept beside.

use super::{entity::subscriptions::Model, rows};
use crate::domain::rate_limit::RateLimit;

/// What the owner has set.
pub(super) fn own(row: &Model) -> Option<RateLimit> {
    match row.allowed_rate {
        Some(_) => rows::rate_limit(row.own_rate_per_second, row.own_rate_burst),
        None => in_force(row),
    }
}

/// What holds.
pub(super) fn in_force(row: &Model) -> Option<RateLimit> {
    rows::rate_limit(row.rate_per_second, row.rate_burst)
}

/// How many callbacks a minute the receiver has allowed.
pub(super) fn allowed(row: &Model) -> Option<u32> {
    row.allowed_rate.and_then(|rate| u32::try_from(rate).ok())
}

/// The owner sets a limit, or takes it away.
pub(super) fn set_own(row: &mut Model, own: Option<RateLimit>) {
    let allowed = row.allowed_rate;
    set(row, own, allowed);
}

/// The receiver allows so many callbacks a minute, or any number.
pub(super) fn set_allowed(row: &mut Model, per_minute: Option<u32>) {
    let own = own(row);
    set(row, own, per_minute.map(|rate| i32::try_from(rate).unwrap_or(i32::MAX)));
}

fn set(row: &mut Model, own: Option<RateLimit>, allowed: Option<i32>) {
    let before = (row.rate_per_second, row.rate_burst);
    let theirs = allowed.map(|rate| RateLimit::per_minute(u32::try_from(rate).unwrap_or(1)));
    let limit = match (own, theirs) {
        (Some(own), Some(theirs)) => Some(own.lower(theirs)),
        (own, theirs) => own.or(theirs),
    };
    row.allowed_rate = allowed;
    (row.rate_per_second, row.rate_burst) = columns(limit);
    (row.own_rate_per_second, row.own_rate_burst) = columns(own.filter(|_| allowed.is_some()));
    if (row.rate_per_second, row.rate_burst) != before {
        (row.rate_used_until, row.throttled_until) = (None, None);
    }
}

/// As it is stored.
pub(super) fn columns(limit: Option<RateLimit>) -> (Option<f64>, Option<i32>) {
    (limit.map(RateLimit::per_second), limit.map(|limit| i32::try_from(limit.burst()).unwrap_or(i32::MAX)))
}
