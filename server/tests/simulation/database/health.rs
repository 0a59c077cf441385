//! What keeps a subscription's deliveries for a while: its breaker and its rate.

use std::collections::{BTreeSet, HashSet};

use postrider_server::{
    dispatch::{Settled, Trouble},
    domain::{breaker::HealthChange, id::SubscriptionUid, timestamp::Timestamp},
};

use super::{Database, Subscription};

impl Database {
    pub(crate) fn trouble(&self, now: Timestamp) -> Trouble {
        let open = || self.subscriptions.iter().filter(|row| !row.has_ended());
        let window = |row: &Subscription| Some((row.uid, row.window.filter(|kept| now < kept.until)?));
        Trouble {
            blocked: open().filter(|row| row.blocked_until.is_some()).map(|row| row.uid).collect(),
            windows: open().filter_map(window).collect(),
        }
    }

    /// Writes what attempts change about their subscriptions, unless somebody else has changed that in the meantime.
    pub(super) fn turn(&mut self, batch: &[&Settled]) -> HashSet<SubscriptionUid> {
        let mut turned = HashSet::new();
        for settled in batch {
            let number = self.subscription_of(settled.target.uid);
            let row = &mut self.subscriptions[number];
            let kept = row.window.filter(|kept| settled.at < kept.until);
            if let Some(window) = settled.window
                && kept.is_none_or(|kept| window.size < kept.size)
            {
                row.window = Some(window);
            }
            if settled.health.as_ref().is_some_and(|change| row.turn(change, settled.at)) {
                turned.insert(row.uid);
            }
        }
        turned
    }

    /// Disables the subscriptions whose receivers are gone.
    pub(super) fn disable_gone(&mut self, batch: &[&Settled]) -> bool {
        let gone = batch.iter().filter(|settled| settled.disables().is_some());
        let gone: BTreeSet<_> = gone.map(|settled| self.subscription_of(settled.target.uid)).collect();
        let mut is_any = false;
        for number in
            gone.into_iter().filter(|number| !self.subscriptions[*number].has_ended()).collect::<Vec<_>>()
        {
            self.subscriptions[number].disabled = true;
            self.raise_version(number);
            is_any = true;
        }
        is_any
    }
}

impl Subscription {
    fn turn(&mut self, change: &HealthChange, now: Timestamp) -> bool {
        match change {
            HealthChange::Open { until, failing_since, .. } => {
                let is_new = self.blocked_until.is_none()
                    && self.recovered_at.is_none_or(|recovered_at| recovered_at <= *failing_since);
                if is_new {
                    (self.blocked_until, self.block_pauses) = (Some(*until), 1);
                }
                is_new
            }
            HealthChange::Reopen { held_until, until, pauses, .. } => {
                let is_ours = self.blocked_until == Some(*held_until);
                if is_ours {
                    (self.blocked_until, self.block_pauses) = (Some(*until), *pauses);
                }
                is_ours
            }
            HealthChange::Release { held_until } => {
                let is_ours = self.blocked_until == Some(*held_until);
                if is_ours {
                    self.blocked_until = Some(now);
                }
                is_ours
            }
            HealthChange::Close { held_until } => {
                let is_ours = self.blocked_until == Some(*held_until);
                if is_ours {
                    self.unblock(now);
                }
                is_ours
            }
        }
    }

    /// The receiver is well again, or a person says so.
    pub(super) fn unblock(&mut self, now: Timestamp) {
        self.window = None;
        if self.blocked_until.is_some() {
            (self.blocked_until, self.block_pauses, self.recovered_at) = (None, 0, Some(now));
        }
    }

    /// How much the breaker and the rate let through.
    pub(super) fn admitted(&self, now: Timestamp) -> usize {
        let by_breaker = match self.blocked_until {
            None => usize::MAX,
            Some(until) if until <= now => 1,
            Some(_) => 0,
        };
        let by_rate =
            self.pace.rate.map_or(usize::MAX, |rate| rate.admits(self.rate_used_until, now) as usize);
        by_breaker.min(by_rate)
    }

    /// So many were claimed; says when to look again if that used up the rate.
    pub(super) fn use_up(&mut self, count: u32, now: Timestamp) -> Option<Timestamp> {
        let rate = self.pace.rate?;
        let used_until = rate.after(self.rate_used_until, count, now);
        self.rate_used_until = Some(used_until);
        let is_used_up = rate.admits(Some(used_until), now) == 0;
        self.throttled_until = is_used_up.then(|| rate.again_at(used_until, now));
        self.throttled_until
    }
}
