//! One secret as an HMAC key.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::InvalidSecret;

/// People lose the padding when they copy a secret, and most receiver libraries don't mind.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The signature that one key makes of one callback.
pub(super) struct Signature(Hmac<Sha256>);

impl Signature {
    /// Whether this is the signature, in base64. Takes the same time wherever they differ.
    pub(super) fn is(&self, candidate: &str) -> bool {
        BASE64.decode(candidate).is_ok_and(|candidate| self.0.clone().verify_slice(&candidate).is_ok())
    }
}

#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    /// The prefix `whsec_` is optional, as in other libraries.
    pub(super) fn parse(secret: &str) -> Result<Self, InvalidSecret> {
        let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
        let bytes = BASE64.decode(encoded).map_err(|_| InvalidSecret::NotBase64)?;
        if bytes.is_empty() {
            return Err(InvalidSecret::Empty);
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| InvalidSecret::Empty)
    }

    /// What this key makes of these bytes.
    pub(super) fn sign(&self, signed: &[&[u8]]) -> Signature {
        let mut mac = self.0.clone();
        for part in signed {
            mac.update(part);
        }
        Signature(mac)
    }
}
