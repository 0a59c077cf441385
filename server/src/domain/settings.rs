//! What a subscription's owner can set beyond where events go, which ones and how fast. All of it is optional, and a subscription
//! without any of it is *plain*: the hot path asks that once and then does what it always did.
//!
//! The whole is stored as one encrypted document, so each part can hold passwords. A part that is not there has its default: that is
//! how documents of older versions are read.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    authentication::Authentication, conditions::Conditions, failing::FailurePolicy, form::Form,
    handshake::Handshake, invalid::Invalid, receiver_tls::ReceiverTls, retry::OwnRetry, signing::Signing,
};

/// The shortest timeout that a subscription can have.
pub const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What is set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// When failed attempts are repeated; the server's schedule if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<OwnRetry>,
    /// How long an exchange may take; as long as the server says if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How the receiver is shown who we are, beside the signature; not at all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// With what certificates the receiver is spoken to; with the server's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ReceiverTls>,
    /// How callbacks are signed; as Standard Webhooks says if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
    /// What is asked of events beyond their type; nothing if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Conditions>,
    /// In what form events are sent; the envelope by POST if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// What happens when there is nothing but failure; as the server is configured if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailurePolicy>,
    /// What is asked of the receiver before anything is sent to it; nothing if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Handshake>,
}

impl Settings {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a handshake is made in the same way with these.
    #[must_use]
    pub fn asks_like(&self, other: &Self) -> bool {
        let how = |settings: &Self| {
            let Self { timeout, authentication, tls, signing, form, handshake, .. } = settings.clone();
            Self { timeout, authentication, tls, signing, form, handshake, ..Self::default() }
        };
        how(self) == how(other)
    }

    /// Those of all plain subscriptions.
    #[must_use]
    pub fn plain() -> Arc<Self> {
        static PLAIN: LazyLock<Arc<Settings>> = LazyLock::new(Arc::default);
        Arc::clone(&PLAIN)
    }

    /// Sets the form. Secrets of which only the mask is given stay as they are.
    pub fn set_form(&mut self, mut form: Option<Form>) {
        if let (Some(form), Some(before)) = (&mut form, &self.form) {
            form.headers.keep_secrets(&before.headers);
        }
        self.form = form;
    }

    /// Checks what must be true between parts, and of those that hold something of what was there before.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(authentication) = &self.authentication {
            authentication.check().map_err(|invalid| invalid.within("authentication"))?;
        }
        if let Some(tls) = &self.tls {
            tls.check().map_err(|invalid| invalid.within("tls"))?;
        }
        if let Some(form) = &self.form {
            form.headers.check().map_err(|invalid| invalid.within("format"))?;
        }
        if let Some(handshake) = &self.handshake {
            handshake.check().map_err(|invalid| invalid.within("handshake"))?;
        }
        self.check_headers()
    }

    /// Each header has one author.
    fn check_headers(&self) -> Result<(), Invalid> {
        let signatures: Vec<_> = self.signing.iter().flat_map(Signing::headers).collect();
        let asked = self.handshake.as_ref().map_or(&[][..], Handshake::headers);
        if let Some(name) = signatures.iter().find(|name| asked.contains(&name.as_str())) {
            return Err(Invalid::new("signing", format!("`{name}` is a header that `handshake` writes")));
        }
        let mut own = Vec::new();
        for (index, header) in self.form.iter().flat_map(|form| form.headers.iter()).enumerate() {
            let name = header.name.to_ascii_lowercase();
            let author = match () {
                () if signatures.contains(&name) => Some("signing"),
                () if asked.contains(&name.as_str()) => Some("handshake"),
                () => None,
            };
            if let Some(author) = author {
                let field = format!("format.headers[{index}].name");
                return Err(Invalid::new(field, format!("`{name}` is a header that `{author}` writes")));
            }
            own.push(name);
        }
        if let Some(Authentication::ApiKey { header, .. }) = &self.authentication {
            let name = header.to_ascii_lowercase();
            let author = match () {
                () if signatures.contains(&name) => "signing",
                () if asked.contains(&name.as_str()) => "handshake",
                () if own.contains(&name) => "format.headers",
                () => return Ok(()),
            };
            let reason = format!("`{name}` is a header that `{author}` writes");
            return Err(Invalid::new("authentication.api_key.header", reason));
        }
        Ok(())
    }

    /// Reads a timeout, which can be at most what the server allows.
    pub fn parse_timeout(timeout: Duration, most: Duration) -> Result<Duration, Invalid> {
        if !(MIN_TIMEOUT..=most).contains(&timeout) {
            let reason =
                format!("must be from 1s to {}s, the longest that the server allows", most.as_secs());
            return Err(Invalid::new("timeout", reason));
        }
        Ok(timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        form::{Headers, StaticHeader},
        hidden::Hidden,
        signing::{CustomHmac, Profile, SignatureHeader, Template},
    };

    #[test]
    fn a_handshake_is_made_in_another_way_only_with_what_its_request_is_made_of() {
        let before = Settings::default();
        let filtered = Settings { failure: Some(FailurePolicy::default()), ..Settings::default() };
        let slower = Settings { timeout: Some(Duration::from_secs(1)), ..Settings::default() };
        assert!(filtered.asks_like(&before) && !slower.asks_like(&before));
    }

    #[test]
    fn no_header_has_two_authors() {
        let carrying = |name: &str| {
            let headers = Headers::parse(vec![StaticHeader::parse(name, "1", false).unwrap()]).unwrap();
            Some(Form { headers, ..Form::default() })
        };
        let signing = Some(Signing::new(vec![Profile::Github { legacy_sha1: false }]).unwrap());
        let key = |header: &str| Some(Authentication::api_key(header, "s3cret").unwrap());
        let refused = |settings: Settings| settings.check().unwrap_err().field;

        let both =
            Settings { signing: signing.clone(), form: carrying("X-GitHub-Event"), ..Settings::default() };
        assert_eq!(refused(both), "format.headers[0].name");
        let both = Settings {
            signing: signing.clone(),
            authentication: key("x-github-event"),
            ..Settings::default()
        };
        assert_eq!(refused(both), "authentication.api_key.header");
        let both = Settings { form: carrying("X-Key"), authentication: key("x-key"), ..Settings::default() };
        assert_eq!(refused(both), "authentication.api_key.header");
        let handshake = Some(Handshake::HookSecret);
        let both = Settings {
            handshake: handshake.clone(),
            // As it may be stored; nobody can set it any more.
            authentication: Some(Authentication::ApiKey {
                header: "x-hook-secret".to_owned(),
                value: Hidden::new("s3cret"),
            }),
            ..Settings::default()
        };
        assert_eq!(refused(both), "authentication.api_key.header");
        let secret = SignatureHeader::parse("header", "X-Hook-Secret").unwrap();
        let custom = CustomHmac::new(secret, Template::signed("{body}").unwrap());
        let own = Some(Signing::new(vec![Profile::CustomHmac(custom)]).unwrap());
        let both = Settings { handshake, signing: own, ..Settings::default() };
        assert_eq!(refused(both), "signing");
        let fine = Settings {
            signing,
            form: carrying("X-Other"),
            authentication: key("x-key"),
            ..Settings::default()
        };
        assert_eq!(fine.check(), Ok(()));
    }
}
