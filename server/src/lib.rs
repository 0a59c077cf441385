//! The Postrider server: takes events over gRPC, keeps them durably, delivers them as signed HTTP callbacks.
//!
//! ```text
//!  main > cli > app                     puts everything together
//!    grpc   publish   dispatch   maintenance   readiness   http       what starts work
//!    store  sender                                                    what touches the world
//!    domain                                                           what is true
//!    template                                                         what owners may have computed
//!    config  clock  places  shutdown  telemetry  threads              leaves
//! ```
//!
//! The path of an event:
//!
//! 1. [`grpc`] checks the caller, reads the request into the [`domain`], and hands it to
//! 2. [`publish`], which matches it with the tenant's subscriptions and commits it with its deliveries in one
//!    transaction of the [`store`]; then the caller has its OK.
//! 3. [`dispatch`] makes an attempt at each delivery, at once where there is room, after a claim otherwise:
//! 4. [`sender`] signs and posts it, and whatever happens comes to an outcome.
//! 5. [`domain::delivery::settle`] says what follows, and the [`store`] records it.
//!
//! Dependencies go one way; `tests/layers.rs` reads the imports and fails on one that does not.

pub mod accept;
pub mod app;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod domain;
pub mod grpc;
pub mod handshakes;
pub mod http;
pub mod maintenance;
mod places;
pub mod publish;
pub mod readiness;
pub mod sender;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod template;
pub mod threads;
