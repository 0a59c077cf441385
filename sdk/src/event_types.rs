//! The catalogue of event types.

use postrider_proto::v1::{self as pb, event_type_service_client::EventTypeServiceClient};
use tonic::transport::Channel;

use crate::{
    Client, List, Page, Result,
    client::{MAX_ANSWER_BYTES, Repeat},
    convert,
    list::{PageFuture, Query},
    model::{EventType, NewEventType},
};

pub use self::update::UpdateEventType;

mod update;

/// The catalogue of event types, one for all tenants. Made by [`Client::event_types`].
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
/// use postrider_sdk::model::EventType;
///
/// let schema = r#"{"type": "object", "required": ["id"]}"#;
/// client.event_types().create(EventType::named("order.created").schema(1, schema).enforce(true)).await?;
/// client.event_types().update("order.created").deprecated(true).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct EventTypes {
    client: Client,
}

impl EventTypes {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Puts a type into the catalogue. Not tried again by itself.
    pub async fn create(&self, new: NewEventType) -> Result<EventType> {
        let request = pb::CreateEventTypeRequest { event_type: Some(new.message), event_type_id: new.id };
        let answer = self
            .client
            .call(Repeat::Never, request, async |channel, request| {
                rpc(channel).create_event_type(request).await
            })
            .await?;
        convert::event_type::event_type(answer.event_type)
    }

    /// Returns a type: `order.created`.
    pub async fn get(&self, event_type: impl Into<String>) -> Result<EventType> {
        let request = pb::GetEventTypeRequest { name: name(event_type.into()) };
        let answer = self
            .client
            .call(Repeat::Safe, request, async |channel, request| rpc(channel).get_event_type(request).await)
            .await?;
        convert::event_type::event_type(answer.event_type)
    }

    /// Lists the types, newest first, archived ones as well.
    pub fn list(&self) -> List<EventType> {
        List::new(self.client.clone(), String::new(), page)
    }

    /// Begins a change of a type.
    pub fn update(&self, event_type: impl Into<String>) -> UpdateEventType {
        UpdateEventType::new(self.client.clone(), name(event_type.into()))
    }

    /// Archives a type: its events are refused from now on.
    pub async fn archive(&self, event_type: impl Into<String>) -> Result<EventType> {
        let request = pb::ArchiveEventTypeRequest { name: name(event_type.into()) };
        let answer = self
            .client
            .call(Repeat::Safe, request, async |channel, request| {
                rpc(channel).archive_event_type(request).await
            })
            .await?;
        convert::event_type::event_type(answer.event_type)
    }

    /// Takes the archiving of a type back.
    pub async fn unarchive(&self, event_type: impl Into<String>) -> Result<EventType> {
        let request = pb::UnarchiveEventTypeRequest { name: name(event_type.into()) };
        let answer = self
            .client
            .call(Repeat::Safe, request, async |channel, request| {
                rpc(channel).unarchive_event_type(request).await
            })
            .await?;
        convert::event_type::event_type(answer.event_type)
    }

    /// Takes a type out of the catalogue. Not tried again by itself.
    pub async fn delete(&self, event_type: impl Into<String>) -> Result<()> {
        let request = pb::DeleteEventTypeRequest { name: name(event_type.into()), etag: String::new() };
        self.client
            .call(Repeat::Never, request, async |channel, request| {
                rpc(channel).delete_event_type(request).await
            })
            .await?;
        Ok(())
    }
}

fn name(event_type: String) -> String {
    if event_type.starts_with("eventTypes/") { event_type } else { format!("eventTypes/{event_type}") }
}

fn page(client: Client, query: Query) -> PageFuture<EventType> {
    let request = pb::ListEventTypesRequest { page_size: query.page_size, page_token: query.page_token };
    Box::pin(async move {
        let answer = client
            .call(Repeat::Safe, request, async |channel, request| {
                rpc(channel).list_event_types(request).await
            })
            .await?;
        let types = answer.event_types.into_iter().map(|one| convert::event_type::event_type(Some(one)));
        Ok(Page::new(types.collect::<Result<_>>()?, answer.next_page_token))
    })
}

pub(crate) fn rpc(channel: Channel) -> EventTypeServiceClient<Channel> {
    EventTypeServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES)
}
