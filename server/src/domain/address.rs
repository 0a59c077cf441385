//! Which addresses we send to: the guard against being made a tool against our own network (SSRF).
//!
//! The policy is a value, asked at three gates: when a subscription is made or changed, before each request (a host that is
//! an address literal never reaches a resolver), and by the resolver for each address that a name leads to, so that a
//! name cannot change its address in between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::Host;

use super::target_url::TargetUrl;

/// IPv4 networks that are not the public internet, from the IANA special-purpose registry (RFC 6890 and its updates).
const REFUSED_V4: [(Ipv4Net, &str); 17] = [
    (v4([0, 0, 0, 0], 8), "unspecified"),
    (v4([10, 0, 0, 0], 8), "private"),
    (v4([100, 64, 0, 0], 10), "carrier-grade NAT"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([169, 254, 0, 0], 16), "link-local or cloud metadata"),
    (v4([172, 16, 0, 0], 12), "private"),
    (v4([192, 0, 0, 0], 24), "IETF protocol assignments"),
    (v4([192, 0, 2, 0], 24), "documentation"),
    (v4([192, 88, 99, 0], 24), "6to4 relay"),
    (v4([192, 168, 0, 0], 16), "private"),
    (v4([198, 18, 0, 0], 15), "benchmarking"),
    (v4([198, 51, 100, 0], 24), "documentation"),
    (v4([203, 0, 113, 0], 24), "documentation"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([240, 0, 0, 0], 4), "reserved"),
    // Alibaba Cloud's metadata service, in the middle of carrier-grade NAT: named for the message's sake.
    (v4([100, 100, 100, 200], 32), "cloud metadata"),
    // Azure's: a public address that every virtual machine there answers from within.
    (v4([168, 63, 129, 16], 32), "cloud metadata"),
];

/// IPv6 networks within global unicast (`2000::/3`) that are not the public internet. Everything outside it is refused anyway.
const REFUSED_V6: [(Ipv6Net, &str); 4] = [
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "IETF protocol assignments"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation"),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), "AS112"),
];

/// Networks whose addresses hold an IPv4 address, and at which bit it begins: it is judged instead.
const EMBEDDING_V6: [(Ipv6Net, u32); 4] = [
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), 96),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), 96),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), 96),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), 16),
];

/// Which addresses and URLs may be sent to.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    /// Networks that are allowed although they are internal: receivers that the operator hosts.
    pub allowed_networks: Vec<IpNet>,
    /// Whether `http` is allowed beside `https`.
    pub allow_http: bool,
}

/// Why an address or a URL may not be sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The scheme is `http`.
    #[error("the scheme is `http`, which this server does not allow; use `https`")]
    Http,
    /// The address lies in a network that is not the public internet.
    #[error("the address {address} is {network}, which this server does not send to")]
    Address {
        /// The address.
        address: IpAddr,
        /// What kind of network it is.
        network: &'static str,
    },
    /// The host is a name of this machine.
    #[error("the host `{0}` is this machine, which the server does not send to")]
    Localhost(String),
}

impl AddressPolicy {
    /// One that refuses nothing: for what an operator has configured.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            allowed_networks: vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
            allow_http: true,
        }
    }

    /// Judges what a URL alone tells: its scheme, and its host if that is an address or a name of this machine.
    pub fn check_url(&self, target: &TargetUrl) -> Result<(), Refused> {
        let url = target.url();
        if url.scheme() != "https" && !self.allow_http {
            return Err(Refused::Http);
        }
        match url.host() {
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
            Some(Host::Domain(name)) => self.check_name(name),
            None => Ok(()),
        }
    }

    /// Judges one address that a name leads to.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Refused> {
        let judged = embedded_v4(address).map_or(address, IpAddr::V4);
        let allowed = |address| self.allowed_networks.iter().any(|network| network.contains(address));
        if allowed(&address) || allowed(&judged) {
            return Ok(());
        }
        match refused_network(judged) {
            Some(network) => Err(Refused::Address { address, network }),
            None => Ok(()),
        }
    }

    /// `localhost` and names below it mean this machine (RFC 6761), whatever a resolver says.
    fn check_name(&self, name: &str) -> Result<(), Refused> {
        let bare = name.trim_end_matches('.').to_ascii_lowercase();
        let local = bare == "localhost" || bare.ends_with(".localhost");
        let loopback_allowed = self.check_address(Ipv4Addr::LOCALHOST.into()).is_ok()
            || self.check_address(Ipv6Addr::LOCALHOST.into()).is_ok();
        if local && !loopback_allowed { Err(Refused::Localhost(name.to_owned())) } else { Ok(()) }
    }
}

fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    if address == Ipv6Addr::LOCALHOST || address == Ipv6Addr::UNSPECIFIED {
        return None;
    }
    let (_, first_bit) = EMBEDDING_V6.iter().find(|(network, _)| network.contains(&address))?;
    let bits = address.to_bits() >> (128 - first_bit - 32);
    Some(Ipv4Addr::from_bits((bits & 0xffff_ffff) as u32))
}

fn refused_network(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            REFUSED_V4.iter().rev().find(|(network, _)| network.contains(&address)).map(|(_, name)| *name)
        }
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some("loopback"),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some("unspecified"),
        IpAddr::V6(address) if address.is_multicast() => Some("multicast"),
        IpAddr::V6(address) if address.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(address) if address.is_unique_local() => Some("private"),
        IpAddr::V6(address) if address.segments()[0] & 0xe000 != 0x2000 => Some("outside global unicast"),
        IpAddr::V6(address) => {
            REFUSED_V6.iter().find(|(network, _)| network.contains(&address)).map(|(_, name)| *name)
        }
    }
}

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]), prefix)
}

const fn v6(s: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(url: &str) -> Result<(), Refused> {
        AddressPolicy::default().check_url(&TargetUrl::parse(url).unwrap())
    }

    #[test]
    fn addresses_inside_are_refused_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "0",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "169.254.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "198.18.0.1",
            "192.88.99.1",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a00:1]",
            "[::7f00:1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b::169.254.169.254]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2002:a9fe:a9fe::1]",
            "[2001::1]",
            "[2001:db8::1]",
            "[3fff::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "[ff02::1]",
            "[100::1]",
            "[5f00::1]",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
        ] {
            let url = format!("https://{host}/");
            assert!(check(&url).is_err(), "{host}");
        }
    }

    #[test]
    fn the_public_internet_is_allowed() {
        for host in [
            "example.com",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "198.20.0.1",
            "[2606:4700::1111]",
            "[64:ff9b::8.8.8.8]",
            "[2002:808:808::]",
            "[::ffff:8.8.8.8]",
            "localhost.example.com",
        ] {
            let url = format!("https://{host}/");
            assert_eq!(check(&url), Ok(()), "{host}");
        }
    }

    #[test]
    fn http_is_refused_unless_allowed() {
        assert_eq!(check("http://example.com/"), Err(Refused::Http));
        let policy = AddressPolicy { allow_http: true, ..AddressPolicy::default() };
        assert_eq!(policy.check_url(&TargetUrl::parse("http://example.com/").unwrap()), Ok(()));
    }

    #[test]
    fn an_allowed_network_opens_just_itself() {
        let policy =
            AddressPolicy { allowed_networks: vec!["127.0.0.0/8".parse().unwrap()], allow_http: false };
        let check = |url: &str| policy.check_url(&TargetUrl::parse(url).unwrap());
        assert_eq!(check("https://127.0.0.1/"), Ok(()));
        assert_eq!(check("https://[::ffff:127.0.0.1]/"), Ok(()));
        assert_eq!(check("https://localhost/"), Ok(()));
        assert!(check("https://10.0.0.1/").is_err());
        assert!(check("https://[::1]/").is_err());
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_judged_alike_in_every_ipv6_form(bits: u32) {
            let policy = AddressPolicy::default();
            let plain = Ipv4Addr::from_bits(bits);
            let expected = policy.check_address(plain.into()).is_ok();
            let v4 = u128::from(bits);
            for form in [v4 | 0xffff << 32, v4 | 0x64_ff9b << 96, 0x2002 << 112 | v4 << 80] {
                let judged = policy.check_address(Ipv6Addr::from_bits(form).into());
                prop_assert_eq!(judged.is_ok(), expected, "{} as {}", plain, Ipv6Addr::from_bits(form));
            }
        }
    }
}
