//! The whole, through the SDK and, where that cannot express it, past it; on both databases.

#![expect(clippy::unwrap_used, reason = "tests")]

mod asked;
mod attempts;
mod auth;
mod authentication;
mod bad_input;
mod check_target;
mod damaged;
mod deliver;
mod deliveries;
mod envelope;
mod event_types;
mod failing;
mod fan_out;
mod filter;
mod form;
mod handshake;
mod handshake_trouble;
mod health;
mod limits;
mod operational_events;
mod publish;
mod request_id;
mod retry;
mod sdk_examples;
mod secrets;
mod signing;
mod standard;
mod stop;
mod subscriptions;
mod templates;
mod test_event;
mod trouble;
mod two_servers;
mod ways;
mod web;
mod wishes;
