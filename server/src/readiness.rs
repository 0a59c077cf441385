//! Whether this node does its work: the database answers, and due deliveries are being claimed.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{clock::SharedClock, domain::timestamp::Timestamp, store::Store, telemetry::metrics::Metrics};

/// How often to look until the first claim.
const FIRST_INTERVAL: Duration = Duration::from_millis(20);
/// How often to look.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the dispatcher may at least go without a successful claim before something is wrong; and how many polls.
const CLAIM_BOUND: Duration = Duration::from_secs(10);
const CLAIM_POLLS: u32 = 3;

/// Why a node is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// It has not looked yet.
    Starting,
    /// The database does not answer.
    Database,
    /// Due deliveries are not being claimed.
    Claiming,
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
    state: watch::Sender<Result<(), NotReady>>,
}

impl Readiness {
    /// Not ready before the first look.
    #[must_use]
    pub fn new(store: Store, clock: SharedClock, metrics: Metrics, poll_interval: Duration) -> Self {
        let claim_bound = CLAIM_BOUND.max(poll_interval * CLAIM_POLLS);
        Self { store, clock, metrics, claim_bound, state: watch::Sender::new(Err(NotReady::Starting)) }
    }

    /// How it stands, and whenever that changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Result<(), NotReady>> {
        self.state.subscribe()
    }

    /// Looks once. `last_claim` is when the dispatcher last asked the queue with success.
    pub async fn tick(&self, last_claim: Timestamp) {
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
            Ok(()) => Ok(()),
        };
        self.set(found);
    }

    /// Looks until `stop`, and is not ready from then on.
    pub async fn run(&self, last_claim: impl Fn() -> Timestamp, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.tick(last_claim()).await;
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
