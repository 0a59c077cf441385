//! Looks up host names, and lets pass only the addresses that may be sent to. What passes is what is connected to, so a name
//! cannot change its address between the check and the connection.
//!
//! Lookups ([`SystemDns`]) take no threads, so that names whose servers are slow hold up no others, and answers are remembered for a
//! while. Whether an address may be sent to is decided anew each time.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hickory_resolver::{
    net::{DnsError, NetError},
    proto::op::ResponseCode,
};
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

use super::{
    check,
    phases::{self, Mark},
    system_dns::SystemDns,
};
use crate::domain::address::AddressPolicy;

/// The name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// There was no answer.
    #[error("the lookup failed")]
    Failed(#[source] NetError),
    /// The name servers know no such name.
    #[error("the name `{0}` does not exist")]
    Unknown(String),
    /// There was one without an address.
    #[error("the name `{0}` has no address")]
    Empty(String),
}

impl LookupError {
    /// What it means that a name was not found.
    fn of(name: &str, cause: NetError) -> Self {
        match cause {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => Self::Unknown(name.to_owned()),
                ResponseCode::NoError => Self::Empty(name.to_owned()),
                _ => Self::Failed(NetError::Dns(DnsError::ResponseCode(none.response_code))),
            },
            cause => Self::Failed(cause),
        }
    }
}

/// The name servers of the system behind the address policy. Cheap to clone; the clones share what they remember.
#[derive(Debug, Clone)]
pub(super) struct GuardedResolver {
    policy: Arc<AddressPolicy>,
    dns: Arc<SystemDns>,
}

impl GuardedResolver {
    pub(super) fn new(policy: Arc<AddressPolicy>) -> Self {
        Self { policy, dns: Arc::default() }
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { policy, dns } = self.clone();
        phases::note(Mark::Resolving);
        Box::pin(async move {
            let found = dns.look_up(name.as_str()).await;
            let found = found.map_err(|cause| LookupError::of(name.as_str(), cause))?;
            check::looked_up(&found, &policy);
            let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
            let allowed = keep_allowed(&policy, name.as_str(), addresses)?;
            phases::note(Mark::Resolved);
            Ok(allowed.into_iter())
        })
    }
}

/// The addresses that may be sent to; if none may, the reason is the first one's.
fn keep_allowed(
    policy: &AddressPolicy,
    name: &str,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
    let mut refused = None;
    let allowed: Vec<_> = found
        .filter(|address| match policy.check_address(address.ip()) {
            Ok(()) => true,
            Err(reason) => {
                refused.get_or_insert(reason);
                false
            }
        })
        .collect();
    match refused {
        _ if !allowed.is_empty() => Ok(allowed),
        Some(refused) => Err(refused.into()),
        None => Err(LookupError::Empty(name.to_owned()).into()),
    }
}
#[cfg(test)]
mod tests {
    use std::error::Error;

    use hickory_resolver::{
        net::NoRecords,
        proto::{op::Query, rr::RecordType},
    };

    use super::*;
    use crate::domain::address::Refused;

    fn keep(found: &[&str]) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let found: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        keep_allowed(&AddressPolicy::default(), "x.example", found.into_iter())
    }

    #[test]
    fn of_a_names_addresses_only_the_allowed_ones_remain() {
        let kept = keep(&["10.0.0.1", "8.8.8.8", "::1", "2606:4700::1111"]).unwrap();
        let ips: Vec<_> = kept.iter().map(|address| address.ip().to_string()).collect();
        assert_eq!(ips, ["8.8.8.8", "2606:4700::1111"]);
    }

    #[test]
    fn a_name_with_nothing_but_refused_addresses_is_refused() {
        let error = keep(&["169.254.169.254", "::1"]).unwrap_err();
        assert!(matches!(
            error.downcast_ref::<Refused>(),
            Some(Refused::Address { address, .. }) if address.to_string() == "169.254.169.254"
        ));
    }

    #[test]
    fn a_name_without_addresses_is_a_failed_lookup() {
        let error = keep(&[]).unwrap_err();
        assert!(
            matches!(error.downcast_ref::<LookupError>(), Some(LookupError::Empty(name)) if name == "x.example")
        );
    }

    #[test]
    fn what_name_servers_say_is_told_in_words() {
        let told = |code| {
            let query = Query::query("x.example.".parse().unwrap(), RecordType::A);
            let cause = NetError::Dns(DnsError::NoRecordsFound(NoRecords::new(query, code)));
            let error = LookupError::of("x.example", cause);
            error.source().map_or_else(|| error.to_string(), ToString::to_string)
        };
        assert_eq!(told(ResponseCode::NXDomain), "the name `x.example` does not exist");
        assert_eq!(told(ResponseCode::NoError), "the name `x.example` has no address");
        let refused = told(ResponseCode::Refused);
        assert!(refused.contains("Refused") && !refused.contains("example"), "{refused}");
    }
}
