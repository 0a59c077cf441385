//! When to look for due deliveries again.
//!
//! The poll finds everything by itself, if only at its interval. What is here just makes it look sooner: somebody says that there is
//! something ([`Wakeup::now`]), a delivery of this node comes due ([`Wakeup::at`]), or room has come back while work was left over.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Dispatcher, Queue, Sender};
use crate::domain::timestamp::Timestamp;

/// How long to wait after a claim failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Reasons to look sooner. All of them hints.
pub(super) struct Wakeup {
    notify: Notify,
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
            backlog: AtomicBool::new(false),
            next_due: AtomicI64::new(i64::MAX),
            last_tick: AtomicI64::new(0),
        }
    }
}

impl Wakeup {
    /// There may be something to claim.
    pub(super) fn now(&self) {
        self.notify.notify_one();
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
    while !stop.is_cancelled() {
        shared.wakeup.forget_due(shared.clock.now());
        let pause = match dispatcher.tick().await {
            Ok(claimed) => {
                if claimed > 0 {
                    tracing::debug!(claimed, "took over due deliveries");
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
        tokio::select! {
            () = stop.cancelled() => {}
            () = shared.wakeup.notify.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
