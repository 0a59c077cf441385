//! The names of headers that a scheme of the owner's own writes.

use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// The longest name.
const MAX_LENGTH: usize = 100;

/// Names that mean something to whoever carries the request, or that have another author.
const RESERVED: [&str; 19] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
/// So do all names that begin like this.
const RESERVED_PREFIXES: [&str; 4] = ["content-", "webhook-", "ce-", "sec-"];

/// A header that may carry a signature or what belongs to it; as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignatureHeader(String);

impl SignatureHeader {
    /// Reads a name (RFC 9110: a token).
    pub fn parse(field: &str, name: &str) -> Result<Self, Invalid> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > MAX_LENGTH || !name.bytes().all(is_token) {
            let reason = format!(
                "must be the name of a header, 1 to {MAX_LENGTH} letters, digits and `-`, like `X-Acme-Signature`"
            );
            return Err(Invalid::new(field, reason));
        }
        let lower = name.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str())
            || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
        {
            let reason = format!(
                "must not be `{name}`, which has a meaning of its own; take a name like `X-Acme-Signature`"
            );
            return Err(Invalid::new(field, reason));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_meaning_of_their_own_are_refused() {
        for good in ["X-Acme-Signature", "x-hook-signature", "Signature", "contentsig"] {
            assert_eq!(SignatureHeader::parse("header", good).unwrap().as_str(), good);
        }
        let long = "x".repeat(101);
        for bad in [
            "",
            "a b",
            "a:",
            "ä",
            &long,
            "Host",
            "connection",
            "TE",
            "Content-Length",
            "Content-MD5",
            "Webhook-Id",
            "Authorization",
            "User-Agent",
        ] {
            assert_eq!(SignatureHeader::parse("header", bad).unwrap_err().field, "header", "{bad}");
        }
    }
}
