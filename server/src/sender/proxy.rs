//! The proxy that all requests of a node go out through, as it is configured, and what does not go through it.

use std::{fmt, net::IpAddr};

use http::Uri;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use crate::domain::invalid::Invalid;

/// The longest user name and password (RFC 1929).
const MAX_CREDENTIAL: usize = 255;

/// The URL of a proxy as it is configured; empty: none. Its user name and password are not shown.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct ProxyUrl(String);

impl ProxyUrl {
    /// From the text, which is read when the configuration is checked.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn redacted(&self) -> &str {
        if self.0.is_empty() { "" } else { "[redacted]" }
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.redacted())
    }
}

impl Serialize for ProxyUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.redacted())
    }
}

/// A proxy.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) protocol: Protocol,
    /// Where it is: `http://host:port`.
    pub(super) address: Uri,
    /// User name and password.
    pub(super) credentials: Option<(String, String)>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP's `CONNECT` (RFC 9110, 9.3.6), whatever is then spoken.
    Connect,
    /// SOCKS 5 (RFC 1928).
    Socks5,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, address, credentials: _ } = self;
        f.debug_struct("Proxy").field("protocol", protocol).field("address", address).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Reads what is configured. Errors do not repeat it.
    pub(super) fn parse(ProxyUrl(text): &ProxyUrl) -> Result<Option<Self>, Invalid> {
        if text.is_empty() {
            return Ok(None);
        }
        let refuse = |reason: &str| Invalid::new("sender.proxy", reason);
        let url = Url::parse(text)
            .map_err(|_| refuse("is not a URL like `http://user:password@proxy.example.com:3128`"))?;
        let (protocol, default_port) = match url.scheme() {
            "http" => (Protocol::Connect, 80),
            // Names are looked up here in any case, so that addresses are checked.
            "socks5" | "socks5h" => (Protocol::Socks5, 1_080),
            _ => return Err(refuse("must begin with `http://`, `socks5://` or `socks5h://`")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| refuse("names no host"))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("must end with the port"));
        }
        let authority = format!("{host}:{}", url.port().unwrap_or(default_port));
        let address = Uri::builder().scheme("http").authority(authority).path_and_query("/").build();
        let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
        let (Some(user), Some(password)) = (user, password) else {
            return Err(refuse("has a user name or password that is not UTF-8 or longer than 255 bytes"));
        };
        Ok(Some(Self {
            protocol,
            address: address.map_err(|_| refuse("names a host that cannot be connected to"))?,
            credentials: (!user.is_empty() || !password.is_empty()).then_some((user, password)),
        }))
    }
}

fn decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    (text.len() <= MAX_CREDENTIAL).then(|| text.into_owned())
}

/// What is sent to without the proxy.
#[derive(Debug, Clone, Default)]
pub(super) struct Exempt {
    networks: Vec<IpNet>,
    /// In lower case; names below them are meant as well.
    names: Vec<String>,
}

impl Exempt {
    /// Reads what is configured: networks, addresses and names.
    pub(super) fn parse(entries: &[String]) -> Result<Self, Invalid> {
        let mut exempt = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            let name = entry.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
            if let Ok(network) = entry.parse::<IpNet>() {
                exempt.networks.push(network);
            } else if let Ok(address) = entry.parse::<IpAddr>() {
                exempt.networks.push(address.into());
            } else if !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            {
                exempt.names.push(name);
            } else {
                let reason = "must be a network like `10.0.0.0/8`, an address, or a host name without port";
                return Err(Invalid::new(format!("sender.no_proxy[{index}]"), reason));
            }
        }
        Ok(exempt)
    }

    /// Whether this address is sent to without the proxy.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether this host is sent to without the proxy, whatever its address.
    pub(super) fn has_name(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.names.iter().any(|name| {
            host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Proxy>, Invalid> {
        Proxy::parse(&ProxyUrl::new(text))
    }

    #[test]
    fn a_proxy_is_read_with_its_credentials_which_are_not_shown() {
        let proxy = parse("http://us%40er:p%3Ass@proxy.example.com:3128").unwrap().unwrap();
        assert_eq!(
            (proxy.protocol, proxy.address.to_string().as_str()),
            (Protocol::Connect, "http://proxy.example.com:3128/")
        );
        assert_eq!(proxy.credentials, Some(("us@er".to_owned(), "p:ss".to_owned())));
        assert!(!format!("{proxy:?}").contains("p:ss"));
        let address = |text| parse(text).unwrap().unwrap().address.to_string();
        assert_eq!(address("http://proxy/"), "http://proxy:80/");
        assert_eq!(address("socks5://proxy"), "http://proxy:1080/");
        assert_eq!(address("socks5h://[::1]:9050"), "http://[::1]:9050/");
        assert!(parse("").unwrap().is_none());
        let shown = format!("{:?}", ProxyUrl::new("http://u:hunter2@p"));
        assert_eq!(shown, "[redacted]");
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_being_repeated() {
        let long = format!("http://{}@proxy", "x".repeat(256));
        for text in [
            "hunter2",
            "https://hunter2@proxy",
            "socks4://hunter2@p",
            "http://hunter2@",
            "http://p/hunter2",
            &long,
        ] {
            let invalid = parse(text).unwrap_err();
            assert_eq!(invalid.field, "sender.proxy");
            assert!(!invalid.to_string().contains("hunter2"), "{invalid}");
        }
    }

    #[test]
    fn networks_and_names_are_exempt() {
        let entries = ["10.0.0.0/8", "192.0.2.1", "::1", ".Example.com", "*.test", "host"].map(str::to_owned);
        let exempt = Exempt::parse(&entries).unwrap();
        for address in ["10.1.2.3", "192.0.2.1", "::1"] {
            assert!(exempt.has_address(address.parse().unwrap()), "{address}");
        }
        assert!(!exempt.has_address("192.0.2.2".parse().unwrap()));
        for host in ["example.com", "a.EXAMPLE.com.", "a.test", "host"] {
            assert!(exempt.has_name(host), "{host}");
        }
        for host in ["badexample.com", "example.com.evil", "hosts", ""] {
            assert!(!exempt.has_name(host), "{host}");
        }
        for entry in ["", ".", "10.0.0.0/33", "example.com:80", "http://x"] {
            let invalid = Exempt::parse(&["a".to_owned(), entry.to_owned()]).unwrap_err();
            assert_eq!(invalid.field, "sender.no_proxy[1]", "{entry}");
        }
    }
}
