//! Which client serves a subscription: the one that all share, or, for receivers that are shown a certificate or whose authorities are
//! the owner's own, one that nobody else uses.

use std::{sync::Arc, time::Duration};

use moka::{policy::EvictionPolicy, sync::Cache};

use super::{
    build_error::BuildError,
    check::Witness,
    client::{Client, Maker, WatchedClient},
    config::Config,
    tls::{Tls, Unusable},
};
use crate::domain::{
    address::AddressPolicy, claim::Target, id::SubscriptionUid, receiver_tls::ReceiverTls, settings::Settings,
};

/// How many clients of single subscriptions are kept. The one that was used longest ago is made anew when it is needed again. Their connections
/// are bounded together with all others.
const MAX_OWN: u64 = 256;
/// How long one that is not used is kept.
const UNUSED: Duration = Duration::from_mins(10);

/// All clients of a node.
#[derive(Debug)]
pub(super) struct Clients {
    maker: Maker,
    tls: Tls,
    shared: Arc<Client>,
    /// By subscription and its revision.
    own: Cache<(SubscriptionUid, i64), Arc<Client>>,
}

impl Clients {
    /// Makes the one that all share.
    pub(super) fn new(config: &Config, policy: Arc<AddressPolicy>) -> Result<Self, BuildError> {
        let (maker, tls) = (Maker::new(config, policy)?, Tls::new(&config.extra_ca_file)?);
        let shared = Arc::new(maker.client(tls.plain()?));
        let own = Cache::builder()
            .max_capacity(MAX_OWN)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(UNUSED)
            .build();
        Ok(Self { maker, tls, shared, own })
    }

    /// The one that all share.
    pub(super) fn shared(&self) -> &Arc<Client> {
        &self.shared
    }

    /// The one for this target with its settings.
    pub(super) fn of(&self, target: &Target, settings: &Settings) -> Result<Arc<Client>, Arc<Unusable>> {
        match &settings.tls {
            None => Ok(Arc::clone(&self.shared)),
            Some(own) => self.own.try_get_with((target.uid, target.revision), || self.make(own)),
        }
    }

    /// One for a check of a receiver with such settings, which notes what it sees there.
    pub(super) fn watched(
        &self,
        own: Option<&ReceiverTls>,
        witness: &Arc<Witness>,
    ) -> Result<WatchedClient, Unusable> {
        Ok(self.maker.watched(self.tls.watched(own, witness)?, Arc::clone(witness)))
    }

    fn make(&self, own: &ReceiverTls) -> Result<Arc<Client>, Unusable> {
        Ok(Arc::new(self.maker.client(self.tls.own(own)?)))
    }
}
