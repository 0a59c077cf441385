//! Events and what publishing them gives.

use postrider_proto::v1 as pb;

use super::{count, non_empty, required, time};
use crate::{
    Error, Result,
    model::{Priority, Published, StoredEvent},
};

pub(crate) fn stored(event: Option<pb::Event>) -> Result<StoredEvent> {
    let event = required(event, "event")?;
    let created_at = time::from_pb(event.create_time, "create_time")?;
    Ok(StoredEvent {
        name: event.name,
        event_type: event.r#type,
        source: non_empty(event.source),
        subject: non_empty(event.subject),
        time: time::optional(event.time, "time")?.unwrap_or(created_at),
        data: event.data,
        data_content_type: non_empty(event.data_content_type)
            .unwrap_or_else(|| "application/json".to_owned()),
        attributes: event.attributes,
        created_at,
        delivery_count: count(event.delivery_count, "delivery_count")?,
        request_id: non_empty(event.request_id),
        traceparent: non_empty(event.traceparent),
        ordering_key: non_empty(event.ordering_key),
        deliver_at: time::optional(event.deliver_time, "deliver_time")?,
        expire_at: time::optional(event.expire_time, "expire_time")?,
        priority: priority(event.priority),
    })
}

fn priority(priority: i32) -> Priority {
    match pb::EventPriority::try_from(priority) {
        Ok(pb::EventPriority::Low) => Priority::Low,
        Ok(pb::EventPriority::Unspecified | pb::EventPriority::Normal) => Priority::Normal,
        Ok(pb::EventPriority::High) => Priority::High,
        Err(_) => Priority::Unrecognized(priority),
    }
}

pub(crate) fn priority_to_pb(priority: Priority) -> i32 {
    match priority {
        Priority::Low => pb::EventPriority::Low.into(),
        Priority::Normal => pb::EventPriority::Normal.into(),
        Priority::High => pb::EventPriority::High.into(),
        Priority::Unrecognized(priority) => priority,
    }
}

pub(crate) fn published(published: Option<pb::PublishedEvent>) -> Result<Published> {
    let published = required(published, "published")?;
    Ok(Published {
        event: published.event,
        created_at: time::from_pb(published.create_time, "create_time")?,
        delivery_count: count(published.delivery_count, "delivery_count")?,
        duplicate: published.duplicate,
    })
}

/// What became of one event of a batch or a stream.
pub(crate) fn publish_result(result: Option<pb::PublishResult>) -> Result<Published> {
    match required(result.and_then(|result| result.result), "result")? {
        pb::publish_result::Result::Published(event) => published(Some(event)),
        pb::publish_result::Result::Error(error) => Err(Error::from_item(error)),
    }
}
