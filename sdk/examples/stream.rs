//! Publishes a thousand events over a stream, with at most a hundred of them on their way: `stream [URL]`.

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
    let publisher = client.publisher().with_max_in_flight(100);

    let mut acks = Vec::new();
    for reading in 0..1_000 {
        let event = Event::new("meter.read").json(&json!({"reading": reading}))?;
        // Waits while a hundred events are without an answer.
        acks.push(publisher.publish(event).await?);
    }
    for ack in acks {
        ack.await?;
    }
    publisher.close().await?;
    println!("published 1000 events");
    Ok(())
}
