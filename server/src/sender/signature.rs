//! The `webhook-signature` header: Standard Webhooks `v1`. The SDK verifies it with code of its own, against the same
//! vectors (`proto/signature/vectors.json`).

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::secret::SigningSecret;

/// One signature per secret, in their order, single spaces between: some receiver libraries fail on any other form.
/// `None` if there is no secret.
pub(super) fn header<'a>(
    secrets: impl Iterator<Item = &'a SigningSecret>,
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> Option<String> {
    let timestamp = timestamp.to_string();
    let signatures: Vec<String> =
        secrets.map(|secret| sign(secret, id, &timestamp, body)).collect::<Option<_>>()?;
    (!signatures.is_empty()).then(|| signatures.join(" "))
}

/// HMAC takes keys of any length, so there is always a signature.
fn sign(secret: &SigningSecret, id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).ok()?;
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Vector {
        description: String,
        secrets: Vec<String>,
        id: String,
        timestamp: i64,
        body: String,
        signature: String,
    }

    #[test]
    fn it_is_what_the_shared_vectors_say() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("../../../proto/signature/vectors.json")).unwrap();
        assert!(!vectors.is_empty());
        for vector in vectors {
            let secrets: Vec<_> = vector
                .secrets
                .iter()
                .map(|text| STANDARD.decode(text.strip_prefix("whsec_").unwrap()).unwrap())
                .map(SigningSecret::from_bytes)
                .collect();
            let made = header(secrets.iter(), &vector.id, vector.timestamp, vector.body.as_bytes());
            assert_eq!(made.as_deref(), Some(vector.signature.as_str()), "{}", vector.description);
        }
    }

    #[test]
    fn there_is_none_without_a_secret() {
        assert_eq!(header([].iter(), "evt_1", 1, b"{}"), None);
    }
}
