//! The life of a subscription, from its creation to its end: `manage_subscriptions [URL]`.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::error::Error;

use postrider_sdk::{
    Client, Subscription,
    model::{Health, RateLimit},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:50051".to_owned())).await
}

pub(crate) async fn run(url: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(url).await?;
    let subscriptions = client.subscriptions();

    let new = Subscription::to("https://example.com/hooks").event_types(["order.*"]).description("the shop");
    let created = subscriptions.create(new).await?;
    let name = created.subscription.name;
    println!("created {name}");

    // Nobody overwrites what somebody else changed in between.
    let current = subscriptions.get(&name).await?;
    subscriptions.update(&name).event_types(["order.**", "invoice.*"]).etag(current.etag).await?;

    // A receiver that can take ten a second, two of them at once.
    subscriptions.update(&name).rate_limit(RateLimit::per_second(10.0)).max_in_flight(2).await?;
    if let Health::Blocked { reason, next_probe_at, .. } = subscriptions.get(&name).await?.health {
        println!("nothing is sent: {reason}; the next probe is due at {next_probe_at:?}");
    }

    // Events are kept while it is paused.
    subscriptions.pause(&name).await?;
    let sent = subscriptions.send_test_event(&name).await?;
    println!("{}: {}", sent.summary, sent.delivery);
    client.deliveries().cancel(&sent.delivery).await?;
    subscriptions.resume(&name).await?;

    let mut all = subscriptions.list().items();
    while let Some(subscription) = all.next().await? {
        println!("{} -> {} ({:?})", subscription.name, subscription.target_url, subscription.state);
    }

    subscriptions.delete(&name).await?;
    match subscriptions.get(&name).await {
        Err(error) if error.is_not_found() => println!("deleted {name}"),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("the subscription is still there".into()),
    }
    Ok(())
}
