//! Headers that each request of a subscription carries.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// What is shown in the place of a secret.
pub const MASK: &str = "********";
/// The most headers.
const MAX_HEADERS: usize = 32;
/// The longest name.
const MAX_NAME: usize = 128;
/// The longest value.
const MAX_VALUE: usize = 4 << 10;
/// The most that all names and values can have together.
const MAX_TOTAL: usize = 16 << 10;

/// Names that are refused because the server sets the header or the connection is governed by it.
const OURS: [&str; 20] = [
    "accept-encoding",
    "connection",
    "content-digest",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "digest",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
/// Beginning of the names of a CloudEvent's attributes.
const OF_CLOUD_EVENTS: &str = "ce-";
/// Beginning of the names of Standard Webhooks, and of CloudEvents' handshake.
const OF_WEBHOOKS: &str = "webhook-";
/// Names of distributed tracing.
const OF_TRACING: [&str; 3] = ["baggage", "traceparent", "tracestate"];
/// Beginnings of names that senders of signed webhooks use (`CONTRACTS.md` A0).
const OF_SIGNATURES: [&str; 9] = [
    "linear-",
    "paypal-",
    "svix-",
    "x-hook-",
    "x-hubspot-",
    "x-slack-",
    "x-square-",
    "x-trello-",
    "x-twilio-",
];
/// What the name of a signature's header holds elsewhere.
const IN_SIGNATURES: [&str; 2] = ["signature", "hmac"];

/// A header that is the same in each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticHeader {
    /// The name, in lower case.
    pub name: String,
    /// The value.
    pub value: Value,
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// May be seen.
    Open(String),
    /// May not.
    Secret(SecretText),
}

impl Value {
    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Open(text) | Self::Secret(SecretText(text)) => text,
        }
    }
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl StaticHeader {
    /// Accepts a name that nothing else sets and a value that can be sent.
    pub fn parse(name: &str, value: &str, secret: bool) -> Result<Self, Invalid> {
        let name = check_name(name).map_err(|reason| Invalid::new("name", reason))?;
        check_value(value).map_err(|reason| Invalid::new("value", reason))?;
        if value == MASK && !secret {
            let reason =
                format!("is `{MASK}`, which stands for a secret: set `secret`, or give another value");
            return Err(Invalid::new("value", reason));
        }
        let value = value.to_owned();
        let value = if secret { Value::Secret(SecretText(value)) } else { Value::Open(value) };
        Ok(Self { name, value })
    }

    /// Whether the mask stands where the value should.
    fn is_masked(&self) -> bool {
        matches!(&self.value, Value::Secret(SecretText(text)) if text == MASK)
    }
}

fn check_name(name: &str) -> Result<String, String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(token) {
        return Err(format!(
            "must be 1 to {MAX_NAME} letters, digits and !#$%&'*+-.^_`|~, like `X-Api-Version`"
        ));
    }
    let name = name.to_ascii_lowercase();
    if name == "authorization" {
        return Err("cannot be `Authorization`: set `authentication` instead".to_owned());
    }
    if name.starts_with(OF_WEBHOOKS) {
        return Err(format!("cannot be `{name}`: it belongs to the signature, which `signing` says"));
    }
    if OURS.contains(&name.as_str()) || name.starts_with(OF_CLOUD_EVENTS) {
        return Err(format!("cannot be `{name}`: the server sets what is needed of it"));
    }
    if OF_TRACING.contains(&name.as_str()) {
        return Err(format!("cannot be `{name}`: it belongs to the trace of each event"));
    }
    if is_of_signatures(&name) {
        return Err(format!("cannot be `{name}`: it could be taken for a signature; set `signing` instead"));
    }
    Ok(name)
}

/// Whether a name, in lower case, is one that signatures have, ours or those of other senders.
#[must_use]
pub fn is_of_signatures(name: &str) -> bool {
    OF_SIGNATURES.iter().any(|beginning| name.starts_with(beginning))
        || IN_SIGNATURES.iter().any(|part| name.contains(part))
}

fn check_value(value: &str) -> Result<(), String> {
    if value.len() > MAX_VALUE {
        return Err(format!("has {} bytes; at most {MAX_VALUE} are allowed", value.len()));
    }
    if value.is_empty() || value.trim() != value || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err("must be visible ASCII characters, with spaces only between them".to_owned());
    }
    Ok(())
}

/// Up to 32 headers, each name once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(Vec<StaticHeader>);

impl Headers {
    /// Accepts up to 32 headers of 16 KiB together, in which no name is twice.
    pub fn parse(headers: Vec<StaticHeader>) -> Result<Self, Invalid> {
        if headers.len() > MAX_HEADERS {
            let reason = format!("holds {} headers; at most {MAX_HEADERS} are allowed", headers.len());
            return Err(Invalid::new("headers", reason));
        }
        let total: usize = headers.iter().map(|one| one.name.len() + one.value.expose().len()).sum();
        if total > MAX_TOTAL {
            let reason = format!("have {total} bytes together; at most {MAX_TOTAL} are allowed");
            return Err(Invalid::new("headers", reason));
        }
        for (index, header) in headers.iter().enumerate() {
            if headers[..index].iter().any(|before| before.name == header.name) {
                let reason = format!("`{}` is there already; each name can be there once", header.name);
                return Err(Invalid::new(format!("headers[{index}].name"), reason));
            }
        }
        Ok(Self(headers))
    }

    /// Puts the secrets of before where masks stand.
    pub fn keep_secrets(&mut self, before: &Self) {
        for header in self.0.iter_mut().filter(|header| header.is_masked()) {
            let held = before.0.iter().find(|held| held.name == header.name);
            if let Some(StaticHeader { value: value @ Value::Secret(_), .. }) = held {
                header.value = value.clone();
            }
        }
    }

    /// Checks that no mask is left over.
    pub fn check(&self) -> Result<(), Invalid> {
        match self.0.iter().position(StaticHeader::is_masked) {
            None => Ok(()),
            Some(index) => {
                let reason = format!(
                    "is `{MASK}`, which keeps a secret that is set, and none is set for this name: give the value"
                );
                Err(Invalid::new(format!("headers[{index}].value"), reason))
            }
        }
    }

    /// The headers, in the order in which they were set.
    pub fn iter(&self) -> impl Iterator<Item = &StaticHeader> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, value: &str) -> StaticHeader {
        StaticHeader::parse(name, value, true).unwrap()
    }

    #[test]
    fn names_that_others_set_are_refused_with_where_to_go_instead() {
        for fine in ["X-Api-Key", "User-Agent", "accept", "x", "X-Shopify-Topic", "X-GitHub-Event", "Cookie"]
        {
            assert_eq!(StaticHeader::parse(fine, "1", false).unwrap().name, fine.to_ascii_lowercase());
        }
        for (bad, reason) in [
            ("", "must be 1 to 128"),
            ("a b", "must be 1 to 128"),
            ("a:", "must be 1 to 128"),
            ("ä", "must be 1 to 128"),
            ("Host", "the server sets"),
            ("CONTENT-LENGTH", "the server sets"),
            ("Content-Type", "the server sets"),
            ("Transfer-Encoding", "the server sets"),
            ("Webhook-Id", "`signing`"),
            ("Webhook-Anything", "`signing`"),
            ("CE-type", "the server sets"),
            ("Authorization", "`authentication`"),
            ("traceparent", "trace"),
            ("Baggage", "trace"),
            ("X-Hub-Signature-256", "`signing`"),
            ("Stripe-Signature", "`signing`"),
            ("Signature-Input", "`signing`"),
            ("X-Shopify-Hmac-Sha256", "`signing`"),
            ("X-Slack-Request-Timestamp", "`signing`"),
            ("svix-id", "`signing`"),
        ] {
            let invalid = StaticHeader::parse(bad, "1", false).unwrap_err();
            assert_eq!(invalid.field, "name", "{bad}");
            assert!(invalid.reason.contains(reason), "{bad}: {}", invalid.reason);
        }
        assert!(StaticHeader::parse(&"x".repeat(129), "1", false).is_err());
    }

    #[test]
    fn values_are_visible_and_have_limits() {
        for fine in ["a", "a b", "~!\"", &"x".repeat(4_096)] {
            assert!(StaticHeader::parse("x", fine, false).is_ok());
        }
        for bad in ["", " a", "a ", "a\tb", "a\r\nb: c", "ä", "\0", &"x".repeat(4_097)] {
            assert_eq!(StaticHeader::parse("x", bad, false).unwrap_err().field, "value", "{bad:?}");
        }
        let many = |count: usize, length: usize| {
            let one = |index| secret(&format!("x-{index:02}"), &"v".repeat(length));
            Headers::parse((0..count).map(one).collect())
        };
        assert!(many(32, 100).is_ok());
        assert!(many(33, 1).unwrap_err().reason.contains("33 headers"));
        assert!(many(4, 4_092).is_ok());
        assert!(many(4, 4_093).unwrap_err().reason.contains("16388 bytes"));
        let twice = vec![secret("A", "1"), secret("b", "1"), secret("a", "2")];
        assert_eq!(Headers::parse(twice).unwrap_err().field, "headers[2].name");
    }

    #[test]
    fn a_mask_keeps_the_secret_of_its_name_and_no_other() {
        let open = StaticHeader::parse("open", "seen", false).unwrap();
        let before = Headers::parse(vec![secret("x-key", "hidden"), open]).unwrap();
        assert!(!format!("{before:?}").contains("hidden"));
        let after = |name| {
            let mut headers = Headers::parse(vec![secret("x-new", "1"), secret(name, MASK)]).unwrap();
            headers.keep_secrets(&before);
            headers
        };
        let kept = after("X-KEY");
        assert_eq!(kept.check(), Ok(()));
        assert_eq!(kept.iter().nth(1).unwrap().value.expose(), "hidden");
        assert_eq!(after("other").check().unwrap_err().field, "headers[1].value");
        assert_eq!(after("open").check().unwrap_err().field, "headers[1].value");
    }
}
