//! Keeps house: cancels what waits for subscriptions that have ended, and deletes what is old.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::SharedClock,
    store::{Error, Retention, Store},
    telemetry::metrics::Metrics,
};

/// How often to look for deliveries of subscriptions that have ended, when nobody says that there are any.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
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
