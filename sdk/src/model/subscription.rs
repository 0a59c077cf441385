//! Subscriptions: where a receiver wants events, and which ones.

use std::{fmt, time::Duration};

use postrider_proto::v1 as pb;
use time::OffsetDateTime;

use super::{
    Authentication, DeliveryRetryPolicy, EventFilter, Failing, FailurePolicy, Format, Handshake,
    HandshakeStatus, ReceiverTls, Secret, SignatureProfile, id_of, signing,
};
use crate::convert;

/// Where a receiver wants events, and which ones.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Subscription {
    /// `tenants/{tenant}/subscriptions/{subscription}`.
    pub name: String,
    /// Tells apart subscriptions that had the same name one after another.
    pub uid: String,
    /// For people; may be empty.
    pub description: String,
    /// Where events are sent.
    pub target_url: String,
    /// Which event types it wants: `order.*`, `order.**`, `**`.
    pub event_types: Vec<String>,
    /// How many attempts a second it takes, if that is limited.
    pub rate_limit: Option<RateLimit>,
    /// How many attempts it takes at once from each node, where that is less than the server is configured for.
    pub max_in_flight: Option<u32>,
    /// When failed attempts are repeated, where that is other than the server is configured for.
    pub retry_policy: Option<DeliveryRetryPolicy>,
    /// How long an attempt may take, where that is other than the server is configured for.
    pub timeout: Option<Duration>,
    /// How the receiver is shown who is sending, beside the signature; its secrets are masked.
    pub authentication: Option<Authentication>,
    /// With what certificates the receiver is spoken to, where they are others than the server is configured with.
    pub tls: Option<ReceiverTls>,
    /// How callbacks are signed; by Standard Webhooks if there is nothing here.
    pub signing: Vec<SignatureProfile>,
    /// Which events of these types it wants, if not all of them.
    pub filter: Option<EventFilter>,
    /// In what form events are sent, where that is not the envelope by POST.
    pub format: Option<Format>,
    /// What happens when there is nothing but failure, where that is other than the server is configured for.
    pub failure_policy: Option<FailurePolicy>,
    /// Set while there is nothing but failure, and after it was disabled for that.
    pub failing: Option<Failing>,
    /// What is asked of the receiver before anything is sent to it, if anything is; its secrets are masked.
    pub handshake: Option<Handshake>,
    /// How that stands.
    pub handshake_status: Option<HandshakeStatus>,
    /// How its receiver fares.
    pub health: Health,
    /// Whether events are matched and sent.
    pub state: SubscriptionState,
    /// Since when it is paused; set also while it is both paused and disabled.
    pub paused_at: Option<OffsetDateTime>,
    /// Since when it is disabled.
    pub disabled_at: Option<OffsetDateTime>,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
    /// Changes with every change.
    pub etag: String,
}

impl Subscription {
    /// Describes a new subscription to this URL, for [`create`](crate::Subscriptions::create).
    ///
    /// ```
    /// use postrider_sdk::Subscription;
    ///
    /// let new = Subscription::to("https://example.com/hooks").event_types(["order.*"]).id("orders");
    /// ```
    pub fn to(target_url: impl Into<String>) -> NewSubscription {
        let message = pb::Subscription { target_url: target_url.into(), ..pb::Subscription::default() };
        NewSubscription { message, id: String::new(), secret: String::new() }
    }

    /// The last segment of the name.
    #[must_use]
    pub fn id(&self) -> &str {
        id_of(&self.name)
    }
}

/// Whether a subscription's events are matched and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscriptionState {
    /// Events are matched and sent.
    Active,
    /// Paused by a person: events are matched, and their deliveries wait.
    Paused,
    /// Disabled by policy: events are not matched, and deliveries that waited were cancelled.
    Disabled(DisabledReason),
    /// Its receiver has not agreed yet: events are matched, and their deliveries wait.
    AwaitingHandshake,
    /// A state newer than this SDK, with its number.
    Unrecognized(i32),
}

/// How many attempts a second a subscription takes. Retries count as well; it holds over all nodes.
///
/// ```
/// use postrider_sdk::model::RateLimit;
///
/// let ten_a_second = RateLimit::per_second(10.0);
/// let thirty_a_minute_one_by_one = RateLimit::per_second(0.5).burst(1);
/// assert_eq!(thirty_a_minute_one_by_one.burst, 1);
/// # let _ = ten_a_second;
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RateLimit {
    /// Attempts per second, 0.001 to 100,000.
    pub deliveries_per_second: f64,
    /// How many attempts may begin at once after a while in which there were none, 1 to 100,000; 0 in what is sent stands
    /// for one second's worth.
    pub burst: u32,
}

impl RateLimit {
    /// At most so many attempts a second. One second's worth of them may begin at once.
    #[must_use]
    pub const fn per_second(deliveries_per_second: f64) -> Self {
        Self { deliveries_per_second, burst: 0 }
    }

    /// At most so many attempts begin at once after a while in which there were none.
    #[must_use]
    pub const fn burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }

    pub(crate) fn to_pb(self) -> pb::RateLimit {
        // What is too large for the wire is too large for the server, which says so.
        let burst = i32::try_from(self.burst).unwrap_or(i32::MAX);
        pb::RateLimit { deliveries_per_second: self.deliveries_per_second, burst }
    }
}

/// How the receiver of a subscription fares.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// Nothing keeps deliveries from being sent.
    Healthy,
    /// The receiver failed too often: deliveries wait, and nothing is sent but one probe after another.
    #[non_exhaustive]
    Blocked {
        /// When the first of the failures began that led to it.
        failing_since: Option<OffsetDateTime>,
        /// Why, for people.
        reason: String,
        /// When the next probe may be sent, if a delivery is due then.
        next_probe_at: Option<OffsetDateTime>,
    },
    /// A state newer than this SDK, with its number.
    Unrecognized(i32),
}

/// Why a subscription was disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisabledReason {
    /// The receiver answered 410 Gone.
    Gone,
    /// There was nothing but failure for too long.
    Failing,
    /// The receiver asked for it by the response header `webhook-delivery: disable`.
    Requested,
    /// The receiver did not agree by its handshake.
    HandshakeFailed,
    /// A reason newer than this SDK, with its number.
    Unrecognized(i32),
}

/// A subscription to be created. Made by [`Subscription::to`].
#[derive(Clone, PartialEq)]
#[must_use = "a subscription is created by `Subscriptions::create`"]
pub struct NewSubscription {
    pub(crate) message: pb::Subscription,
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl fmt::Debug for NewSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSubscription")
            .field("message", &self.message)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl NewSubscription {
    /// Which event types it wants, 1 to 100 patterns: an event type in which `*` stands for one segment and `**` for any
    /// number of segments, also none.
    pub fn event_types<T: Into<String>>(mut self, patterns: impl IntoIterator<Item = T>) -> Self {
        self.message.event_types = patterns.into_iter().map(Into::into).collect();
        self
    }

    /// The last segment of its name: 1 to 63 lower-case letters, digits, `_` and `-`, beginning with a letter. If not
    /// set, the server chooses one.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// At most so many attempts a second.
    ///
    /// ```
    /// use postrider_sdk::{Subscription, model::RateLimit};
    ///
    /// let new = Subscription::to("https://example.com/hooks").rate_limit(RateLimit::per_second(10.0)).max_in_flight(4);
    /// ```
    pub fn rate_limit(mut self, rate_limit: RateLimit) -> Self {
        self.message.rate_limit = Some(rate_limit.to_pb());
        self
    }

    /// At most so many attempts at once from each node, 1 to 100,000. The server's own limit holds as well.
    pub fn max_in_flight(mut self, attempts: u32) -> Self {
        self.message.max_in_flight = i32::try_from(attempts).unwrap_or(i32::MAX);
        self
    }

    /// When failed attempts are repeated.
    ///
    /// ```
    /// use std::time::Duration;
    /// use postrider_sdk::{Subscription, model::DeliveryRetryPolicy};
    ///
    /// let twelve_times = DeliveryRetryPolicy::exponential(Duration::from_secs(10), 12).max_pause(Duration::from_secs(3_600));
    /// let new = Subscription::to("https://example.com/hooks").retry_policy(twelve_times).timeout(Duration::from_secs(5));
    /// ```
    pub fn retry_policy(mut self, retry_policy: DeliveryRetryPolicy) -> Self {
        self.message.retry_policy = Some(retry_policy.into_pb());
        self
    }

    /// How long an attempt may take, 1 second up to the longest that the server allows.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.message.timeout = Some(convert::time::duration_to_pb(timeout));
        self
    }

    /// How the receiver is shown who is sending, beside the signature.
    ///
    /// ```
    /// use postrider_sdk::{Subscription, model::Authentication};
    ///
    /// let new = Subscription::to("https://example.com/hooks").authentication(Authentication::bearer("s3cret"));
    /// ```
    pub fn authentication(mut self, authentication: Authentication) -> Self {
        self.message.authentication = Some(authentication.into_pb());
        self
    }

    /// With what certificates the receiver is spoken to over TLS.
    ///
    /// ```
    /// use postrider_sdk::{Subscription, model::ReceiverTls};
    ///
    /// # let authority_pem = "";
    /// let new = Subscription::to("https://hooks.internal/").tls(ReceiverTls::new().ca_certificates(authority_pem));
    /// ```
    pub fn tls(mut self, tls: ReceiverTls) -> Self {
        self.message.tls = Some(tls.into_pb());
        self
    }

    /// How callbacks are signed, by all of these at once.
    ///
    /// ```
    /// use postrider_sdk::{Subscription, model::SignatureProfile};
    ///
    /// let new = Subscription::to("https://example.com/hooks").signing([SignatureProfile::Svix, SignatureProfile::Stripe]);
    /// ```
    pub fn signing(mut self, profiles: impl IntoIterator<Item = SignatureProfile>) -> Self {
        self.message.signing = Some(signing::to_pb(profiles));
        self
    }

    /// The first secret, if it comes from another system: `whsec_…`, or, for signatures other than Standard Webhooks and Svix, 1 to 256
    /// printable ASCII characters. `whsk_…` is the private key for [`SignatureProfile::StandardWebhooksEd25519`], beside which the server
    /// makes the secret.
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = secret.into();
        self
    }

    /// Which events of these types it wants.
    ///
    /// ```
    /// use postrider_sdk::{Subscription, model::EventFilter};
    ///
    /// let filter = EventFilter::new().expression("data.amount > 100");
    /// let new = Subscription::to("https://example.com/hooks").event_types(["order.*"]).filter(filter);
    /// # let _ = new;
    /// ```
    pub fn filter(mut self, filter: EventFilter) -> Self {
        self.message.filter = Some(filter.into_pb());
        self
    }

    /// In what form events are sent: other bodies than the envelope, another method, further headers.
    ///
    /// ```
    /// use postrider_sdk::{Subscription, model::Format};
    ///
    /// let new = Subscription::to("https://example.com/hooks").format(Format::raw().secret_header("X-Api-Key", "s3cret"));
    /// ```
    pub fn format(mut self, format: impl Into<Option<Format>>) -> Self {
        self.message.format = format.into().map(|format| format.to_pb());
        self
    }

    /// What happens when there is nothing but failure.
    ///
    /// ```
    /// use std::time::Duration;
    /// use postrider_sdk::{Subscription, model::FailurePolicy};
    ///
    /// let policy = FailurePolicy::default().probe_every(Duration::from_secs(3_600));
    /// let new = Subscription::to("https://example.com/hooks").failure_policy(policy);
    /// ```
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.message.failure_policy = Some(policy.into_pb());
        self
    }

    /// What is asked of the receiver before anything is sent to it.
    ///
    /// ```
    /// use postrider_sdk::{Subscription, model::Handshake};
    ///
    /// let new = Subscription::to("https://example.com/hooks").handshake(Handshake::slack_url_verification());
    /// ```
    pub fn handshake(mut self, handshake: Handshake) -> Self {
        self.message.handshake = Some(handshake.into_pb());
        self
    }

    /// For people.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.message.description = description.into();
        self
    }
}

/// A new subscription and the secret that its callbacks are signed with.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CreatedSubscription {
    /// The subscription.
    pub subscription: Subscription,
    /// Its signing secret.
    pub secret: Secret,
}
