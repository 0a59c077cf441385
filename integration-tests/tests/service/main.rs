//! The whole, through the SDK, on both databases.

#![expect(clippy::unwrap_used, reason = "tests")]

mod deliver;
