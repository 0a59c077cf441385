//! Writes what followed from attempts, many at a time.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use tokio::sync::{Mutex, mpsc};

use super::{Permit, Queue, QueueError, Sender, Settled, Settling, Shared};
use crate::domain::{breaker::HealthChange, delivery::Settlement, timestamp::Timestamp};

/// The most settlements of one transaction.
const MAX_BATCH: usize = 500;
/// The first and the longest pause while the database is away.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Which part of a lease a settlement may take before it counts as held up.
const HELD_UP: u32 = 4;

/// Whether settlements are being written. While they are not, leases may run out of what we know to be done, and it would be sent again: so
/// nothing more is taken over, by a claim or with a publish.
pub(super) struct Recording {
    /// Whether the last one could be written.
    works: AtomicBool,
    /// When the one began that is under way, in microseconds. The network may have forgotten its connection and told nobody.
    begun_at: AtomicI64,
}

impl Default for Recording {
    fn default() -> Self {
        Self { works: AtomicBool::new(true), begun_at: AtomicI64::new(i64::MAX) }
    }
}

impl Recording {
    pub(super) fn works(&self, now: Timestamp, lease: Duration) -> bool {
        let begun_at = Timestamp::from_micros(self.begun_at.load(Ordering::Relaxed));
        self.works.load(Ordering::Relaxed) && now.since(begun_at) <= lease / HELD_UP
    }

    fn begins(&self, now: Timestamp) {
        self.begun_at.store(now.as_micros(), Ordering::Relaxed);
    }

    fn ends(&self, works: bool) {
        self.works.store(works, Ordering::Relaxed);
        self.begun_at.store(i64::MAX, Ordering::Relaxed);
    }
}

/// Settlements that wait to be written. Each holds its permit, which bounds their number.
pub(super) struct Inbox {
    put: mpsc::UnboundedSender<(Settled, Permit)>,
    // A mutex, so that a supervisor can start the loop again after a defect ended it.
    take: Mutex<mpsc::UnboundedReceiver<(Settled, Permit)>>,
}

impl Default for Inbox {
    fn default() -> Self {
        let (put, take) = mpsc::unbounded_channel();
        Self { put, take: Mutex::new(take) }
    }
}

impl Inbox {
    pub(super) fn put(&self, settled: Settled, permit: Permit) {
        // The other end lives as long as this one: both are ours.
        let _ = self.put.send((settled, permit));
    }
}

/// Writes batch after batch; while one is written the next one gathers.
pub(super) async fn run<Q: Queue, S: Sender>(shared: &Shared<Q, S>) {
    // A defect may have ended this in the midst of a settlement.
    shared.recording.ends(true);
    let mut inbox = shared.settled.take.lock().await;
    let mut gathered = Vec::new();
    while inbox.recv_many(&mut gathered, MAX_BATCH).await > 0 {
        let (batch, permits): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
        write(shared, &batch).await;
        drop(permits);
    }
}

/// Writes a batch, however long the database is away. A lease may run out in the meantime; the fence sees to that.
async fn write<Q: Queue, S: Sender>(shared: &Shared<Q, S>, batch: &[Settled]) {
    let mut pause = PAUSES.0;
    loop {
        shared.recording.begins(shared.clock.now());
        match shared.queue.settle(batch).await {
            Ok(settling) => {
                shared.recording.ends(true);
                return written(shared, batch, &settling);
            }
            Err(cause @ QueueError::Unavailable(_)) => {
                tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    attempts = batch.len(),
                    "attempts could not be recorded; trying again"
                );
                shared.recording.ends(false);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(cause @ QueueError::Broken(_)) => {
                if let [one] = batch {
                    // The database can be written to again, whatever it has against this one. There may be no other settlement to
                    // show that, as nothing is claimed until then.
                    shared.recording.ends(true);
                    // Its lease runs out, and it is attempted again.
                    tracing::error!(
                        cause = &cause as &dyn std::error::Error,
                        delivery.id = %one.delivery,
                        attempt.number = one.number.get(),
                        "an attempt cannot be recorded"
                    );
                    if let Some(HealthChange::Open { .. }) = &one.health {
                        shared.permits.opened(&one.target, false);
                    }
                    return shared.metrics.unrecorded();
                }
                // One of them spoils it for all: find it by halves.
                let (left, right) = batch.split_at(batch.len() / 2);
                Box::pin(write(shared, left)).await;
                return Box::pin(write(shared, right)).await;
            }
        }
    }
}

fn written<Q, S>(shared: &Shared<Q, S>, batch: &[Settled], settling: &Settling) {
    for delivery in &settling.lost {
        tracing::warn!(delivery.id = %delivery, "an attempt ended after its delivery was taken over or cancelled");
    }
    shared.metrics.lost(settling.lost.len());
    shared.watchers.settled(batch.iter().map(|settled| settled.delivery));
    if settling.disabled {
        shared.ended.notify_one();
    }
    if settling.released {
        shared.wakeup.now();
    }
    for settled in batch {
        if let Settlement::RetryAt(due_at) = settled.settlement {
            shared.wakeup.at(due_at);
        }
        if let Some(change) = &settled.health {
            breaker_turned(shared, settled, change, settling.breakers_turned.contains(&settled.target.uid));
        }
    }
}

/// Brings what this node knows of a subscription in line with its row.
fn breaker_turned<Q, S>(shared: &Shared<Q, S>, settled: &Settled, change: &HealthChange, is_stored: bool) {
    let target = &settled.target;
    match change {
        HealthChange::Open { until, reason, .. } => {
            shared.permits.opened(target, is_stored);
            if is_stored {
                shared.metrics.breaker_opened();
                shared.wakeup.at(*until);
                tracing::warn!(
                    tenant.id = %target.tenant,
                    subscription.id = %target.id,
                    reason,
                    next_probe = %until,
                    "a subscription is blocked: its receiver fails"
                );
            }
        }
        HealthChange::Reopen { until, .. } => shared.wakeup.at(*until),
        HealthChange::Release { .. } => shared.wakeup.now(),
        HealthChange::Close { .. } if is_stored => {
            shared.permits.recovered(target, settled.at);
            shared.wakeup.now();
            tracing::info!(
                tenant.id = %target.tenant,
                subscription.id = %target.id,
                "a subscription is no longer blocked: its receiver has recovered"
            );
        }
        HealthChange::Close { .. } => {}
    }
    // Whatever somebody else has decided in the meantime is seen at the next look.
    shared.refreshed_at.store(i64::MIN, Ordering::Relaxed);
}
