//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::trouble::{backlog, big_fan_out, dead_receiver, hostile, idle, noisy_tenant, slow_receivers};

/// Measures Postrider: the real server, a receiver and producers, each in a process of its own, on this machine.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

/// What all scenarios understand.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// The database that the server runs on.
    #[arg(long, global = true, value_enum, default_value = "sqlite")]
    pub(crate) database: Kind,
    /// A PostgreSQL server to make the database on; without it one is started and removed again.
    #[arg(long, global = true)]
    pub(crate) postgres_url: Option<String>,
    /// The server's binary; beside this one by default.
    #[arg(long, global = true)]
    pub(crate) server: Option<PathBuf>,
    /// A variable for the server, such as `POSTRIDER_DISPATCH_MAX_IN_FLIGHT=2048`. Can be repeated.
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) set: Vec<(String, String)>,
    /// Where the databases are put; the folder for temporary files by default. Its file system is part of what is measured.
    #[arg(long, global = true)]
    pub(crate) dir: Option<PathBuf>,
    /// Write the figures as JSON, too.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// How long to measure.
    #[arg(long, global = true, default_value = "10", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// How long to publish before that, which is not counted.
    #[arg(long, global = true, default_value = "2", value_parser = seconds)]
    pub(crate) warm_up: Duration,
    /// The size of an event's data.
    #[arg(long, global = true, default_value = "1024")]
    pub(crate) bytes: usize,
    /// Publish without request ids.
    #[arg(long, global = true)]
    pub(crate) no_request_ids: bool,
    /// Over how many ordering keys events go in turn; none have one if 0.
    #[arg(long, global = true, default_value = "0")]
    pub(crate) ordering_keys: u64,
    /// How long to measure the bare HTTP client; 0 to leave it out.
    #[arg(long, global = true, default_value = "3", value_parser = seconds)]
    pub(crate) ceiling: Duration,
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

/// What is measured.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Scenario {
    /// As many events as callers can publish that each publish one at a time.
    Unary {
        /// Callers.
        #[arg(long, default_value = "256")]
        concurrency: usize,
    },
    /// As many events as can be published in calls of many.
    Batch {
        /// Events in a call.
        #[arg(long, default_value = "100")]
        size: usize,
        /// Calls at once.
        #[arg(long, default_value = "8")]
        in_flight: usize,
    },
    /// As many events as can be published on one stream.
    Stream {
        /// Events that may be unacknowledged.
        #[arg(long, default_value = "4096")]
        in_flight: usize,
    },
    /// As `unary`, every event to several subscriptions.
    FanOut {
        /// Subscriptions.
        #[arg(long, default_value = "5")]
        subscribers: u64,
        /// Callers.
        #[arg(long, default_value = "256")]
        concurrency: usize,
    },
    /// How long publishes and deliveries take at a fixed rate.
    Latency {
        /// Events in a second.
        #[arg(long, default_value = "200")]
        rate: f64,
    },
    /// As `unary`, with events from a file of lines like `{"type": "order.created", "data": {…}}`.
    Real {
        /// The file.
        #[arg(long)]
        events_file: PathBuf,
        /// Callers.
        #[arg(long, default_value = "256")]
        concurrency: usize,
    },
    /// A receiver is dead while deliveries wait for it; how a healthy subscription fares, and what happens when it comes back.
    DeadReceiver(dead_receiver::Options),
    /// A tenant publishes a hundred times what another does; how the quiet one fares.
    NoisyTenant(noisy_tenant::Options),
    /// Many receivers answer after ten seconds; how a healthy subscription fares.
    SlowReceivers(slow_receivers::Options),
    /// One event for ten thousand subscriptions; how another tenant fares.
    BigFanOut(big_fan_out::Options),
    /// Receivers that mean harm; how a healthy subscription fares, and the server's memory.
    Hostile(hostile::Options),
    /// Many subscriptions and no events.
    Idle(idle::Options),
    /// A million deliveries that wait.
    Backlog(backlog::Options),
    /// Several nodes on one PostgreSQL of its own, under load, while everything around them breaks; and what must be true afterwards.
    Faults {
        /// Decides what breaks when, and how the receiver answers.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How long things break.
        #[arg(long, default_value_t = 1.0)]
        minutes: f64,
        /// How many nodes.
        #[arg(long, default_value_t = 3)]
        nodes: usize,
        /// How many events are published in a second.
        #[arg(long, default_value_t = 60)]
        events_per_second: u32,
    },
    /// Not for people: the receiver of a run.
    #[command(hide = true)]
    Receiver {
        /// JSON.
        task: String,
    },
    /// Not for people: a producer of a run.
    #[command(hide = true)]
    Load {
        /// JSON.
        task: String,
    },
    /// Not for people: the hostile receivers of a run.
    #[command(hide = true)]
    HostileReceivers {
        /// JSON.
        task: String,
    },
    /// Not for people: the bare HTTP client of a run.
    #[command(hide = true)]
    Ceiling {
        /// JSON.
        task: String,
    },
}

impl Common {
    /// What a run of a scenario is called.
    pub(crate) fn title(&self, scenario: &Scenario) -> String {
        let database = match self.database {
            Kind::Sqlite => "SQLite",
            Kind::Postgres => "PostgreSQL",
        };
        format!("{scenario:?} on {database}, {} bytes", self.bytes)
    }
}

/// Reads a number of seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|cause| cause.to_string())
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
