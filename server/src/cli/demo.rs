//! `postrider demo`: everything real and on this machine, for a few seconds.
//!
//! A server on an embedded database in a temporary folder, a receiver on loopback that verifies every signature with the SDK, and
//! events published through the SDK. This is the one place of the server that uses the SDK, as its user would.

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use humantime_serde::Serde;
use postrider_sdk::{Client, Event, Subscription, model::DeliveryState, verify::Verifier};
use postrider_server::{
    app::{App, Running, World},
    clock::SystemClock,
    config::Config,
    telemetry,
};

mod events;
mod receiver;
mod report;

use receiver::{Behaviour, Receiver};
use report::{Arrivals, Row};

/// The pauses between attempts; the real ones would take three days.
const SCHEDULE: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_millis(700), Duration::from_secs(2)];
/// How long the demo waits for deliveries to end.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Events to publish instead of the built-in ones: a JSONL file of `{"type": "…", "data": …}`.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// Who receives, and how it behaves.
const RECEIVERS: [(&str, Behaviour, &str); 3] = [
    ("steady", Behaviour::Accept, "accepts at once"),
    ("flaky", Behaviour::FailTwice, "answers 503 twice, then accepts"),
    ("gone", Behaviour::Gone, "answers 410 Gone"),
];

#[expect(clippy::print_stdout, reason = "what the demo is for")]
pub(super) async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let events = match &options.events {
        Some(file) => events::read(file)?,
        None => events::built_in(),
    };
    let telemetry =
        telemetry::init(&telemetry::Config { filter: "warn".to_owned(), ..telemetry::Config::default() })?;
    let folder = tempfile::tempdir()?;
    let (running, url) = server(folder.path().to_owned()).await?;
    let receiver = Receiver::start().await?;
    let client = Client::connect(&url).await?;

    println!("server    gRPC on {url}, SQLite in a temporary folder");
    println!("receiver  on {}, verifies every signature with the SDK", receiver.url(""));
    println!("retries   after 0.3 s, 0.7 s and 2 s, for the demo; the default is 10 attempts in 75 hours\n");
    for (id, behaviour, does) in RECEIVERS {
        let target = receiver.url(id);
        let created =
            client.subscriptions().create(Subscription::to(&target).event_types(["**"]).id(id)).await?;
        receiver.expect(id, behaviour, Verifier::new([created.secret.expose()])?);
        println!("subscribed {id:<7} {target:<33} {does}");
    }

    println!("\npublishing {} events\n", events.len());
    let mut published = Vec::with_capacity(events.len());
    for demo_event in events {
        let event = Event::new(&demo_event.event_type).data(demo_event.data, "application/json");
        let sent_at = std::time::Instant::now();
        let stored = client.publish(event).await?;
        published.push((demo_event.event_type, stored.event_id().to_owned(), sent_at));
    }

    let deliveries = ended_deliveries(&client).await?;
    let arrivals = receiver.arrivals();
    let mut rows = Vec::with_capacity(deliveries.len());
    for (event_type, event, sent_at) in &published {
        for delivery in deliveries.iter().filter(|delivery| delivery.event.ends_with(event.as_str())) {
            let attempts = client.deliveries().attempts(&delivery.name).items().collect().await?;
            rows.push(Row::new(event_type, delivery, &attempts, *sent_at, &arrivals));
        }
    }
    report::print(&rows);
    let Arrivals { verified, refused, .. } = arrivals;
    println!("\n{verified} callbacks arrived with a good signature, {refused} with a bad one");
    let gone = client.subscriptions().get("gone").await?;
    println!("the subscription `gone` is now {:?}", gone.state);

    drop(client);
    running.drain().await;
    telemetry.flush();
    if refused > 0 {
        return Err("a signature did not verify".into());
    }
    Ok(())
}

async fn server(folder: PathBuf) -> Result<(Running, String), Box<dyn Error>> {
    let mut config = Config::default();
    config.data.dir = folder;
    config.grpc.listen.set_port(0);
    config.http.listen.set_port(0);
    // What a real server refuses: the demo's receiver is on this machine and speaks plain HTTP.
    config.sender.allow_http = true;
    config.sender.allowed_networks = vec!["127.0.0.0/8".parse()?];
    config.retry.schedule = SCHEDULE.into_iter().map(Serde::from).collect();
    let world = World::bind(&config, Arc::new(SystemClock)).await?;
    let url = format!("http://{}", world.grpc.local_addr()?);
    Ok((App::build(config, world).await?.start().await?, url))
}

/// Waits until no delivery is pending, and returns all of them.
async fn ended_deliveries(client: &Client) -> Result<Vec<postrider_sdk::model::Delivery>, Box<dyn Error>> {
    let deliveries = client.deliveries();
    let begun = std::time::Instant::now();
    loop {
        let pending = deliveries.list().state(DeliveryState::Pending).page_size(1).page().await?;
        if pending.items.is_empty() {
            return Ok(deliveries.list().page_size(1_000).items().collect().await?);
        }
        if begun.elapsed() > PATIENCE {
            return Err("deliveries are still pending after a minute".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
