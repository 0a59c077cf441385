//! Where a receiver wants events, and which ones.

use std::num::NonZeroU32;

use super::{
    breaker::Health,
    event_type::{EventType, TypePattern},
    failing::Failing,
    handshake::HandshakeStatus,
    id::{SubscriptionId, SubscriptionUid, TenantId},
    invalid::Invalid,
    rate_limit::RateLimit,
    settings::Settings,
    target_url::TargetUrl,
    timestamp::Timestamp,
};

/// The most patterns a subscription has.
pub const MAX_PATTERNS: usize = 100;
/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 1_024;
/// The most that a subscription's limit of attempts at once can be: as much as the server's.
pub const MAX_IN_FLIGHT: u32 = 100_000;

/// What a caller says of a subscription.
#[derive(Debug, Clone)]
pub struct SubscriptionSpec {
    /// For people.
    pub description: Description,
    /// Where events are sent.
    pub target_url: TargetUrl,
    /// Which events are sent.
    pub filter: Filter,
    /// How fast.
    pub pace: Pace,
    /// What else is set.
    pub settings: Settings,
}

impl SubscriptionSpec {
    /// Checks what must be true between fields.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(signing) = &self.settings.signing {
            signing.check_target(&self.target_url)?;
        }
        if self.settings.tls.is_some() && self.target_url.url().scheme() != "https" {
            let reason = "must be unset for a target that is spoken to without TLS: `target_url` begins with `http://`";
            return Err(Invalid::new("tls", reason));
        }
        self.settings.check()
    }
}

/// How fast a receiver wants to be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// How many attempts a second, at most, from all nodes together.
    pub rate: Option<RateLimit>,
    /// How many attempts at once, at most, from each node; the server's limit holds as well.
    pub max_in_flight: Option<NonZeroU32>,
}

impl Pace {
    /// Reads a limit of the attempts at once, where 0 stands for none.
    pub fn parse_max_in_flight(number: i32) -> Result<Option<NonZeroU32>, Invalid> {
        match u32::try_from(number) {
            Ok(number) if number <= MAX_IN_FLIGHT => Ok(NonZeroU32::new(number)),
            _ => {
                let reason = format!("must be from 1 to {MAX_IN_FLIGHT}, or 0 for the server's limit");
                Err(Invalid::new("max_in_flight", reason))
            }
        }
    }
}

/// A subscription as it is stored.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Tells it apart for ever.
    pub uid: SubscriptionUid,
    /// Its owner.
    pub tenant: TenantId,
    /// The last segment of its name.
    pub id: SubscriptionId,
    /// What its owner says of it.
    pub spec: SubscriptionSpec,
    /// Since when a person has paused it.
    pub paused_at: Option<Timestamp>,
    /// Since when and why policy has disabled it.
    pub disabled: Option<(Timestamp, DisabledReason)>,
    /// How its receiver fares. Changes of it are no changes of the subscription.
    pub health: Health,
    /// Set while failures are noted, and after it was disabled for them. Changes of it are no changes of the subscription either.
    pub failing: Option<Failing>,
    /// How its handshake stands, if it has one. Nor are changes of that.
    pub handshake: Option<HandshakeStatus>,
    /// Counts its changes.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Subscription {
    /// Whether events are matched and sent.
    #[must_use]
    pub fn state(&self) -> SubscriptionState {
        match (self.disabled, self.paused_at) {
            (Some(_), _) => SubscriptionState::Disabled,
            (None, Some(_)) => SubscriptionState::Paused,
            (None, None) if self.awaits_handshake() => SubscriptionState::AwaitingHandshake,
            (None, None) => SubscriptionState::Active,
        }
    }

    /// Whether its receiver has still to agree, also while it is paused.
    #[must_use]
    pub fn awaits_handshake(&self) -> bool {
        self.handshake.as_ref().is_some_and(HandshakeStatus::is_awaited)
    }

    /// Names this revision of it; other for every change and every subscription.
    #[must_use]
    pub fn etag(&self) -> String {
        // The random end of the uid tells apart subscriptions that had the same name one after another.
        format!("{:08x}-{}", self.uid.uuid().as_u128() & 0xffff_ffff, self.revision)
    }
}

/// Whether a subscription's events are matched and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionState {
    /// They are.
    Active,
    /// They are matched, and their deliveries wait.
    Paused,
    /// They are not matched, and what waited was cancelled.
    Disabled,
    /// They are matched, and their deliveries wait until the receiver has agreed.
    AwaitingHandshake,
}

/// Why policy disabled a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisabledReason {
    /// The receiver answered 410 Gone.
    Gone,
    /// There was nothing but failure for too long.
    Failing,
    /// The receiver asked for it by the header `webhook-delivery: disable`.
    Requested,
    /// The receiver never agreed.
    HandshakeFailed,
}

/// Which event types a subscription wants: those that any of its patterns matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Vec<TypePattern>);

impl Filter {
    /// Accepts 1 to 100 patterns.
    pub fn parse<T: AsRef<str>>(patterns: &[T]) -> Result<Self, Invalid> {
        if patterns.is_empty() {
            return Err(Invalid::new(
                "event_types",
                "must hold at least one pattern; `**` matches every event",
            ));
        }
        if patterns.len() > MAX_PATTERNS {
            let reason = format!("holds {} patterns; at most {MAX_PATTERNS} are allowed", patterns.len());
            return Err(Invalid::new("event_types", reason));
        }
        let parse = |(index, text): (usize, &T)| {
            TypePattern::parse(text.as_ref())
                .map_err(|invalid| Invalid::new(format!("event_types[{index}]"), invalid.reason))
        };
        patterns.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// From what the database stores.
    #[must_use]
    pub fn from_stored(patterns: Vec<String>) -> Self {
        Self(patterns.into_iter().map(TypePattern::from_stored).collect())
    }

    /// Whether an event of this type is wanted.
    #[must_use]
    pub fn matches(&self, event_type: &EventType) -> bool {
        self.0.iter().any(|pattern| pattern.matches(event_type))
    }

    /// The patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(TypePattern::as_str)
    }
}

/// A text for people, of at most 1,024 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description(String);

impl Description {
    /// Accepts up to 1,024 characters without control characters other than line breaks and tabs.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let length = text.chars().count();
        if length > MAX_DESCRIPTION {
            let reason = format!("has {length} characters; at most {MAX_DESCRIPTION} are allowed");
            return Err(Invalid::new("description", reason));
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err(Invalid::new("description", "must not hold control characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// From what the database stores.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
