//! How many deliveries this node may hold at once: in all, for each tenant and for each subscription. Which of them are sent is a matter of
//! [`turns`](super::turns).
//!
//! A delivery takes a place, or several if its data is large: what is held is bounded in bytes as well. Slow receivers share half of the places,
//! so that however many there are, the others find the other half.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::HashMap;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{poll::Wakeup, turns::Arrival, vitals::Vitals};
use crate::{
    domain::{
        attempt::Attempt,
        breaker::{BreakerPolicy, HealthChange},
        claim::{NoRoom, Target},
        id::{DeliveryId, SubscriptionUid, TenantId},
        retry::Jitter,
        subscription::Pace,
        timestamp::Timestamp,
    },
    telemetry::metrics::Metrics,
};

mod permit;
#[cfg(test)]
mod tests;
mod waiting;

pub use permit::Permit;
pub(super) use permit::Room;

/// The most windows that a claim is told of: a statement takes only so many values. With more subscriptions in trouble than that,
/// some may get what they would if they were well.
const MAX_WINDOWS: usize = 5_000;

/// How much data there is room for in one place, in bytes.
const PLACE_BYTES: usize = 64 << 10;

/// How many places a delivery takes whose data has so many bytes.
#[must_use]
pub fn places(bytes: usize) -> usize {
    bytes.div_ceil(PLACE_BYTES).max(1)
}

/// The room there is, and what is taken of it.
pub(super) struct Permits {
    node: Arc<Semaphore>,
    total: u32,
    /// Room for the attempts among them.
    senders: Arc<Semaphore>,
    per_tenant: usize,
    per_subscription: usize,
    /// How many deliveries may wait in memory, of all and of one subscription.
    queued: usize,
    queued_per_subscription: usize,
    taken: Mutex<Taken>,
    /// How long a publish may be kept waiting for room.
    patience: Duration,
    /// Until when nobody waits for room.
    hopeless_until: Mutex<Option<Instant>>,
    wakeup: Arc<Wakeup>,
    metrics: Metrics,
}

/// What is taken, and what else decides whether more may be.
#[derive(Default)]
struct Taken {
    by_subscription: HashMap<SubscriptionUid, Vitals>,
    by_tenant: HashMap<TenantId, Tenant>,
    /// How many places are taken for slow receivers.
    slow: usize,
    /// How many places are missing for what is held, as more was claimed than there was room for. What comes back makes up for them.
    missing: usize,
    /// Subscriptions that the database says are blocked, as it was last asked.
    blocked: HashSet<SubscriptionUid>,
    /// Tenants whose publishes do not wait for room, and until when.
    hopeless: HashMap<TenantId, Instant>,
    /// Rate-limited subscriptions that have used up their rate, and when to look again.
    throttled: HashMap<SubscriptionUid, Timestamp>,
    /// Changes when we learn of a block or its end by ourselves: an answer to a question asked before is out of date.
    generation: u64,
}

/// What is taken for one tenant.
struct Tenant {
    places: usize,
    /// Room for its attempts.
    senders: Arc<Semaphore>,
}

/// What is under way, and who may have less than the rest.
pub(super) struct UnderWay {
    /// How many deliveries to each subscription are held, where there are any.
    pub(super) in_flight: Vec<(SubscriptionUid, usize)>,
    /// How many may be, for each subscription where that is not the limit of all.
    pub(super) windows: Vec<(SubscriptionUid, usize)>,
    /// How many places are taken for each tenant that has any.
    pub(super) tenants: Vec<(TenantId, usize)>,
    /// Whether any of them has no room left.
    pub(super) saturated: bool,
}

impl Permits {
    pub(super) fn new(config: &super::Config, wakeup: Arc<Wakeup>, metrics: Metrics) -> Arc<Self> {
        let total = u32::try_from(config.max_in_flight + config.max_queued).unwrap_or(u32::MAX);
        Arc::new(Self {
            patience: waiting::patience(),
            node: Arc::new(Semaphore::new(total as usize)),
            total,
            senders: Arc::new(Semaphore::new(config.max_in_flight)),
            queued: config.max_queued,
            queued_per_subscription: config.max_queued_per_subscription,
            per_tenant: config.max_in_flight_per_tenant,
            per_subscription: config.max_in_flight_per_subscription,
            taken: Mutex::default(),
            hopeless_until: Mutex::default(),
            wakeup,
            metrics,
        })
    }

    /// Takes room for an attempt at `target` with so many bytes of data, if there is any.
    pub(super) fn take(
        self: &Arc<Self>,
        target: &Arc<Target>,
        bytes: usize,
        now: Timestamp,
    ) -> Result<Permit, NoRoom> {
        let mut taken = self.taken();
        if taken.blocked.contains(&target.uid) {
            return Err(NoRoom::Held);
        }
        if target.pace.rate.is_some() {
            // What the rate admits is in the row, which is one for all nodes.
            let is_throttled = taken.throttled.get(&target.uid).is_some_and(|until| now < *until);
            return Err(if is_throttled { NoRoom::Held } else { NoRoom::Taken });
        }
        if taken.of_tenant(&target.tenant) >= self.most_of_tenant() {
            return Err(taken.why_full(target));
        }
        if let Some(vitals) = taken.by_subscription.get(&target.uid) {
            if vitals.opening {
                return Err(NoRoom::Held);
            }
            if vitals.in_flight >= vitals.places(self.limit(target.pace), self.queued_for(target.pace))
                || (vitals.slow && taken.slow >= self.most_slow())
            {
                return Err(taken.why_full(target));
            }
        }
        let places = self.places(bytes);
        let wanted = u32::try_from(places).unwrap_or(u32::MAX);
        let Ok(node) = Arc::clone(&self.node).try_acquire_many_owned(wanted) else {
            return Err(taken.why_full(target));
        };
        taken.enter(target, places, self.per_tenant);
        drop(taken);
        Ok(self.permit(target, node, places))
    }

    /// Takes half of the free room of the node for a claim, and leaves the other half to publishes.
    pub(super) fn take_room(self: &Arc<Self>) -> Option<Room> {
        let wanted = u32::try_from(self.node.available_permits().div_ceil(2)).unwrap_or(u32::MAX);
        let node = Arc::clone(&self.node).try_acquire_many_owned(wanted.max(1)).ok()?;
        Some(Room { permits: Arc::clone(self), node })
    }

    /// How much room the node has.
    pub(super) fn free(&self) -> usize {
        self.node.available_permits()
    }

    /// What is under way at this time.
    pub(super) fn under_way(&self, now: Timestamp) -> UnderWay {
        let mut taken = self.taken();
        let Taken { by_subscription, by_tenant, slow, blocked, .. } = &mut *taken;
        let most_of_tenant = self.most_of_tenant();
        let mut under_way = UnderWay {
            in_flight: Vec::new(),
            windows: Vec::new(),
            tenants: by_tenant.iter().map(|(id, tenant)| (id.clone(), tenant.places)).collect(),
            saturated: by_tenant.values().any(|tenant| tenant.places >= most_of_tenant),
        };
        for (uid, vitals) in by_subscription {
            vitals.calm_down(now);
            let mut places = vitals.places(self.limit(vitals.pace), self.queued_for(vitals.pace));
            if vitals.slow && *slow >= self.most_slow() {
                places = places.min(vitals.in_flight);
            }
            if vitals.in_flight > 0 {
                under_way.in_flight.push((*uid, vitals.in_flight));
                under_way.saturated |= vitals.in_flight >= places.max(1);
            }
            // The row says that those are blocked, and the claim reads it.
            let is_special = vitals.is_special(now) && !blocked.contains(uid);
            if is_special && under_way.windows.len() < MAX_WINDOWS {
                under_way.windows.push((*uid, places));
            }
        }
        under_way
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
        let limit = self.limit(target.pace);
        let mut taken = self.taken();
        if taken.blocked.contains(&target.uid) {
            return None;
        }
        let Taken { by_subscription, slow, .. } = &mut *taken;
        let vitals = by_subscription.get_mut(&target.uid)?;
        let was_slow = vitals.slow;
        let change = vitals.record(attempt, policy, limit, now, jitter);
        match (was_slow, vitals.slow) {
            (false, true) => *slow += vitals.held,
            (true, false) => *slow -= vitals.held,
            _ => {}
        }
        change
    }

    /// Whether an attempt of this node has succeeded lately, as far as it remembers.
    pub(super) fn is_well(&self, target: &Target, now: Timestamp) -> bool {
        self.taken().by_subscription.get(&target.uid).is_some_and(|vitals| vitals.is_well(now))
    }

    /// A delivery that this node holds is to be sent.
    pub(super) fn line_up(&self, target: &Target, delivery: DeliveryId, is_probe: bool) -> Arrival {
        let limit = self.limit(target.pace);
        let mut taken = self.taken();
        let is_blocked = taken.blocked.contains(&target.uid);
        let Taken { by_subscription, by_tenant, .. } = &mut *taken;
        let vitals = by_subscription.entry(target.uid).or_default();
        if is_probe {
            vitals.line.pass_by();
        } else if is_blocked || vitals.opening {
            return Arrival::Held;
        } else if let Some(called) = vitals.line.join(delivery, vitals.room(limit)) {
            return Arrival::Waiting(called);
        }
        let needs_room = !vitals.slow && !is_probe;
        let senders = || by_tenant.get(&target.tenant).map(|tenant| Arc::clone(&tenant.senders));
        Arrival::First(if needs_room { senders() } else { None })
    }

    /// Where an attempt at `target` finds its tenant's room; none if it needs none.
    pub(super) fn room_needed(&self, target: &Target) -> Option<Arc<Semaphore>> {
        let taken = self.taken();
        if taken.by_subscription.get(&target.uid).is_some_and(|vitals| vitals.slow) {
            return None;
        }
        taken.by_tenant.get(&target.tenant).map(|tenant| Arc::clone(&tenant.senders))
    }

    /// Where an attempt finds the node's room.
    pub(super) fn senders(&self) -> Arc<Semaphore> {
        Arc::clone(&self.senders)
    }

    /// An attempt at `target` is over.
    pub(super) fn leave_line(&self, target: &Target) {
        let limit = self.limit(target.pace);
        if let Some(vitals) = self.taken().by_subscription.get_mut(&target.uid) {
            vitals.line.leave(vitals.room(limit));
        }
    }

    /// An attempt at `target` takes long.
    pub(super) fn slow_down(&self, target: &Target) {
        let mut taken = self.taken();
        let Taken { by_subscription, slow, .. } = &mut *taken;
        if let Some(vitals) = by_subscription.get_mut(&target.uid)
            && !vitals.slow
        {
            vitals.slow = true;
            *slow += vitals.held;
        }
    }

    /// A delivery to `target` has waited in vain.
    pub(super) fn crowded(&self, target: &Target, now: Timestamp) {
        if let Some(vitals) = self.taken().by_subscription.get_mut(&target.uid) {
            vitals.crowded(now);
        }
    }

    /// A delivery to this subscription is to be given back, if it waits in memory.
    pub(super) fn send_one_away(&self, subscription: SubscriptionUid, delivery: DeliveryId) {
        if let Some(vitals) = self.taken().by_subscription.get_mut(&subscription) {
            vitals.line.dismiss(delivery);
        }
    }

    /// What waits for this subscription in memory is to be given back.
    pub(super) fn send_away(&self, subscription: SubscriptionUid) {
        if let Some(vitals) = self.taken().by_subscription.get_mut(&subscription) {
            vitals.line.dissolve();
        }
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
        let limit = self.limit(target.pace);
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

    /// How many places may be taken for one tenant.
    fn most_of_tenant(&self) -> usize {
        self.per_tenant + self.queued
    }

    /// How many places may be taken for slow receivers together.
    fn most_slow(&self) -> usize {
        (self.total as usize / 2).max(1)
    }

    /// How many deliveries to a subscription with this pace may wait in memory if it is well.
    fn queued_for(&self, pace: Pace) -> usize {
        // Whoever asks for less than the server allows gets no more than that.
        if pace.max_in_flight.is_some() { 0 } else { self.queued_per_subscription }
    }

    /// How many attempts at a subscription with this pace may be under way if it is well.
    fn limit(&self, pace: Pace) -> usize {
        let own = pace.max_in_flight.map_or(usize::MAX, |own| own.get() as usize);
        self.per_subscription.min(own)
    }

    fn permit(self: &Arc<Self>, target: &Arc<Target>, node: OwnedSemaphorePermit, places: usize) -> Permit {
        self.metrics.permit_taken();
        Permit { permits: Arc::clone(self), target: Arc::clone(target), node, places }
    }

    /// How many places a delivery takes on this node, however large it is.
    fn places(&self, bytes: usize) -> usize {
        places(bytes).min(self.total as usize)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Every critical section leaves the maps whole, so a panic elsewhere does not spoil them.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn of_tenant(&self, tenant: &TenantId) -> usize {
        self.by_tenant.get(tenant).map_or(0, |tenant| tenant.places)
    }

    fn enter(&mut self, target: &Target, places: usize, per_tenant: usize) {
        let vitals = self.by_subscription.entry(target.uid).or_default();
        vitals.in_flight += 1;
        vitals.held += places;
        vitals.pace = target.pace;
        self.slow += if vitals.slow { places } else { 0 };
        let new = || Tenant { places: 0, senders: Arc::new(Semaphore::new(per_tenant)) };
        self.by_tenant.entry(target.tenant.clone()).or_insert_with(new).places += places;
    }

    fn leave(&mut self, target: &Target, places: usize) {
        if let Some(vitals) = self.by_subscription.get_mut(&target.uid) {
            vitals.in_flight -= 1;
            vitals.held -= places;
            self.slow -= if vitals.slow { places } else { 0 };
            if vitals.is_blank() {
                self.by_subscription.remove(&target.uid);
            }
        }
        if let Some(tenant) = self.by_tenant.get_mut(&target.tenant) {
            tenant.places -= places;
            if tenant.places == 0 {
                self.by_tenant.remove(&target.tenant);
            }
        }
    }
}
