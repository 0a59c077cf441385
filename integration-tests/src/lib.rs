//! What the tests of the whole are made of: a database of each kind, a receiver, a server.
//!
//! Everything is real: PostgreSQL is a server that `scripts/test` starts, the receiver answers HTTP on loopback, calls go through
//! gRPC. Only time is not: a [`TestApp`] has a clock that stands still until a test puts it forward, and its loops are
//! pushed by hand, so that no test sleeps or guesses.

#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a harness for tests")]

mod app;
mod collector;
mod database;
pub mod faults;
mod fixtures;
mod http1;
mod needles;
mod process;
mod raw;
mod receiver;
mod refusal;

pub use app::{Builder, TestApp};
pub use collector::{Collector, Span};
pub use database::{Kind, TestDatabase};
pub use fixtures::{an_event, default_tenant};
pub use http1::send as send_http1;
pub use needles::Needles;
pub use process::{Exit, Process, ProcessBuilder};
pub use raw::Raw;
pub use receiver::{Gate, Receiver, Request};
pub use refusal::{Refusal, Refused};

/// The examples of this document compile.
#[cfg(doctest)]
#[doc = include_str!("../../docs/migrating.md")]
struct Migrating;

/// And those of this one.
#[cfg(doctest)]
#[doc = include_str!("../../docs/handshakes.md")]
struct Handshakes;

/// Makes two tests of each function: one on SQLite, one on PostgreSQL.
///
/// ```text
/// on_both_databases! {
///     async fn a_sentence_about_the_store(kind: Kind) { … }
/// }
/// ```
#[macro_export]
macro_rules! on_both_databases {
    ($(async fn $name:ident($kind:ident: Kind) $body:block)+) => {
        $(async fn $name($kind: $crate::Kind) $body)+

        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::within_five_minutes(super::$name($crate::Kind::Sqlite)).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::within_five_minutes(super::$name($crate::Kind::Postgres)).await;
            })+
        }
    };
}

/// Fails a test that hangs.
pub async fn within_five_minutes(test: impl Future<Output = ()>) {
    let limit = std::time::Duration::from_mins(5);
    tokio::time::timeout(limit, test).await.expect("the test hangs");
}
