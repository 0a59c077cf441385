//! Keeps house: cancels what waits for subscriptions that have ended, ends what has expired, deletes what is old, and mends what
//! should not be. Beside that it looks after subscriptions that fail ([`failing`]) and tells tenants what they asked to be told ([`announce`]).

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::SharedClock,
    store::{Error, Retention, Store},
    telemetry::metrics::Metrics,
};

pub mod announce;
pub mod failing;

/// How often to look for deliveries of subscriptions that have ended, when nobody says that there are any.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How often to look for deliveries that have expired. Those that are due are ended by the claim; this is for the others.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(5);
/// How often to look for lanes that nobody released, and for deliveries whose subscription is missing. There are none unless we
/// have a defect.
const MENDING_INTERVAL: Duration = Duration::from_mins(10);
/// How often to look at the log of SQLite; and how soon again after it was long.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
const CHECKPOINT_AGAIN: Duration = Duration::from_millis(250);
/// How often to look for what is old.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// The housekeeping of one server. Cheap to clone. Every node does it; two at once do no harm.
#[derive(Clone)]
pub struct Maintenance {
    store: Store,
    retention: Retention,
    clock: SharedClock,
    metrics: Metrics,
    /// Told when a subscription has ended.
    ended: Arc<Notify>,
}

impl Maintenance {
    /// Keeps `store` in order.
    pub fn new(
        store: Store,
        retention: Retention,
        clock: SharedClock,
        metrics: Metrics,
        ended: Arc<Notify>,
    ) -> Self {
        Self { store, retention, clock, metrics, ended }
    }

    /// Cancels everything that waits for subscriptions that have ended. Returns how many deliveries.
    pub async fn sweep(&self) -> Result<u64, Error> {
        let mut total = 0;
        loop {
            let cancelled = self.store.sweep(self.clock.now()).await?;
            if cancelled == 0 {
                break;
            }
            total += cancelled;
        }
        if total > 0 {
            self.metrics.cancelled(total);
            tracing::info!(deliveries = total, "cancelled what waited for subscriptions that have ended");
        }
        Ok(total)
    }

    /// Ends everything that has expired and is not under way. Returns how many deliveries.
    pub async fn expire(&self) -> Result<u64, Error> {
        let mut total = 0;
        loop {
            let expired = self.store.expire(self.clock.now()).await?;
            if expired == 0 {
                break;
            }
            total += expired;
        }
        if total > 0 {
            self.metrics.expired(total);
            tracing::info!(deliveries = total, "ended what had expired");
        }
        Ok(total)
    }

    /// Releases lanes whose first delivery waits for nothing. Returns how many there were.
    pub async fn release_stuck_lanes(&self) -> Result<usize, Error> {
        let lanes = self.store.release_stuck_lanes(self.clock.now()).await?;
        if lanes > 0 {
            tracing::error!(
                lanes,
                "deliveries waited for others with their ordering key that had ended; released them"
            );
        }
        Ok(lanes)
    }

    /// Ends what waits for subscriptions that have no row. Returns how many deliveries.
    pub async fn end_orphans(&self) -> Result<u64, Error> {
        let mut total = 0;
        loop {
            let orphans = self.store.end_orphans(self.clock.now()).await?;
            if orphans == 0 {
                break;
            }
            total += orphans;
        }
        if total > 0 {
            self.metrics.unreadable(total);
            tracing::error!(deliveries = total, "ended what waited for subscriptions that are missing");
        }
        Ok(total)
    }

    /// Deletes everything that has passed its retention. Returns how many rows.
    pub async fn prune(&self) -> Result<u64, Error> {
        let mut total = 0;
        loop {
            let pruned = self.store.prune(&self.retention, self.clock.now()).await?;
            if pruned == 0 {
                break;
            }
            total += pruned;
        }
        if total > 0 {
            tracing::info!(rows = total, "deleted what has passed its retention");
        }
        Ok(total)
    }

    /// Sweeps until `stop`.
    pub async fn run_sweep(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(cause) = self.sweep().await {
                tracing::error!(cause = &cause as &dyn std::error::Error, "the sweep failed");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.ended.notified() => {}
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            }
        }
    }

    /// Ends what has expired until `stop`.
    pub async fn run_expire(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(cause) = self.expire().await {
                tracing::error!(cause = &cause as &dyn std::error::Error, "ending what has expired failed");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(EXPIRE_INTERVAL) => {}
            }
        }
    }

    /// Mends what should not be until `stop`.
    pub async fn run_mending(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(cause) = self.release_stuck_lanes().await {
                tracing::error!(cause = &cause as &dyn std::error::Error, "looking after lanes failed");
            }
            if let Err(cause) = self.end_orphans().await {
                tracing::error!(cause = &cause as &dyn std::error::Error, "looking for orphans failed");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(MENDING_INTERVAL) => {}
            }
        }
    }

    /// Keeps SQLite's log short until `stop`. There is nothing to do on PostgreSQL.
    pub async fn run_checkpoint(&self, stop: CancellationToken) {
        if !self.store.has_log() {
            return stop.cancelled().await;
        }
        while !stop.is_cancelled() {
            let was_long = self.store.checkpoint().await.unwrap_or_else(|cause| {
                tracing::error!(cause = &cause as &dyn std::error::Error, "the log cannot be kept short");
                false
            });
            let pause = if was_long { CHECKPOINT_AGAIN } else { CHECKPOINT_INTERVAL };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Prunes until `stop`.
    pub async fn run_prune(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(cause) = self.prune().await {
                tracing::error!(cause = &cause as &dyn std::error::Error, "pruning failed");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(PRUNE_INTERVAL) => {}
            }
        }
    }
}
