//! How many deliveries this node may hold at once: in all, for each tenant and for each subscription. Which of them are sent is a matter of
//! [`turns`](super::turns).
//!
//! A delivery takes a place, or several if its data is large: what is held is bounded in bytes as well. Slow receivers share half of the places,
//! so that however many there are, the others find the other half.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::HashMap;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use self::windows::Windows;
use super::{vitals::Vitals, wakeup::Wakeup};
use crate::{
    domain::{
        claim::{NoRoom, Target},
        id::{SubscriptionUid, TenantId},
        subscription::Pace,
        timestamp::Timestamp,
    },
    telemetry::metrics::Metrics,
};

mod health;
mod lines;
mod permit;
#[cfg(test)]
mod tests;
mod waiting;
mod windows;

pub(super) use health::Changes;
pub use permit::Permit;
pub(super) use permit::Room;

/// The most limits that a claim is told of, which it has to look through. With more subscriptions in trouble than that, some may get what
/// they would if they were well.
const MAX_LIMITS: usize = 5_000;

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
    /// Places lent beyond the total, as a claimed delivery was larger than the room left. What comes back pays this off first.
    owed: usize,
    /// Subscriptions that the database says are blocked, as it was last asked.
    blocked: HashSet<SubscriptionUid>,
    /// What is kept of windows in their subscriptions' rows, or is about to be.
    windows: Windows,
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
    pub(super) held: Vec<(SubscriptionUid, usize)>,
    /// How many may be, for each subscription where that is not the limit of all.
    pub(super) limits: Vec<(SubscriptionUid, usize)>,
    /// How many places are taken for each tenant that has any.
    pub(super) tenants: Vec<(TenantId, usize)>,
    /// Whether any of them has no room left.
    pub(super) saturated: bool,
}

impl Permits {
    pub(super) fn new(config: &super::Config, wakeup: Arc<Wakeup>, metrics: Metrics) -> Arc<Self> {
        let total = u32::try_from(config.max_in_flight + config.max_queued).unwrap_or(u32::MAX);
        Arc::new(Self {
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
            if vitals.held >= vitals.may_hold(self.limit(target.pace), self.queued_for(target.pace))
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
        let Taken { by_subscription, by_tenant, slow, blocked, windows, .. } = &mut *taken;
        let most_of_tenant = self.most_of_tenant();
        let mut under_way = UnderWay {
            held: Vec::new(),
            limits: Vec::new(),
            tenants: by_tenant.iter().map(|(id, tenant)| (id.clone(), tenant.places)).collect(),
            saturated: by_tenant.values().any(|tenant| tenant.places >= most_of_tenant),
        };
        for (uid, vitals) in &mut *by_subscription {
            vitals.calm_down(now);
            let mut most = vitals.may_hold(self.limit(vitals.pace), self.queued_for(vitals.pace));
            if vitals.slow && *slow >= self.most_slow() {
                most = most.min(vitals.held);
            }
            if vitals.held > 0 {
                under_way.held.push((*uid, vitals.held));
                under_way.saturated |= vitals.held >= most.max(1);
            }
            // The row says that those are blocked, and the claim reads it.
            let is_limited = vitals.is_limited(now) && !blocked.contains(uid);
            if is_limited && under_way.limits.len() < MAX_LIMITS {
                under_way.limits.push((*uid, most));
            }
        }
        let is_unknown = |uid: &SubscriptionUid| !by_subscription.contains_key(uid) && !blocked.contains(uid);
        let unknown = windows.beginnings().filter(|(uid, _)| is_unknown(uid));
        let beginnings = unknown.map(|(uid, size)| (uid, self.per_subscription.min(size as usize)));
        under_way.limits.extend(beginnings.take(MAX_LIMITS.saturating_sub(under_way.limits.len())));
        under_way
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
        let Self { by_subscription, windows, .. } = self;
        let begin = || windows.beginning(target.uid).map(Vitals::beginning_with).unwrap_or_default();
        let vitals = by_subscription.entry(target.uid).or_insert_with(begin);
        vitals.held += 1;
        vitals.places += places;
        vitals.pace = target.pace;
        self.slow += if vitals.slow { places } else { 0 };
        let new = || Tenant { places: 0, senders: Arc::new(Semaphore::new(per_tenant)) };
        self.by_tenant.entry(target.tenant.clone()).or_insert_with(new).places += places;
    }

    fn leave(&mut self, target: &Target, places: usize) {
        if let Some(vitals) = self.by_subscription.get_mut(&target.uid) {
            vitals.held -= 1;
            vitals.places -= places;
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
