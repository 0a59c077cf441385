//! How the store must behave: one suite for SQLite and PostgreSQL.
//!
//! The clock of these tests is a constant: whatever the store needs to know of time is an argument. Two stores on
//! one database stand for two nodes.

#![expect(clippy::unwrap_used, reason = "tests")]

mod fixtures;
mod health;
mod node;
mod plans;

mod attempts;
mod checkpoint;
mod claim;
mod deliveries;
mod errors;
mod events;
mod failing;
mod fan_out;
mod fan_out_order;
mod handshakes;
mod hints;
mod idempotency;
mod migrations;
mod order;
mod overdue;
mod priority;
mod publish;
mod retention;
mod scale;
mod secrets;
mod settle;
mod signing;
mod steer;
mod subscriptions;
mod sweep;
mod timing;
mod unreadable;
mod windows;
