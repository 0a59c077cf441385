//! Many events a call, a fixed number of callers.

use std::sync::Arc;

use postrider_proto::v1::PublishEventsRequest;
use tokio::task::JoinSet;

use super::{Client, Producer, unary::PAUSE};
use crate::clock;

pub(super) async fn run(producer: &Arc<Producer>, clients: &[Client], size: usize, in_flight: usize) {
    let mut callers = JoinSet::new();
    for client in clients.iter().cycle().take(in_flight) {
        callers.spawn(call(Arc::clone(producer), client.clone(), size));
    }
    callers.join_all().await;
}

async fn call(producer: Arc<Producer>, mut client: Client, size: usize) {
    loop {
        let now = clock::now();
        let numbers = std::iter::from_fn(|| producer.sequence.take()).take(size);
        let items: Vec<_> = numbers.map(|number| producer.events.item(number, now)).collect();
        let count = items.len();
        if count == 0 {
            return;
        }
        let request = PublishEventsRequest { parent: producer.events.parent(), items };
        match client.publish_events(request).await {
            Ok(answer) => {
                for result in answer.into_inner().results {
                    producer.tally.answered(now, Some(result));
                }
            }
            Err(status) => {
                producer.tally.failed(count, status);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
