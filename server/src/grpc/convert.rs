//! Messages become domain values, and back. Nothing else names both.

use std::time::Duration;

use crate::domain::{invalid::Invalid, timestamp::Timestamp};

mod authentication;
pub(super) mod delivery;
mod duration;
pub(super) mod event;
pub(super) mod event_type;
mod failing;
pub(super) mod filter;
mod format;
mod handshake;
mod receiver_tls;
mod retry;
pub(super) mod signing;
pub(super) mod subscription;
pub(super) mod target_check;
pub(super) mod test_event;

/// Reads an optional point in time.
pub(super) fn timestamp(
    field: &str,
    time: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, Invalid> {
    let Some(time) = time else { return Ok(None) };
    let invalid = || Invalid::new(field, "must lie in the years 1 to 9999, with 0 to 999999999 nanoseconds");
    Timestamp::from_parts(time.seconds, time.nanos).map(Some).ok_or_else(invalid)
}

/// Writes a point in time.
#[expect(clippy::unnecessary_wraps, reason = "message fields are optional")]
pub(super) fn to_timestamp(time: Timestamp) -> Option<prost_types::Timestamp> {
    let nanos = i32::try_from(time.subsec_nanos()).unwrap_or(0);
    Some(prost_types::Timestamp { seconds: time.unix_seconds(), nanos })
}

/// Writes a span of time.
pub(super) fn to_duration(span: Duration) -> prost_types::Duration {
    let nanos = i32::try_from(span.subsec_nanos()).unwrap_or(0);
    prost_types::Duration { seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX), nanos }
}
