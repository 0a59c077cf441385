//! How many attempts may be under way: on this node, and from it to each subscription.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::poll::Wakeup;
use crate::domain::id::SubscriptionUid;

/// The room there is, and what is taken of it.
pub(super) struct Permits {
    node: Arc<Semaphore>,
    total: u32,
    per_subscription: usize,
    taken: Mutex<HashMap<SubscriptionUid, usize>>,
    wakeup: Arc<Wakeup>,
}

/// Room for one attempt at one subscription; given back when dropped.
pub struct Permit {
    permits: Arc<Permits>,
    subscription: SubscriptionUid,
    _node: OwnedSemaphorePermit,
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

impl Permits {
    pub(super) fn new(total: usize, per_subscription: usize, wakeup: Arc<Wakeup>) -> Arc<Self> {
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        let taken = Mutex::default();
        Arc::new(Self {
            node: Arc::new(Semaphore::new(total as usize)),
            total,
            per_subscription,
            taken,
            wakeup,
        })
    }

    /// Takes room for an attempt at `subscription`, if there is any.
    pub(super) fn take(self: &Arc<Self>, subscription: SubscriptionUid) -> Option<Permit> {
        let mut taken = self.taken();
        let count = taken.entry(subscription).or_default();
        if *count < self.per_subscription
            && let Ok(node) = Arc::clone(&self.node).try_acquire_owned()
        {
            *count += 1;
            return Some(Permit { permits: Arc::clone(self), subscription, _node: node });
        }
        if *count == 0 {
            taken.remove(&subscription);
        }
        None
    }

    /// Takes half of the free room of the node for a claim, and leaves the other half to publishes.
    pub(super) fn take_room(self: &Arc<Self>) -> Option<Room> {
        let wanted = u32::try_from(self.node.available_permits().div_ceil(2)).unwrap_or(u32::MAX);
        if wanted == 0 {
            return None;
        }
        let node = Arc::clone(&self.node).try_acquire_many_owned(wanted).ok()?;
        Some(Room { permits: Arc::clone(self), node })
    }

    /// How much room the node has.
    pub(super) fn free(&self) -> usize {
        self.node.available_permits()
    }

    /// How many attempts are under way to each subscription that has any.
    pub(super) fn in_flight(&self) -> Vec<(SubscriptionUid, usize)> {
        self.taken().iter().map(|(uid, count)| (*uid, *count)).collect()
    }

    /// Waits until all room is free.
    pub(super) async fn all_back(&self) {
        // The semaphore is never closed.
        let _ = self.node.acquire_many(self.total).await;
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<SubscriptionUid, usize>> {
        // Every critical section leaves the map whole, so a panic elsewhere does not spoil it.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Uses the place for an attempt at `subscription`. The claim was told what was free, so the subscription's limit can be passed
    /// only by what was published to it during the claim.
    pub(super) fn at(self, subscription: SubscriptionUid) -> Permit {
        *self.permits.taken().entry(subscription).or_default() += 1;
        Permit { permits: self.permits, subscription, _node: self.node }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.permits.taken();
        if let Some(count) = taken.get_mut(&self.subscription) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.subscription);
            }
        }
        drop(taken);
        self.permits.wakeup.room();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::timestamp::Timestamp;

    fn permits(total: usize, per_subscription: usize) -> Arc<Permits> {
        Permits::new(total, per_subscription, Arc::default())
    }

    fn subscription() -> SubscriptionUid {
        SubscriptionUid::new(Timestamp::from_micros(0))
    }

    #[test]
    fn a_subscription_at_its_limit_leaves_room_for_the_others() {
        let permits = permits(3, 2);
        let (slow, other) = (subscription(), subscription());
        let held: Vec<_> = (0..2).map_while(|_| permits.take(slow)).collect();
        assert_eq!(held.len(), 2);
        assert!(permits.take(slow).is_none());
        let last = permits.take(other);
        assert!(last.is_some());
        assert!(permits.take(subscription()).is_none(), "the node is full");
        drop(held);
        assert_eq!(permits.in_flight(), [(other, 1)]);
        assert!(permits.take(slow).is_some());
    }

    #[test]
    fn a_claim_takes_half_of_what_is_free_and_gives_back_what_it_does_not_use() {
        let permits = permits(5, 5);
        let room = permits.take_room().unwrap();
        assert_eq!(room.size(), 3);
        assert_eq!(permits.node.available_permits(), 2);
        let used: Vec<_> = room.places().take(1).map(|place| place.at(subscription())).collect();
        assert_eq!(permits.node.available_permits(), 4);
        drop(used);
        assert_eq!(permits.node.available_permits(), 5);
        assert!(permits.in_flight().is_empty());
    }
}
