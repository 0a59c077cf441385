//! What a node comes by whenever it is about to hear or to say something.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether a node runs: a frozen one waits, and one that was killed waits for ever.
#[derive(Default)]
pub(crate) struct Gate {
    is_closed: AtomicBool,
    opened: Notify,
}

impl Gate {
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) {
        self.is_closed.store(false, Ordering::Relaxed);
        self.opened.notify_waiters();
    }

    /// Waits as long as it is closed; says whether it was.
    pub(crate) async fn pass(&self) -> bool {
        let mut was_closed = false;
        loop {
            let opened = self.opened.notified();
            if !self.is_closed() {
                return was_closed;
            }
            was_closed = true;
            opened.await;
        }
    }
}
