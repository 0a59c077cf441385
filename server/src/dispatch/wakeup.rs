//! Reasons to look for due deliveries sooner than at the next interval: somebody says that there is something ([`Wakeup::now`]), a
//! delivery of this node comes due ([`Wakeup::at`]), room has come back while work was left over ([`Wakeup::room`]), or another node says
//! that it leaves something over ([`Wakeup::by_other`]).
//!
//! The other way round, what a look left over for which there was no room is kept here until other nodes are told.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

use crate::domain::timestamp::Timestamp;

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

    /// Waits for a reason.
    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Whether other nodes are to be told.
    pub(super) fn has_to_tell(&self) -> bool {
        self.tell.load(Ordering::Relaxed)
    }

    /// Somebody goes to tell them.
    pub(super) fn tells(&self) {
        self.tell.store(false, Ordering::Relaxed);
    }

    /// They could not be told.
    pub(super) fn has_told_nobody(&self) {
        self.tell.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// Forgets what is due by `now`: the claim that follows finds them.
    pub(super) fn forget_due(&self, now: Timestamp) {
        if self.next_due.load(Ordering::Relaxed) <= now.as_micros() {
            self.next_due.store(i64::MAX, Ordering::Relaxed);
        }
    }

    /// How long the loop may sleep.
    pub(super) fn pause(&self, now: Timestamp, interval: Duration) -> Duration {
        Timestamp::from_micros(self.next_due.load(Ordering::Relaxed)).since(now).min(interval)
    }
}
