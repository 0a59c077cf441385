//! Types of events, as the catalogue holds them.

use std::collections::BTreeMap;

use postrider_proto::v1 as pb;
use time::OffsetDateTime;

use super::id_of;

/// What is known of a type of events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventType {
    /// `eventTypes/{event_type}`.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// What it belongs to, for people; may be empty.
    pub group: String,
    /// JSON Schemas of its data by version.
    pub schemas: BTreeMap<u32, String>,
    /// The version that `enforce` goes by; the highest if not set.
    pub current_version: Option<u32>,
    /// Whether events are refused whose data does not conform.
    pub enforce: bool,
    /// Whether producers should stop using it.
    pub deprecated: bool,
    /// Since when it is archived; events of an archived type are refused.
    pub archived_at: Option<OffsetDateTime>,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
    /// Changes with every change.
    pub etag: String,
}

impl EventType {
    /// Describes a type for the catalogue, for [`create`](crate::EventTypes::create).
    ///
    /// ```
    /// use postrider_sdk::model::EventType;
    ///
    /// let new = EventType::named("order.created").schema(1, r#"{"required": ["id"]}"#).enforce(true);
    /// # let _ = new;
    /// ```
    pub fn named(event_type: impl Into<String>) -> NewEventType {
        NewEventType { id: event_type.into(), message: pb::EventType::default() }
    }

    /// The event type itself: `order.created`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        id_of(&self.name)
    }
}

/// A type to be put into the catalogue. Made by [`EventType::named`].
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a type is created by `EventTypes::create`"]
pub struct NewEventType {
    pub(crate) id: String,
    pub(crate) message: pb::EventType,
}

impl NewEventType {
    /// For people.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.message.description = description.into();
        self
    }

    /// What it belongs to, for people.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.message.group = group.into();
        self
    }

    /// A JSON Schema of its data, as one version of several.
    pub fn schema(mut self, version: u32, json_schema: impl Into<String>) -> Self {
        self.message.schemas.push(to_pb(version, json_schema.into()));
        self
    }

    /// The version that `enforce` goes by; if not set, the highest.
    pub fn current_version(mut self, version: u32) -> Self {
        self.message.current_version = i32::try_from(version).unwrap_or(i32::MAX);
        self
    }

    /// Whether events are refused whose data does not conform.
    pub fn enforce(mut self, enforce: bool) -> Self {
        self.message.enforce = enforce;
        self
    }

    /// Whether producers should stop using it.
    pub fn deprecated(mut self, deprecated: bool) -> Self {
        self.message.deprecated = deprecated;
        self
    }
}

pub(crate) fn to_pb(version: u32, json_schema: String) -> pb::EventTypeSchema {
    // What is too large for the wire is too large for the server, which says so.
    pb::EventTypeSchema { version: i32::try_from(version).unwrap_or(i32::MAX), json_schema }
}
