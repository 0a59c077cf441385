//! The secrets that callbacks are signed with.
//!
//! A subscription has one secret at a time for all of its signature profiles ([`super::signing`]), which make different keys of the
//! same text: Standard Webhooks decodes what stands behind `whsec_`, all others take the text as it is.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::invalid::Invalid;

mod key_pair;
mod new_keys;
mod set;

pub use key_pair::KeyPair;
pub use new_keys::NewKeys;
pub use set::{SecretInForce, SecretSet};

/// How many secrets of a subscription can be in force at once: the current one and those it replaced.
pub const MAX_IN_FORCE: usize = 5;

/// What the text of a Standard Webhooks secret begins with.
const PREFIX: &str = "whsec_";
/// How many bytes such a secret has (Standard Webhooks specification).
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How long any other secret is. No vendor sets a minimum (`CONTRACTS.md` A0), and what a customer has already must go on.
const TEXT_LENGTH: std::ops::RangeInclusive<usize> = 1..=256;

/// A signing secret. Never shown: neither `Debug` nor `Display` tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret {
    kind: SecretKind,
    material: Vec<u8>,
}

/// What a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// Bytes, shown as `whsec_` and base64: fit for all profiles.
    Bytes,
    /// Any other text, from another system: not fit for Standard Webhooks.
    Text,
}

impl SigningSecret {
    /// How many bytes a new secret has; the Standard Webhooks specification allows 24 to 64.
    pub const LENGTH: usize = 32;

    /// From key bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { kind: SecretKind::Bytes, material: bytes }
    }

    /// From what the database stores.
    #[must_use]
    pub fn from_stored(kind: SecretKind, material: Vec<u8>) -> Self {
        Self { kind, material }
    }

    /// Reads a secret that comes from another system. It is kept as the text that it is, also where it is read as bytes.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        // Strict: padded and canonical, so that the same text comes out again.
        let decoded = text.strip_prefix(PREFIX).and_then(|base64| STANDARD.decode(base64).ok());
        if let Some(bytes) = decoded.filter(|bytes| BYTES.contains(&bytes.len())) {
            return Ok(Self::from_bytes(bytes));
        }
        let is_printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !TEXT_LENGTH.contains(&text.len()) || !is_printable || text.trim() != text {
            let reason = "must be `whsec_` and the padded base64 of 24 to 64 bytes, or, for signatures other than Standard Webhooks, \
                          1 to 256 printable ASCII characters without spaces at the ends";
            return Err(Invalid::new("secret", reason));
        }
        Ok(Self { kind: SecretKind::Text, material: text.as_bytes().to_vec() })
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> SecretKind {
        self.kind
    }

    /// What is stored of it: the bytes, or the text.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.material
    }

    /// The key for Standard Webhooks, if it is fit for that.
    #[must_use]
    pub fn standard_key(&self) -> Option<&[u8]> {
        match self.kind {
            SecretKind::Bytes => Some(&self.material),
            SecretKind::Text => None,
        }
    }

    /// The text, as it is handed to receivers; also the key for all but Standard Webhooks.
    #[must_use]
    pub fn text(&self) -> String {
        match self.kind {
            SecretKind::Bytes => format!("{PREFIX}{}", STANDARD.encode(&self.material)),
            // It is ASCII.
            SecretKind::Text => String::from_utf8_lossy(&self.material).into_owned(),
        }
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", SigningSecret::from_bytes(vec![1; 32])), "[redacted]");
    }

    #[test]
    fn a_secret_of_another_system_keeps_its_text() {
        let most = "x".repeat(256);
        let (bytes_24, bytes_64) =
            (format!("whsec_{}", STANDARD.encode([7; 24])), format!("whsec_{}", STANDARD.encode([7; 64])));
        for (text, kind) in [
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretKind::Bytes),
            (&bytes_24, SecretKind::Bytes),
            (&bytes_64, SecretKind::Bytes),
            // Not 24 bytes, not padded, not canonical, not the standard alphabet: texts as good as any.
            ("whsec_AAAAAAAAAAAAAAAAAAAA", SecretKind::Text),
            ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", SecretKind::Text),
            ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", SecretKind::Text),
            ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdH-8=", SecretKind::Text),
            ("It's a Secret to Everybody", SecretKind::Text),
            ("x", SecretKind::Text),
            (&most, SecretKind::Text),
        ] {
            let secret = SigningSecret::parse(text).unwrap();
            assert_eq!((secret.kind(), secret.text().as_str()), (kind, text));
            assert_eq!(secret.standard_key().is_some(), kind == SecretKind::Bytes, "{text}");
            assert_eq!(SigningSecret::from_stored(kind, secret.expose().to_vec()), secret);
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let long = "x".repeat(257);
        for bad in [
            "",
            " ",
            &long,
            " 0123456789abcdef",
            "0123456789abcdef\n",
            "0123456789\u{7f}abcdef",
            "0123456789abcdefä",
        ] {
            assert_eq!(SigningSecret::parse(bad).unwrap_err().field, "secret", "{bad:?}");
        }
    }
}
