//! What is true, whatever stores or sends it: the words of Postrider as types.
//!
//! A producer publishes an [`event::NewEvent`]. For each [`subscription::Subscription`] of its tenant whose patterns match
//! the event's type there is a [`delivery::Delivery`]. A node takes the delivery over for a while as a [`claim::Claim`],
//! makes one [`attempt::Attempt`], and [`delivery::settle`] says what follows from its
//! [`attempt::Outcome`] under the [`retry::RetryPolicy`]. What the producer asked for beyond that is its [`handling::Handling`].
//!
//! How much a receiver is sent at once depends on how it fares: [`breaker`] stops what goes to one that fails,
//! [`concurrency`] slows down for one that has trouble, and [`rate_limit`] holds to the rate that its owner has set. One with nothing but
//! failure for days is disabled ([`failing`]), and its tenant is told ([`operational`]). Whether it agrees to be sent anything at all can be
//! asked first by a [`handshake`].
//!
//! Here is no I/O, no `async`, no clock and no chance: `now` and jitter are arguments. Nothing in here knows gRPC, SQL or HTTP
//! libraries. Constructors refuse what may not be with an [`invalid::Invalid`]; behind them nothing is checked again.

pub mod address;
pub mod attempt;
pub mod authentication;
pub mod breaker;
pub mod catalogue;
pub mod claim;
pub mod client_credentials;
pub mod concurrency;
pub mod conditions;
pub mod delivery;
pub mod event;
pub mod event_type;
pub mod expression;
pub mod failing;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod form;
pub mod handling;
pub mod handshake;
pub mod hexadecimal;
pub mod hidden;
pub mod id;
pub mod invalid;
pub mod kept_window;
pub mod operational;
pub mod page;
pub mod rate_limit;
pub mod receiver_tls;
pub mod retry;
pub mod schema;
pub mod secret;
pub mod settings;
pub mod signing;
pub mod subscription;
pub mod target_check;
pub mod target_url;
pub mod timestamp;
pub mod trace_context;
mod verdict;
