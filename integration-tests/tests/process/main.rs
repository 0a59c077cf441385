//! The real binary: what it does when it is killed, stopped, traced, or started wrongly.

#![expect(clippy::unwrap_used, reason = "tests")]

mod check_target;
mod crash;
mod demo;
mod event_types;
mod keys;
mod memory;
mod nodes;
mod refusals;
mod stop;
mod traces;
