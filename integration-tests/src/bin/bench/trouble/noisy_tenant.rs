//! Two tenants, one of which publishes a hundred times what the other does.

use std::time::Duration;

use clap::Args;

use super::healthy::Healthy;
use crate::{
    Failure, clock,
    load::{Load, Shape, Until},
    options::Common,
    report::{Report, rate},
    stage::{Stage, pause},
    throughput::memory,
};

const NOISY: &str = "noisy";
/// How long the noise goes on before it counts.
const BEFORE: Duration = Duration::from_secs(2);

/// How it is to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Events in a second of the quiet tenant.
    #[arg(long, default_value = "50")]
    rate: f64,
    /// Events in a second of the noisy one.
    #[arg(long, default_value = "5000")]
    noise: f64,
}

/// Runs it.
pub(crate) async fn run(how: &Options, options: &Common, report: &mut Report) -> Result<(), Failure> {
    let stage = Stage::set(options, &[]).await?;
    let measured = measure(how, &stage, report).await;
    measured.and(stage.strike().await)
}

async fn measure(how: &Options, stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let time = stage.options.seconds;
    let quiet = Healthy::begin("quiet", how.rate, stage).await?;
    stage.subscribe(NOISY, NOISY, stage.receiver.url(NOISY, 0), "**").await?;
    let without = quiet.measure(stage, time).await?;
    without.tell("without", report);

    let shape = Shape::OpenLoop { rate: how.noise };
    let noise = Load::start(&stage.task(NOISY, "bench.noisy", shape, Until::time(time + BEFORE * 2)))?;
    pause(BEFORE).await;
    let with = quiet.measure(stage, time).await?;
    let arrived = stage.receiver.report(NOISY).await?;
    let noise = noise.done().await?;
    with.tell("with the noise", report);

    report
        .section("noise")
        .number(
            "events_acknowledged_per_second",
            rate(noise.acknowledged, clock::seconds(noise.begun_at, noise.acknowledged_at)),
        )
        .number(
            "deliveries_per_second",
            rate(arrived.unique, clock::seconds(arrived.first_at, arrived.last_at)),
        )
        .latencies("publish", &noise.latencies)
        .latencies("publish_to_callback", &arrived.latencies)
        .count("events_failed", noise.failed);
    with.compare(&without, "noise to without", report);
    memory(report, stage);
    Ok(())
}
