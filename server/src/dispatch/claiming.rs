//! The claim: takes over what is due, as far as there is room for it, and starts its attempts.

use std::sync::atomic::Ordering;

use super::{
    Ask, Claimed, Dispatcher, Queue, QueueError, RECOVERY, Sender,
    permits::{Room, UnderWay},
    wakeup::LeftOver,
};
use crate::domain::{claim::Claim, id::SubscriptionUid, timestamp::Timestamp};

/// How long an answer to who is in trouble is good for, in microseconds.
const MICROS_OF_REFRESH: i64 = 1_000_000;

impl<Q: Queue, S: Sender> Dispatcher<Q, S> {
    /// Claims as many due deliveries as there is room for and starts them. Returns how many.
    pub async fn tick(&self) -> Result<usize, QueueError> {
        let wakeup = &self.0.wakeup;
        let news = wakeup.take_news();
        if !self.0.records(self.0.clock.now()) {
            // What is held comes back when it is recorded.
            self.leave_to_others(news);
            return Ok(0);
        }
        self.claim(news).await.inspect_err(|_| wakeup.keep_news(news))
    }

    /// Claims and starts, because of `news` or not.
    async fn claim(&self, news: bool) -> Result<usize, QueueError> {
        let shared = &self.0;
        if let Err(cause) = self.refresh().await {
            // Whom it takes of, the claim finds out by itself.
            tracing::warn!(cause = &cause as &dyn std::error::Error, "who is in trouble is not known");
        }
        let Some(room) = shared.permits.take_room() else {
            // Attempts that are under way are work enough; each of them ends by its timeout.
            shared.wakeup.ticked(shared.clock.now());
            self.leave_to_others(news);
            return Ok(0);
        };
        let (ask, saturated) = self.ask(room.size());
        if saturated {
            // Room that comes back during the claim is not seen by it.
            shared.wakeup.set_backlog(true);
        }
        let Claimed { claims, throttled, expired, unreadable } = shared.queue.claim(&ask).await?;
        let claimed = claims.len();
        self.note_ended(expired, unreadable);
        self.start_all(room, claims, ask.now);
        self.note_throttled(throttled);
        shared.wakeup.ticked(ask.now);
        self.note_left_over(claimed, &ask, saturated, news);
        Ok(claimed)
    }

    /// Takes nothing until room comes back; other nodes may do it meanwhile.
    fn leave_to_others(&self, news: bool) {
        self.0.wakeup.set_backlog(true);
        self.0.wakeup.left_to_others(LeftOver::IfNews, news);
    }

    fn note_ended(&self, expired: usize, unreadable: u64) {
        self.0.metrics.expired(expired as u64);
        self.0.metrics.unreadable(unreadable);
        if expired > 0 || unreadable > 0 {
            // Others may have waited for them, or are due behind them.
            self.0.wakeup.now();
        }
    }

    fn start_all(&self, mut room: Room, claims: Vec<Claim>, now: Timestamp) {
        let claimed = claims.len();
        for (nth, claim) in (1..).zip(claims) {
            let others = claimed - nth;
            let Some(place) = room.place(claim.event.content.payload.data.len(), others) else {
                // There is one for each. Its lease runs out, and it is claimed again.
                tracing::error!(delivery.id = %claim.delivery, "there is no room for a delivery that was claimed");
                continue;
            };
            if let Some(at) = claim.target.recovered_at.filter(|at| now < *at + RECOVERY) {
                self.0.permits.recovered(&claim.target, at);
            }
            self.start(place.at(&claim.target), claim);
        }
    }

    fn note_throttled(&self, throttled: Vec<(SubscriptionUid, Timestamp)>) {
        self.0.metrics.throttled(throttled.len());
        for (subscription, until) in throttled {
            self.0.permits.throttle(subscription, until);
            self.0.wakeup.at(until);
        }
    }

    fn note_left_over(&self, claimed: usize, ask: &Ask, saturated: bool, news: bool) {
        let wakeup = &self.0.wakeup;
        // Where something was due there may be more, which is claimed as permits come back; so is what a saturated
        // subscription kept from this claim. By now its attempts may have ended, so this is told from what we asked.
        wakeup.set_backlog(claimed > 0 || saturated);
        let left_over = match (claimed >= ask.max, saturated) {
            // There is most probably more; another node may have lost all that it tried to claim to us.
            (true, _) => LeftOver::Probably,
            (false, true) => LeftOver::IfNews,
            (false, false) => LeftOver::Nothing,
        };
        wakeup.left_to_others(left_over, news);
    }

    /// What to ask the queue for, and whether anybody has no room left.
    pub(super) fn ask(&self, max: usize) -> (Ask, bool) {
        let shared = &self.0;
        let now = shared.clock.now();
        let UnderWay { held, limits, tenants, saturated } = shared.permits.under_way(now);
        let ask = Ask {
            now,
            leased_until: now + shared.config.lease,
            max,
            places: max,
            max_per_subscription: shared.config.max_in_flight_per_subscription
                + shared.config.max_queued_per_subscription,
            held,
            limits,
            max_per_tenant: shared.config.max_in_flight_per_tenant + shared.config.max_queued,
            tenants,
        };
        (ask, saturated)
    }

    /// Learns who is in trouble, unless that is known.
    pub async fn refresh(&self) -> Result<(), QueueError> {
        let shared = &self.0;
        let now = shared.clock.now();
        let refreshed_at = shared.refreshed_at.load(Ordering::Relaxed);
        // A clock that was set back makes the answer old as well.
        if (refreshed_at..refreshed_at.saturating_add(MICROS_OF_REFRESH)).contains(&now.as_micros()) {
            return Ok(());
        }
        let generation = shared.permits.generation();
        let trouble = shared.queue.trouble(now).await?;
        let count = trouble.blocked.len();
        if shared.permits.learn(trouble, generation, now) {
            shared.refreshed_at.store(now.as_micros(), Ordering::Relaxed);
            shared.metrics.blocked(count);
        }
        Ok(())
    }
}
