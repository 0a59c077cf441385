//! How many attempts may be under way: on this node, and from it to each tenant and each subscription.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{poll::Wakeup, vitals::Vitals};
use crate::{
    domain::{
        attempt::Attempt,
        breaker::{BreakerPolicy, HealthChange},
        claim::Target,
        id::{SubscriptionUid, TenantId},
        retry::Jitter,
        timestamp::Timestamp,
    },
    telemetry::metrics::Metrics,
};

/// The most windows that a claim is told of: a statement takes only so many values. With more subscriptions in trouble than that,
/// some may get what they would if they were well.
const MAX_WINDOWS: usize = 5_000;

/// The room there is, and what is taken of it.
pub(super) struct Permits {
    node: Arc<Semaphore>,
    total: u32,
    per_tenant: usize,
    per_subscription: usize,
    taken: Mutex<Taken>,
    wakeup: Arc<Wakeup>,
    metrics: Metrics,
}

/// What is taken, and what else decides whether more may be.
#[derive(Default)]
struct Taken {
    by_subscription: HashMap<SubscriptionUid, Vitals>,
    by_tenant: HashMap<TenantId, usize>,
    /// Subscriptions that the database says are blocked, as it was last asked.
    blocked: HashSet<SubscriptionUid>,
    /// Rate-limited subscriptions that have used up their rate, and when to look again.
    throttled: HashMap<SubscriptionUid, Timestamp>,
    /// Changes when we learn of a block or its end by ourselves: an answer to a question asked before is out of date.
    generation: u64,
}

/// Room for one attempt at one subscription; given back when dropped.
pub struct Permit {
    permits: Arc<Permits>,
    target: Arc<Target>,
    _node: OwnedSemaphorePermit,
}

/// Why there is no room for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// Attempts that are under way take it; or the claim, which counts for all nodes, has to say.
    Taken,
    /// The subscription is blocked or throttled, and it is known until when: nobody needs to look before.
    Held,
}

/// Room on the node for some attempts, of which it is not known yet where they go.
pub(super) struct Room {
    permits: Arc<Permits>,
    node: OwnedSemaphorePermit,
}

/// Room on the node for one attempt.
pub(super) struct Place {
    permits: Arc<Permits>,
    node: OwnedSemaphorePermit,
}

/// What is under way, and who may have less than the rest.
pub(super) struct Standing {
    /// How many attempts are under way to each subscription that has any.
    pub(super) in_flight: Vec<(SubscriptionUid, usize)>,
    /// How many may be, for each subscription where that is not the limit of all.
    pub(super) windows: Vec<(SubscriptionUid, usize)>,
    /// How many attempts are under way for each tenant that has any.
    pub(super) tenants: Vec<(TenantId, usize)>,
    /// Whether any of them has no room left.
    pub(super) saturated: bool,
}

impl Permits {
    pub(super) fn new(config: &super::Config, wakeup: Arc<Wakeup>, metrics: Metrics) -> Arc<Self> {
        let total = u32::try_from(config.max_in_flight).unwrap_or(u32::MAX);
        Arc::new(Self {
            node: Arc::new(Semaphore::new(total as usize)),
            total,
            per_tenant: config.max_in_flight_per_tenant,
            per_subscription: config.max_in_flight_per_subscription,
            taken: Mutex::default(),
            wakeup,
            metrics,
        })
    }

    /// Takes room for an attempt at `target`, if there is any.
    pub(super) fn take(self: &Arc<Self>, target: &Arc<Target>, now: Timestamp) -> Result<Permit, NoRoom> {
        let mut taken = self.taken();
        if taken.blocked.contains(&target.uid) {
            return Err(NoRoom::Held);
        }
        if target.pace.rate.is_some() {
            // What the rate admits is in the row, which is one for all nodes.
            let is_throttled = taken.throttled.get(&target.uid).is_some_and(|until| now < *until);
            return Err(if is_throttled { NoRoom::Held } else { NoRoom::Taken });
        }
        let under_way = taken.by_tenant.get(&target.tenant).copied().unwrap_or(0);
        if under_way >= self.per_tenant {
            return Err(NoRoom::Taken);
        }
        if let Some(vitals) = taken.by_subscription.get(&target.uid) {
            if vitals.opening {
                return Err(NoRoom::Held);
            }
            if vitals.in_flight >= vitals.room(self.limit(target)) {
                return Err(NoRoom::Taken);
            }
        }
        let node = Arc::clone(&self.node).try_acquire_owned().map_err(|_| NoRoom::Taken)?;
        taken.enter(target);
        drop(taken);
        Ok(self.permit(target, node))
    }

    /// Takes half of the free room of the node for a claim, and leaves the other half to publishes.
    pub(super) fn take_room(self: &Arc<Self>) -> Option<Room> {
        let wanted = u32::try_from(self.node.available_permits().div_ceil(2)).unwrap_or(u32::MAX);
        let node = Arc::clone(&self.node).try_acquire_many_owned(wanted.max(1)).ok()?;
        Some(Room { permits: Arc::clone(self), node })
    }

    /// What is under way at this time.
    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        let taken = self.taken();
        let mut standing = Standing {
            in_flight: Vec::new(),
            windows: Vec::new(),
            tenants: taken.by_tenant.iter().map(|(tenant, count)| (tenant.clone(), *count)).collect(),
            saturated: taken.by_tenant.values().any(|count| *count >= self.per_tenant),
        };
        for (uid, vitals) in &taken.by_subscription {
            let room = vitals.room(self.per_subscription);
            if vitals.in_flight > 0 {
                standing.in_flight.push((*uid, vitals.in_flight));
                standing.saturated |= vitals.in_flight >= room.max(1);
            }
            // The row says that those are blocked, and the claim reads it.
            let is_special = vitals.is_special(now) && !taken.blocked.contains(uid);
            if is_special && standing.windows.len() < MAX_WINDOWS {
                standing.windows.push((*uid, room));
            }
        }
        standing
    }

    /// Takes note of an attempt. Says whether its subscription's breaker opens.
    pub(super) fn record(
        &self,
        target: &Target,
        attempt: &Attempt,
        policy: &BreakerPolicy,
        now: Timestamp,
        jitter: Jitter,
    ) -> Option<HealthChange> {
        let limit = self.limit(target);
        let mut taken = self.taken();
        if taken.blocked.contains(&target.uid) {
            return None;
        }
        taken.by_subscription.get_mut(&target.uid)?.record(attempt, policy, limit, now, jitter)
    }

    /// The database has taken note of an opening, or will never hear of it.
    pub(super) fn opened(&self, target: &Target, is_stored: bool) {
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
    pub(super) fn recovered(&self, target: &Target, at: Timestamp) {
        let limit = self.limit(target);
        let mut taken = self.taken();
        let vitals = taken.by_subscription.entry(target.uid).or_default();
        if !vitals.knows_of(at) {
            vitals.recover(at, limit);
            taken.blocked.remove(&target.uid);
            taken.generation += 1;
        }
    }

    /// To be asked before the database is asked who is blocked, and handed to [`learn`](Self::learn) with the answer.
    pub(super) fn generation(&self) -> u64 {
        self.taken().generation
    }

    /// Learns which subscriptions are blocked, and forgets what is too old to matter. Says whether the answer was of use.
    pub(super) fn learn(&self, blocked: HashSet<SubscriptionUid>, generation: u64, now: Timestamp) -> bool {
        let mut taken = self.taken();
        taken.by_subscription.retain(|_, vitals| !vitals.is_stale(now));
        taken.throttled.retain(|_, until| now < *until);
        if taken.generation != generation {
            return false;
        }
        let before = std::mem::replace(&mut taken.blocked, blocked);
        let Taken { by_subscription, blocked, .. } = &mut *taken;
        for uid in before.difference(blocked) {
            by_subscription.entry(*uid).or_default().recover(now, self.per_subscription);
        }
        true
    }

    /// Learns that a subscription has used up its rate.
    pub(super) fn throttle(&self, subscription: SubscriptionUid, until: Timestamp) {
        self.taken().throttled.insert(subscription, until);
    }

    /// Waits until all room is free.
    pub(super) async fn all_back(&self) {
        // The semaphore is never closed.
        let _ = self.node.acquire_many(self.total).await;
    }

    /// How many attempts at `target` may be under way if it is well.
    fn limit(&self, target: &Target) -> usize {
        let own = target.pace.max_in_flight.map_or(usize::MAX, |own| own.get() as usize);
        self.per_subscription.min(own)
    }

    fn permit(self: &Arc<Self>, target: &Arc<Target>, node: OwnedSemaphorePermit) -> Permit {
        self.metrics.permit_taken();
        Permit { permits: Arc::clone(self), target: Arc::clone(target), _node: node }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Every critical section leaves the maps whole, so a panic elsewhere does not spoil them.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn enter(&mut self, target: &Target) {
        self.by_subscription.entry(target.uid).or_default().in_flight += 1;
        *self.by_tenant.entry(target.tenant.clone()).or_default() += 1;
    }

    fn leave(&mut self, target: &Target) {
        if let Some(vitals) = self.by_subscription.get_mut(&target.uid) {
            vitals.in_flight -= 1;
            if vitals.is_blank() {
                self.by_subscription.remove(&target.uid);
            }
        }
        if let Some(count) = self.by_tenant.get_mut(&target.tenant) {
            *count -= 1;
            if *count == 0 {
                self.by_tenant.remove(&target.tenant);
            }
        }
    }
}

impl Room {
    /// For how many attempts it is.
    pub(super) fn size(&self) -> usize {
        self.node.num_permits()
    }

    /// Hands the room out, place by place.
    pub(super) fn places(mut self) -> impl Iterator<Item = Place> {
        std::iter::from_fn(move || {
            let node = self.node.split(1)?;
            Some(Place { permits: Arc::clone(&self.permits), node })
        })
    }
}

impl Place {
    /// Uses the place for an attempt at `target`. The claim was told what was free, so the limits of tenant and subscription can be
    /// passed only by what was published during the claim.
    pub(super) fn at(self, target: &Arc<Target>) -> Permit {
        self.permits.taken().enter(target);
        self.permits.permit(target, self.node)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.taken().leave(&self.target);
        self.permits.metrics.permit_returned();
        self.permits.wakeup.room();
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;
    use crate::{
        dispatch::{
            Config,
            tests::{attempt, target},
            vitals::RECOVERY,
        },
        domain::{attempt::Outcome, rate_limit::RateLimit, subscription::Pace},
    };

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);
    const OK: Outcome = Outcome::Acknowledged { status: 204 };
    const ERROR: Outcome = Outcome::Rejected { status: 500, retry_after: None };

    fn permits(node: usize, tenant: usize, subscription: usize) -> Arc<Permits> {
        let config = Config {
            max_in_flight: node,
            max_in_flight_per_tenant: tenant,
            max_in_flight_per_subscription: subscription,
            ..Config::default()
        };
        Permits::new(&config, Arc::default(), Metrics::default())
    }

    fn target_with(change: impl FnOnce(&mut Target)) -> Arc<Target> {
        let mut target = Arc::into_inner(target()).unwrap();
        change(&mut target);
        Arc::new(target)
    }

    /// Takes all the room there is for a subscription.
    fn take_all(permits: &Arc<Permits>, target: &Arc<Target>) -> Vec<Permit> {
        std::iter::from_fn(|| permits.take(target, NOW).ok()).collect()
    }

    fn refused(permits: &Arc<Permits>, target: &Arc<Target>) -> Option<NoRoom> {
        permits.take(target, NOW).err()
    }

    /// Makes attempts one after another; returns what the last one led to.
    fn attempts(
        permits: &Arc<Permits>,
        target: &Arc<Target>,
        outcome: &Outcome,
        count: usize,
        at: Timestamp,
    ) -> Option<HealthChange> {
        let mut change = None;
        for _ in 0..count {
            let permit = permits.take(target, at).ok();
            let policy = BreakerPolicy::default();
            change = permits.record(target, &attempt(at, outcome.clone()), &policy, at, Jitter::NONE);
            drop(permit);
        }
        change
    }

    fn window(permits: &Permits, target: &Target, now: Timestamp) -> Option<usize> {
        let windows = permits.standing(now).windows;
        windows.into_iter().find(|(uid, _)| *uid == target.uid).map(|(_, size)| size)
    }

    #[test]
    fn a_subscription_at_its_limit_leaves_room_for_the_others() {
        let permits = permits(3, 3, 2);
        let (slow, other) = (target(), target());
        let held = take_all(&permits, &slow);
        assert_eq!(held.len(), 2);
        let last = permits.take(&other, NOW);
        assert!(last.is_ok());
        assert_eq!(refused(&permits, &target()), Some(NoRoom::Taken), "the node is full");
        drop(held);
        assert_eq!(permits.standing(NOW).in_flight, [(other.uid, 1)]);
        assert!(permits.take(&slow, NOW).is_ok());
    }

    #[test]
    fn a_tenant_at_its_limit_leaves_room_for_the_others() {
        let permits = permits(10, 6, 4);
        let other = target_with(|target| target.tenant = TenantId::parse("quiet").unwrap());
        let (a, b) = (target(), target());
        let held = (take_all(&permits, &a), take_all(&permits, &b));
        assert_eq!((held.0.len(), held.1.len()), (4, 2));
        assert!(permits.standing(NOW).saturated);
        assert_eq!(permits.standing(NOW).tenants, [(a.tenant.clone(), 6)]);
        assert_eq!(take_all(&permits, &other).len(), 4);
        drop(held);
        assert!(permits.standing(NOW).tenants.is_empty());
    }

    #[test]
    fn a_subscription_may_ask_for_less_than_the_server_allows_and_not_for_more() {
        let permits = permits(10, 10, 4);
        for (own, room) in [(1, 1), (3, 3), (4, 4), (5, 4)] {
            let target = target_with(|target| target.pace.max_in_flight = NonZeroU32::new(own));
            assert_eq!(take_all(&permits, &target).len(), room, "{own}");
        }
    }

    #[test]
    fn a_claim_takes_half_of_what_is_free_and_gives_back_what_it_does_not_use() {
        let permits = permits(5, 5, 5);
        let room = permits.take_room().unwrap();
        assert_eq!(room.size(), 3);
        assert_eq!(permits.node.available_permits(), 2);
        let used: Vec<_> = room.places().take(1).map(|place| place.at(&target())).collect();
        assert_eq!(permits.node.available_permits(), 4);
        drop(used);
        assert_eq!(permits.node.available_permits(), 5);
        assert!(permits.standing(NOW).in_flight.is_empty());
    }

    #[test]
    fn what_is_published_to_a_rate_limited_subscription_is_left_to_the_claim() {
        let permits = permits(10, 10, 10);
        let rate = Some(RateLimit::parse(1.0, 1).unwrap());
        let limited = target_with(|target| target.pace = Pace { rate, ..Pace::default() });
        assert_eq!(refused(&permits, &limited), Some(NoRoom::Taken), "the claim has to say whether it may");
        permits.throttle(limited.uid, NOW + Duration::from_secs(1));
        assert_eq!(refused(&permits, &limited), Some(NoRoom::Held), "it has said");
        permits.throttle(limited.uid, NOW);
        assert_eq!(refused(&permits, &limited), Some(NoRoom::Taken));
    }

    #[test]
    fn a_breaker_opens_once_and_holds_everything_until_the_database_says_otherwise() {
        let permits = permits(100, 100, 10);
        let target = target();
        assert_eq!(attempts(&permits, &target, &ERROR, 9, NOW), None);
        assert!(matches!(attempts(&permits, &target, &ERROR, 1, NOW), Some(HealthChange::Open { .. })));
        assert_eq!(refused(&permits, &target), Some(NoRoom::Held));
        assert_eq!(window(&permits, &target, NOW), Some(0), "the row does not say so yet");
        assert_eq!(attempts(&permits, &target, &ERROR, 100, NOW), None, "what was under way opens nothing");
        permits.opened(&target, true);
        assert_eq!(refused(&permits, &target), Some(NoRoom::Held));
        assert_eq!(window(&permits, &target, NOW), None, "the row says so");
        assert_eq!(attempts(&permits, &target, &ERROR, 100, NOW), None);
    }

    #[test]
    fn an_opening_that_was_not_stored_holds_nothing() {
        let permits = permits(100, 100, 10);
        let target = target();
        attempts(&permits, &target, &ERROR, 10, NOW);
        permits.opened(&target, false);
        assert_eq!(refused(&permits, &target), None);
        assert!(attempts(&permits, &target, &ERROR, 10, NOW).is_some(), "it opens anew");
    }

    #[test]
    fn after_a_recovery_it_begins_with_one_and_old_attempts_decide_nothing() {
        let permits = permits(100, 100, 10);
        let target = target();
        attempts(&permits, &target, &ERROR, 10, NOW);
        permits.opened(&target, true);
        let recovered_at = NOW + Duration::from_secs(5);
        permits.recovered(&target, recovered_at);
        assert_eq!(take_all(&permits, &target).len(), 1);
        assert_eq!(attempts(&permits, &target, &ERROR, 100, NOW), None, "they were begun before");
        assert_eq!(attempts(&permits, &target, &OK, 1, recovered_at), None);
        assert_eq!(take_all(&permits, &target).len(), 2);
        permits.recovered(&target, recovered_at);
        assert_eq!(take_all(&permits, &target).len(), 2, "it is the same recovery");
        assert!(attempts(&permits, &target, &ERROR, 10, recovered_at).is_some());
    }

    #[test]
    fn what_other_nodes_found_is_learnt_and_what_they_mended_begins_with_one() {
        let permits = permits(100, 100, 10);
        let target = target();
        assert!(permits.learn(HashSet::from([target.uid]), permits.generation(), NOW));
        assert_eq!(refused(&permits, &target), Some(NoRoom::Held));
        assert!(permits.learn(HashSet::new(), permits.generation(), NOW));
        assert_eq!(take_all(&permits, &target).len(), 1);
        assert_eq!(window(&permits, &target, NOW), Some(1));
    }

    #[test]
    fn an_answer_that_is_older_than_what_we_know_is_dropped() {
        let permits = permits(100, 100, 10);
        let target = target();
        let generation = permits.generation();
        attempts(&permits, &target, &ERROR, 10, NOW);
        permits.opened(&target, true);
        assert!(!permits.learn(HashSet::new(), generation, NOW));
        assert_eq!(refused(&permits, &target), Some(NoRoom::Held));
    }

    #[test]
    fn a_healthy_subscription_leaves_nothing_behind_and_trouble_is_forgotten_in_time() {
        let permits = permits(100, 100, 10);
        let (healthy, troubled) = (target(), target());
        attempts(&permits, &healthy, &OK, 100, NOW);
        attempts(&permits, &troubled, &ERROR, 9, NOW);
        assert_eq!(permits.taken().by_subscription.keys().collect::<Vec<_>>(), [&troubled.uid]);
        permits.learn(HashSet::new(), permits.generation(), NOW + Duration::from_hours(1));
        assert!(permits.taken().by_subscription.is_empty());
    }

    #[test]
    fn a_recovery_is_told_to_the_claim_until_it_is_an_old_one() {
        let permits = permits(100, 100, 2);
        let target = target();
        permits.recovered(&target, NOW);
        attempts(&permits, &target, &OK, 1, NOW);
        assert_eq!(
            window(&permits, &target, NOW),
            Some(2),
            "or else the row would have it begin with one again"
        );
        assert_eq!(window(&permits, &target, NOW + RECOVERY), None);
    }
}
