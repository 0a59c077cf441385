//! What is asked of a receiver before anything is sent to it, to know that it agrees.
//!
//! There is one way for each kind of receiver that knows one already. All of them are an [`Exchange`]: a question, and what is a good
//! answer to it. When it is asked is told by [`STEPS`], and how it stands by [`HandshakeStatus`].
//!
//! Until the receiver has agreed its subscription is sent nothing: the store holds its deliveries back, as during a pause.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{hidden::Hidden, invalid::Invalid};

mod challenge;
mod exchange;
mod origin;
mod status;

pub use challenge::Challenge;
pub use exchange::{Answer, Consent, Exchange, Method, Question};
pub use origin::Origin;
pub use status::{HandshakeState, HandshakeStatus};

/// The pauses after failed attempts: a receiver that is being set up is found quickly, and one that is mended within a day still.
pub const STEPS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(6),
    Duration::from_hours(15),
];

/// The header by which each callback says who is sending (CloudEvents, HTTP 1.1 Web Hooks, 2.1), in lower case as all of these.
pub const REQUEST_ORIGIN: &str = "webhook-request-origin";
const REQUEST_RATE: &str = "webhook-request-rate";
const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";
const ALLOWED_RATE: &str = "webhook-allowed-rate";
const HOOK_SECRET: &str = "x-hook-secret";

/// The most callbacks a minute: as many as a rate limit can be.
const MAX_RATE: u32 = 6_000_000;
/// The longest token.
const MAX_TOKEN: usize = 256;
/// How long eBay's verification tokens are.
const EBAY_TOKEN: std::ops::RangeInclusive<usize> = 32..=80;

/// Which way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handshake {
    /// Abuse protection of CloudEvents.
    CloudEvents {
        /// Who is sending.
        origin: Origin,
        /// How many callbacks a minute we would like to send.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rate: Option<u32>,
    },
    /// `url_verification` of Slack's Events API.
    Slack {
        /// What is sent as `token`; may be empty.
        token: Hidden,
    },
    /// `X-Hook-Secret` of Asana and REST Hooks, with the signing secret.
    HookSecret,
    /// Trello's `HEAD`.
    Trello,
    /// Meta's `hub.challenge`.
    Meta {
        /// By which the receiver knows us.
        verify_token: Hidden,
    },
    /// eBay's hashed challenge.
    Ebay {
        /// What both sides know.
        verification_token: Hidden,
    },
    /// LinkedIn's signed challenge.
    Linkedin {
        /// What both sides know.
        client_secret: Hidden,
    },
}

impl Handshake {
    /// Accepts a DNS name, and a rate from 1 to 6,000,000 a minute where 0 stands for none.
    pub fn cloud_events(origin: &str, per_minute: i32) -> Result<Self, Invalid> {
        let rate = match u32::try_from(per_minute) {
            Ok(0) => None,
            Ok(rate) if rate <= MAX_RATE => Some(rate),
            _ => {
                let reason = format!("must be from 1 to {MAX_RATE}, or 0 to ask for none");
                return Err(Invalid::new("requests_per_minute", reason));
            }
        };
        Ok(Self::CloudEvents { origin: Origin::parse(origin)?, rate })
    }

    /// Accepts any token, or none.
    pub fn slack(token: &str) -> Result<Self, Invalid> {
        Ok(Self::Slack { token: if token.is_empty() { Hidden::default() } else { visible("token", token)? } })
    }

    /// Accepts any token.
    pub fn meta(verify_token: &str) -> Result<Self, Invalid> {
        Ok(Self::Meta { verify_token: visible("verify_token", verify_token)? })
    }

    /// Accepts what eBay accepts.
    pub fn ebay(verification_token: &str) -> Result<Self, Invalid> {
        let verification_token = Hidden::new(verification_token);
        let text = verification_token.expose();
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let is_token = EBAY_TOKEN.contains(&text.len()) && text.bytes().all(is_part);
        if !is_token && !verification_token.is_mask() {
            return Err(Invalid::new(
                "verification_token",
                "must have 32 to 80 letters, digits, `_` and `-`",
            ));
        }
        Ok(Self::Ebay { verification_token })
    }

    /// Accepts any secret.
    pub fn linkedin(client_secret: &str) -> Result<Self, Invalid> {
        Ok(Self::Linkedin { client_secret: visible("client_secret", client_secret)? })
    }

    /// Where a secret is masked, puts back that of a handshake of the same kind.
    pub fn keep_secrets(&mut self, before: Option<&Self>) {
        match (self, before) {
            (Self::Slack { token: new }, Some(Self::Slack { token: old }))
            | (Self::Meta { verify_token: new }, Some(Self::Meta { verify_token: old }))
            | (Self::Ebay { verification_token: new }, Some(Self::Ebay { verification_token: old }))
            | (Self::Linkedin { client_secret: new }, Some(Self::Linkedin { client_secret: old })) => {
                new.keep(old);
            }
            _ => {}
        }
    }

    /// Refuses a secret that is still masked.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::CloudEvents { .. } | Self::HookSecret | Self::Trello => Ok(()),
            Self::Slack { token } => token.check("slack_url_verification.token"),
            Self::Meta { verify_token } => verify_token.check("meta.verify_token"),
            Self::Ebay { verification_token } => verification_token.check("ebay.verification_token"),
            Self::Linkedin { client_secret } => client_secret.check("linkedin.client_secret"),
        }
    }

    /// The headers that are its to write, in lower case.
    #[must_use]
    pub fn headers(&self) -> &'static [&'static str] {
        match self {
            Self::CloudEvents { .. } => &[REQUEST_ORIGIN, REQUEST_RATE],
            Self::HookSecret => &[HOOK_SECRET],
            Self::Slack { .. }
            | Self::Trello
            | Self::Meta { .. }
            | Self::Ebay { .. }
            | Self::Linkedin { .. } => &[],
        }
    }

    /// What each callback says of who is sending, if it has to.
    #[must_use]
    pub fn request_origin(&self) -> Option<&Origin> {
        match self {
            Self::CloudEvents { origin, .. } => Some(origin),
            _ => None,
        }
    }

    /// Whether the receiver learns the signing secret by it.
    #[must_use]
    pub fn hands_over_secret(&self) -> bool {
        *self == Self::HookSecret
    }
}

/// A text that can stand anywhere in a request.
fn visible(field: &str, text: &str) -> Result<Hidden, Invalid> {
    if text.is_empty() || text.len() > MAX_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let reason = format!("must have 1 to {MAX_TOKEN} visible ASCII characters and no spaces");
        return Err(Invalid::new(field, reason));
    }
    Ok(Hidden::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hidden::MASK;

    #[test]
    fn what_does_not_fit_is_refused_by_its_field() {
        let refused = |result: Result<Handshake, Invalid>| result.unwrap_err().field;
        for origin in ["", ".", "a b", "https://example.com", "example.com:443", "-a.com", "a..b", "ä.com"] {
            assert_eq!(refused(Handshake::cloud_events(origin, 0)), "origin", "{origin}");
        }
        for rate in [-1, 6_000_001] {
            assert_eq!(refused(Handshake::cloud_events("a.com", rate)), "requests_per_minute", "{rate}");
        }
        let long = "x".repeat(257);
        for token in ["a b", "ä", "a\n", &long] {
            assert_eq!(refused(Handshake::slack(token)), "token", "{token}");
            assert_eq!(refused(Handshake::meta(token)), "verify_token", "{token}");
            assert_eq!(refused(Handshake::linkedin(token)), "client_secret", "{token}");
        }
        for token in ["", &"x".repeat(31), &"x".repeat(81), &"x ".repeat(16)] {
            assert_eq!(refused(Handshake::ebay(token)), "verification_token", "{token}");
        }
        assert!(refused(Handshake::meta("")) == "verify_token" && Handshake::slack("").is_ok());
    }

    #[test]
    fn a_masked_secret_is_kept_from_the_same_kind_alone() {
        let stored = Handshake::ebay(&"s3cret-0".repeat(4)).unwrap();
        let mut masked = Handshake::ebay(MASK).unwrap();
        assert_eq!(masked.check().unwrap_err().field, "ebay.verification_token");
        masked.keep_secrets(Some(&stored));
        assert_eq!((&masked, masked.check()), (&stored, Ok(())));
        let mut other = Handshake::meta(MASK).unwrap();
        other.keep_secrets(Some(&stored));
        assert_eq!(other.check().unwrap_err().field, "meta.verify_token");
        assert!(!format!("{stored:?}").contains("s3cret"));
    }

    #[test]
    fn a_handshake_is_tried_for_about_a_day() {
        let all: Duration = STEPS.iter().sum();
        assert!((Duration::from_hours(23)..Duration::from_hours(25)).contains(&all), "{all:?}");
    }
}
