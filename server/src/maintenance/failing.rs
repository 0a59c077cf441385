//! Looks after subscriptions that fail: announces them, disables them, and probes those that are to find their way back.
//!
//! What is to be done and when is decided in [`domain::failing`](crate::domain::failing); here somebody looks. Every node does. Of two that
//! look at once one finds nothing left to do, and a probe belongs to who has taken it over until its lease is over.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::SharedClock,
    dispatch::Sender,
    domain::{
        attempt::AttemptNumber,
        claim::{Claim, Target},
        event::Event,
        failing::{Disable, Probed},
        id::{DeliveryId, EventId},
        operational,
        timestamp::Timestamp,
    },
    store::{
        Error, Store,
        failing::{Looked, ToProbe},
    },
};

/// How often to look. Nothing about a failing subscription is decided in less than an hour.
const INTERVAL: Duration = Duration::from_secs(10);
/// How many probes one node sends at once.
const MAX_PROBES: usize = 16;

/// How subscriptions that fail are looked after.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// When they are disabled whose owners say nothing.
    pub disable: Disable,
    /// How long a probe belongs to who has taken it over. No probe takes longer.
    pub lease: Duration,
}

/// Looks after those that fail. Cheap to clone.
#[derive(Clone)]
pub struct Failing<S> {
    store: Store,
    sender: S,
    policy: Policy,
    clock: SharedClock,
    /// Told when a subscription has ended.
    ended: Arc<Notify>,
}

impl<S: Sender> Failing<S> {
    /// Looks after the subscriptions in `store`, and probes them by `sender`.
    pub fn new(store: Store, sender: S, policy: Policy, clock: SharedClock, ended: Arc<Notify>) -> Self {
        Self { store, sender, policy, clock, ended }
    }

    /// Announces and disables all whose time has come.
    pub async fn look(&self) -> Result<Looked, Error> {
        let mut total = Looked::default();
        loop {
            let looked = self.store.look_after_failing(self.policy.disable, self.clock.now()).await?;
            if looked.found == 0 {
                return Ok(total);
            }
            if looked.disabled > 0 {
                self.ended.notify_one();
            }
            total.found += looked.found;
            total.announced += looked.announced;
            total.disabled += looked.disabled;
        }
    }

    /// Probes those whose time has come, up to [`MAX_PROBES`] of them. Returns how many.
    pub async fn probe(&self) -> Result<usize, Error> {
        let mut taken = Vec::new();
        while taken.len() < MAX_PROBES {
            let now = self.clock.now();
            match self.store.take_probe(now, now + self.policy.lease).await? {
                Some(probe) => taken.push(probe),
                None => break,
            }
        }
        for result in join_all(taken.iter().map(|probe| self.send(probe))).await {
            result?;
        }
        Ok(taken.len())
    }

    async fn send(&self, probe: &ToProbe) -> Result<(), Error> {
        let target = &probe.target;
        let now = self.clock.now();
        let attempt = self.sender.send(&a_claim(probe, now), None, now).await;
        let probed = Probed::of(&attempt);
        let is_settled = self.store.settle_probe(probe, &probed, self.clock.now()).await?;
        let (tenant, subscription) = (&target.tenant, &target.id);
        match probed {
            _ if !is_settled => tracing::info!(
                tenant.id = %tenant,
                subscription.id = %subscription,
                "a subscription was changed while it was probed; nothing follows"
            ),
            Probed::Recovered => tracing::info!(
                tenant.id = %tenant,
                subscription.id = %subscription,
                "a subscription is enabled again: its receiver has recovered"
            ),
            Probed::Failed(told) => tracing::debug!(
                tenant.id = %tenant,
                subscription.id = %subscription,
                outcome = told,
                "a disabled subscription was probed and still fails"
            ),
            Probed::Unwanted(_) => tracing::info!(
                tenant.id = %tenant,
                subscription.id = %subscription,
                "a disabled subscription was probed and wants nothing any more"
            ),
        }
        Ok(())
    }

    /// Looks until `stop`.
    pub async fn run_look(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(cause) = self.look().await {
                tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    "looking after failing subscriptions failed"
                );
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Probes until `stop`. Apart from looking, which must not wait for receivers that do not answer.
    pub async fn run_probe(&self, stop: CancellationToken) {
        loop {
            let probed = tokio::select! {
                // What is broken off is probed again when its lease is over.
                () = stop.cancelled() => return,
                probed = self.probe() => probed,
            };
            match probed {
                Ok(MAX_PROBES) => continue,
                Ok(_) => {}
                Err(cause) => tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    "probing failing subscriptions failed"
                ),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }
}

/// A delivery that there is not: of a test event, which is not stored.
fn a_claim(probe: &ToProbe, now: Timestamp) -> Claim {
    let target: Arc<Target> = Arc::clone(&probe.target);
    let event = Event {
        id: EventId::new(now),
        tenant: target.tenant.clone(),
        request_id: None,
        content: operational::test_content(),
        trace: None,
        created_at: now,
    };
    Claim {
        delivery: DeliveryId::new(now),
        attempt: AttemptNumber::FIRST,
        event: Arc::new(event),
        target,
        leased_until: probe.held_until,
        previous_span: None,
        probe: None,
    }
}
