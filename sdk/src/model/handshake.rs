//! What is asked of a receiver before anything is sent to it.

use postrider_proto::v1::{self as pb, handshake::Method};
use time::OffsetDateTime;

use super::Secret;
use crate::{Result, convert};

/// What is asked of a receiver before anything is sent to it, to know that it agrees. Until then the subscription is
/// [`AwaitingHandshake`](super::SubscriptionState::AwaitingHandshake): events are matched, and their deliveries wait.
///
/// In a subscription that is read, secrets are masked; a masked one that is sent back in an update keeps what is stored.
///
/// ```
/// use postrider_sdk::{Subscription, model::Handshake};
///
/// let handshake = Handshake::cloud_events("eventemitter.example.com").requests_per_minute(600);
/// let new = Subscription::to("https://example.com/hooks").event_types(["order.*"]).handshake(handshake);
///
/// let meta = Handshake::meta("s3cret");
/// assert!(!format!("{meta:?}").contains("s3cret"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handshake {
    /// CloudEvents: `OPTIONS` with `WebHook-Request-Origin`, answered by `WebHook-Allowed-Origin`.
    #[non_exhaustive]
    CloudEvents {
        /// Who is sending: a DNS name, which each callback carries too.
        origin: String,
        /// How many callbacks a minute we would like to send, if that is asked.
        requests_per_minute: Option<u32>,
    },
    /// Slack: a signed `POST` of an `url_verification`, answered by its challenge.
    #[non_exhaustive]
    SlackUrlVerification {
        /// What is sent as `token`; may be empty.
        token: Secret,
    },
    /// Asana and REST Hooks: `POST` with the signing secret in `X-Hook-Secret`, answered by the same header.
    HookSecret,
    /// Trello: `HEAD`, answered by 200.
    Trello,
    /// Meta: `GET` with `hub.challenge`, answered by the challenge.
    #[non_exhaustive]
    Meta {
        /// By which the receiver knows the sender.
        verify_token: Secret,
    },
    /// eBay: `GET` with `challenge_code`, answered by a hash of it.
    #[non_exhaustive]
    Ebay {
        /// What both sides know: 32 to 80 letters, digits, `_` and `-`.
        verification_token: Secret,
    },
    /// LinkedIn: `GET` with `challengeCode`, answered by a signature of it.
    #[non_exhaustive]
    Linkedin {
        /// What both sides know.
        client_secret: Secret,
    },
    /// One that is newer than this SDK.
    Unrecognized,
}

impl Handshake {
    /// CloudEvents, by this origin.
    pub fn cloud_events(origin: impl Into<String>) -> Self {
        Self::CloudEvents { origin: origin.into(), requests_per_minute: None }
    }

    /// Asks to be allowed so many callbacks a minute, where it is that of CloudEvents.
    ///
    /// ```
    /// use postrider_sdk::model::Handshake;
    ///
    /// let ten_a_second = Handshake::cloud_events("eventemitter.example.com").requests_per_minute(600);
    /// # let _ = ten_a_second;
    /// ```
    #[must_use]
    pub fn requests_per_minute(mut self, requests: u32) -> Self {
        if let Self::CloudEvents { requests_per_minute, .. } = &mut self {
            *requests_per_minute = Some(requests);
        }
        self
    }

    /// Slack, without a token.
    #[must_use]
    pub fn slack_url_verification() -> Self {
        Self::slack_url_verification_with("")
    }

    /// Slack, with a token for receivers that still look at it.
    pub fn slack_url_verification_with(token: impl Into<String>) -> Self {
        Self::SlackUrlVerification { token: Secret::new(token.into()) }
    }

    /// Meta, with this token.
    pub fn meta(verify_token: impl Into<String>) -> Self {
        Self::Meta { verify_token: Secret::new(verify_token.into()) }
    }

    /// eBay, with this token.
    pub fn ebay(verification_token: impl Into<String>) -> Self {
        Self::Ebay { verification_token: Secret::new(verification_token.into()) }
    }

    /// LinkedIn, with this secret.
    pub fn linkedin(client_secret: impl Into<String>) -> Self {
        Self::Linkedin { client_secret: Secret::new(client_secret.into()) }
    }

    pub(crate) fn into_pb(self) -> pb::Handshake {
        let method = match self {
            Self::CloudEvents { origin, requests_per_minute } => {
                let asked = requests_per_minute.map_or(0, |rate| i32::try_from(rate).unwrap_or(i32::MAX));
                Some(Method::CloudEvents(pb::CloudEventsHandshake { origin, requests_per_minute: asked }))
            }
            Self::SlackUrlVerification { token } => {
                Some(Method::SlackUrlVerification(pb::SlackUrlVerification { token: token.into_inner() }))
            }
            Self::HookSecret => Some(Method::HookSecret(pb::HookSecretHandshake {})),
            Self::Trello => Some(Method::Trello(pb::TrelloHandshake {})),
            Self::Meta { verify_token } => {
                Some(Method::Meta(pb::MetaHandshake { verify_token: verify_token.into_inner() }))
            }
            Self::Ebay { verification_token } => {
                let verification_token = verification_token.into_inner();
                Some(Method::Ebay(pb::EbayHandshake { verification_token }))
            }
            Self::Linkedin { client_secret } => {
                Some(Method::Linkedin(pb::LinkedinHandshake { client_secret: client_secret.into_inner() }))
            }
            Self::Unrecognized => None,
        };
        pb::Handshake { method }
    }

    pub(crate) fn from_pb(handshake: pb::Handshake) -> Self {
        match handshake.method {
            Some(Method::CloudEvents(own)) => Self::CloudEvents {
                origin: own.origin,
                requests_per_minute: u32::try_from(own.requests_per_minute).ok().filter(|rate| *rate > 0),
            },
            Some(Method::SlackUrlVerification(own)) => Self::slack_url_verification_with(own.token),
            Some(Method::HookSecret(_)) => Self::HookSecret,
            Some(Method::Trello(_)) => Self::Trello,
            Some(Method::Meta(own)) => Self::meta(own.verify_token),
            Some(Method::Ebay(own)) => Self::ebay(own.verification_token),
            Some(Method::Linkedin(own)) => Self::linkedin(own.client_secret),
            None => Self::Unrecognized,
        }
    }
}

/// How a subscription's handshake stands.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
/// let orders = client.subscriptions().get("orders").await?;
/// if let Some(handshake) = orders.handshake_status {
///     println!("{:?}: {}", handshake.state, handshake.last_failure.unwrap_or_default());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeStatus {
    /// Whether it is done.
    pub state: HandshakeState,
    /// How many times it was tried since it was begun.
    pub attempts: u32,
    /// What was wrong the last time, for people.
    pub last_failure: Option<String>,
    /// How many callbacks a minute the receiver has allowed, if it has set a limit.
    pub allowed_requests_per_minute: Option<u32>,
}

/// Whether a handshake is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeState {
    /// Not yet; nothing is sent.
    #[non_exhaustive]
    Awaited {
        /// When it is tried again.
        next_attempt_at: Option<OffsetDateTime>,
    },
    /// The receiver has agreed.
    #[non_exhaustive]
    Done {
        /// Then.
        at: Option<OffsetDateTime>,
    },
    /// It has failed for good, and the subscription was disabled for it.
    Failed,
    /// A state newer than this SDK, with its number.
    Unrecognized(i32),
}

impl HandshakeStatus {
    pub(crate) fn from_pb(status: pb::HandshakeStatus) -> Result<Self> {
        let state = match pb::HandshakeState::try_from(status.state) {
            Ok(pb::HandshakeState::Awaited) => HandshakeState::Awaited {
                next_attempt_at: convert::time::optional(status.next_attempt_time, "next_attempt_time")?,
            },
            Ok(pb::HandshakeState::Done) => {
                HandshakeState::Done { at: convert::time::optional(status.done_time, "done_time")? }
            }
            Ok(pb::HandshakeState::Failed) => HandshakeState::Failed,
            Ok(pb::HandshakeState::Unspecified) | Err(_) => HandshakeState::Unrecognized(status.state),
        };
        Ok(Self {
            state,
            attempts: u32::try_from(status.attempt_count).unwrap_or(0),
            last_failure: Some(status.last_failure).filter(|failure| !failure.is_empty()),
            allowed_requests_per_minute: u32::try_from(status.allowed_requests_per_minute)
                .ok()
                .filter(|rate| *rate > 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_read_as_it_was_sent() {
        for handshake in [
            Handshake::cloud_events("a.com"),
            Handshake::cloud_events("a.com").requests_per_minute(7),
            Handshake::slack_url_verification(),
            Handshake::HookSecret,
            Handshake::Trello,
            Handshake::meta("m"),
            Handshake::ebay("e"),
            Handshake::linkedin("l"),
            Handshake::Unrecognized,
        ] {
            assert_eq!(Handshake::from_pb(handshake.clone().into_pb()), handshake);
        }
        let newer = pb::HandshakeStatus { state: 99, ..pb::HandshakeStatus::default() };
        assert_eq!(HandshakeStatus::from_pb(newer).unwrap().state, HandshakeState::Unrecognized(99));
    }
}
