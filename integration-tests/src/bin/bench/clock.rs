//! The one clock that all processes of a run share: the machine's.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970. A producer writes it into its events and the receiver, on the same machine, compares.
#[expect(clippy::disallowed_methods, reason = "what is measured here is time, between processes")]
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Seconds between two readings.
#[expect(clippy::cast_precision_loss, reason = "a span of hours has 34 bits")]
pub(crate) fn seconds(from: u64, until: u64) -> f64 {
    until.saturating_sub(from) as f64 / 1e6
}
