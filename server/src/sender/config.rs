//! How requests are made.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::proxy::{Exempt, Proxy, ProxyUrl};
use crate::domain::{address::AddressPolicy, invalid::Invalid};

/// The longest timeout: beyond it leases would be so long that a dead node's deliveries wait noticeably.
const MAX_TIMEOUT: Duration = Duration::from_mins(5);
/// The most of a response's body that can be kept.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// How requests are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long an exchange may take: name, connection, handshake, head, and the part of the body that is kept.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// The longest timeout that a subscription can ask for, as far as `dispatch.lease` leaves room for it; at least `timeout`.
    #[serde(with = "humantime_serde")]
    pub max_timeout: Duration,
    /// How long opening a connection may take within that: name, TCP and TLS.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How much of a response's body is read and kept, in bytes.
    pub max_response_bytes: usize,
    /// Whether targets may be `http` beside `https`.
    pub allow_http: bool,
    /// Networks that may be sent to although they are internal: receivers that you host.
    pub allowed_networks: Vec<IpNet>,
    /// A proxy that all requests go through: `http://user:password@host:port` or `socks5://…`. Empty: none.
    pub proxy: ProxyUrl,
    /// What is sent to without it: host names, with all below them, and networks.
    pub no_proxy: Vec<String>,
    /// PEM file of certificate authorities that are trusted beside the system's. Empty: none.
    pub extra_ca_file: PathBuf,
    /// The `User-Agent` header.
    pub user_agent: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(15),
            max_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            max_response_bytes: 16 * 1024,
            allow_http: false,
            allowed_networks: Vec::new(),
            proxy: ProxyUrl::default(),
            no_proxy: Vec::new(),
            extra_ca_file: PathBuf::new(),
            user_agent: concat!("Postrider/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl Config {
    /// Checks each field.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.timeout.is_zero() || self.timeout > MAX_TIMEOUT {
            return Err(Invalid::new("sender.timeout", "must be more than 0s and at most 5m"));
        }
        if self.max_timeout > MAX_TIMEOUT {
            return Err(Invalid::new("sender.max_timeout", "must be at most 5m"));
        }
        if self.connect_timeout.is_zero() || self.connect_timeout > self.timeout {
            let reason = "must be more than 0s and at most `sender.timeout`, which it is part of";
            return Err(Invalid::new("sender.connect_timeout", reason));
        }
        if self.max_response_bytes > MAX_RESPONSE_BYTES {
            let reason = format!("must be at most {MAX_RESPONSE_BYTES}");
            return Err(Invalid::new("sender.max_response_bytes", reason));
        }
        if self.user_agent.trim().is_empty() || http::HeaderValue::from_str(&self.user_agent).is_err() {
            let reason = "must be text that fits in an HTTP header: visible characters and spaces";
            return Err(Invalid::new("sender.user_agent", reason));
        }
        Proxy::parse(&self.proxy)?;
        Exempt::parse(&self.no_proxy)?;
        Ok(())
    }

    /// Which addresses and URLs may be sent to.
    #[must_use]
    pub fn address_policy(&self) -> AddressPolicy {
        AddressPolicy { allowed_networks: self.allowed_networks.clone(), allow_http: self.allow_http }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn durations_are_written_for_people_and_unknown_fields_are_refused() {
        let config: Config =
            toml::from_str("timeout = \"20s\"\nallowed_networks = [\"10.0.0.0/8\"]").unwrap();
        assert_eq!(config.timeout, Duration::from_secs(20));
        assert_eq!(config.connect_timeout, Duration::from_secs(5));
        assert_eq!(config.address_policy().allowed_networks.len(), 1);
        assert!(toml::from_str::<Config>("time_out = \"20s\"").is_err());
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err().field
        };
        assert_eq!(refused(|c| c.timeout = Duration::ZERO), "sender.timeout");
        assert_eq!(refused(|c| c.timeout = Duration::from_secs(301)), "sender.timeout");
        assert_eq!(refused(|c| c.connect_timeout = Duration::ZERO), "sender.connect_timeout");
        assert_eq!(refused(|c| c.timeout = Duration::from_secs(4)), "sender.connect_timeout");
        assert_eq!(refused(|c| c.max_response_bytes = 2_000_000), "sender.max_response_bytes");
        assert_eq!(refused(|c| c.user_agent = "a\nb".to_owned()), "sender.user_agent");
        assert_eq!(refused(|c| c.user_agent = String::new()), "sender.user_agent");
        assert_eq!(refused(|c| c.proxy = ProxyUrl::new("ftp://proxy")), "sender.proxy");
        assert_eq!(refused(|c| c.no_proxy = vec!["a:1".to_owned()]), "sender.no_proxy[0]");
    }
}
