//! The headers that prove where a callback comes from and that nobody changed it, by each of the schemes that the subscription wants
//! ([`crate::domain::signing`]).
//!
//! - [`standard`]: Standard Webhooks, under its own names and under Svix's. The SDK verifies it with code of its own, against the
//!   same vectors (`proto/signature/vectors.json`).
//! - [`vendors`]: Stripe, GitHub, Shopify, Slack, Square, `HubSpot`. [`twilio`]: the one that changes the URL.
//! - [`custom`]: what the owner has put together.
//!
//! Each attempt is signed anew, at its own time. Headers that can hold several signatures hold those of all secrets in force, the
//! current one's first; the others hold one, by the secret whose turn it is ([`SecretSet::single`]).

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use crate::domain::{
    event::Event,
    secret::{SecretSet, SigningSecret},
    signing::{Profile, Signing},
    timestamp::Timestamp,
};

mod custom;
mod mac;
mod standard;
mod twilio;
mod vendors;

/// Why there is no signature. None of these can happen to what the domain let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsigned {
    /// Every secret has expired, or none is fit.
    #[error("the subscription has no signing secret in force")]
    NoSecret,
    /// The event's time is outside the years 1 to 9999.
    #[error("the event's time cannot be written down")]
    Time(#[from] std::fmt::Error),
    /// A name that is not one of a header.
    #[error("a signature header has no possible name")]
    Name(#[from] http::header::InvalidHeaderName),
    /// A value does not fit in a header.
    #[error("a signature header cannot be written down")]
    Value(#[from] http::header::InvalidHeaderValue),
}

/// What is signed.
pub(super) struct Message<'a> {
    pub(super) event: &'a Event,
    /// The event's id, as it is sent.
    pub(super) id: &'a str,
    pub(super) method: &'a Method,
    /// Where it is sent, as its owner wrote it.
    pub(super) url: &'a Url,
    pub(super) content_type: &'a str,
    pub(super) body: &'a [u8],
    /// When the attempt begins.
    pub(super) now: Timestamp,
}

/// Signs a message. The answer is the URL to be requested, where that is another than the message's.
pub(super) fn sign(
    signing: Option<&Signing>,
    secrets: &SecretSet,
    message: &Message<'_>,
    headers: &mut HeaderMap,
) -> Result<Option<Url>, Unsigned> {
    let mut pen = Pen { secrets, message, url: Cow::Borrowed(message.url), headers };
    let Some(signing) = signing else {
        standard::write(&mut pen, &[Profile::StandardWebhooks])?;
        return Ok(None);
    };
    // The receiver sees, and verifies, the URL that is requested: it must be known before any other scheme signs it.
    if signing.profiles().contains(&Profile::Twilio) {
        twilio::write(&mut pen)?;
    }
    standard::write(&mut pen, signing.profiles())?;
    for profile in signing.profiles() {
        match profile {
            Profile::StandardWebhooks | Profile::StandardWebhooksEd25519 | Profile::Twilio => {}
            Profile::Svix => standard::write_svix(&mut pen)?,
            Profile::Stripe => vendors::stripe(&mut pen)?,
            Profile::Github { legacy_sha1 } => vendors::github(&mut pen, *legacy_sha1)?,
            Profile::Shopify(shopify) => vendors::shopify(&mut pen, shopify)?,
            Profile::Slack => vendors::slack(&mut pen)?,
            Profile::Square => vendors::square(&mut pen)?,
            Profile::Hubspot => vendors::hubspot(&mut pen)?,
            Profile::CustomHmac(custom) => custom::write(&mut pen, custom)?,
        }
    }
    Ok(match pen.url {
        Cow::Borrowed(_) => None,
        Cow::Owned(url) => Some(url),
    })
}

/// Writes headers of a message.
struct Pen<'a> {
    secrets: &'a SecretSet,
    message: &'a Message<'a>,
    /// The URL that will be requested.
    url: Cow<'a, Url>,
    headers: &'a mut HeaderMap,
}

impl Pen<'_> {
    fn write(
        &mut self,
        name: &'static str,
        value: impl TryInto<HeaderValue, Error = http::header::InvalidHeaderValue>,
    ) -> Result<(), Unsigned> {
        self.headers.insert(HeaderName::from_static(name), value.try_into()?);
        Ok(())
    }

    /// Writes what nobody can guess.
    fn write_signature(&mut self, name: HeaderName, value: String) -> Result<(), Unsigned> {
        let mut value = HeaderValue::try_from(value)?;
        // Never in HTTP/2's compression table: it would only push reusable headers out.
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(())
    }

    /// The text of the secret that signs where there can be one signature only.
    fn key(&self) -> Result<String, Unsigned> {
        self.secrets.single(self.message.now).map(SigningSecret::text).ok_or(Unsigned::NoSecret)
    }

    fn seconds(&self) -> String {
        self.message.now.unix_seconds().to_string()
    }

    fn milliseconds(&self) -> String {
        self.message.now.as_micros().div_euclid(1_000).to_string()
    }
}

#[cfg(test)]
mod tests;
