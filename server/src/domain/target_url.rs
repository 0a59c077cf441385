//! Where a subscription's callbacks go.

use std::fmt;

use url::Url;

use super::invalid::Invalid;

/// The longest target URL, in bytes. Servers commonly refuse request lines of 8 KiB; browsers stop at 2,048.
pub const MAX_LENGTH: usize = 2_048;

/// An absolute `http` or `https` URL without credentials or fragment. Whether its host may be talked to is
/// for [`AddressPolicy`](super::address::AddressPolicy) to say.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl(Url);

impl TargetUrl {
    /// Reads a URL as the WHATWG standard does: hosts such as `0x7f.1` or `2130706433` become the
    /// address that they stand for.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let refuse = |reason: String| Err(Invalid::new("target_url", reason));
        if text.is_empty() {
            return refuse("must not be empty: it is where events are sent".to_owned());
        }
        // The standard drops or encodes them, and it would be another URL than the one that was meant.
        if text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
            let reason = "must not hold spaces, line breaks or control characters; where they are meant, write them like `%20`";
            return refuse(reason.to_owned());
        }
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(url::ParseError::RelativeUrlWithoutBase) => {
                return refuse("is not absolute; it must begin with `https://`".to_owned());
            }
            Err(cause) => return refuse(format!("is not a URL: {cause}")),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refuse(format!("has the scheme `{}`; it must be `https`", url.scheme()));
        }
        if !names_host(text) {
            return refuse(format!("must have the host right behind `{}://`", url.scheme()));
        }
        if url.port() == Some(0) {
            return refuse("must not have the port 0, which nobody can be connected to at".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("must not carry a user name or a password".to_owned());
        }
        if url.fragment().is_some() {
            return refuse("must not have a fragment (`#…`), which is never sent".to_owned());
        }
        // In the form in which it is stored and sent: percent-encoding makes a URL longer.
        let length = url.as_str().len();
        if length > MAX_LENGTH {
            return refuse(format!(
                "has {length} characters in its encoded form; at most {MAX_LENGTH} are allowed"
            ));
        }
        Ok(Self(url))
    }

    /// From what the database stores.
    pub fn from_stored(text: &str) -> Result<Self, url::ParseError> {
        Url::parse(text).map(Self)
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The URL without its query, which may hold a secret: fit for logs and records.
    #[must_use]
    pub fn without_query(&self) -> String {
        let mut url = self.0.clone();
        url.set_query(None);
        url.into()
    }
}

/// Whether the text has a host where one belongs. The standard finds one behind any number of slashes of either kind.
fn names_host(text: &str) -> bool {
    let behind = text.split_once(':').and_then(|(_, behind)| behind.strip_prefix("//")).unwrap_or_default();
    let authority = behind.split(['/', '?', '#']).next().unwrap_or_default();
    !authority.is_empty() && !authority.contains('\\')
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_query())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_target_is_refused_with_the_reason() {
        let long = format!("https://example.com/{}", "a".repeat(3_000));
        let umlauts = format!("https://example.com/{}", "ä".repeat(1_000));
        for (bad, reason) in [
            ("", "must not be empty"),
            ("/hook", "not absolute"),
            ("example.com/hook", "not absolute"),
            ("ftp://example.com/", "the scheme `ftp`"),
            ("https://", "is not a URL"),
            ("https:///x.example", "the host right behind `https://`"),
            ("http:/127.0.0.1/", "the host right behind `http://`"),
            ("https:x.example", "the host right behind"),
            ("https:x.example/?a=b://c", "the host right behind"),
            ("https:\\\\x.example/", "the host right behind"),
            ("https://\\x.example/", "the host right behind"),
            ("https://x.exa\nmple/", "line breaks"),
            (" https://x.example/", "spaces"),
            ("https://x.example/\t", "control characters"),
            ("https://x.example/a b", "`%20`"),
            ("https://x.example:0/", "port 0"),
            ("https://user@example.com/", "user name"),
            ("https://:secret@example.com/", "password"),
            ("https://example.com/#part", "fragment"),
            (&long, "has 3020 characters in its encoded form; at most 2048"),
            (&umlauts, "has 6020 characters in its encoded form"),
        ] {
            let invalid = TargetUrl::parse(bad).unwrap_err();
            assert_eq!(invalid.field, "target_url");
            assert!(invalid.reason.contains(reason), "{bad}: {}", invalid.reason);
        }
    }

    #[test]
    fn the_query_is_not_shown() {
        let url = TargetUrl::parse("https://example.com/hook?token=s3cret").unwrap();
        assert_eq!(format!("{url:?}"), "https://example.com/hook");
    }
}
