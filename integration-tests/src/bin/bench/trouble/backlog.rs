//! Very many deliveries that wait: what the server needs to live with them, to start with them, and to get rid of them.

use clap::Args;

use super::{drain::Drain, waiting::Waiting};
use crate::{Failure, clock, options::Common, report::Report, stage::Stage, throughput::memory, usage};

const LATE: &str = "late";

/// How it is to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Deliveries that wait.
    #[arg(long, default_value = "1000000")]
    waiting: u64,
}

/// Runs it.
pub(crate) async fn run(how: &Options, options: &Common, report: &mut Report) -> Result<(), Failure> {
    let mut stage = Stage::set(options, &[]).await?;
    let measured = measure(how, &mut stage, report).await;
    measured.and(stage.strike().await)
}

async fn measure(how: &Options, stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    let url = stage.receiver.url(LATE, 0);
    let waiting = Waiting::build(stage, LATE, LATE, url, how.waiting).await?;
    let pid = stage.server.pid();
    let section = report.section("building");
    waiting.tell(section);
    section
        .mebibytes("server_memory_mib", usage::memory(pid))
        .mebibytes("server_memory_peak_mib", usage::peak_memory(pid));
    if let Some(bytes) = stage.database.size().await? {
        section.mebibytes("database_mib", bytes);
    }

    let begun = clock::now();
    stage.restart().await?;
    report
        .section("a new start")
        .number("seconds_from_the_stop_of_the_old_to_taking_calls", clock::seconds(begun, clock::now()))
        .mebibytes("server_memory_mib", usage::memory(stage.server.pid()));

    stage.receiver.reset(LATE, waiting.first).await?;
    let begun = clock::now();
    let resuming = stage.resume(LATE, LATE).await?;
    let limit = stage.options.seconds;
    let drain = Drain { receiver: &stage.receiver, group: LATE, count: waiting.count, back_at: begun, limit };
    let drained = drain.watch().await?;
    report.section("resuming").number("seconds_of_the_call", resuming);
    drained.tell(report);
    memory(report, stage);
    Ok(())
}
