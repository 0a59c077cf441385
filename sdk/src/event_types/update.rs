//! Changing a type: the setters that are called are the fields that change.

use std::{collections::BTreeMap, pin::Pin};

use postrider_proto::v1 as pb;

use super::rpc;
use crate::{
    Client, Result,
    client::Repeat,
    convert,
    model::{EventType, event_type_schema},
};

/// A change of an event type, made when it is awaited. Begun by [`EventTypes::update`](crate::EventTypes::update). Not tried again by itself.
///
/// ```no_run
/// # async fn example(client: postrider_sdk::Client) -> postrider_sdk::Result<()> {
/// let mut schemas = client.event_types().get("order.created").await?.schemas;
/// schemas.insert(2, r#"{"type": "object", "required": ["id", "total"]}"#.to_owned());
/// client.event_types().update("order.created").schemas(schemas).current_version(1).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing changes until this is awaited"]
pub struct UpdateEventType {
    client: Client,
    message: pb::EventType,
    mask: Vec<String>,
}

impl UpdateEventType {
    pub(super) fn new(client: Client, name: String) -> Self {
        Self { client, message: pb::EventType { name, ..pb::EventType::default() }, mask: Vec::new() }
    }

    /// For people; empty removes it.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.message.description = description.into();
        self.change("description")
    }

    /// What it belongs to, for people; empty removes it.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.message.group = group.into();
        self.change("group")
    }

    /// The JSON Schemas of its data by version, all of them.
    pub fn schemas(mut self, schemas: BTreeMap<u32, String>) -> Self {
        self.message.schemas =
            schemas.into_iter().map(|(version, text)| event_type_schema(version, text)).collect();
        self.change("schemas")
    }

    /// The version that `enforce` goes by from now on; `None`: the highest.
    pub fn current_version(mut self, version: impl Into<Option<u32>>) -> Self {
        self.message.current_version =
            version.into().map_or(0, |version| i32::try_from(version).unwrap_or(i32::MAX));
        self.change("current_version")
    }

    /// Whether events are refused from now on whose data does not conform.
    pub fn enforce(mut self, enforce: bool) -> Self {
        self.message.enforce = enforce;
        self.change("enforce")
    }

    /// Whether producers should stop using it.
    pub fn deprecated(mut self, deprecated: bool) -> Self {
        self.message.deprecated = deprecated;
        self.change("deprecated")
    }

    /// Changes it only if this is still its `etag`; otherwise fails with
    /// [`is_aborted`](crate::Error::is_aborted).
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        self.message.etag = etag.into();
        self
    }

    fn change(mut self, field: &str) -> Self {
        self.mask.push(field.to_owned());
        self
    }
}

impl IntoFuture for UpdateEventType {
    type Output = Result<EventType>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let request = pb::UpdateEventTypeRequest {
            event_type: Some(self.message),
            update_mask: Some(prost_types::FieldMask { paths: self.mask }),
        };
        Box::pin(async move {
            let answer = self
                .client
                .call(Repeat::Never, request, async |channel, request| {
                    rpc(channel).update_event_type(request).await
                })
                .await?;
            convert::event_type::event_type(answer.event_type)
        })
    }
}
