//! A receiver that is faster than whatever sends to it, and keeps count. As a helper it serves; [`Receiver`] is the other end.
//!
//! Callbacks go to `/hook/GROUP/SUBSCRIPTION`. Every subscription has its own record of what it has had; counts, latencies and
//! the behaviour belong to the group. What is under `/control` is for whoever runs the benchmark.

mod board;
mod handle;
mod numbered;
mod seen;
mod serve;

pub(crate) use board::GroupReport;
pub(crate) use handle::{Behaviour, Receiver};
pub(crate) use numbered::Numbered;
pub(crate) use serve::run;
