//! The public keys of a subscription as a JSON Web Key Set (RFC 7517; RFC 8037 for Ed25519), for receivers that verify Standard Webhooks
//! `v1a`. The newest key comes first; those that it replaced stay as long as they sign.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::domain::{
    id::{SubscriptionId, TenantId},
    secret::KeyPair,
};

/// Where public keys come from.
pub trait PublicKeys: Send + Sync + 'static {
    /// The pairs that sign a subscription's callbacks now, the newest first; none if there is no such subscription, too.
    fn of(
        &self,
        tenant: TenantId,
        subscription: SubscriptionId,
    ) -> impl Future<Output = Result<Vec<KeyPair>, NoKeys>> + Send;
}

/// The keys cannot be read at the moment.
#[derive(Debug)]
pub struct NoKeys;

#[derive(Serialize)]
struct KeySet {
    keys: Vec<Key>,
}

/// Its members are named by the RFCs.
#[derive(Serialize)]
struct Key {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    r#use: &'static str,
    kid: String,
    x: String,
}

impl Key {
    fn new(pair: &KeyPair) -> Self {
        let x = URL_SAFE_NO_PAD.encode(pair.public());
        // RFC 7638: the hash of the required members in order.
        let thumbprint = Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#));
        let kid = URL_SAFE_NO_PAD.encode(thumbprint);
        Self { kty: "OKP", crv: "Ed25519", alg: "EdDSA", r#use: "sig", kid, x }
    }
}

pub(super) fn router<K: PublicKeys>(keys: K) -> Router {
    Router::new()
        .route("/.well-known/postrider/{tenant}/{subscription}/jwks.json", get(show::<K>))
        .with_state(Arc::new(keys))
}

async fn show<K: PublicKeys>(
    State(keys): State<Arc<K>>,
    Path((tenant, subscription)): Path<(String, String)>,
) -> Response {
    let (Ok(tenant), Ok(subscription)) = (TenantId::parse(&tenant), SubscriptionId::parse(&subscription))
    else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match keys.of(tenant, subscription).await {
        // Whether there is such a subscription is nobody's business.
        Ok(pairs) if pairs.is_empty() => StatusCode::NOT_FOUND.into_response(),
        Ok(pairs) => {
            // Strings always serialise.
            let keys = serde_json::to_vec(&KeySet { keys: pairs.iter().map(Key::new).collect() });
            let headers = [(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, "public, max-age=60")];
            (headers, keys.unwrap_or_default()).into_response()
        }
        Err(NoKeys) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_that_of_the_rfc() {
        // RFC 8037, appendices A.2 and A.3.
        let public = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let key = Key::new(&KeyPair::from_halves(&[0; 32], &public.try_into().unwrap()));
        assert_eq!(key.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(key.x, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    }
}
