//! One event for very many subscriptions of one tenant, while another publishes at its usual rate.

use std::time::Duration;

use clap::Args;

use super::healthy::Healthy;
use crate::{
    Failure, clock,
    load::{Outcome, Shape, Until},
    options::Common,
    receiver::GroupReport,
    report::{Report, rate},
    stage::{Stage, pause},
    throughput::memory,
};

const BIG: &str = "big";
const EVENT_TYPE: &str = "bench.big";
/// When the event is published, after the other tenant began.
const BEFORE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);

/// How it is to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Subscriptions that want the event.
    #[arg(long, default_value = "10000")]
    subscriptions: u64,
    /// Events for all of them, one after another.
    #[arg(long, default_value = "1")]
    events: u64,
    /// Whether they have an ordering key, all the same one.
    #[arg(long)]
    ordered: bool,
    /// Events in a second of the other tenant.
    #[arg(long, default_value = "200")]
    rate: f64,
}

/// Runs it.
pub(crate) async fn run(how: &Options, options: &Common, report: &mut Report) -> Result<(), Failure> {
    let stage = Stage::set(options, &[]).await?;
    let measured = measure(how, &stage, report).await;
    measured.and(stage.strike().await)
}

async fn measure(how: &Options, stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let time = stage.options.seconds;
    let healthy = Healthy::begin("healthy", how.rate, stage).await?;
    let begun = clock::now();
    let each = |index| (stage.receiver.url(BIG, index), EVENT_TYPE.to_owned());
    stage.subscribe_many(BIG, how.subscriptions, each).await?;
    let creating = clock::seconds(begun, clock::now());
    let without = healthy.measure(stage, time).await?;
    without.tell("without", report);

    let (with, big) = tokio::join!(healthy.measure(stage, time), fan_out(how, stage));
    let (with, (outcome, arrived)) = (with?, big?);
    with.tell("with the big event", report);

    let took = clock::seconds(outcome.begun_at, arrived.last_at);
    report
        .section("big event")
        .number("seconds_to_create_the_subscriptions", creating)
        .latencies("publish", &outcome.latencies)
        .number("seconds_to_the_last_delivery", took)
        .number("deliveries_per_second", rate(arrived.unique, took))
        .count("deliveries_unique", arrived.unique)
        .count("deliveries_missing", outcome.deliveries.saturating_sub(arrived.unique))
        .count("deliveries_duplicate", arrived.duplicates)
        .count("events_failed", outcome.failed);
    with.compare(&without, "big event to without", report);
    memory(report, stage);
    Ok(())
}

async fn fan_out(how: &Options, stage: &Stage) -> Result<(Outcome, GroupReport), Failure> {
    pause(BEFORE).await;
    let shape = Shape::Unary { concurrency: 1 };
    let mut task = stage.task(BIG, EVENT_TYPE, shape, Until::count(how.events));
    if how.ordered {
        task.ordering_keys = 1;
    }
    let outcome = stage.publish(&task).await?;
    let arrived = stage.receiver.expect(BIG, outcome.deliveries, PATIENCE).await?;
    Ok((outcome, arrived))
}
