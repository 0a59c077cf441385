//! One event a call, a fixed number of callers: each publishes the next event when the one before is acknowledged.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{Client, Producer};
use crate::clock;

/// How long a caller waits after a failure, lest it spin.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn run(producer: &Arc<Producer>, clients: &[Client], concurrency: usize) {
    let mut callers = JoinSet::new();
    for client in clients.iter().cycle().take(concurrency) {
        callers.spawn(call(Arc::clone(producer), client.clone()));
    }
    callers.join_all().await;
}

async fn call(producer: Arc<Producer>, mut client: Client) {
    while let Some(number) = producer.sequence.take() {
        let now = clock::now();
        if !publish(&producer, &mut client, number, now).await {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Publishes one event, counts what comes of it, and says whether it was acknowledged.
pub(super) async fn publish(producer: &Producer, client: &mut Client, number: u64, intended: u64) -> bool {
    match client.publish_event(producer.events.call(number, intended)).await {
        Ok(answer) => {
            let published = answer.into_inner().published.unwrap_or_default();
            producer.tally.acknowledged(intended, &published);
            true
        }
        Err(status) => {
            producer.tally.failed(1, status);
            false
        }
    }
}
