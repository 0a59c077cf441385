//! Scenarios without trouble: one tenant, receivers that answer at once.

use std::time::Duration;

use crate::{
    Failure, ceiling,
    database::Lagging,
    load::{Data, Outcome, Shape, Task, Until},
    options::{Common, Kind, Scenario},
    receiver::GroupReport,
    report::{Report, Section, per, percent_of_a_core, rate},
    stage::{Reading, Stage, pause},
    usage,
};

const TENANT: &str = "bench";
const GROUP: &str = "all";
/// How long to wait for a delivery after the one before it, until the rest counts as missing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long PostgreSQL's connections can keep their counts to themselves when they are idle, and a little more.
const COUNTERS_LAG: Duration = Duration::from_millis(10_500);

type Counters = std::collections::BTreeMap<String, f64>;

/// What is published.
struct Plan {
    shape: Shape,
    subscribers: u64,
    data: Data,
}

/// Runs such a scenario.
pub(crate) async fn run(scenario: &Scenario, options: &Common, report: &mut Report) -> Result<(), Failure> {
    let plan = plan(scenario, options)?;
    let mut stage = Stage::set(options, &[]).await?;
    let measured = measure(&mut stage, &plan, report).await;
    let struck = stage.strike().await;
    measured.and(struck)
}

fn plan(scenario: &Scenario, options: &Common) -> Result<Plan, Failure> {
    let (shape, subscribers) = match scenario {
        Scenario::Unary { concurrency } | Scenario::Real { concurrency, .. } => {
            (Shape::Unary { concurrency: *concurrency }, 1)
        }
        Scenario::Batch { size, in_flight } => (Shape::Batch { size: *size, in_flight: *in_flight }, 1),
        Scenario::Stream { in_flight } => (Shape::Stream { in_flight: *in_flight }, 1),
        Scenario::FanOut { subscribers, concurrency } => {
            (Shape::Unary { concurrency: *concurrency }, *subscribers)
        }
        Scenario::Latency { rate } => (Shape::OpenLoop { rate: *rate }, 1),
        _ => return Err("not a scenario of this kind".into()),
    };
    let data = match scenario {
        Scenario::Real { events_file, .. } => Data::File(events_file.clone()),
        _ => Data::Bytes(options.bytes),
    };
    Ok(Plan { shape, subscribers, data })
}

async fn measure(stage: &mut Stage, plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    let url = |index| (stage.receiver.url(GROUP, index), "**".to_owned());
    stage.subscribe_many(TENANT, plan.subscribers, url).await?;
    let task = |stage: &Stage, time| Task {
        data: plan.data.clone(),
        ..stage.task(TENANT, "bench.event", plan.shape, Until::time(time))
    };

    let warm_up = stage.publish(&task(stage, stage.options.warm_up)).await?;
    stage.receiver.expect(GROUP, warm_up.acknowledged * plan.subscribers, PATIENCE).await?;
    let idle_since = tokio::time::Instant::now();
    let ceiling = ceiling(stage, plan).await?;
    if stage.options.database == Kind::Postgres {
        tokio::time::sleep_until(idle_since + COUNTERS_LAG).await;
    } else {
        // The last attempts are still being recorded.
        pause(Duration::from_secs(1)).await;
    }

    let task = task(stage, stage.options.seconds);
    stage.receiver.reset(GROUP, task.first).await?;
    stage.flush().await?;
    let counted = stage.server.counters().await?;
    let (lagging, before) = (stage.database.lagging().await?, stage.reading().await?);
    let outcome = stage.publish(&task).await?;
    let expected = outcome.acknowledged * plan.subscribers;
    let arrived = stage.receiver.expect(GROUP, expected, PATIENCE).await?;
    // What is counted for an event includes that its outcome is recorded.
    pause(Duration::from_secs(1)).await;
    let used = stage.reading().await?.since(before);
    // What is not settled by now would be sent again when its lease is over.
    let pending = stage.database.pending().await?;
    let duplicates = stage.receiver.report(GROUP).await?.duplicates;
    let arrived = GroupReport { duplicates, ..arrived };

    rates(report, &outcome, &arrived, ceiling.as_ref());
    counts(report, &outcome, &arrived, expected).count("deliveries_unsettled", pending);
    report
        .section("latency")
        .latencies("publish", &outcome.latencies)
        .latencies("publish_to_callback", &arrived.latencies);
    cost(report, stage.options.database, &outcome, used);
    own_counters(report, &outcome, &counted, &stage.server.counters().await?);
    memory(report, stage);
    database(report, stage, &outcome, used, lagging).await
}

async fn ceiling(stage: &Stage, plan: &Plan) -> Result<Option<ceiling::Ceiling>, Failure> {
    // There is nothing to compare where the rate is given.
    if stage.options.ceiling.is_zero() || matches!(plan.shape, Shape::OpenLoop { .. }) {
        return Ok(None);
    }
    let url = stage.receiver.url("ceiling", 0);
    let task = ceiling::Task { url, bytes: plan.data.average()?, time: stage.options.ceiling };
    ceiling::measure(&task).await.map(Some)
}

fn rates(report: &mut Report, outcome: &Outcome, arrived: &GroupReport, ceiling: Option<&ceiling::Ceiling>) {
    let publishing = crate::clock::seconds(outcome.begun_at, outcome.acknowledged_at);
    let delivering = crate::clock::seconds(outcome.begun_at, arrived.last_at);
    let deliveries = rate(arrived.unique, delivering);
    let section = report.section("rates");
    section
        .number("events_acknowledged_per_second", rate(outcome.acknowledged, publishing))
        .number("deliveries_per_second", deliveries)
        .number("seconds_from_first_publish_to_last_delivery", delivering);
    if let Some(ceiling) = ceiling {
        let bare = rate(ceiling.requests, ceiling.seconds);
        section
            .number("bare_http_client_per_second", bare)
            .number("bare_http_client_cpu_us_per_request", per(ceiling.cpu, ceiling.requests))
            .number("deliveries_to_bare_http_client", deliveries.zip(bare).map(|(ours, bare)| ours / bare));
    }
}

fn counts<'a>(
    report: &'a mut Report,
    outcome: &Outcome,
    arrived: &GroupReport,
    expected: u64,
) -> &'a mut Section {
    let section = report.section("counts");
    if let Some(failure) = &outcome.first_failure {
        section.text("first_failure", failure);
    }
    section
        .count("events_acknowledged", outcome.acknowledged)
        .count("events_failed", outcome.failed)
        .count("deliveries_unique", arrived.unique)
        .count("deliveries_duplicate", arrived.duplicates)
        .count("deliveries_missing", expected.saturating_sub(arrived.unique))
        .count("deliveries_stale", arrived.stale)
        .count("peak_in_flight", arrived.peak_in_flight)
}

fn cost(report: &mut Report, kind: Kind, outcome: &Outcome, used: Reading) {
    let events = outcome.acknowledged;
    // SQLite has no processes; those of a PostgreSQL elsewhere are not known.
    let ours = match kind {
        Kind::Sqlite => Some(used.server),
        Kind::Postgres => used.database.map(|database| database + used.server),
    };
    report
        .section("CPU microseconds per event")
        .number("server", per(used.server, events))
        .number("database", used.database.and_then(|cpu| per(cpu, events)))
        .number("server_and_database", ours.and_then(|cpu| per(cpu, events)))
        .number("receiver", per(used.receiver, events))
        .number("load", per(outcome.cpu, events));
    report
        .section("CPU percent of a core")
        .number("server", percent_of_a_core(used.server, used.seconds()))
        .number("database", used.database.and_then(|cpu| percent_of_a_core(cpu, used.seconds())))
        // Where this is much, figures are too high or too low.
        .number(
            "everything_else_on_the_machine",
            percent_of_a_core(used.others(outcome.cpu), used.seconds()),
        );
}

#[expect(clippy::cast_precision_loss, reason = "three digits are read")]
fn own_counters(report: &mut Report, outcome: &Outcome, before: &Counters, after: &Counters) {
    let section = report.section("server's own counters per event");
    for (name, count) in added(before, after) {
        section.number(&name, count / outcome.acknowledged as f64);
    }
}

/// The server's own counters that have changed, and by how much.
pub(crate) fn added(before: &Counters, after: &Counters) -> Vec<(String, f64)> {
    let change =
        |(name, value): (&String, &f64)| (name.clone(), value - before.get(name).copied().unwrap_or(0.0));
    after.iter().map(change).filter(|(_, count)| *count > 0.0).collect()
}

/// The server's memory.
pub(crate) fn memory(report: &mut Report, stage: &Stage) {
    let pid = stage.server.pid();
    let warnings = stage.server.warnings();
    let section = report.section("server");
    section
        .mebibytes("memory_peak_mib", usage::peak_memory(pid))
        .mebibytes("memory_at_the_end_mib", usage::memory(pid))
        .count("warnings_logged", warnings.count);
    for warning in &warnings.last {
        section.text("warning", warning);
    }
}

async fn database(
    report: &mut Report,
    stage: &mut Stage,
    outcome: &Outcome,
    used: Reading,
    lagging: Lagging,
) -> Result<(), Failure> {
    let events = outcome.acknowledged;
    let counted = used.counters;
    let section = report.section("database per event");
    let each = |count: Option<u64>| count.and_then(|count| per(count, events));
    section
        .number("statements", each(counted.statements))
        .number("rows", each(counted.rows))
        .number("write_transactions", each(counted.writes))
        .number("wal_bytes", each(counted.wal));
    if stage.options.database == Kind::Sqlite {
        section.number("bytes_written_by_server", per(used.written, events));
        return Ok(());
    }
    // Connections that end report what they have counted.
    stage.server.stop().await?;
    let lagging = stage.database.lagging().await?.since(lagging);
    section.number("transactions", each(lagging.commits)).number("wal_flushes", each(lagging.syncs));
    Ok(())
}
