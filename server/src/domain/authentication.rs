//! How we show a receiver who we are, beside the signature: what an owner can choose, and what each may hold.
//!
//! What becomes of it on the wire is the sender's to say.

use serde::{Deserialize, Serialize};

use super::{
    client_credentials::ClientCredentials, form::is_of_signatures, hidden::Hidden, invalid::Invalid,
};

/// The longest user name and password, in bytes.
const MAX_BASIC: usize = 1_024;
/// The longest token or key, in bytes. Servers commonly refuse heads of 8 KiB and more.
const MAX_TOKEN: usize = 4_096;
/// The longest name of a header, in bytes.
const MAX_HEADER_NAME: usize = 128;

/// Headers that a key must not go in: those that are ours to write, and those that are about a connection and not for the receiver
/// (RFC 9110, 7.6.1).
const TAKEN_HEADERS: [&str; 19] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
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
/// What the headers of signatures and of events begin with.
const TAKEN_PREFIXES: [&str; 3] = ["webhook-", "svix-", "ce-"];

/// How we show who we are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The user's name.
        user: String,
        /// The password.
        password: Hidden,
    },
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer {
        /// The token.
        token: Hidden,
    },
    /// A header with a key.
    ApiKey {
        /// The header's name, in lower case.
        header: String,
        /// The key.
        value: Hidden,
    },
    /// `Authorization: Bearer …` with a token that we ask for first.
    ClientCredentials(ClientCredentials),
}

impl Authentication {
    /// Accepts a user name without colon, and a password that may be empty.
    pub fn basic(user: &str, password: &str) -> Result<Self, Invalid> {
        if user.is_empty() || user.len() > MAX_BASIC {
            return Err(Invalid::new("user", format!("must have 1 to {MAX_BASIC} bytes")));
        }
        if user.contains(':') || user.chars().any(char::is_control) {
            return Err(Invalid::new("user", "must not hold a colon or control characters"));
        }
        if password.len() > MAX_BASIC {
            return Err(Invalid::new("password", format!("must have at most {MAX_BASIC} bytes")));
        }
        if password.chars().any(char::is_control) {
            return Err(Invalid::new("password", "must not hold control characters"));
        }
        Ok(Self::Basic { user: user.to_owned(), password: Hidden::new(password) })
    }

    /// Accepts visible ASCII characters without spaces.
    pub fn bearer(token: &str) -> Result<Self, Invalid> {
        if !is_token_text(token) {
            let reason = format!(
                "must have 1 to {MAX_TOKEN} visible ASCII characters and no spaces; `Bearer ` is put in front"
            );
            return Err(Invalid::new("token", reason));
        }
        Ok(Self::Bearer { token: Hidden::new(token) })
    }

    /// Accepts any header that is not taken, and a value that fits in one.
    pub fn api_key(header: &str, value: &str) -> Result<Self, Invalid> {
        let header = header.to_ascii_lowercase();
        if header.len() > MAX_HEADER_NAME || !is_header_name(&header) {
            let reason = format!(
                "must have 1 to {MAX_HEADER_NAME} letters, digits and characters of !#$%&'*+-.^_`|~, like `x-api-key`"
            );
            return Err(Invalid::new("header", reason));
        }
        let taken = TAKEN_HEADERS.contains(&header.as_str())
            || TAKEN_PREFIXES.iter().any(|prefix| header.starts_with(prefix));
        if taken {
            return Err(Invalid::new(
                "header",
                format!("is `{header}`, which the server sets or must not send"),
            ));
        }
        if is_of_signatures(&header) {
            let reason =
                format!("is `{header}`, which could be taken for a signature; set `signing` instead");
            return Err(Invalid::new("header", reason));
        }
        let visible = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if value.is_empty() || value.len() > MAX_TOKEN || !visible || value.trim() != value {
            let reason =
                format!("must have 1 to {MAX_TOKEN} visible ASCII characters, with spaces only between them");
            return Err(Invalid::new("value", reason));
        }
        Ok(Self::ApiKey { header, value: Hidden::new(value) })
    }

    /// Where a secret is masked, puts back that of an authentication of the same kind.
    pub fn keep_secrets(&mut self, before: Option<&Self>) {
        match (self, before) {
            (Self::Basic { password: new, .. }, Some(Self::Basic { password: old, .. }))
            | (Self::Bearer { token: new }, Some(Self::Bearer { token: old }))
            | (Self::ApiKey { value: new, .. }, Some(Self::ApiKey { value: old, .. })) => new.keep(old),
            (Self::ClientCredentials(new), Some(Self::ClientCredentials(old))) => new.keep_secret(old),
            (
                Self::Basic { .. } | Self::Bearer { .. } | Self::ApiKey { .. } | Self::ClientCredentials(_),
                _,
            ) => {}
        }
    }

    /// Refuses a secret that is still masked.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Basic { password, .. } => password.check("basic.password"),
            Self::Bearer { token } => token.check("bearer.token"),
            Self::ApiKey { value, .. } => value.check("api_key.value"),
            Self::ClientCredentials(credentials) => {
                credentials.check().map_err(|invalid| invalid.within("client_credentials"))
            }
        }
    }
}

/// Whether a text can stand behind `Bearer `.
#[must_use]
pub fn is_token_text(text: &str) -> bool {
    (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a text is a token in the sense of RFC 9110, 5.6.2.
fn is_header_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hidden::MASK;

    #[test]
    fn what_does_not_fit_is_refused_by_its_field() {
        let refused = |result: Result<Authentication, Invalid>| result.unwrap_err().field;
        let long = "x".repeat(5_000);
        for user in ["", "a:b", "a\nb", &long] {
            assert_eq!(refused(Authentication::basic(user, "")), "user", "{user}");
        }
        for password in ["a\r\nb", &long] {
            assert_eq!(refused(Authentication::basic("a", password)), "password");
        }
        for token in ["", "a b", "a\r\nx: y", "ä", &long] {
            assert_eq!(refused(Authentication::bearer(token)), "token", "{token}");
        }
        for header in ["", "x y", "x:", "ä", "Host", "content-length", "Webhook-Id", "ce-id", "TE", &long] {
            assert_eq!(refused(Authentication::api_key(header, "k")), "header", "{header}");
        }
        for header in ["X-Hub-Signature-256", "stripe-signature", "X-Shopify-Hmac-Sha256", "X-Slack-Any"] {
            assert_eq!(refused(Authentication::api_key(header, "k")), "header", "{header}");
        }
        for value in ["", " a", "a ", "a\nb", "ä", &long] {
            assert_eq!(refused(Authentication::api_key("x-api-key", value)), "value", "{value}");
        }
        assert!(Authentication::basic("zoë", "").is_ok());
        assert!(Authentication::api_key("Authorization", "ApiKey abc").is_ok());
    }

    #[test]
    fn a_masked_secret_is_kept_from_the_same_kind_alone() {
        let stored = Authentication::basic("a", "s3cret").unwrap();
        let mut masked = Authentication::basic("b", MASK).unwrap();
        assert_eq!(masked.check().unwrap_err().field, "basic.password");
        masked.keep_secrets(Some(&stored));
        assert_eq!(masked, Authentication::basic("b", "s3cret").unwrap());
        let mut other = Authentication::bearer(MASK).unwrap();
        other.keep_secrets(Some(&stored));
        assert_eq!(other.check().unwrap_err().field, "bearer.token");
        assert!(!format!("{stored:?}").contains("s3cret"));
    }
}
