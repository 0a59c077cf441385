//! What has arrived, by group and subscription.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Behaviour, Numbered, seen::Seen};
use crate::{clock, latency::Latencies};

/// All groups and subscriptions that were ever asked for.
#[derive(Default)]
pub(super) struct Board {
    groups: RwLock<HashMap<String, Arc<Group>>>,
    subscriptions: RwLock<HashMap<String, Arc<Subscription>>>,
}

/// Subscriptions whose arrivals are counted together.
pub(super) struct Group {
    behaviour: watch::Sender<Behaviour>,
    /// Numbers below it belong to what was measured before.
    from: AtomicU64,
    in_flight: AtomicU64,
    counts: Mutex<GroupReport>,
}

/// One subscription and what it has had.
pub(super) struct Subscription {
    pub(super) group: Arc<Group>,
    seen: Mutex<Seen>,
}

/// What has arrived for a group since it was last reset.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct GroupReport {
    /// Different events at each subscription, added up.
    pub(crate) unique: u64,
    /// Events that a subscription had had already.
    pub(crate) duplicates: u64,
    /// Events that were published before the reset.
    pub(crate) stale: u64,
    /// Requests without a number.
    pub(crate) unnumbered: u64,
    /// The most requests under way at once.
    pub(crate) peak_in_flight: u64,
    /// When the first unique one arrived, in microseconds since 1970; 0 if none has.
    pub(crate) first_at: u64,
    /// When the last unique one arrived.
    pub(crate) last_at: u64,
    /// From the intended publish to the arrival, of the unique ones.
    pub(crate) latencies: Latencies,
}

/// A request that is under way.
pub(super) struct UnderWay(Arc<Subscription>);

impl Board {
    /// The group of this name.
    pub(super) fn group(&self, name: &str) -> Arc<Group> {
        if let Some(group) = read(&self.groups).get(name) {
            return Arc::clone(group);
        }
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(groups.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Group {
                behaviour: watch::Sender::new(Behaviour::Answer),
                from: AtomicU64::new(0),
                in_flight: AtomicU64::new(0),
                counts: Mutex::default(),
            })
        }))
    }

    /// The subscription with this path, which is `GROUP/SUBSCRIPTION`.
    pub(super) fn subscription(&self, path: &str) -> Arc<Subscription> {
        if let Some(subscription) = read(&self.subscriptions).get(path) {
            return Arc::clone(subscription);
        }
        let group = self.group(path.split('/').next().unwrap_or_default());
        let mut subscriptions = self.subscriptions.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            subscriptions
                .entry(path.to_owned())
                .or_insert_with(|| Arc::new(Subscription { group, seen: Mutex::default() })),
        )
    }

    /// Forgets what the group has had; from now on only events with this number or a greater one count.
    pub(super) fn reset(&self, name: &str, from: u64) {
        let group = self.group(name);
        group.from.store(from, Relaxed);
        for subscription in read(&self.subscriptions).values() {
            if Arc::ptr_eq(&subscription.group, &group) {
                *lock(&subscription.seen) = Seen::default();
            }
        }
        *lock(&group.counts) = GroupReport::default();
    }
}

impl Group {
    /// How it behaves from now on.
    pub(super) fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// How it behaves, and when that changes.
    pub(super) fn behaviour(&self) -> watch::Receiver<Behaviour> {
        self.behaviour.subscribe()
    }

    /// What has arrived.
    pub(super) fn report(&self) -> GroupReport {
        lock(&self.counts).clone()
    }

    /// How many unique ones have arrived.
    pub(super) fn unique(&self) -> u64 {
        lock(&self.counts).unique
    }
}

impl Subscription {
    /// A request has begun.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        let all = self.group.in_flight.fetch_add(1, Relaxed) + 1;
        let mut counts = lock(&self.group.counts);
        counts.peak_in_flight = counts.peak_in_flight.max(all);
        UnderWay(Arc::clone(self))
    }

    /// A callback has arrived whole.
    pub(super) fn arrived(&self, body: &[u8]) {
        let now = clock::now();
        let numbered = Numbered::find(body);
        let from = self.group.from.load(Relaxed);
        let Some(numbered) = numbered else {
            lock(&self.group.counts).unnumbered += 1;
            return;
        };
        if numbered.number < from {
            lock(&self.group.counts).stale += 1;
            return;
        }
        let is_new = lock(&self.seen).insert(numbered.number);
        let mut counts = lock(&self.group.counts);
        if is_new {
            counts.unique += 1;
            counts.latencies.record(now.saturating_sub(numbered.intended));
            if counts.first_at == 0 {
                counts.first_at = now;
            }
            counts.last_at = now;
        } else {
            counts.duplicates += 1;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.group.in_flight.fetch_sub(1, Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}
