//! When to look for due deliveries again.
//!
//! The poll finds everything by itself, if only at its interval. What is here just makes it look sooner: somebody says that there is
//! something ([`Wakeup::now`]), a delivery of this node comes due ([`Wakeup::at`]), room has come back while work was left over, or
//! another node says that it leaves something over ([`Wakeup::by_other`]).
//!
//! The other way round, this node tells others when it leaves work over: because it was woken for news that it has no room for, or because
//! a claim came back as full as it could be. Not more often than each [`BETWEEN_HINTS`], and never where there is nothing to do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Dispatcher, Queue, Sender, Shared};
use crate::domain::timestamp::Timestamp;

/// How long to wait after a claim or a hint failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How long other nodes are left alone after they were told something.
const BETWEEN_HINTS: Duration = Duration::from_millis(50);

/// What a look left for other nodes to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeftOver {
    /// All that was due is under way.
    Nothing,
    /// What this node was woken for, if it was.
    IfNews,
    /// More of what was claimed.
    Probably,
}

/// For how many times its length a look in vain is followed by none, whatever wakes us.
const REST: u32 = 4;

/// Reasons to look sooner. All of them hints.
pub(super) struct Wakeup {
    notify: Notify,
    /// Whether somebody on this node has said that there is something, and it is not known yet that it is under way.
    news: AtomicBool,
    /// Whether other nodes are to be told.
    tell: AtomicBool,
    /// Whether the last claim left work over.
    backlog: AtomicBool,
    /// The earliest of the retries and the deliveries put off that this node knows of, in microseconds.
    next_due: AtomicI64,
    last_tick: AtomicI64,
}

impl Default for Wakeup {
    fn default() -> Self {
        Self {
            notify: Notify::new(),
            news: AtomicBool::new(false),
            tell: AtomicBool::new(false),
            backlog: AtomicBool::new(false),
            next_due: AtomicI64::new(i64::MAX),
            last_tick: AtomicI64::new(0),
        }
    }
}

impl Wakeup {
    /// There may be something to claim.
    pub(super) fn now(&self) {
        self.news.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// There may be something to claim, which other nodes know already.
    pub(super) fn by_other(&self) {
        self.notify.notify_one();
    }

    /// Whether there is news. The look that begins now answers it; what is said later it may not see.
    pub(super) fn take_news(&self) -> bool {
        self.news.swap(false, Ordering::Relaxed)
    }

    /// The look came to nothing: its news is for the next one.
    pub(super) fn keep_news(&self, news: bool) {
        self.news.fetch_or(news, Ordering::Relaxed);
    }

    /// What the look that just ended left over, and whether it was for news.
    pub(super) fn left_to_others(&self, left_over: LeftOver, news: bool) {
        if left_over == LeftOver::Probably || (left_over == LeftOver::IfNews && news) {
            self.tell.store(true, Ordering::Relaxed);
        }
    }

    /// Something is due at `due_at`.
    pub(super) fn at(&self, due_at: Timestamp) {
        if self.next_due.fetch_min(due_at.as_micros(), Ordering::Relaxed) > due_at.as_micros() {
            // The loop may be asleep until later than that.
            self.notify.notify_one();
        }
    }

    /// Room for an attempt has come back.
    pub(super) fn room(&self) {
        if self.backlog.load(Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }

    /// Whether the last claim left work over.
    pub(super) fn set_backlog(&self, left_over: bool) {
        self.backlog.store(left_over, Ordering::Relaxed);
    }

    /// The queue was asked with success.
    pub(super) fn ticked(&self, now: Timestamp) {
        self.last_tick.store(now.as_micros(), Ordering::Relaxed);
    }

    pub(super) fn last_tick(&self) -> Timestamp {
        Timestamp::from_micros(self.last_tick.load(Ordering::Relaxed))
    }

    /// Forgets what is due by `now`: the claim that follows finds them.
    fn forget_due(&self, now: Timestamp) {
        if self.next_due.load(Ordering::Relaxed) <= now.as_micros() {
            self.next_due.store(i64::MAX, Ordering::Relaxed);
        }
    }

    /// How long the loop may sleep.
    fn pause(&self, now: Timestamp, interval: Duration) -> Duration {
        Timestamp::from_micros(self.next_due.load(Ordering::Relaxed)).since(now).min(interval)
    }
}

/// Ticks until `stop`.
pub(super) async fn run<Q: Queue, S: Sender>(dispatcher: &Dispatcher<Q, S>, stop: &CancellationToken) {
    let shared = &dispatcher.0;
    let mut told = None;
    while !stop.is_cancelled() {
        shared.wakeup.forget_due(shared.clock.now());
        let begun = Instant::now();
        let mut pause = match dispatcher.tick().await {
            Ok(claimed) => {
                if claimed > 0 {
                    tracing::debug!(claimed, "took over due deliveries");
                } else {
                    // A look in vain costs most where many subscriptions wait, which is also where something wakes us all the time.
                    let rest = (begun.elapsed() * REST).min(shared.config.poll_interval);
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(rest) => {}
                    }
                }
                shared.wakeup.pause(shared.clock.now(), shared.config.poll_interval)
            }
            Err(cause) => {
                tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    "due deliveries could not be claimed"
                );
                AFTER_FAILURE
            }
        };
        if shared.wakeup.tell.load(Ordering::Relaxed) {
            let rest =
                told.map_or(Duration::ZERO, |told: Instant| BETWEEN_HINTS.saturating_sub(told.elapsed()));
            if rest.is_zero() {
                shared.wakeup.tell.store(false, Ordering::Relaxed);
                told = Some(Instant::now());
                shared.attempts.spawn(hint(Arc::clone(shared)));
            } else {
                pause = pause.min(rest);
            }
        }
        // In this order, so that one look answers a wake-up that comes at the very end of the pause.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = shared.wakeup.notify.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Beside the loop, which must not wait for it.
async fn hint<Q: Queue, S: Sender>(shared: Arc<Shared<Q, S>>) {
    if let Err(cause) = shared.queue.hint().await {
        tracing::debug!(
            cause = &cause as &dyn std::error::Error,
            "other nodes could not be told; trying again"
        );
        tokio::time::sleep(AFTER_FAILURE).await;
        shared.wakeup.tell.store(true, Ordering::Relaxed);
        shared.wakeup.notify.notify_one();
    }
}
