//! Message authentication codes.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::Unsigned;
pub(super) use crate::domain::hexadecimal::hex;
use crate::domain::signing::Algorithm;

/// The HMAC of the parts, one after another.
pub(super) fn hmac(algorithm: Algorithm, key: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>, Unsigned> {
    match algorithm {
        Algorithm::Sha1 => of::<Hmac<Sha1>>(key, parts),
        Algorithm::Sha256 => of::<Hmac<Sha256>>(key, parts),
        Algorithm::Sha512 => of::<Hmac<Sha512>>(key, parts),
    }
}

fn of<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>, Unsigned> {
    // It takes keys of any length.
    let mut mac = <M as KeyInit>::new_from_slice(key).map_err(|_| Unsigned::NoSecret)?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().to_vec())
}

/// Padded base64 of the standard alphabet.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
