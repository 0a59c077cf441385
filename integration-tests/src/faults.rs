//! Several nodes on one PostgreSQL, under load, while everything around them breaks; and what must be true afterwards.
//!
//! ```text
//!                       ┌─ node 0 ─ proxy ─┐
//!   producers ── gRPC ──┼─ node 1 ─ proxy ─┼── PostgreSQL (its own, restarted and killed)
//!                       └─ node 2 ─ proxy ─┘
//!                             └── HTTP ──> receiver (fails at random, keeps everything it saw)
//!
//!   plan (from the seed): what breaks when ──> windows ─┐
//!   producers: what was acknowledged ───────────────────┤
//!   operator: what was cancelled ───────────────────────┤
//!   receiver: what was sent and how it was answered ────┼──> invariants ──> report
//!   API: what is recorded ──────────────────────────────┘
//! ```
//!
//! The seed decides what breaks, in which order and for how long ([`plan`]), how the receiver answers each request
//! ([`receiver`]), and what is published where ([`load`]). It does not decide how the machine schedules processes: a seed that
//! failed once is a likely, not a certain, way to see the failure again.
//!
//! The nodes' clocks disagree by more than a lease. Everything else that is configured is as short as it may be, so that what
//! takes hours in real life settles in seconds.

use std::{
    fmt, io,
    time::{Duration, Instant},
};

mod chance;
mod collect;
mod evidence;
mod executor;
mod invariants;
mod load;
mod nodes;
mod operator;
mod plan;
mod postgres;
mod proxy;
mod receiver;
mod report;

use chance::Chance;
pub use report::Report;

/// How long a node owns what it claimed: as short as the configuration allows with [`TIMEOUT`].
const LEASE: Duration = Duration::from_secs(6);
/// How long an attempt may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long the load goes on without a fault, before the first one and after the last one.
const QUIET: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(10));
/// How long everything may take to come to its end when nothing breaks any more.
const SETTLING: Duration = Duration::from_secs(90);

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How long things break. Starting and settling come on top.
    pub duration: Duration,
    /// How many nodes.
    pub nodes: usize,
    /// How many events are published in a second, about.
    pub rate: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, duration: Duration::from_mins(1), nodes: 3, rate: 60 }
    }
}

/// The harness itself could not do its work: this says nothing about the server.
#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(cause: io::Error) -> Self {
        Self(cause.to_string())
    }
}

/// When things happen: counted from the beginning of the run.
#[derive(Debug, Clone, Copy)]
struct Stopwatch(Instant);

impl Stopwatch {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Runs the harness. What the server did wrong is in the report; an error is the harness's own.
pub async fn run(options: Options) -> Result<Report, Error> {
    let watch = Stopwatch::start();
    let mut chance = Chance::seeded(options.seed);
    let folder = tempfile::Builder::new().prefix("postrider-faults-").tempdir()?;
    let postgres = postgres::Postgres::start().await?;
    let receiver = receiver::Receiver::start(options.seed, watch).await?;
    let nodes = nodes::Nodes::start(options.nodes, folder.path(), &postgres, &mut chance.fork()).await?;

    let load = load::Load::start(&nodes, &receiver, &options, &mut chance.fork(), watch).await?;
    tokio::time::sleep(QUIET.0).await;
    let mut executor = executor::Executor::new(postgres, nodes, watch, chance.fork());
    let faults_end = watch.elapsed() + options.duration;
    let mut steps = plan::steps(chance.fork(), options.nodes);
    while watch.elapsed() < faults_end {
        let Some(step) = steps.next() else { break };
        executor.carry_out(step).await?;
    }
    executor.heal().await?;
    tokio::time::sleep(QUIET.1).await;
    let published = load.stop().await?;

    let ready = executor.nodes.all_ready(Duration::from_secs(30)).await;
    let settled_after = collect::settled(&executor.nodes, &published, SETTLING).await?;
    let mut records = collect::records(&executor.nodes, &published).await?;
    let requests = receiver.requests();
    collect::leave_out_what_moved(&executor.nodes, &mut records).await?;
    let metrics = collect::metrics(&executor.nodes).await;
    let evidence = evidence::Evidence {
        published: published.events,
        cancelled: published.cancelled,
        requests,
        deliveries: records,
        faults: executor.windows,
        not_ready: ready.err().unwrap_or_default(),
    };
    let findings = invariants::check(&evidence);
    let mut report = Report::new(&options, &evidence, findings, watch.elapsed(), settled_after, metrics);
    if !report.is_sound() {
        // The logs and the database's files stay, to be looked at.
        report.kept = Some(folder.keep());
    }
    Ok(report)
}
