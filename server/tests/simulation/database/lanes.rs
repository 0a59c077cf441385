//! Lanes: what has one ordering key goes to a subscription one after another.

use std::collections::BTreeSet;

use postrider_server::domain::{handling::OrderingKey, timestamp::Timestamp};

use super::Database;

/// A subscription and an ordering key.
pub(super) type Lane = (usize, OrderingKey);

impl Database {
    pub(super) fn lane(&self, delivery: usize) -> Option<Lane> {
        self.deliveries[delivery].position?;
        Some((self.deliveries[delivery].subscription, self.key(delivery)?.clone()))
    }

    /// What is pending in a lane, by its number and in order.
    pub(super) fn in_lane(&self, lane: &Lane) -> impl Iterator<Item = usize> {
        let of_lane = |number: &usize| self.lane(*number).as_ref() == Some(lane);
        self.pending().map(|(number, _)| number).filter(of_lane)
    }

    /// Lets the first delivery of each lane go, if it is parked. Says whether any is due now.
    pub(super) fn release(&mut self, lanes: &BTreeSet<Lane>, now: Timestamp) -> bool {
        let mut released = false;
        for lane in lanes {
            let Some(first) = self.in_lane(lane).next() else { continue };
            let put_off = self.event(first).content.handling.put_off(now);
            let delivery = &mut self.deliveries[first];
            if delivery.due_at == Timestamp::NEVER {
                delivery.due_at = put_off.unwrap_or(now);
                delivery.is_timed = put_off.is_some();
                released = true;
            }
        }
        released
    }
}
