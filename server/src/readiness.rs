//! Whether this node does its work: the database answers, due deliveries are being claimed, and events fanned out.
//!
//! Four things are looked at: whether the database answers, how long ago the last claim succeeded, whether a delivery stays
//! unclaimed that this node could claim, and whether a part of a fan-out stays that nobody takes.
//!
//! For the last two, the age of what is due does not tell: when a backlog is worked off, after an outage or when a subscription is
//! resumed, it is hours old and all is well. What tells is that *the same* delivery stays at the head while there is room: the claim
//! takes the most overdue one of each subscription first, where one of a low priority is overdue later. So a node is not ready when
//! the delivery that has been due for longest was due already [`DUE_BOUND`] ago, and was seen unclaimed at every look since. Left out is
//! what the claim leaves out: subscriptions that are paused, disabled, at their limit on this node, or blocked or held back by their rate
//! until later. A node without any room is not judged by this: its attempts are work enough, and receivers that are slow must not take
//! publishing from everybody else. Fanning out needs no room. The age is a metric all the same.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::SharedClock,
    dispatch::{Overdue, Queue, Standing},
    domain::timestamp::Timestamp,
    publish::fan_out::OverduePart,
    store::{FanOutBacklog, Store},
    telemetry::metrics::Metrics,
};

/// How often to look until the first claim.
const FIRST_INTERVAL: Duration = Duration::from_millis(20);
/// How often to look.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the dispatcher may at least go without a successful claim before something is wrong; and how many polls.
const CLAIM_BOUND: Duration = Duration::from_secs(10);
const CLAIM_POLLS: u32 = 3;
/// How often to look for what is not claimed, for at most which part of the time, but how often at least.
const DUE_INTERVAL: Duration = Duration::from_secs(3);
const LOOKS_PART: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a delivery that could be claimed may stay unclaimed, beyond a poll's interval.
const DUE_BOUND: Duration = Duration::from_secs(20);

/// Why a node is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// It has not looked yet.
    Starting,
    /// The database does not answer.
    Database,
    /// Due deliveries are not being claimed.
    Claiming,
    /// Claims succeed, and a due delivery stays unclaimed all the same.
    Overdue,
    /// Events are not fanned out to all their subscriptions.
    FanningOut,
    /// It is stopping.
    Stopping,
}

impl NotReady {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Database => "the database does not answer",
            Self::Claiming => "due deliveries are not being claimed",
            Self::Overdue => "a due delivery stays unclaimed",
            Self::FanningOut => "an event is not being fanned out",
            Self::Stopping => "stopping",
        }
    }
}

/// The readiness of one server. Cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    store: Store,
    clock: SharedClock,
    metrics: Metrics,
    claim_bound: Duration,
    due_bound: Duration,
    heads: Arc<Mutex<Heads>>,
    state: watch::Sender<Result<(), NotReady>>,
}

/// What has been due for longest.
#[derive(Debug, Default)]
struct Heads {
    looked_at: Timestamp,
    /// How long to leave it at that.
    pause: Duration,
    delivery: Head<Overdue>,
    part: Head<OverduePart>,
}

impl Heads {
    /// Whether it is time to look. A clock that was set back makes the last look old as well.
    fn may_look(&self, now: Timestamp) -> bool {
        !(self.looked_at..self.looked_at + self.pause).contains(&now)
    }
}

/// The delivery or the part that has been due for longest.
#[derive(Debug)]
struct Head<T> {
    seen: Option<Seen<T>>,
}

/// Which it is, and when it was first and last seen. What has become of it since nobody knows.
#[derive(Debug)]
struct Seen<T> {
    head: T,
    first: Timestamp,
    last: Timestamp,
}

impl<T> Default for Head<T> {
    fn default() -> Self {
        Self { seen: None }
    }
}

impl<T: Copy + PartialEq> Head<T> {
    /// Takes note of what is at the head now. Only what `could_go` counts as the same.
    fn see(&mut self, found: Option<T>, could_go: bool, now: Timestamp) {
        self.seen = found.map(|head| {
            let is_same = |seen: &&Seen<T>| seen.head == head && could_go;
            let first = self.seen.as_ref().filter(is_same).map_or(now, |seen| seen.first);
            Seen { head, first, last: now }
        });
    }

    /// Whether the same has been seen for longer than `bound`.
    fn stays_beyond(&self, bound: Duration) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.last.since(seen.first) > bound)
    }
}

impl Readiness {
    /// Not ready before the first look.
    #[must_use]
    pub fn new(store: Store, clock: SharedClock, metrics: Metrics, poll_interval: Duration) -> Self {
        let claim_bound = CLAIM_BOUND.max(poll_interval * CLAIM_POLLS);
        let due_bound = DUE_BOUND + poll_interval;
        let state = watch::Sender::new(Err(NotReady::Starting));
        Self { store, clock, metrics, claim_bound, due_bound, heads: Arc::default(), state }
    }

    /// How it stands, and whenever that changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Result<(), NotReady>> {
        self.state.subscribe()
    }

    /// Looks once.
    pub async fn tick(&self, dispatcher: &Standing) {
        let last_claim = dispatcher.last_tick;
        let claim_age = self.clock.now().since(last_claim);
        let has_claimed = last_claim != Timestamp::default();
        if has_claimed {
            self.metrics.claim_age(claim_age);
        }
        let found = match self.store.ping().await {
            Err(cause) => {
                tracing::debug!(cause = &cause as &dyn std::error::Error, "the database does not answer");
                Err(NotReady::Database)
            }
            Ok(()) if !has_claimed => Err(NotReady::Starting),
            Ok(()) if claim_age > self.claim_bound => Err(NotReady::Claiming),
            Ok(()) => self.judge_overdue(dispatcher).await,
        };
        self.set(found);
    }

    /// Whether something has been left lying that this node could have done.
    async fn judge_overdue(&self, dispatcher: &Standing) -> Result<(), NotReady> {
        let now = self.clock.now();
        if self.heads().may_look(now) {
            let begun = Instant::now();
            self.look(dispatcher, now).await;
            // Where very many subscriptions wait, a look may take seconds: the database has other things to do as well.
            let pause = (begun.elapsed() * LOOKS_PART).clamp(DUE_INTERVAL, LONGEST_PAUSE);
            let mut heads = self.heads();
            (heads.looked_at, heads.pause) = (now, pause);
        }
        let heads = self.heads();
        if heads.delivery.stays_beyond(self.due_bound) {
            Err(NotReady::Overdue)
        } else if heads.part.stays_beyond(self.due_bound) {
            Err(NotReady::FanningOut)
        } else {
            Ok(())
        }
    }

    /// Looks for what is overdue.
    async fn look(&self, dispatcher: &Standing, now: Timestamp) {
        // One after the other, the short one first: on SQLite they share a connection.
        let fan_outs = self.store.fan_out_backlog(now).await;
        let delivery = self.store.overdue(&dispatcher.ask).await;
        if let (Ok(delivery), Ok(fan_outs)) = (&delivery, &fan_outs) {
            let since = [delivery.map(|found| found.since), fan_outs.overdue.map(|found| found.since)];
            let oldest = since.into_iter().flatten().min();
            self.metrics.oldest_due(oldest.map_or(Duration::ZERO, |since| now.since(since)));
        }
        match delivery {
            Ok(delivery) => self.heads().delivery.see(delivery, dispatcher.ask.max > 0, now),
            Err(cause) => unknown("deliveries", &cause),
        }
        match fan_outs {
            Ok(FanOutBacklog { parts, overdue: part }) => {
                self.metrics.fan_out_parts(parts);
                self.heads().part.see(part, true, now);
            }
            Err(cause) => unknown("fan-outs", &cause),
        }
    }

    fn heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until `stop`, and is not ready from then on.
    pub async fn run(&self, dispatcher: impl Fn() -> Standing, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.tick(&dispatcher()).await;
            let starting = *self.state.borrow() == Err(NotReady::Starting);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(if starting { FIRST_INTERVAL } else { INTERVAL }) => {}
            }
        }
        self.set(Err(NotReady::Stopping));
    }

    fn set(&self, found: Result<(), NotReady>) {
        self.metrics.ready(found.is_ok());
        self.state.send_if_modified(|state| {
            let changed = *state != found;
            if changed {
                match found {
                    Ok(()) => tracing::info!("ready"),
                    Err(why @ NotReady::Stopping) => tracing::info!(why = why.as_str(), "not ready"),
                    Err(why) => tracing::warn!(why = why.as_str(), "not ready"),
                }
                *state = found;
            }
            changed
        });
    }
}

/// The database has just answered. If it does not any more, the next look at it says so.
fn unknown(what: &str, cause: &(dyn std::error::Error + 'static)) {
    tracing::warn!(cause, what, "what is overdue is not known");
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(20);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_seen_again_and_again_for_too_long_stays() {
        let mut head = Head::default();
        for seconds in (0..=21).step_by(3) {
            head.see(Some(1), true, at(seconds));
        }
        assert!(head.stays_beyond(BOUND));
        head.see(Some(2), true, at(24));
        assert!(!head.stays_beyond(BOUND));
    }

    #[test]
    fn what_was_seen_once_and_could_not_be_looked_at_since_is_not_said_to_stay() {
        let mut head = Head::default();
        head.see(Some(1), true, at(0));
        // However late it is by now.
        assert!(!head.stays_beyond(BOUND));
        head.see(Some(1), true, at(21));
        assert!(head.stays_beyond(BOUND), "it was there all the time, as far as anybody has seen");
    }

    #[test]
    fn where_it_could_not_go_it_begins_anew() {
        let mut head = Head::default();
        head.see(Some(1), true, at(0));
        head.see(Some(1), false, at(20));
        head.see(Some(1), true, at(30));
        assert!(!head.stays_beyond(BOUND));
    }
}
