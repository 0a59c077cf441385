//! What is sent and what comes back. Every type can grow; none shows how it is written on the wire.

mod attempt;
mod delivery;
mod event;
mod format;
mod priority;
mod rendered_event;
mod retry_policy;
mod secret;
mod stored_event;
mod subscription;

pub use self::{
    attempt::{Attempt, AttemptFailure, AttemptOutcome, Header},
    delivery::{Delivery, DeliveryState, EndReason},
    event::Event,
    format::{BodyFormat, CloudEventsMode, Format, HeaderValue, Method, StaticHeader},
    priority::Priority,
    rendered_event::{RenderedEvent, TemplateError},
    retry_policy::{DeliveryRetryPolicy, Pauses},
    secret::{RotatedSecret, Secret},
    stored_event::{Published, StoredEvent},
    subscription::{
        CreatedSubscription, DisabledReason, Health, NewSubscription, RateLimit, SentTestEvent, Subscription,
        SubscriptionState,
    },
};

/// The last segment of a resource name.
fn id_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
