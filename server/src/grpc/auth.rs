//! Who may call: whoever presents a bearer token whose hash is configured, or everybody if there is none.
//!
//! Tokens are long and random, so a plain SHA-256 of one is no easier to turn back than to guess.

use std::{collections::HashSet, fmt, str::FromStr, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{AUTHORIZATION, ORIGIN},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tonic::{Status, body::Body};
use tower_http::validate_request::{ValidateRequest, ValidateRequestHeaderLayer};

use super::failure::Failure;

/// What a stored hash begins with.
const PREFIX: &str = "sha256:";

/// Who may call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Hashes of the bearer tokens that callers may present, as `postrider key` prints them. Without any, the server takes
    /// calls from this machine only, and from everybody on it.
    pub key_hashes: Vec<KeyHash>,
}

/// The hash of a bearer token: `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl FromStr for KeyHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "must be `sha256:` and 64 hexadecimal digits, as `postrider key` prints them";
        let hex = text
            .strip_prefix(PREFIX)
            .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .ok_or(EXPECTED)?;
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| EXPECTED)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| EXPECTED)?;
        }
        Ok(Self(hash))
    }
}

impl TryFrom<String> for KeyHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.to_string()
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Draws a bearer token: 32 random bytes.
#[must_use]
pub fn draw_token() -> String {
    format!("prk_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// The keys of one server.
#[derive(Debug, Clone, Default)]
pub struct Keys(Arc<HashSet<KeyHash>>);

impl Keys {
    /// The keys that a configuration lists.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self(Arc::new(config.key_hashes.iter().cloned().collect()))
    }

    /// Whether a call needs a key.
    #[must_use]
    pub fn are_needed(&self) -> bool {
        !self.0.is_empty()
    }

    fn check(&self, authorization: Option<&str>) -> Result<(), Failure> {
        if !self.are_needed() {
            return Ok(());
        }
        let Some(authorization) = authorization else {
            return Err(Failure::Unauthenticated(
                "metadata `authorization` is missing: it must be `Bearer <token>`",
            ));
        };
        // The scheme's case does not matter (RFC 9110, section 11.1).
        let token = match authorization.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(Failure::Unauthenticated("metadata `authorization` must be `Bearer <token>`")),
        };
        if self.0.contains(&KeyHash::of(token)) {
            Ok(())
        } else {
            Err(Failure::Unauthenticated("the token in metadata `authorization` is not known"))
        }
    }

    /// What every call comes by.
    pub(super) fn layer(self, web_origins: &[String]) -> ValidateRequestHeaderLayer<Guard> {
        ValidateRequestHeaderLayer::custom(Guard { keys: self, web_origins: web_origins.into() })
    }
}

/// Refuses every call that presents no known token, and every call of a web page whose origin is not listed. CORS alone
/// would not do: to a browser that has been led here under another name (DNS rebinding), such a page is of our own origin.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    keys: Keys,
    web_origins: Arc<[String]>,
}

impl Guard {
    fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        if let Some(origin) = headers.get(ORIGIN)
            && !self.web_origins.iter().any(|listed| listed.as_bytes() == origin.as_bytes())
        {
            return Err(Failure::Unauthenticated(
                "pages of this origin may not call: see `grpc.web_origins`",
            ));
        }
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::to_str);
        self.keys.check(authorization.transpose().unwrap_or(Some("")))
    }
}

impl<B> ValidateRequest<B> for Guard {
    type ResponseBody = Body;

    fn validate(&mut self, request: &mut Request<B>) -> Result<(), Response<Body>> {
        self.check(request.headers()).map_err(|failure| Status::from(failure).into_http())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_keys_every_call_needs_one_of_them() {
        let token = draw_token();
        let config = Config { key_hashes: vec![KeyHash::of("other"), KeyHash::of(&token)] };
        let keys = Keys::new(&config);
        assert!(keys.check(Some(&format!("Bearer {token}"))).is_ok());
        assert!(keys.check(Some(&format!("bearer {token}"))).is_ok());
        for bad in [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Basic dTpw"), Some(&*token)] {
            assert!(keys.check(bad).is_err(), "{bad:?}");
        }
        assert!(keys.check(Some(&format!("Bearer {token}x"))).is_err());
        assert!(Keys::default().check(None).is_ok());
    }

    #[test]
    fn a_hash_is_read_back_as_it_is_shown() {
        let hash = KeyHash::of("token");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in [
            "",
            "sha256:",
            "sha256:00",
            &format!("md5:{}", "0".repeat(64)),
            &format!("sha256:{}", "g".repeat(64)),
        ] {
            assert!(bad.parse::<KeyHash>().is_err(), "{bad}");
        }
    }
}
