#![cfg_attr(feature = "client", doc = include_str!("../README.md"))]
#![cfg_attr(not(feature = "client"), doc = "Verifies the webhooks that Postrider sends: see [`verify`].")]
#![warn(missing_docs)]

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod convert;
#[cfg(feature = "client")]
mod deliveries;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "client")]
mod event_types;
#[cfg(feature = "client")]
mod events;
#[cfg(feature = "client")]
mod list;
#[cfg(feature = "client")]
pub mod model;
#[cfg(feature = "client")]
mod publish;
#[cfg(feature = "client")]
mod publisher;
#[cfg(feature = "client")]
mod retry;
#[cfg(feature = "client")]
mod subscriptions;
#[cfg(feature = "verify")]
pub mod verify;

#[cfg(feature = "client")]
pub use crate::{
    client::{Client, ClientBuilder},
    deliveries::Deliveries,
    error::{Code, Error, FieldViolation, Reason},
    event_types::{EventTypes, UpdateEventType},
    events::Events,
    list::{Items, List, Page},
    model::{Event, Published, Secret, Subscription},
    publisher::{Ack, Publisher},
    retry::RetryPolicy,
    subscriptions::{
        DeleteSubscription, RenderEvent, RotateSecret, SendTestEvent, Subscriptions, UpdateSubscription,
    },
};

/// What every call returns.
#[cfg(feature = "client")]
pub type Result<T> = std::result::Result<T, Error>;
