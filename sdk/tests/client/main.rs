//! The client against a server of the same contract that does what each test tells it to, over real connections.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod batches;
mod calls;
mod connections;
mod errors;
mod examples;
mod fake;
mod lists;
mod proxy;
mod publisher;
mod retries;
mod subscriptions;
mod tls;
mod tracing_context;
