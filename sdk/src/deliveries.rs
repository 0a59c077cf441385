//! Deliveries: what became of events, and the two things that can be done about it.

use postrider_proto::v1::{self as pb, delivery_service_client::DeliveryServiceClient};
use tonic::transport::Channel;

use crate::{
    Client, List, Page, Result,
    client::{MAX_ANSWER_BYTES, Repeat},
    convert,
    list::{PageFuture, Query},
    model::{Attempt, Delivery},
};

/// What became of events. Made by [`Client::deliveries`]. A delivery is given by its name or id.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client, event: &str) -> postrider_sdk::Result<()> {
/// let mut deliveries = client.deliveries().list().event(event).items();
/// while let Some(delivery) = deliveries.next().await? {
///     println!("{} {:?}", delivery.subscription, delivery.state);
///     for attempt in client.deliveries().attempts(&delivery.name).items().collect().await? {
///         println!("  attempt {}: {:?}", attempt.number, attempt.outcome);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Deliveries {
    client: Client,
}

impl Deliveries {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Returns a delivery.
    pub async fn get(&self, delivery: impl Into<String>) -> Result<Delivery> {
        let request = pb::GetDeliveryRequest { name: self.name(delivery) };
        let answer = self
            .client
            .call(Repeat::Safe, request, async |channel, request| rpc(channel).get_delivery(request).await)
            .await?;
        convert::delivery::delivery(answer.delivery)
    }

    /// Lists deliveries, newest first.
    pub fn list(&self) -> List<Delivery> {
        List::new(self.client.clone(), self.client.parent(), page_of_deliveries)
    }

    /// Lists the attempts of a delivery, oldest first.
    pub fn attempts(&self, delivery: impl Into<String>) -> List<Attempt> {
        List::new(self.client.clone(), self.name(delivery), page_of_attempts)
    }

    /// Makes a delivery due now: one that waits for its next attempt, or one that has ended. Fails with
    /// [`is_failed_precondition`](crate::Error::is_failed_precondition) if an attempt is under way, the subscription is
    /// disabled or deleted, or the event's data is no longer kept. Not tried again by itself.
    pub async fn redeliver(&self, delivery: impl Into<String>) -> Result<Delivery> {
        let request = pb::RedeliverDeliveryRequest { name: self.name(delivery) };
        let answer = self
            .client
            .call(Repeat::Never, request, async |channel, request| {
                rpc(channel).redeliver_delivery(request).await
            })
            .await?;
        convert::delivery::delivery(answer.delivery)
    }

    /// Calls off a pending delivery. An attempt that is under way is finished and recorded and changes nothing.
    pub async fn cancel(&self, delivery: impl Into<String>) -> Result<Delivery> {
        let request = pb::CancelDeliveryRequest { name: self.name(delivery) };
        let answer = self
            .client
            .call(Repeat::Safe, request, async |channel, request| rpc(channel).cancel_delivery(request).await)
            .await?;
        convert::delivery::delivery(answer.delivery)
    }

    fn name(&self, delivery: impl Into<String>) -> String {
        self.client.name("deliveries", delivery)
    }
}

fn page_of_deliveries(client: Client, query: Query) -> PageFuture<Delivery> {
    let request = pb::ListDeliveriesRequest {
        parent: query.parent,
        page_size: query.page_size,
        page_token: query.page_token,
        event: query.event,
        subscription: query.subscription,
        state: convert::delivery::state_to_pb(query.state),
        create_time_from: query.created_from.map(convert::time::to_pb),
        create_time_until: query.created_until.map(convert::time::to_pb),
    };
    Box::pin(async move {
        let answer = client
            .call(Repeat::Safe, request, async |channel, request| rpc(channel).list_deliveries(request).await)
            .await?;
        let deliveries = answer.deliveries.into_iter().map(|it| convert::delivery::delivery(Some(it)));
        Ok(Page::new(deliveries.collect::<Result<_>>()?, answer.next_page_token))
    })
}

fn page_of_attempts(client: Client, query: Query) -> PageFuture<Attempt> {
    let request = pb::ListAttemptsRequest {
        parent: query.parent,
        page_size: query.page_size,
        page_token: query.page_token,
    };
    Box::pin(async move {
        let answer = client
            .call(Repeat::Safe, request, async |channel, request| rpc(channel).list_attempts(request).await)
            .await?;
        let attempts = answer.attempts.into_iter().map(convert::delivery::attempt);
        Ok(Page::new(attempts.collect::<Result<_>>()?, answer.next_page_token))
    })
}

fn rpc(channel: Channel) -> DeliveryServiceClient<Channel> {
    DeliveryServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES)
}
