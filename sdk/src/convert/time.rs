//! Points in time and durations.

use std::time::Duration;

use time::OffsetDateTime;

use super::required;
use crate::{Error, Result};

pub(crate) fn to_pb(time: OffsetDateTime) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.unix_timestamp(),
        nanos: i32::try_from(time.nanosecond()).unwrap_or_default(),
    }
}

pub(crate) fn from_pb(time: Option<prost_types::Timestamp>, field: &str) -> Result<OffsetDateTime> {
    let time = required(time, field)?;
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| Error::malformed_answer(field))
}

pub(crate) fn optional(time: Option<prost_types::Timestamp>, field: &str) -> Result<Option<OffsetDateTime>> {
    time.map(|time| from_pb(Some(time), field)).transpose()
}

pub(super) fn duration(span: Option<prost_types::Duration>, field: &str) -> Result<Option<Duration>> {
    span.map(|span| duration_from_pb(span, field)).transpose()
}

pub(crate) fn duration_from_pb(span: prost_types::Duration, field: &str) -> Result<Duration> {
    span.try_into().map_err(|_| Error::malformed_answer(field))
}

pub(crate) fn duration_to_pb(span: Duration) -> prost_types::Duration {
    // What is too long for the wire is too long for the server, which says so.
    span.try_into().unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_time_survives_the_wire() {
        for time in [datetime!(2024-11-21 11:00:00.123456789 UTC), datetime!(1969-12-31 23:59:59.5 UTC)] {
            assert_eq!(from_pb(Some(to_pb(time)), "time").unwrap(), time);
        }
    }

    #[test]
    fn a_negative_duration_is_refused() {
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        assert!(duration(Some(negative), "total_duration").is_err());
    }
}
