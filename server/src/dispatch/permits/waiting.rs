//! Publishes that wait for room: a little, and only where it comes back soon. What finds none is stored all the same, and claimed later, which
//! costs more.

use std::{sync::PoisonError, time::Duration};

use tokio::time::Instant;

use super::{Permits, Taken};
use crate::{
    dispatch::vitals::Vitals,
    domain::claim::{NoRoom, Target},
};

/// For how long no publish waits for room after that was in vain.
pub(super) const WITHOUT_HOPE: Duration = Duration::from_secs(1);
/// How much room is waited for, where there is as much at all: it comes back in lumps, with each settlement.
const SOME_ROOM: u32 = 256;
/// What the thread of a subscription sends in a second at the very least. A receiver that takes less than that is itself what holds its
/// deliveries up, and publishes are not to be slowed down by receivers.
const SENT_PER_SECOND: u32 = 3_200;
/// How long a publish may be kept waiting for room.
pub(super) const PATIENCE: Duration =
    Duration::from_millis(1_000 * SOME_ROOM as u64 / SENT_PER_SECOND as u64);
/// How often whoever waits for room looks for it.
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

impl Permits {
    /// Returns when the node has room, or when it is no use to wait for it any longer.
    pub(in crate::dispatch) async fn room(&self) {
        if self.node.available_permits() > 0 {
            return;
        }
        let hopeless_until = *self.hopeless_until.lock().unwrap_or_else(PoisonError::into_inner);
        if hopeless_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let some = (self.total / 16).max(1);
        if tokio::time::timeout(PATIENCE, self.node.acquire_many(some)).await.is_err() {
            // Receivers that are slow have it all.
            let until = Instant::now() + WITHOUT_HOPE;
            *self.hopeless_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
    }

    /// Returns when a subscription has some room, or when it is no use to wait for it any longer.
    pub(in crate::dispatch) async fn room_for(&self, target: &Target) {
        let there_is_some = async {
            while !self.has_some_room(target) {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        if tokio::time::timeout(PATIENCE, there_is_some).await.is_err() {
            // It goes out more slowly than it comes in, by far.
            self.taken().hopeless.insert(target.tenant.clone(), Instant::now() + WITHOUT_HOPE);
        }
    }

    /// Whether there is enough room for publishes to go on, or none to wait for.
    fn has_some_room(&self, target: &Target) -> bool {
        let taken = self.taken();
        let is_some = |free: usize, most: usize| free >= (SOME_ROOM as usize).min(most.div_ceil(4));
        let most = self.limit(target.pace) + self.queued_for(target.pace);
        let held = taken.by_subscription.get(&target.uid).map_or(0, |vitals| vitals.held);
        let of_tenant = self.most_of_tenant().saturating_sub(taken.of_tenant(&target.tenant));
        !taken.is_quick(target)
            || is_some(most.saturating_sub(held), most)
                && is_some(of_tenant, self.most_of_tenant())
                && is_some(self.node.available_permits(), self.total as usize)
    }
}

impl Taken {
    /// Whether there will be room for a subscription soon that has none.
    pub(super) fn why_full(&self, target: &Target) -> NoRoom {
        let is_hopeless = self.hopeless.get(&target.tenant).is_some_and(|until| Instant::now() < *until);
        if is_hopeless || !self.is_quick(target) { NoRoom::Taken } else { NoRoom::Soon }
    }

    /// Whether what is held for a subscription goes out as fast as this node can send.
    fn is_quick(&self, target: &Target) -> bool {
        // Whoever asks for less than the server allows is sent no more than that.
        target.pace.max_in_flight.is_none()
            && self.by_subscription.get(&target.uid).is_none_or(Vitals::is_quick)
    }
}
