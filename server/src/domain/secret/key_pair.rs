//! A pair of Ed25519 keys: the one signs, the other is for everybody.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::domain::invalid::Invalid;

/// What the text of both keys begins with, as Standard Webhooks writes them.
pub(super) const PREFIX: &str = "whsk_";
/// The length of each half.
const HALF: usize = 32;

/// Both keys, as libsodium has them: 32 bytes of seed, 32 of the public key. Only the public one is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair([u8; 2 * HALF]);

impl KeyPair {
    /// From the half that signs, which the other one follows from.
    #[must_use]
    pub fn from_seed(seed: &[u8; HALF]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self::from_halves(seed, public))
    }

    /// Reads what stands behind `whsk_`: the base64 of the seed, or of the seed and the public key (as libsodium has it).
    pub(super) fn parse(base64: &str) -> Result<Self, Invalid> {
        let refuse = |reason: &str| Invalid::new("secret", reason);
        let bytes = STANDARD.decode(base64).unwrap_or_default();
        let (seed, public) = bytes.split_at_checked(HALF).unwrap_or_default();
        let (Ok(seed), 0 | HALF) = (seed.try_into(), public.len()) else {
            return Err(refuse(
                "must be `whsk_` and the padded base64 of an Ed25519 key: its seed (32 bytes), or its seed and its public key \
                 (64 bytes)",
            ));
        };
        let pair = Self::from_seed(seed).ok_or_else(|| refuse("is no Ed25519 key that can be used"))?;
        if !public.is_empty() && public != pair.public() {
            return Err(refuse(
                "is an Ed25519 key whose halves do not belong together: the last 32 bytes must be the public key of the first 32",
            ));
        }
        Ok(pair)
    }

    /// From both halves; they must belong together.
    #[must_use]
    pub fn from_halves(seed: &[u8; HALF], public: &[u8; HALF]) -> Self {
        let mut both = [0; 2 * HALF];
        both[..HALF].copy_from_slice(seed);
        both[HALF..].copy_from_slice(public);
        Self(both)
    }

    /// From what the database stores, if it is as long as it must be.
    #[must_use]
    pub fn from_stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Both halves, the secret one too.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The half that signs.
    #[must_use]
    pub fn seed(&self) -> &[u8] {
        &self.0[..HALF]
    }

    /// The half that verifies.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.0[HALF..]
    }

    /// The half that verifies, as Standard Webhooks writes it: `whpk_…`.
    #[must_use]
    pub fn public_text(&self) -> String {
        format!("whpk_{}", STANDARD.encode(self.public()))
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_half_is_shown() {
        let pair = KeyPair::from_halves(&[1; 32], &[2; 32]);
        assert_eq!(format!("{pair:?}"), format!("whpk_{}", STANDARD.encode([2; 32])));
        assert_eq!(KeyPair::from_stored(pair.expose()), Some(pair));
        assert_eq!(KeyPair::from_stored(&[1; 63]), None);
    }
}
