//! What people and housekeeping do to rows.

use postrider_server::domain::{delivery::EndReason, timestamp::Timestamp};

use super::{Database, Ended};

impl Database {
    pub(crate) fn pause(&mut self, subscription: usize) {
        self.subscriptions[subscription].paused = true;
        self.raise_version(subscription);
    }

    pub(crate) fn resume(&mut self, subscription: usize, now: Timestamp) {
        self.subscriptions[subscription].paused = false;
        self.subscriptions[subscription].unblock(now);
        self.raise_version(subscription);
    }

    pub(crate) fn enable(&mut self, subscription: usize, now: Timestamp) {
        self.subscriptions[subscription].disabled = false;
        self.subscriptions[subscription].unblock(now);
        self.raise_version(subscription);
    }

    pub(crate) fn delete(&mut self, subscription: usize, now: Timestamp) {
        let row = &mut self.subscriptions[subscription];
        row.deleted = true;
        row.unblock(now);
        row.pace.rate = None;
        self.raise_version(subscription);
    }

    /// Cancels what waits for subscriptions that have ended.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        for number in 0..self.deliveries.len() {
            let subscription = &self.subscriptions[self.deliveries[number].subscription];
            let reason = match (subscription.deleted, subscription.disabled) {
                (true, _) => EndReason::SubscriptionDeleted,
                (false, true) => EndReason::SubscriptionDisabled,
                (false, false) => continue,
            };
            self.end(number, Ended { reason, at: now, by_sweep: true });
        }
    }

    /// Ends what has expired and is not under way.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        for number in 0..self.deliveries.len() {
            let delivery = &self.deliveries[number];
            let is_under_way = delivery.attempt_count > 0
                && delivery.due_at > now
                && !delivery.attempts.contains_key(&delivery.attempt_count);
            if self.event(number).content.handling.expired(now) && !is_under_way {
                self.end(number, Ended { reason: EndReason::Expired, at: now, by_sweep: false });
            }
        }
    }

    fn end(&mut self, number: usize, ended: Ended) {
        if self.deliveries[number].ended.is_some() {
            return;
        }
        self.deliveries[number].ended = Some(ended);
        let lane = self.lane(number);
        self.release(&lane.iter().cloned().collect(), ended.at);
        // Housekeeping wakes nobody: the poll finds what it has released.
        if let Some(next) = lane.and_then(|lane| self.in_lane(&lane).next()) {
            self.deliveries[next].is_timed = true;
        }
    }
}
