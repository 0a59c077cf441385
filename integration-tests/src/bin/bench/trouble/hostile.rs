//! Receivers that mean harm: what they cost the server in memory and a healthy subscription in time.

mod receivers;

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use postrider_proto::v1::{
    Attempt, AttemptFailure, AttemptOutcome, ListAttemptsRequest, ListDeliveriesRequest,
    delivery_service_client::DeliveryServiceClient,
};
use tonic::transport::Endpoint;

pub(crate) use self::receivers::serve;
use super::healthy::Healthy;
use crate::{
    Failure, clock,
    helper::Helper,
    load::{Shape, Task, Until},
    options::Common,
    report::{Report, percent_of_a_core},
    stage::Stage,
    throughput::{added, memory},
    usage,
};

const HOSTILE: &str = "hostile";
/// Short timeouts and retries, so that there is trouble as long as it is measured.
const SETTINGS: [(&str, &str); 3] = [
    ("POSTRIDER_SENDER_TIMEOUT", "3s"),
    ("POSTRIDER_SENDER_CONNECT_TIMEOUT", "1s"),
    ("POSTRIDER_RETRY_SCHEDULE", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"),
];

/// How it is to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Deliveries to each kind of receiver.
    #[arg(long, default_value = "20")]
    deliveries: u64,
    /// Events in a second for the healthy subscription.
    #[arg(long, default_value = "200")]
    rate: f64,
}

/// Runs it.
pub(crate) async fn run(how: &Options, options: &Common, report: &mut Report) -> Result<(), Failure> {
    let stage = Stage::set(options, &SETTINGS).await?;
    let measured = measure(how, &stage, report).await;
    measured.and(stage.strike().await)
}

async fn measure(how: &Options, stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let time = stage.options.seconds;
    let mut helper = Helper::start_nicely("hostile-receivers", &())?;
    let receivers: BTreeMap<String, String> = helper.says(Duration::from_secs(30)).await?;
    let names: Vec<_> = receivers.keys().cloned().collect();
    let healthy = Healthy::begin("healthy", how.rate, stage).await?;
    let kind = |index: u64| {
        let name = usize::try_from(index).ok().and_then(|index| names.get(index));
        let url = name.and_then(|name| receivers.get(name)).cloned();
        (url.unwrap_or_default(), format!("bench.hostile.s{index}"))
    };
    let kinds = names.len() as u64;
    stage.subscribe_many(HOSTILE, kinds, kind).await?;
    let without = healthy.measure(stage, time).await?;
    without.tell("without", report);
    let peak = usage::peak_memory(stage.server.pid());

    let counted = stage.server.counters().await?;
    let shape = Shape::Batch { size: 100, in_flight: 1 };
    let task = stage.task(HOSTILE, "bench.hostile", shape, Until::count(how.deliveries * kinds));
    let published = stage.publish(&Task { spread: kinds, ..task }).await?;
    let (begun, cpu) = (clock::now(), usage::cpu(helper.pid()));
    let with = healthy.measure(stage, time).await?;
    let cpu = percent_of_a_core(usage::cpu(helper.pid()) - cpu, clock::seconds(begun, clock::now()));
    with.tell("with hostile receivers", report);

    let section = report.section("hostile receivers");
    section
        .count("kinds", kinds)
        .count("deliveries", published.deliveries)
        // On the same machine: a healthy delivery waits for them, too.
        .number("their_cpu_percent_of_a_core", cpu)
        .mebibytes("server_memory_peak_before_mib", peak)
        .mebibytes("server_memory_peak_mib", usage::peak_memory(stage.server.pid()));
    for (name, count) in added(&counted, &stage.server.counters().await?) {
        section.number(&name, count);
    }
    let section = report.section("what the server made of them");
    for (index, name) in names.iter().enumerate() {
        let attempt = first_attempt(stage, index).await?;
        section.text(name, attempt.map_or_else(|| "no attempt recorded".to_owned(), |a| in_words(&a)));
    }
    with.compare(&without, "hostile receivers to without", report);
    memory(report, stage);
    Ok(())
}

/// The oldest attempt at a kind's oldest delivery: its breaker may have kept the later ones from being attempted.
async fn first_attempt(stage: &Stage, index: usize) -> Result<Option<Attempt>, Failure> {
    let channel = Endpoint::from_shared(stage.server.grpc.clone())?.connect().await?;
    let mut client = DeliveryServiceClient::new(channel);
    let deliveries = ListDeliveriesRequest {
        parent: format!("tenants/{HOSTILE}"),
        subscription: format!("tenants/{HOSTILE}/subscriptions/s{index}"),
        page_size: 1_000,
        ..ListDeliveriesRequest::default()
    };
    let deliveries = client.list_deliveries(deliveries).await?.into_inner().deliveries;
    let Some(delivery) = deliveries.into_iter().next_back() else { return Ok(None) };
    let attempts = ListAttemptsRequest { parent: delivery.name, page_size: 1, ..Default::default() };
    Ok(client.list_attempts(attempts).await?.into_inner().attempts.into_iter().next())
}

fn in_words(attempt: &Attempt) -> String {
    let words = match attempt.outcome() {
        AttemptOutcome::Failed => match attempt.failure() {
            AttemptFailure::Unspecified => "failed".to_owned(),
            failure => failure.as_str_name().trim_start_matches("ATTEMPT_FAILURE_").to_lowercase(),
        },
        _ => attempt.status_code.to_string(),
    };
    let took = attempt.total_duration.unwrap_or_default();
    format!("{words}, {:.1} s", Duration::try_from(took).unwrap_or_default().as_secs_f64())
}
