//! Reading events. Publishing them is in `publish`.

use postrider_proto::v1::{self as pb, event_service_client::EventServiceClient};
use tonic::transport::Channel;

use crate::{
    Client, FieldViolation, List, Page, Result,
    client::{MAX_ANSWER_BYTES, Repeat},
    convert,
    list::{PageFuture, Query},
    model::{Event, Explained, Explanation, StoredEvent},
};

/// What was published. Made by [`Client::events`].
#[derive(Debug, Clone)]
pub struct Events {
    client: Client,
}

impl Events {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Returns an event, given by its name or id, with its data as long as that is kept.
    ///
    /// ```no_run
    /// # async fn example(client: postrider_sdk::Client, published: postrider_sdk::Published) -> postrider_sdk::Result<()> {
    /// let event = client.events().get(&published.event).await?;
    /// println!("{} of {}", event.event_type, event.created_at);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get(&self, event: impl Into<String>) -> Result<StoredEvent> {
        let request = pb::GetEventRequest { name: self.client.name("events", event) };
        let answer = self
            .client
            .call(Repeat::Safe, request, async |channel, request| rpc(channel).get_event(request).await)
            .await?;
        convert::event::stored(answer.event)
    }

    /// Says which subscriptions would get an event if it was published now, why the others would not, and whether the catalogue of event
    /// types would let it be published. Publishes nothing.
    ///
    /// ```no_run
    /// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
    /// use postrider_sdk::Event;
    ///
    /// let event = Event::new("order.created").attribute("region", "eu");
    /// let explained = client.events().explain(event).await?;
    /// for violation in explained.violations {
    ///     println!("would be refused: {}: {}", violation.field, violation.description);
    /// }
    /// for explanation in explained.subscriptions {
    ///     println!("{}: {:?}", explanation.subscription, explanation.verdict);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn explain(&self, event: Event) -> Result<Explained> {
        self.explanations(pb::explain_event_request::Subject::Event(event.message)).await
    }

    /// Says the same of an event that was published, given by its name or id, with the subscriptions and the catalogue of today.
    ///
    /// ```no_run
    /// # async fn example(client: postrider_sdk::Client, published: postrider_sdk::Published) -> postrider_sdk::Result<()> {
    /// let explained = client.events().explain_published(&published.event).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn explain_published(&self, event: impl Into<String>) -> Result<Explained> {
        let name = self.client.name("events", event);
        self.explanations(pb::explain_event_request::Subject::EventName(name)).await
    }

    async fn explanations(&self, subject: pb::explain_event_request::Subject) -> Result<Explained> {
        let mut request = pb::ExplainEventRequest {
            parent: self.client.parent(),
            subject: Some(subject),
            page_size: 1_000,
            page_token: String::new(),
        };
        let mut explained = Explained { violations: Vec::new(), subscriptions: Vec::new() };
        loop {
            let page = self
                .client
                .call(Repeat::Safe, request.clone(), async |channel, request| {
                    rpc(channel).explain_event(request).await
                })
                .await?;
            // The same on every page, of which the last is the latest.
            explained.violations = page.violations.into_iter().map(FieldViolation::from_pb).collect();
            explained.subscriptions.extend(page.explanations.into_iter().map(Explanation::from_pb));
            if page.next_page_token.is_empty() {
                return Ok(explained);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Lists events without their data, newest first.
    pub fn list(&self) -> List<StoredEvent> {
        List::new(self.client.clone(), self.client.parent(), page)
    }
}

fn page(client: Client, query: Query) -> PageFuture<StoredEvent> {
    let request = pb::ListEventsRequest {
        parent: query.parent,
        page_size: query.page_size,
        page_token: query.page_token,
        r#type: query.event_type,
        request_id: query.request_id,
        create_time_from: query.created_from.map(convert::time::to_pb),
        create_time_until: query.created_until.map(convert::time::to_pb),
    };
    Box::pin(async move {
        let answer = client
            .call(Repeat::Safe, request, async |channel, request| rpc(channel).list_events(request).await)
            .await?;
        let events = answer.events.into_iter().map(|event| convert::event::stored(Some(event)));
        Ok(Page::new(events.collect::<Result<_>>()?, answer.next_page_token))
    })
}

pub(crate) fn rpc(channel: Channel) -> EventServiceClient<Channel> {
    EventServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES)
}
