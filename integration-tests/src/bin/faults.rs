//! Runs the fault harness: several nodes under load while everything around them breaks.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use postrider_integration_tests::faults::{self, Options};

/// Several nodes on one PostgreSQL, under load, while everything around them breaks.
#[derive(Debug, Parser)]
struct Arguments {
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
    rate: u32,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the report is what it is for")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let Arguments { seed, minutes, nodes, rate } = Arguments::parse();
    let duration = Duration::from_secs_f64(minutes.max(0.0) * 60.0);
    match faults::run(Options { seed, duration, nodes, rate }).await {
        Ok(report) => {
            println!("{report}");
            if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("the harness failed: {error}");
            ExitCode::from(2)
        }
    }
}
