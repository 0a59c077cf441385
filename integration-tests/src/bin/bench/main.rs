//! A benchmark of the whole: the real server, a fast receiver and producers, each in a process of its own, on one machine.
//!
//! `bench SCENARIO` starts them ([`stage`]), lets producers publish ([`load`]) and counts what arrives ([`receiver`]); [`throughput`]
//! has the scenarios without trouble, [`trouble`] those with it. All processes share the machine's clock and its cores: what a figure says
//! depends on the machine, what two of them say about two builds of the server does not so much. `--server` names
//! another build.
//!
//! Nothing here is a test: it passes no judgement, but for `faults`, which is described in the library.

mod ceiling;
mod client;
mod clock;
mod database;
mod helper;
mod latency;
mod load;
mod options;
mod receiver;
mod report;
mod server;
mod stage;
mod throughput;
mod trouble;
mod usage;

use std::{error::Error, process::ExitCode, time::Duration};

use clap::Parser;
use postrider_integration_tests::faults::{self, Options};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    options::{Cli, Scenario},
    report::Report,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What went wrong; it ends the run.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // reqwest is built without a choice of its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(cli)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    match cli.scenario {
        Scenario::Receiver { task } => receiver::run(serde_json::from_str(&task)?).await,
        Scenario::Load { task } => load::run(serde_json::from_str(&task)?).await,
        Scenario::HostileReceivers { .. } => trouble::serve_hostile().await,
        Scenario::Ceiling { task } => ceiling::run(serde_json::from_str(&task)?).await,
        Scenario::Faults { seed, minutes, nodes, events_per_second } => {
            let duration = Duration::from_secs_f64(minutes.max(0.0) * 60.0);
            break_everything(Options { seed, duration, nodes, rate: events_per_second }).await
        }
        scenario => tokio::select! {
            ended = measure(scenario, &cli.common) => ended,
            // Whatever is dropped is stopped and removed.
            () = interrupted() => Err("interrupted".into()),
        },
    }
}

/// The one scenario that passes judgement.
#[expect(clippy::print_stdout, reason = "the report is what it is for")]
async fn break_everything(options: Options) -> Result<(), Failure> {
    let report = faults::run(options).await?;
    println!("{report}");
    if report.is_sound() { Ok(()) } else { Err("what must be true is not".into()) }
}

async fn interrupted() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

async fn measure(scenario: Scenario, options: &options::Common) -> Result<(), Failure> {
    let mut report = Report::new(options.title(&scenario));
    match scenario {
        Scenario::Unary { .. }
        | Scenario::Batch { .. }
        | Scenario::Stream { .. }
        | Scenario::FanOut { .. }
        | Scenario::Latency { .. }
        | Scenario::Real { .. } => throughput::run(&scenario, options, &mut report).await?,
        _ => trouble::run(&scenario, options, &mut report).await?,
    }
    report.publish(options.json.as_deref())
}
