//! The whole, through the SDK and, where that cannot express it, past it; on both databases.

#![expect(clippy::unwrap_used, reason = "tests")]

mod deliver;
mod publish;
mod request_id;
mod ways;
