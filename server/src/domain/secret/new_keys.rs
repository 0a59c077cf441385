//! What a subscription is given to sign with: drawn by us, or brought from another system.

use super::{KeyPair, SigningSecret, key_pair};
use crate::domain::invalid::Invalid;

/// A secret, and perhaps the pair of keys that goes with it. Where there is none and the profiles want one, the store draws it.
#[derive(Debug, Clone)]
pub enum NewKeys {
    /// A secret of our own.
    Drawn(SigningSecret),
    /// A secret of another system.
    Secret(SigningSecret),
    /// A pair of keys of another system, and a secret of our own.
    KeyPair(KeyPair, SigningSecret),
}

impl NewKeys {
    /// Reads what an owner brings: `whsk_…` is a pair of keys, nothing is nothing, and all else is a secret. `drawn` is for where it
    /// brings no secret.
    pub fn parse(text: &str, drawn: SigningSecret) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Ok(Self::Drawn(drawn));
        }
        // Never a text: whoever writes this means a key, and a broken one must not sign as something else.
        if let Some(base64) = text.strip_prefix(key_pair::PREFIX) {
            return KeyPair::parse(base64).map(|pair| Self::KeyPair(pair, drawn));
        }
        SigningSecret::parse(text).map(Self::Secret)
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &SigningSecret {
        match self {
            Self::Drawn(secret) | Self::Secret(secret) | Self::KeyPair(_, secret) => secret,
        }
    }

    /// The pair of keys that was brought.
    #[must_use]
    pub fn key_pair(&self) -> Option<&KeyPair> {
        match self {
            Self::Drawn(_) | Self::Secret(_) => None,
            Self::KeyPair(pair, _) => Some(pair),
        }
    }
}

impl From<&SigningSecret> for NewKeys {
    fn from(drawn: &SigningSecret) -> Self {
        Self::Drawn(drawn.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Svix's example (`CONTRACTS.md` A1).
    const KEY: &str =
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    /// Its first half alone.
    const SEED: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";

    fn drawn() -> SigningSecret {
        SigningSecret::from_bytes(vec![7; 32])
    }

    #[test]
    fn a_key_is_its_seed_with_or_without_its_public_half() {
        let read = [KEY, SEED].map(|text| NewKeys::parse(text, drawn()).unwrap());
        for keys in &read {
            let public = keys.key_pair().unwrap().public_text();
            assert_eq!(public, "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=");
            assert_eq!(keys.secret(), &drawn(), "the secret is another thing");
        }
        assert_eq!(read[0].key_pair(), read[1].key_pair());
    }

    #[test]
    fn a_broken_key_is_no_text() {
        let other_half = KEY.replace("Kvg==", "Kvw==");
        for bad in
            ["whsk_", "whsk_a text of another system", "whsk_c2hvcnQ=", &KEY[..KEY.len() - 2], &other_half]
        {
            let invalid = NewKeys::parse(bad, drawn()).unwrap_err();
            assert_eq!(invalid.field, "secret", "{bad}");
            assert!(!invalid.reason.contains("6Xb"), "{invalid}");
        }
    }

    #[test]
    fn all_else_is_a_secret_or_nothing() {
        assert!(matches!(NewKeys::parse("", drawn()), Ok(NewKeys::Drawn(secret)) if secret == drawn()));
        let text = NewKeys::parse("short", drawn()).unwrap();
        assert!(text.key_pair().is_none());
        assert_eq!(text.secret().text(), "short");
        assert_eq!(NewKeys::parse(" ", drawn()).unwrap_err().field, "secret");
    }
}
