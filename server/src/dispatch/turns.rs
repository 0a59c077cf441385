//! When an attempt is made whose delivery this node holds: in its turn.
//!
//! A node holds more deliveries than it sends at once, so that a burst for a receiver that answers quickly goes out from memory and
//! need not be claimed. They wait in line for their receiver, which has as many attempts under way as its window allows, and then for
//! room of the tenant and the node. Whoever has waited for [`PATIENCE`] in vain gives its delivery back without an attempt; and
//! a subscription where that happened is for a while given no more than can be sent at once. The line is dissolved in the same way when a
//! breaker opens, when the receiver is gone, and when the subscription is paused or deleted; and a delivery that is called off leaves it.
//!
//! An attempt that is [`SLOW`] gives the room of tenant and node back while it goes on, so that slow receivers do not keep the others
//! waiting, and its subscription needs none of that room until it is quick again. What bounds slow ones is how
//! much the node may hold for them ([`permits`](super::permits)).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::permits::{Permit, Permits};
use crate::{
    clock::SharedClock,
    domain::{
        claim::{Claim, Target},
        id::DeliveryId,
    },
};

/// How long a delivery may wait in memory. Much less than a lease, of which an attempt needs the better part.
const PATIENCE: Duration = Duration::from_secs(2);
/// An attempt that takes longer is slow.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// Who sends to one subscription, and who waits for that.
#[derive(Debug, Default)]
pub(super) struct Line {
    sending: usize,
    waiting: VecDeque<(DeliveryId, oneshot::Sender<()>)>,
}

/// The right to send now; given back when dropped.
pub(super) struct Turn {
    permits: Arc<Permits>,
    target: Arc<Target>,
    /// Of the tenant and of the node; none while it is slow.
    room: Option<[OwnedSemaphorePermit; 2]>,
}

/// What comes of lining up.
pub(super) enum Arrival {
    /// It may send, if tenant and node have room; a slow one needs none.
    First(Option<Arc<Semaphore>>),
    /// It is called later.
    Waiting(oneshot::Receiver<()>),
    /// Nothing is sent to this subscription now.
    Held,
}

impl Line {
    /// Takes a place where at most `room` may send.
    pub(super) fn join(&mut self, delivery: DeliveryId, room: usize) -> Option<oneshot::Receiver<()>> {
        if self.sending < room && self.waiting.is_empty() {
            self.sending += 1;
            return None;
        }
        let (call, called) = oneshot::channel();
        self.waiting.push_back((delivery, call));
        Some(called)
    }

    /// Sends whatever the others do.
    pub(super) fn pass_by(&mut self) {
        self.sending += 1;
    }

    /// One is done; those are called who have room now.
    pub(super) fn leave(&mut self, room: usize) {
        self.sending -= 1;
        while self.sending < room
            && let Some((_, next)) = self.waiting.pop_front()
        {
            // It may have lost its patience.
            if next.send(()).is_ok() {
                self.sending += 1;
            }
        }
    }

    /// Sends everybody away.
    pub(super) fn dissolve(&mut self) {
        self.waiting.clear();
    }

    /// Sends one away.
    pub(super) fn dismiss(&mut self, delivery: DeliveryId) {
        self.waiting.retain(|(waits, _)| *waits != delivery);
    }
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
            Arrival::Waiting(mut called) => {
                match tokio::time::timeout(PATIENCE, &mut called).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return None,
                    Err(_) => {
                        called.close();
                        // It may have been called at that very moment.
                        if called.try_recv().is_err() {
                            permits.crowded(target, clock.now());
                            return None;
                        }
                    }
                }
                (begin(permits), permits.room_needed(target))
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::timestamp::Timestamp;

    fn ids<const N: usize>() -> [DeliveryId; N] {
        std::array::from_fn(|_| DeliveryId::new(Timestamp::default()))
    }

    #[test]
    fn whoever_waits_is_called_in_the_order_of_the_line_as_there_is_room() {
        let mut line = Line::default();
        let [first, second, third] = ids();
        assert!(line.join(first, 1).is_none());
        let (mut second, mut third) = (line.join(second, 1).unwrap(), line.join(third, 1).unwrap());
        line.leave(1);
        assert!(second.try_recv().is_ok() && third.try_recv().is_err());
        line.leave(1);
        assert!(third.try_recv().is_ok());
        line.leave(1);
        assert_eq!(line.sending, 0);
    }

    #[test]
    fn a_larger_window_calls_several_at_once_and_skips_those_who_went_away() {
        let mut line = Line::default();
        let [first, others @ ..] = ids::<5>();
        line.join(first, 1);
        let mut waiting: Vec<_> = others.into_iter().map(|id| line.join(id, 1).unwrap()).collect();
        drop(waiting.remove(0));
        line.leave(2);
        let called: Vec<_> = waiting.iter_mut().map(|called| called.try_recv().is_ok()).collect();
        assert_eq!(called, [true, true, false]);
    }

    #[test]
    fn when_a_line_is_dissolved_everybody_hears_of_it_and_otherwise_who_is_sent_away() {
        let mut line = Line::default();
        let [first, second, third] = ids();
        line.join(first, 1);
        let (mut called_off, mut waiting) = (line.join(second, 1).unwrap(), line.join(third, 1).unwrap());
        line.dismiss(second);
        assert_eq!(called_off.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        line.dissolve();
        assert_eq!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
