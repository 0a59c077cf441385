//! Records attempts and what follows from them.

use std::collections::BTreeSet;

use postrider_server::{
    dispatch::{Settled, Settling},
    domain::delivery::Settlement,
};

use super::{Database, Ended};

impl Database {
    pub(crate) fn settle(&mut self, batch: &[Settled]) -> Settling {
        let mut in_order: Vec<_> = batch.iter().collect();
        in_order.sort_by_key(|settled| (self.number_of(settled.delivery), settled.number));
        let mut lost = Vec::new();
        let mut left = BTreeSet::new();
        for settled in &in_order {
            let number = self.number_of(settled.delivery);
            if let Some(attempt) = &settled.attempt {
                let attempts = &mut self.deliveries[number].attempts;
                attempts.entry(attempt.number.get()).or_insert_with(|| attempt.outcome.clone());
            }
            if !self.is_held(number, settled) {
                lost.push(settled.delivery);
                continue;
            }
            let delivery = &mut self.deliveries[number];
            delivery.claim = None;
            // What was not attempted does not count as an attempt.
            delivery.attempt_count -= u32::from(settled.attempt.is_none());
            match settled.settlement {
                Settlement::RetryAt(due_at) => {
                    delivery.due_at = due_at;
                    delivery.is_timed = due_at > settled.at;
                }
                Settlement::End(reason) => {
                    delivery.ended = Some(Ended { reason, at: settled.at, by_sweep: false });
                    left.extend(self.lane(number));
                }
            }
        }
        let now = in_order.iter().map(|settled| settled.at).max().unwrap_or_default();
        let released = self.release(&left, now);
        let breakers_turned = self.turn(&in_order);
        let disabled = self.disable_gone(&in_order);
        Settling { lost, disabled, breakers_turned, released }
    }

    /// Whether the delivery still belongs to whoever settles it.
    fn is_held(&self, number: usize, settled: &Settled) -> bool {
        let delivery = &self.deliveries[number];
        // The number of a claim that was given back is given again.
        let is_this_claim = settled.attempt.is_some() || delivery.due_at == settled.leased_until;
        delivery.ended.is_none() && delivery.attempt_count == settled.number.get() && is_this_claim
    }
}
