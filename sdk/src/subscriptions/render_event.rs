//! Seeing what would be sent.

use std::pin::Pin;

use postrider_proto::v1::{self as pb, render_event_request::Content};

use super::rpc;
use crate::{
    Client, Event, Result,
    client::Repeat,
    model::{Header, RenderedEvent, TemplateError},
};

/// The request that an event would be sent with, made when it is awaited. Begun by
/// [`Subscriptions::render_event`](crate::Subscriptions::render_event) and
/// [`Subscriptions::render_event_for`](crate::Subscriptions::render_event_for). Nothing is stored or sent.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
/// use postrider_sdk::{Event, Subscription, model::Format};
///
/// let new = Subscription::to("https://example.com/hooks").event_types(["**"]).format(Format::template("{{ data.id }}"));
/// let event = Event::new("order.created").json(&serde_json::json!({"id": 17}))?;
/// let rendered = client.subscriptions().render_event_for(new).event(event).await?;
/// if let Some(error) = rendered.template_error {
///     println!("line {}, column {}: {}", error.line, error.column, error.message);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is rendered until this is awaited"]
pub struct RenderEvent {
    client: Client,
    request: pb::RenderEventRequest,
}

impl RenderEvent {
    pub(super) fn new(client: Client, receiver: pb::render_event_request::Receiver) -> Self {
        let parent = client.parent();
        Self { client, request: pb::RenderEventRequest { parent, receiver: Some(receiver), content: None } }
    }

    /// An event that need not exist; one as test events are if not set.
    pub fn event(mut self, event: Event) -> Self {
        self.request.content = event.into_item().event.map(Content::Event);
        self
    }

    /// An event that was published, by its name or id.
    pub fn stored_event(mut self, event: impl Into<String>) -> Self {
        self.request.content = Some(Content::EventName(self.client.name("events", event)));
        self
    }
}

impl IntoFuture for RenderEvent {
    type Output = Result<RenderedEvent>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer = self
                .client
                .call(Repeat::Safe, self.request, async |channel, request| {
                    rpc(channel).render_event(request).await
                })
                .await?;
            let header = |header: pb::Header| Header { name: header.name, value: header.value };
            let number = |number| u32::try_from(number).unwrap_or(0);
            Ok(RenderedEvent {
                method: answer.method,
                target_url: answer.target_url,
                headers: answer.headers.into_iter().map(header).collect(),
                body: answer.body,
                template_error: answer.template_error.map(|error| TemplateError {
                    message: error.message,
                    line: number(error.line),
                    column: number(error.column),
                }),
            })
        })
    }
}
