//! What publishing leaves behind.

use std::{collections::HashMap, fmt};

use bytes::Bytes;
use time::OffsetDateTime;

use super::{Priority, id_of};

/// The proof that an event is durable and will be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The event's name: `tenants/{tenant}/events/{event}`.
    pub event: String,
    /// When the event was accepted.
    pub created_at: OffsetDateTime,
    /// How many subscriptions matched.
    pub delivery_count: u32,
    /// Whether an earlier publish with the same `request_id` had created this event.
    pub duplicate: bool,
}

impl Published {
    /// The last segment of the event's name, which receivers see as `webhook-id`.
    #[must_use]
    pub fn event_id(&self) -> &str {
        id_of(&self.event)
    }
}

/// An event as Postrider keeps it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredEvent {
    /// `tenants/{tenant}/events/{event}`.
    pub name: String,
    /// What happened: `order.created`.
    pub event_type: String,
    /// The system that it came from.
    pub source: Option<String>,
    /// What it is about within its source.
    pub subject: Option<String>,
    /// When it happened.
    pub time: OffsetDateTime,
    /// The payload. Empty in lists, and when it is no longer kept.
    pub data: Bytes,
    /// The media type of `data`.
    pub data_content_type: String,
    /// The producer's further attributes.
    pub attributes: HashMap<String, String>,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// How many subscriptions matched, and so how many deliveries it has.
    pub delivery_count: u32,
    /// The key that it was published with.
    pub request_id: Option<String>,
    /// The W3C `traceparent` of the publishing call.
    pub traceparent: Option<String>,
    /// What it has in common with the events before and after which it is delivered.
    pub ordering_key: Option<String>,
    /// Not delivered before this time.
    pub deliver_at: Option<OffsetDateTime>,
    /// Not sent at or after this time.
    pub expire_at: Option<OffsetDateTime>,
    /// Before or after what else is due.
    pub priority: Priority,
}

impl StoredEvent {
    /// The last segment of the name, which receivers see as `webhook-id`.
    #[must_use]
    pub fn id(&self) -> &str {
        id_of(&self.name)
    }
}

/// Shows no payload: events end up in logs.
impl fmt::Debug for StoredEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredEvent")
            .field("name", &self.name)
            .field("event_type", &self.event_type)
            .field("source", &self.source)
            .field("subject", &self.subject)
            .field("time", &self.time)
            .field("data_bytes", &self.data.len())
            .field("created_at", &self.created_at)
            .field("delivery_count", &self.delivery_count)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}
