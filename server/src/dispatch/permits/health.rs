//! What this node knows of its receivers: from its own attempts, and of who is in trouble from the database.

use tokio::time::Instant;

use super::{Permits, Taken};
use crate::{
    dispatch::Trouble,
    domain::{
        attempt::Attempt,
        breaker::{BreakerPolicy, HealthChange},
        claim::Target,
        id::SubscriptionUid,
        kept_window::KeptWindow,
        retry::Jitter,
        timestamp::Timestamp,
    },
};

/// What an attempt changes about its subscription's row.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::dispatch) struct Changes {
    /// What follows for its breaker.
    pub(in crate::dispatch) health: Option<HealthChange>,
    /// The window was cut, by more than is kept already.
    pub(in crate::dispatch) window: Option<KeptWindow>,
}

impl Permits {
    /// Takes note of an attempt. Says what it changes about its subscription's row.
    pub(in crate::dispatch) fn record(
        &self,
        target: &Target,
        attempt: &Attempt,
        policy: &BreakerPolicy,
        now: Timestamp,
        jitter: Jitter,
    ) -> Changes {
        let limit = self.limit(target.pace);
        let mut taken = self.taken();
        if taken.blocked.contains(&target.uid) {
            return Changes::default();
        }
        let Taken { by_subscription, slow, windows, .. } = &mut *taken;
        let Some(vitals) = by_subscription.get_mut(&target.uid) else { return Changes::default() };
        let was_slow = vitals.slow;
        let (health, cut_to) = vitals.record(attempt, policy, limit, now, jitter);
        match (was_slow, vitals.slow) {
            (false, true) => *slow += vitals.places,
            (true, false) => *slow -= vitals.places,
            _ => {}
        }
        if vitals.bears_all() {
            windows.over(target.uid);
        }
        Changes { health, window: cut_to.and_then(|size| windows.cut(target.uid, size, now)) }
    }

    /// Whether an attempt of this node has succeeded lately, as far as it remembers.
    pub(in crate::dispatch) fn is_well(&self, target: &Target, now: Timestamp) -> bool {
        self.taken().by_subscription.get(&target.uid).is_some_and(|vitals| vitals.is_well(now))
    }

    /// The database has taken note of an opening, or will never hear of it.
    pub(in crate::dispatch) fn opened(&self, target: &Target, is_stored: bool) {
        let mut taken = self.taken();
        taken.generation += 1;
        if is_stored {
            taken.blocked.insert(target.uid);
        }
        if let Some(vitals) = taken.by_subscription.get_mut(&target.uid) {
            vitals.opening = false;
        }
    }

    /// The subscription was unblocked at this time. Does nothing if that is known.
    pub(in crate::dispatch) fn recovered(&self, target: &Target, at: Timestamp) {
        let limit = self.limit(target.pace);
        let mut taken = self.taken();
        let vitals = taken.by_subscription.entry(target.uid).or_default();
        if !vitals.knows_of(at) {
            vitals.recover(at, limit);
            taken.blocked.remove(&target.uid);
            taken.generation += 1;
        }
    }

    /// To be asked before the database is asked who is in trouble, and handed to [`learn`](Self::learn) with the answer.
    pub(in crate::dispatch) fn generation(&self) -> u64 {
        self.taken().generation
    }

    /// Learns which subscriptions are in trouble, and forgets what is too old to matter. Says whether the answer was of use.
    pub(in crate::dispatch) fn learn(&self, trouble: Trouble, generation: u64, now: Timestamp) -> bool {
        let Trouble { blocked, windows } = trouble;
        let mut taken = self.taken();
        taken.by_subscription.retain(|_, vitals| !vitals.is_stale(now));
        taken.throttled.retain(|_, until| now < *until);
        taken.hopeless.retain(|_, until| Instant::now() < *until);
        if taken.generation != generation {
            return false;
        }
        let before = std::mem::replace(&mut taken.blocked, blocked);
        let Taken { by_subscription, blocked, .. } = &mut *taken;
        for uid in before.difference(blocked) {
            by_subscription.entry(*uid).or_default().recover(now, self.per_subscription);
        }
        // What another node found dead is not to be tried by everything that waits here.
        for uid in &*blocked {
            if let Some(vitals) = by_subscription.get_mut(uid) {
                vitals.line.dissolve();
            }
        }
        taken.windows.learn(windows, now);
        true
    }

    /// Learns that a subscription has used up its rate.
    pub(in crate::dispatch) fn throttle(&self, subscription: SubscriptionUid, until: Timestamp) {
        self.taken().throttled.insert(subscription, until);
    }
}
