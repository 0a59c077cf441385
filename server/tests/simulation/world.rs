//! What the nodes have in common: the database, the receivers, the time; and what is noted of all that happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use postrider_server::{
    clock::{Clock, ManualClock},
    dispatch::Config,
    domain::timestamp::Timestamp,
};

use crate::{database::Database, faults::Fault, publishes::Publish, sends::Send};

/// When every schedule begins.
const BEGUN: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// The world that the nodes live in.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: Config,
    pub(crate) state: Mutex<State>,
}

/// What there is, and what has happened.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) database: Database,
    /// All attempts, in the order in which they were begun.
    pub(crate) sends: Vec<Send>,
    /// What producers have asked for.
    pub(crate) publishes: Vec<Publish>,
    /// What is to happen to calls of nodes to the database.
    pub(crate) faults: Vec<Fault>,
    /// Nodes with calls that something is happening to.
    pub(crate) troubled: Vec<usize>,
    /// Since when a node knows that a subscription is blocked.
    pub(crate) known_blocked: BTreeMap<(usize, usize), Timestamp>,
    /// Nodes that said that they leave something over.
    pub(crate) hints: Vec<usize>,
    /// Nodes that something happened to.
    pub(crate) disturbed: BTreeSet<usize>,
    /// Nodes that the database refused to record an attempt for.
    pub(crate) refused: BTreeSet<usize>,
    /// What may not be, and was.
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
}

impl World {
    pub(crate) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self { clock: Arc::new(ManualClock::at(BEGUN)), config, state: Mutex::default() })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn say(&self, what: impl Display) {
        self.state().say(self.now(), what);
    }

    /// Puts the clock forward, and the timers of the nodes with it.
    pub(crate) async fn pass(&self, span: Duration) {
        self.clock.advance(span);
        tokio::time::advance(span).await;
    }
}

impl State {
    pub(crate) fn say(&mut self, now: Timestamp, what: impl Display) {
        let elapsed = now.since(BEGUN).as_micros();
        self.trace.push(format!("{:>8}.{:06} {what}", elapsed / 1_000_000, elapsed % 1_000_000));
    }

    pub(crate) fn expect(&mut self, is_true: bool, otherwise: impl FnOnce() -> String) {
        if !is_true {
            self.violations.push(otherwise());
        }
    }

    /// Something happened to a node: what it holds may never be settled, and what it knows may be old.
    pub(crate) fn excuse(&mut self, node: usize) {
        self.disturbed.insert(node);
        self.database.excuse(node);
        self.known_blocked.retain(|(knows, _), _| *knows != node);
    }
}
