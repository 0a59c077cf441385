//! What is published.

use std::fmt;

use bytes::Bytes;
use postrider_proto::v1 as pb;
use serde::Serialize;
use time::OffsetDateTime;

use super::Priority;
use crate::{Error, Result, client::new_request_id, convert};

/// An event to be published.
///
/// ```
/// # fn main() -> postrider_sdk::Result<()> {
/// use postrider_sdk::Event;
/// use serde_json::json;
///
/// let event = Event::new("order.created")
///     .source("shop")
///     .subject("orders/17")
///     .json(&json!({"total": 42}))?
///     .attribute("region", "eu")
///     .request_id("order-17-created");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq)]
#[must_use = "an event is published by `Client::publish`"]
pub struct Event {
    pub(crate) message: pb::Event,
    request_id: Option<String>,
}

impl Event {
    /// An event of this type: dot-separated and hierarchical, like `order.created`. Its data is JSON `null` until
    /// [`json`](Self::json) or [`data`](Self::data) sets it.
    pub fn new(event_type: impl Into<String>) -> Self {
        let message = pb::Event {
            r#type: event_type.into(),
            data: Bytes::from_static(b"null"),
            ..pb::Event::default()
        };
        Self { message, request_id: None }
    }

    /// The payload, written as JSON. It reaches receivers byte for byte.
    ///
    /// Fails if the value cannot be written as JSON.
    pub fn json(self, data: &(impl Serialize + ?Sized)) -> Result<Self> {
        let json = serde_json::to_vec(data)
            .map_err(|error| Error::invalid("event data cannot be written as JSON").with_source(error))?;
        Ok(self.data(json, "application/json"))
    }

    /// The payload as it is, with its media type. What is not JSON reaches receivers in base64.
    pub fn data(mut self, data: impl Into<Bytes>, content_type: impl Into<String>) -> Self {
        self.message.data = data.into();
        self.message.data_content_type = content_type.into();
        self
    }

    /// The system that the event comes from.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.message.source = source.into();
        self
    }

    /// What the event is about within its source.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.message.subject = subject.into();
        self
    }

    /// When it happened; the time of publishing if not set.
    pub fn time(mut self, time: OffsetDateTime) -> Self {
        self.message.time = Some(convert::time::to_pb(time));
        self
    }

    /// A further attribute for the producer's own use. Receivers see it only in forms that show it: CloudEvents, templates.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.message.attributes.insert(key.into(), value.into());
        self
    }

    /// Several attributes.
    pub fn attributes<K: Into<String>, V: Into<String>>(
        mut self,
        attributes: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let attributes = attributes.into_iter().map(|(key, value)| (key.into(), value.into()));
        self.message.attributes.extend(attributes);
        self
    }

    /// Events with the same key reach each subscription one after another, in the order in which their publishes were committed: one that
    /// failed and was repeated comes after what was published meanwhile. The next one goes out when the one before has ended, and
    /// no attempt of it is under way. One that fails holds up its own key and nothing else. At most 128 bytes.
    ///
    /// ```
    /// use postrider_sdk::Event;
    ///
    /// let event = Event::new("order.paid").ordering_key("order-17");
    /// ```
    pub fn ordering_key(mut self, key: impl Into<String>) -> Self {
        self.message.ordering_key = key.into();
        self
    }

    /// Not delivered before this time, at most 30 days ahead. A time in the past means at once.
    ///
    /// ```
    /// use postrider_sdk::Event;
    /// use time::{Duration, OffsetDateTime};
    ///
    /// let event = Event::new("trial.ending").deliver_at(OffsetDateTime::now_utc() + Duration::days(14));
    /// ```
    pub fn deliver_at(mut self, time: OffsetDateTime) -> Self {
        self.message.deliver_time = Some(convert::time::to_pb(time));
        self
    }

    /// No attempt begins at or after this time: a delivery that has not succeeded by then has failed, as
    /// [`EndReason::Expired`](crate::model::EndReason::Expired).
    ///
    /// ```
    /// use postrider_sdk::Event;
    /// use time::{Duration, OffsetDateTime};
    ///
    /// let event = Event::new("login.code").expire_at(OffsetDateTime::now_utc() + Duration::minutes(10));
    /// ```
    pub fn expire_at(mut self, time: OffsetDateTime) -> Self {
        self.message.expire_time = Some(convert::time::to_pb(time));
        self
    }

    /// Which deliveries of a subscription come first where several are due; [`Priority::Normal`] if not set.
    ///
    /// ```
    /// use postrider_sdk::{Event, model::Priority};
    ///
    /// let event = Event::new("report.ready").priority(Priority::Low);
    /// ```
    pub fn priority(mut self, priority: Priority) -> Self {
        self.message.priority = convert::event::priority_to_pb(priority);
        self
    }

    /// The key that makes publishing repeatable: publishing again with the same key gives the first event and creates
    /// nothing. If not set, the client makes a random one for its own retries. Set it to something that your system
    /// would repeat after a crash, such as the id of the row that the event tells of.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// The event as it is sent, with the `request_id` that all tries share.
    pub(crate) fn into_item(self) -> pb::PublishItem {
        pb::PublishItem {
            event: Some(self.message),
            request_id: self.request_id.unwrap_or_else(new_request_id),
            // Set only where the event belongs to another trace than the call that carries it.
            traceparent: String::new(),
            tracestate: String::new(),
        }
    }
}

/// Shows no payload: events end up in logs.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("type", &self.message.r#type)
            .field("source", &self.message.source)
            .field("subject", &self.message.subject)
            .field("data_bytes", &self.message.data.len())
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}
