//! Publishes an event, finds it again, and shows where it goes: `publish [URL]`.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::error::Error;

use postrider_sdk::{Client, Event};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:50051".to_owned())).await
}

pub(crate) async fn run(url: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(url).await?;

    let order = json!({"id": 17, "total": 42});
    let published = client.publish(Event::new("order.created").source("shop").json(&order)?).await?;
    println!("published {}, for {} subscriptions", published.event, published.delivery_count);

    let event = client.events().get(&published.event).await?;
    println!("stored at {} with {} bytes of data", event.created_at, event.data.len());

    let mut deliveries = client.deliveries().list().event(&published.event).items();
    while let Some(delivery) = deliveries.next().await? {
        println!("{} is {:?}", delivery.subscription, delivery.state);
    }

    // Many at once, with an answer for each.
    let events = (1..=100).map(|n| Event::new("order.counted").subject(n.to_string()));
    for result in client.publish_batch(events).await {
        result?;
    }
    println!("published 100 more");
    Ok(())
}
