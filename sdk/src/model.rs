//! What is sent and what comes back. Every type can grow; none shows how it is written on the wire.

mod attempt;
mod authentication;
mod delivery;
mod event;
mod event_filter;
mod event_type;
mod explanation;
mod failure_policy;
mod format;
mod handshake;
mod priority;
mod receiver_tls;
mod rendered_event;
mod retry_policy;
mod secret;
pub(crate) mod signing;
mod stored_event;
mod subscription;
mod target_check;
mod test_event;

pub use self::{
    attempt::{Attempt, AttemptFailure, AttemptOutcome, Header},
    authentication::{Authentication, ClientCredentials},
    delivery::{Delivery, DeliveryState, EndReason},
    event::Event,
    event_filter::{AttributeCondition, AttributeTest, EventFilter},
    event_type::{EventType, NewEventType},
    explanation::{Explained, Explanation, Verdict},
    failure_policy::{Disable, Failing, FailurePolicy},
    format::{BodyFormat, CloudEventsMode, Format, HeaderValue, Method, StaticHeader},
    handshake::{Handshake, HandshakeState, HandshakeStatus},
    priority::Priority,
    receiver_tls::{ClientCertificate, ReceiverTls},
    rendered_event::{RenderedEvent, TemplateError},
    retry_policy::{DeliveryRetryPolicy, Pauses},
    secret::{RotatedSecret, Secret},
    signing::{CustomHmac, HmacAlgorithm, SignatureEncoding, SignatureProfile},
    stored_event::{Published, StoredEvent},
    subscription::{
        CreatedSubscription, DisabledReason, Health, NewSubscription, RateLimit, Subscription,
        SubscriptionState,
    },
    target_check::{TargetAddress, TargetCertificate, TargetCheck, TargetOutcome, TargetTls, TlsProblem},
    test_event::{SentTestEvent, TestEventStanding},
};

pub(crate) use self::event_type::to_pb as event_type_schema;

/// The last segment of a resource name.
fn id_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
