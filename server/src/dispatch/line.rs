//! The line of one subscription: who sends, and who waits for that.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::{Semaphore, oneshot};

use crate::domain::id::DeliveryId;

/// Who sends to one subscription, and who waits for that.
#[derive(Debug, Default)]
pub(super) struct Line {
    sending: usize,
    waiting: VecDeque<(DeliveryId, oneshot::Sender<()>)>,
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
        let (mut dismissed, mut waiting) = (line.join(second, 1).unwrap(), line.join(third, 1).unwrap());
        line.dismiss(second);
        assert_eq!(dismissed.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        line.dissolve();
        assert_eq!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
