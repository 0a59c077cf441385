//! The numbers of a producer's events.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use super::Until;

/// Gives every event its number, until it is enough.
pub(super) struct Sequence {
    next: AtomicU64,
    end: u64,
    deadline: Instant,
}

impl Sequence {
    pub(super) fn new(first: u64, until: Until) -> Self {
        let end = first.saturating_add(until.count);
        Self { next: AtomicU64::new(first), end, deadline: Instant::now() + until.time }
    }

    /// The number of the next event; none if there is to be none.
    pub(super) fn take(&self) -> Option<u64> {
        if Instant::now() >= self.deadline {
            return None;
        }
        self.next.fetch_update(Relaxed, Relaxed, |next| (next < self.end).then_some(next + 1)).ok()
    }
}
