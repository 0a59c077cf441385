//! Connects parts that do not know each other.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::Deliverer;
use crate::{
    clock::SharedClock,
    dispatch::{Dispatcher, NoRoom, Permit, Queue, Sender},
    domain::{
        claim::{Claim, Target},
        id::{SubscriptionId, TenantId},
        secret::KeyPair,
        timestamp::Timestamp,
    },
    grpc, http, publish,
    store::Store,
};

/// Publishing hands deliveries to the dispatcher.
pub struct Outlet<Q, S>(pub Dispatcher<Q, S>);

impl<Q: Queue, S: Sender> publish::Outlet for Outlet<Q, S> {
    type Permit = Permit;

    fn lease(&self) -> Duration {
        self.0.lease()
    }

    async fn room(&self) {
        self.0.room().await;
    }

    fn reserve(&self, target: &Arc<Target>) -> Result<Permit, publish::NoRoom> {
        self.0.reserve(target).map_err(|refused| match refused {
            NoRoom::Taken => publish::NoRoom::Taken,
            NoRoom::Held => publish::NoRoom::Held,
        })
    }

    fn start(&self, permit: Permit, claim: Claim) {
        self.0.start(permit, claim);
    }

    fn wake(&self) {
        self.0.wake();
    }

    fn wake_at(&self, due_at: Timestamp) {
        self.0.wake_at(due_at);
    }
}

/// Calls tell the loops that there is something to do.
pub(super) struct Nudge {
    pub(super) deliverer: Deliverer,
    pub(super) ended: Arc<Notify>,
}

impl grpc::Nudge for Nudge {
    fn deliveries_due(&self) {
        self.deliverer.wake();
    }

    fn subscription_ended(&self) {
        self.ended.notify_one();
    }
}

/// The HTTP port shows public keys.
pub(super) struct PublicKeys {
    pub(super) store: Store,
    pub(super) clock: SharedClock,
}

impl http::PublicKeys for PublicKeys {
    async fn of(&self, tenant: TenantId, subscription: SubscriptionId) -> Result<Vec<KeyPair>, http::NoKeys> {
        self.store.key_pairs(&tenant, &subscription, self.clock.now()).await.map_err(|cause| {
            tracing::error!(cause = &cause as &dyn std::error::Error, "public keys cannot be read");
            http::NoKeys
        })
    }
}
