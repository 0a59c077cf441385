//! Many subscriptions and no events: what the server does when it has nothing to do.

use std::time::Duration;

use clap::Args;

use crate::{
    Failure, clock,
    options::Common,
    report::{Report, percent_of_a_core, rate},
    stage::{Stage, pause},
    throughput::{added, memory},
    usage,
};

/// Long enough that what is done every ten seconds is done.
const AT_LEAST: Duration = Duration::from_secs(20);

/// How it is to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Subscriptions.
    #[arg(long, default_value = "10000")]
    subscriptions: u64,
}

/// Runs it.
pub(crate) async fn run(how: &Options, options: &Common, report: &mut Report) -> Result<(), Failure> {
    let stage = Stage::set(options, &[]).await?;
    let measured = measure(how, &stage, report).await;
    measured.and(stage.strike().await)
}

async fn measure(how: &Options, stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let begun = clock::now();
    let each = |index| (stage.receiver.url("idle", index), format!("bench.idle.s{index}"));
    stage.subscribe_many("idle", how.subscriptions, each).await?;
    let creating = clock::seconds(begun, clock::now());
    pause(stage.options.warm_up).await;

    let (before, counted) = (stage.reading().await?, stage.server.counters().await?);
    pause(stage.options.seconds.max(AT_LEAST)).await;
    let used = stage.reading().await?.since(before);

    let (seconds, counters) = (used.seconds(), used.counters);
    let core = |cpu| percent_of_a_core(cpu, seconds);
    let each = |count: Option<u64>| count.and_then(|count| rate(count, seconds));
    let section = report.section("idle");
    section
        .count("subscriptions", how.subscriptions)
        .number("seconds_to_create_them", creating)
        .number("seconds_measured", seconds)
        .number("server_cpu_percent_of_a_core", core(used.server))
        .number("database_cpu_percent_of_a_core", used.database.and_then(core))
        .number("statements_per_second", each(counters.statements))
        .number("rows_per_second", each(counters.rows))
        .number("write_transactions_per_second", each(counters.writes))
        .number("wal_bytes_per_second", each(counters.wal))
        .number("bytes_written_by_server_per_second", rate(used.written, seconds))
        .mebibytes("server_memory_mib", usage::memory(stage.server.pid()));
    for (name, count) in added(&counted, &stage.server.counters().await?) {
        section.number(&name, count);
    }
    memory(report, stage);
    Ok(())
}
