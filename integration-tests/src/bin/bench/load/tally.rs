//! What became of a producer's events.

use std::{
    fmt::Display,
    sync::{Mutex, PoisonError},
};

use postrider_proto::v1::{PublishResult, PublishedEvent, publish_result::Result as Kind};
use serde::{Deserialize, Serialize};

use crate::{clock, latency::Latencies};

/// Counts answers as they come.
#[derive(Default)]
pub(super) struct Tally(Mutex<Outcome>);

/// What a producer has to report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// When the first event was published, in microseconds since 1970.
    pub(crate) begun_at: u64,
    /// When the last acknowledgement came.
    pub(crate) acknowledged_at: u64,
    /// Events that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Deliveries that they have.
    pub(crate) deliveries: u64,
    /// Events that were not.
    pub(crate) failed: u64,
    /// Why the first of those was not.
    pub(crate) first_failure: Option<String>,
    /// From the intended publish to its acknowledgement.
    pub(crate) latencies: Latencies,
    /// CPU time of the producer, in microseconds.
    pub(crate) cpu: u64,
}

impl Tally {
    /// An event that was to be published at `intended` was acknowledged.
    pub(super) fn acknowledged(&self, intended: u64, published: &PublishedEvent) {
        let now = clock::now();
        self.with(|outcome| {
            outcome.acknowledged += 1;
            outcome.deliveries += u64::try_from(published.delivery_count).unwrap_or(0);
            outcome.acknowledged_at = now;
            outcome.latencies.record(now.saturating_sub(intended));
        });
    }

    /// This many events were not.
    pub(super) fn failed(&self, count: usize, why: impl Display) {
        self.with(|outcome| {
            outcome.failed += count as u64;
            outcome.first_failure.get_or_insert_with(|| why.to_string());
        });
    }

    /// One event of a batch or a stream was or was not.
    pub(super) fn answered(&self, intended: u64, result: Option<PublishResult>) {
        match result.and_then(|result| result.result) {
            Some(Kind::Published(published)) => self.acknowledged(intended, &published),
            Some(Kind::Error(error)) => self.failed(1, error.message),
            None => self.failed(1, "an answer without a result"),
        }
    }

    /// All of it.
    pub(super) fn outcome(&self, begun_at: u64, cpu: u64) -> Outcome {
        self.with(|outcome| Outcome { begun_at, cpu, ..outcome.clone() })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Outcome) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
