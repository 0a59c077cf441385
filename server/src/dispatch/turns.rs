//! When an attempt is made whose delivery this node holds: in its turn.
//!
//! A node holds more deliveries than it sends at once, so that a burst for a receiver that answers quickly goes out from memory and
//! need not be claimed. They wait in line for their receiver, which has as many attempts under way as its window allows, and then for
//! room of the tenant and the node. Whoever has waited for [`PATIENCE`] in vain gives its delivery back without an attempt; and
//! a subscription where that happened is for a while given no more than can be sent at once. The line is dissolved in the same way when a
//! breaker opens, when the receiver is gone, and when the subscription is paused or deleted; and a delivery that is cancelled leaves it.
//!
//! An attempt that is [`SLOW`](super::vitals::SLOW) gives the room of tenant and node back while it goes on, so that slow receivers do not keep the others
//! waiting, and its subscription needs none of that room until it is quick again. What bounds slow ones is how
//! much the node may hold for them ([`permits`](super::permits)).

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    line::Arrival,
    permits::{Permit, Permits},
};
use crate::{
    clock::SharedClock,
    domain::claim::{Claim, Target},
};

/// How long a delivery may wait in memory. Much less than a lease, of which an attempt needs the better part.
const PATIENCE: Duration = Duration::from_secs(2);

/// The right to send now; given back when dropped.
pub(super) struct Turn {
    permits: Arc<Permits>,
    target: Arc<Target>,
    /// Of the tenant and of the node; none while it is slow.
    room: Option<[OwnedSemaphorePermit; 2]>,
}

impl Permit {
    /// Waits until this one may send; `None` if its delivery is to be given back.
    pub(super) async fn turn(&self, claim: &Claim, clock: &SharedClock) -> Option<Turn> {
        let (permits, target) = (self.permits(), self.target());
        let begin = |permits: &Arc<Permits>| Turn {
            permits: Arc::clone(permits),
            target: Arc::clone(target),
            room: None,
        };
        let (mut turn, tenant) = match permits.line_up(target, claim.delivery, claim.probe.is_some()) {
            Arrival::Held => return None,
            Arrival::First(tenant) => (begin(permits), tenant),
            Arrival::Waiting(called) => match wait(called).await {
                Waited::Called => (begin(permits), permits.room_needed(target)),
                Waited::SentAway => return None,
                Waited::InVain => {
                    permits.crowded(target, clock.now());
                    return None;
                }
            },
        };
        if let Some(tenant) = tenant {
            let Ok(room) = tokio::time::timeout(PATIENCE, room(tenant, permits.senders())).await else {
                permits.crowded(target, clock.now());
                return None;
            };
            turn.room = room;
        }
        Some(turn)
    }
}

/// What comes of waiting in line.
enum Waited {
    Called,
    SentAway,
    InVain,
}

async fn wait(mut called: oneshot::Receiver<()>) -> Waited {
    match tokio::time::timeout(PATIENCE, &mut called).await {
        Ok(Ok(())) => Waited::Called,
        Ok(Err(_)) => Waited::SentAway,
        Err(_) => {
            called.close();
            // It may have been called at that very moment.
            if called.try_recv().is_ok() { Waited::Called } else { Waited::InVain }
        }
    }
}

/// Room of the tenant first: whoever waits for that must not keep room of the node.
async fn room(tenant: Arc<Semaphore>, node: Arc<Semaphore>) -> Option<[OwnedSemaphorePermit; 2]> {
    // They are never closed.
    Some([tenant.acquire_owned().await.ok()?, node.acquire_owned().await.ok()?])
}

impl Turn {
    /// It takes long: others may use its room.
    pub(super) fn slow_down(&mut self) {
        self.room = None;
        self.permits.slow_down(&self.target);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.permits.leave_line(&self.target);
    }
}
