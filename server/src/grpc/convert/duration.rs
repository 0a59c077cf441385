//! Spans of time, as they are read.

use std::time::Duration;

use crate::domain::invalid::Invalid;

/// Reads a span; one below zero cannot be.
pub(super) fn of(span: prost_types::Duration, field: &str) -> Result<Duration, Invalid> {
    Duration::try_from(span).map_err(|_| Invalid::new(field, "must not be negative"))
}

/// Reads a span that may be absent.
pub(super) fn optional(
    span: Option<prost_types::Duration>,
    field: &str,
) -> Result<Option<Duration>, Invalid> {
    span.map(|span| of(span, field)).transpose()
}
