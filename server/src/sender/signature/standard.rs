//! Standard Webhooks: `v1` is HMAC-SHA256, `v1a` Ed25519, both over `id.timestamp.body`.
//!
//! One header holds all signatures with single spaces between them: some receiver libraries fail on any other form.

use http::HeaderName;
use ring::signature::Ed25519KeyPair;

use super::{
    Message, Pen, Unsigned,
    mac::{base64, hmac},
};
use crate::domain::{
    secret::{KeyPair, SigningSecret},
    signing::{Algorithm, Profile},
};

/// Writes `webhook-signature`, if any of the profiles wants it. Its id and timestamp are part of every callback.
pub(super) fn write(pen: &mut Pen<'_>, profiles: &[Profile]) -> Result<(), Unsigned> {
    let mut signatures = Vec::new();
    if profiles.contains(&Profile::StandardWebhooks) {
        signatures.extend(symmetric(pen)?);
    }
    if profiles.contains(&Profile::StandardWebhooksEd25519) {
        signatures.extend(asymmetric(pen)?);
    }
    if signatures.is_empty() {
        return Ok(());
    }
    pen.write_signature(HeaderName::from_static("webhook-signature"), signatures.join(" "))
}

/// Writes the same under the names that Svix had before there was a standard.
pub(super) fn write_svix(pen: &mut Pen<'_>) -> Result<(), Unsigned> {
    let signatures = symmetric(pen)?;
    pen.write("svix-id", pen.message.id)?;
    pen.write("svix-timestamp", pen.seconds())?;
    pen.write_signature(HeaderName::from_static("svix-signature"), signatures.join(" "))
}

/// A signature by each secret. One that is no Standard Webhooks secret can be left over from another scheme, and does not sign.
fn symmetric(pen: &Pen<'_>) -> Result<Vec<String>, Unsigned> {
    let secrets = pen.secrets.in_force(pen.message.now);
    let sign = |key: &[u8]| v1(key, pen.message, &pen.seconds());
    some(secrets.filter_map(SigningSecret::standard_key).map(sign).collect::<Result<_, _>>()?)
}

fn asymmetric(pen: &Pen<'_>) -> Result<Vec<String>, Unsigned> {
    let pairs = pen.secrets.key_pairs(pen.message.now);
    some(pairs.map(|pair| v1a(pair, pen.message, &pen.seconds())).collect::<Result<_, _>>()?)
}

fn some(signatures: Vec<String>) -> Result<Vec<String>, Unsigned> {
    if signatures.is_empty() { Err(Unsigned::NoSecret) } else { Ok(signatures) }
}

fn v1(key: &[u8], message: &Message<'_>, timestamp: &str) -> Result<String, Unsigned> {
    let parts = [message.id.as_bytes(), b".", timestamp.as_bytes(), b".", message.body];
    Ok(["v1,", &base64(&hmac(Algorithm::Sha256, key, &parts)?)].concat())
}

fn v1a(pair: &KeyPair, message: &Message<'_>, timestamp: &str) -> Result<String, Unsigned> {
    // Only keys that do not belong together are refused.
    let keys = Ed25519KeyPair::from_seed_and_public_key(pair.seed(), pair.public())
        .map_err(|_| Unsigned::NoSecret)?;
    let content = [message.id.as_bytes(), b".", timestamp.as_bytes(), b".", message.body].concat();
    Ok(format!("v1a,{}", base64(keys.sign(&content).as_ref())))
}
