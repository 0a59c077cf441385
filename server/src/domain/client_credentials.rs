//! The OAuth 2.0 client credentials grant (RFC 6749, 4.4): who we are at a token endpoint, and what for.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{hidden::Hidden, invalid::Invalid, target_url::TargetUrl};

/// The longest client id, secret, scope, audience or value of another parameter, in bytes.
const MAX_VALUE: usize = 4_096;
/// The longest name of another parameter, in bytes.
const MAX_NAME: usize = 100;
/// The most other parameters.
const MAX_EXTRA: usize = 20;
/// Parameters that have fields of their own, or that would make another grant of it.
const RESERVED: [&str; 5] = ["audience", "client_id", "client_secret", "grant_type", "scope"];

/// What a token is asked for with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCredentials {
    /// Where.
    pub token_url: TokenUrl,
    /// Who.
    pub client_id: String,
    /// The proof of it.
    pub client_secret: Hidden,
    /// The scopes, separated by spaces; may be empty.
    pub scope: String,
    /// Whom the token is for; may be empty.
    pub audience: String,
    /// Further parameters of the request.
    pub extra: BTreeMap<String, String>,
    /// How the client's id and secret are sent.
    pub sent_in: SentIn,
}

/// How a client's id and secret are sent (RFC 6749, 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SentIn {
    /// As `Authorization: Basic …`, which every server must understand.
    Header,
    /// As parameters.
    Body,
}

impl ClientCredentials {
    /// Checks each field.
    pub fn parse(credentials: Self) -> Result<Self, Invalid> {
        let Self { token_url: _, client_id, client_secret, scope, audience, extra, sent_in: _ } =
            &credentials;
        let fits = |text: &str| text.len() <= MAX_VALUE && !text.chars().any(char::is_control);
        for (field, text) in [("client_id", client_id.as_str()), ("client_secret", client_secret.expose())] {
            if text.is_empty() || !fits(text) {
                let reason = format!("must have 1 to {MAX_VALUE} bytes and no control characters");
                return Err(Invalid::new(field, reason));
            }
        }
        for (field, text) in [("scope", scope), ("audience", audience)] {
            if !fits(text) {
                let reason = format!("must have at most {MAX_VALUE} bytes and no control characters");
                return Err(Invalid::new(field, reason));
            }
        }
        if extra.len() > MAX_EXTRA {
            let reason = format!("holds {} parameters; at most {MAX_EXTRA} are allowed", extra.len());
            return Err(Invalid::new("extra_parameters", reason));
        }
        for (name, value) in extra {
            let refuse = |reason: String| Err(Invalid::new("extra_parameters", reason));
            if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return refuse(format!("has a name that is not 1 to {MAX_NAME} visible ASCII characters"));
            }
            if RESERVED.contains(&name.as_str()) {
                return refuse(format!("must not hold `{name}`, which is set by other fields"));
            }
            if !fits(value) {
                return refuse(format!(
                    "`{name}` must have at most {MAX_VALUE} bytes and no control characters"
                ));
            }
        }
        Ok(credentials)
    }
}

impl ClientCredentials {
    /// Where the secret is masked, puts back that of credentials for the same origin: whoever may change where tokens are asked for need not
    /// know the secret, and must not get it sent to them.
    pub fn keep_secret(&mut self, before: &Self) {
        if self.token_url.is_of_origin(&before.token_url) {
            self.client_secret.keep(&before.client_secret);
        }
    }

    /// Refuses a secret that is still masked.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.client_secret.is_mask() {
            let reason = "is the mask that keeps what is stored for the scheme, host and port of `token_url`, for which nothing is stored; say \
                          it in full";
            return Err(Invalid::new("client_secret", reason));
        }
        Ok(())
    }
}

/// Where tokens are asked for: a URL like a target's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenUrl(TargetUrl);

impl TokenUrl {
    /// Accepts what a target can be.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("token_url", "must not be empty: it is where tokens are asked for"));
        }
        let url = TargetUrl::parse(text);
        url.map(Self).map_err(|invalid| Invalid { field: "token_url".to_owned(), ..invalid })
    }

    /// Whether it is asked at the same place: scheme, host and port.
    fn is_of_origin(&self, other: &Self) -> bool {
        self.0.url().origin() == other.0.url().origin()
    }

    /// The URL, to be asked whether it may be sent to.
    #[must_use]
    pub fn url(&self) -> &TargetUrl {
        &self.0
    }
}

impl TryFrom<String> for TokenUrl {
    type Error = url::ParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        TargetUrl::from_stored(&text).map(Self)
    }
}

impl From<TokenUrl> for String {
    fn from(TokenUrl(url): TokenUrl) -> Self {
        url.as_str().to_owned()
    }
}

impl fmt::Debug for TokenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hidden::MASK;

    fn credentials() -> ClientCredentials {
        ClientCredentials {
            token_url: TokenUrl::parse("https://id.example.com/token?tenant=1").unwrap(),
            client_id: "postrider".to_owned(),
            client_secret: Hidden::new("s3cret"),
            scope: "events.write".to_owned(),
            audience: String::new(),
            extra: BTreeMap::from([("resource".to_owned(), "urn:x".to_owned())]),
            sent_in: SentIn::Header,
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_its_field() {
        let refused = |change: fn(&mut ClientCredentials)| {
            let mut changed = credentials();
            change(&mut changed);
            ClientCredentials::parse(changed).unwrap_err().field
        };
        assert!(ClientCredentials::parse(credentials()).is_ok());
        assert_eq!(TokenUrl::parse("").unwrap_err().field, "token_url");
        assert_eq!(TokenUrl::parse("ftp://x/").unwrap_err().field, "token_url");
        assert_eq!(refused(|c| c.client_id.clear()), "client_id");
        assert_eq!(refused(|c| c.client_secret = Hidden::default()), "client_secret");
        assert_eq!(refused(|c| c.scope = "a\nb".to_owned()), "scope");
        assert_eq!(refused(|c| c.audience = "x".repeat(5_000)), "audience");
        for name in ["", "scope", "grant_type", "ä", "a b"] {
            let extra = BTreeMap::from([(name.to_owned(), String::new())]);
            let invalid = ClientCredentials::parse(ClientCredentials { extra, ..credentials() }).unwrap_err();
            assert_eq!(invalid.field, "extra_parameters", "{name}");
        }
        let many = (0..21).map(|nth| (format!("p{nth}"), String::new())).collect();
        let invalid = ClientCredentials::parse(ClientCredentials { extra: many, ..credentials() });
        assert_eq!(invalid.unwrap_err().field, "extra_parameters");
    }

    #[test]
    fn a_masked_secret_is_kept_for_the_same_origin_alone() {
        let masked = |url: &str| {
            let token_url = TokenUrl::parse(url).unwrap();
            let mut new = ClientCredentials { token_url, client_secret: Hidden::new(MASK), ..credentials() };
            new.keep_secret(&credentials());
            new.check().map(|()| new.client_secret)
        };
        assert_eq!(masked("https://ID.example.com:443/other"), Ok(Hidden::new("s3cret")));
        for elsewhere in [
            "https://id.example.org/token",
            "http://id.example.com/token",
            "https://id.example.com:8443/token",
        ] {
            assert_eq!(masked(elsewhere).unwrap_err().field, "client_secret", "{elsewhere}");
        }
    }

    #[test]
    fn it_is_read_as_it_was_stored_and_shows_no_secret() {
        let document = serde_json::to_string(&credentials()).unwrap();
        assert_eq!(serde_json::from_str::<ClientCredentials>(&document).unwrap(), credentials());
        let shown = format!("{:?}", credentials());
        assert!(!shown.contains("s3cret") && !shown.contains("tenant=1"), "{shown}");
    }
}
