//! One stream, with so many events on it that are not answered yet.

use std::sync::Arc;

use postrider_proto::v1::PublishEventStreamRequest;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Client, Producer};
use crate::{Failure, clock};

pub(super) async fn run(
    producer: &Arc<Producer>,
    clients: &[Client],
    in_flight: usize,
) -> Result<(), Failure> {
    let mut client = clients.first().ok_or("no connection")?.clone();
    let room = Arc::new(Semaphore::new(in_flight));
    let (requests, stream) = mpsc::channel(in_flight);
    // Answers come in the order of the requests, so that their times can wait in line.
    let (times, mut waiting) = mpsc::unbounded_channel();
    let mut writer = JoinSet::new();
    writer.spawn(write(Arc::clone(producer), Arc::clone(&room), requests, times));

    let mut answers = client.publish_event_stream(ReceiverStream::new(stream)).await?.into_inner();
    let broken = loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                let intended = waiting.recv().await.ok_or("more answers than requests")?;
                producer.tally.answered(intended, answer.result);
                room.add_permits(1);
            }
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    writer.abort_all();
    while writer.join_next().await.is_some() {}
    waiting.close();
    let unanswered = waiting.len();
    if unanswered > 0 {
        let why = broken.map_or_else(|| "the stream ended".to_owned(), |status| status.to_string());
        producer.tally.failed(unanswered, why);
    }
    Ok(())
}

async fn write(
    producer: Arc<Producer>,
    room: Arc<Semaphore>,
    requests: mpsc::Sender<PublishEventStreamRequest>,
    times: mpsc::UnboundedSender<u64>,
) {
    loop {
        let Ok(permit) = room.acquire().await else { return };
        permit.forget();
        let Some(number) = producer.sequence.take() else { return };
        let now = clock::now();
        let request = PublishEventStreamRequest {
            parent: producer.events.parent(),
            item: Some(producer.events.item(number, now)),
        };
        if times.send(now).is_err() || requests.send(request).await.is_err() {
            return;
        }
    }
}
