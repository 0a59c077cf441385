//! The secrets that callbacks are signed with.

use std::fmt;

use super::timestamp::Timestamp;

/// How many secrets of a subscription can be in force at once: the current one and those it replaced.
pub const MAX_IN_FORCE: usize = 5;

/// The bytes of a signing key. Never shown: neither `Debug` nor `Display` tell them.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// How many bytes a new secret has; the Standard Webhooks specification allows 24 to 64.
    pub const LENGTH: usize = 32;

    /// From key bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The key bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A secret and how long callbacks are signed with it.
#[derive(Debug, Clone)]
pub struct SecretInForce {
    /// The key.
    pub secret: SigningSecret,
    /// When it stops; never for the current one.
    pub expires_at: Option<Timestamp>,
}

/// All secrets of a subscription, the current one first.
#[derive(Debug, Clone)]
pub struct SecretSet(Vec<SecretInForce>);

impl SecretSet {
    /// From the secrets, newest first.
    #[must_use]
    pub fn newest_first(secrets: Vec<SecretInForce>) -> Self {
        Self(secrets)
    }

    /// Those that sign at `now`, the current one first.
    pub fn in_force(&self, now: Timestamp) -> impl Iterator<Item = &SigningSecret> {
        self.0.iter().filter(move |held| held.expires_at.is_none_or(|end| now < end)).map(|held| &held.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_secret_signs_until_it_expires() {
        let held =
            |byte, end| SecretInForce { secret: SigningSecret::from_bytes(vec![byte; 32]), expires_at: end };
        let set = SecretSet::newest_first(vec![held(2, None), held(1, Some(Timestamp::from_micros(10)))]);
        let signing =
            |now| set.in_force(Timestamp::from_micros(now)).map(|s| s.expose()[0]).collect::<Vec<_>>();
        assert_eq!(signing(9), [2, 1]);
        assert_eq!(signing(10), [2]);
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", SigningSecret::from_bytes(vec![1; 32])), "[redacted]");
    }
}
