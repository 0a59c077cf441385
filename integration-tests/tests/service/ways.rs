//! The three ways to publish.

use postrider_sdk::{Client, Event, Published, Result};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `PublishEvent`.
    One,
    /// `PublishEvents`.
    Batch,
    /// `PublishEventStream`.
    Stream,
}

impl Way {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::One, Self::Batch, Self::Stream];

    /// Publishes one event.
    pub(crate) async fn publish(self, client: &Client, event: Event) -> Result<Published> {
        self.publish_all(client, [event]).await.remove(0)
    }

    /// Publishes several events, in their order.
    pub(crate) async fn publish_all(
        self,
        client: &Client,
        events: impl IntoIterator<Item = Event>,
    ) -> Vec<Result<Published>> {
        let mut results = Vec::new();
        match self {
            Self::One => {
                for event in events {
                    results.push(client.publish(event).await);
                }
            }
            Self::Batch => results = client.publish_batch(events).await,
            Self::Stream => {
                let publisher = client.publisher();
                let mut acks = Vec::new();
                for event in events {
                    acks.push(publisher.publish(event).await.unwrap());
                }
                for ack in acks {
                    results.push(ack.await);
                }
                publisher.close().await.unwrap();
            }
        }
        results
    }
}
