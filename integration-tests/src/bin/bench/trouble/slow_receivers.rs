//! Many subscriptions whose receivers take their time, with a trickle of events for them.

use std::time::Duration;

use clap::Args;

use super::healthy::Healthy;
use crate::{
    Failure,
    load::{Load, Shape, Task, Until},
    options::{Common, seconds},
    receiver::Behaviour,
    report::Report,
    stage::{Stage, pause},
    throughput::memory,
};

const SLOW: &str = "slow";

/// How it is to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Slow subscriptions.
    #[arg(long, default_value = "1000")]
    slow: u64,
    /// How long their receivers take.
    #[arg(long, default_value = "10", value_parser = seconds)]
    delay: Duration,
    /// Events in a second for all of them together.
    #[arg(long, default_value = "100")]
    trickle: f64,
    /// Events in a second for the healthy subscription.
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
    let each = |index| (stage.receiver.url(SLOW, index), format!("bench.slow.s{index}"));
    stage.subscribe_many(SLOW, how.slow, each).await?;
    stage.receiver.behave(SLOW, Behaviour::AnswerAfter(how.delay)).await?;
    let without = healthy.measure(stage, time).await?;
    without.tell("without", report);

    let shape = Shape::OpenLoop { rate: how.trickle };
    // What is slow is at its worst once the first answers come.
    let before = how.delay + Duration::from_secs(2);
    let task = stage.task(SLOW, "bench.slow", shape, Until::time(before + time + Duration::from_secs(1)));
    let trickle = Load::start(&Task { spread: how.slow, ..task })?;
    pause(before).await;
    let with = healthy.measure(stage, time).await?;
    let arrived = stage.receiver.report(SLOW).await?;
    let trickle = trickle.done().await?;
    with.tell("with the slow receivers", report);

    report
        .section("slow receivers")
        .count("subscriptions", how.slow)
        .count("events_acknowledged", trickle.acknowledged)
        .count("events_failed", trickle.failed)
        .count("deliveries_begun", arrived.unique)
        .count("peak_in_flight", arrived.peak_in_flight)
        .latencies("publish_to_callback", &arrived.latencies);
    with.compare(&without, "slow receivers to without", report);
    memory(report, stage);
    Ok(())
}
