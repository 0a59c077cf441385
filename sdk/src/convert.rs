//! Between the messages of the contract and the [`model`](crate::model). Nothing else reads or writes generated types,
//! except the files that make the calls.

pub(crate) mod delivery;
pub(crate) mod event;
pub(crate) mod event_type;
pub(crate) mod subscription;
pub(crate) mod target_check;
pub(crate) mod test_event;
pub(crate) mod time;

use crate::{Error, Result};

/// A message that the contract promises.
fn required<T>(value: Option<T>, field: &str) -> Result<T> {
    value.ok_or_else(|| Error::malformed_answer(field))
}

/// proto3 writes "none" as the empty string.
fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Counts are `int32` in the contract and never negative.
fn count(number: i32, field: &str) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::malformed_answer(field))
}
