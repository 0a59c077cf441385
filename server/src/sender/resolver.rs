//! Looks up host names, and lets pass only the addresses that may be sent to. What passes is what is connected to, so a name
//! cannot change its address between the check and the connection.

use std::{io, net::SocketAddr, sync::Arc};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::phases::{self, Mark};
use crate::domain::address::AddressPolicy;

/// The name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// The system's resolver gave an error.
    #[error("the lookup failed")]
    Failed(#[source] io::Error),
    /// It gave no address.
    #[error("the name has no address")]
    Empty,
}

/// The system's resolver behind the address policy.
#[derive(Debug)]
pub(super) struct GuardedResolver(pub(super) Arc<AddressPolicy>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        phases::note(Mark::Resolving);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(LookupError::Failed)?;
            let allowed = keep_allowed(&policy, found)?;
            phases::note(Mark::Resolved);
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be sent to; if none may, the reason is the first one's.
fn keep_allowed(
    policy: &AddressPolicy,
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
        None => Err(LookupError::Empty.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::address::Refused;

    fn keep(found: &[&str]) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let found: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        keep_allowed(&AddressPolicy::default(), found.into_iter())
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
        assert!(matches!(error.downcast_ref::<LookupError>(), Some(LookupError::Empty)));
    }
}
