//! Events.

use postrider_proto::v1 as pb;

use super::{timestamp, to_timestamp};
use crate::{
    domain::{
        event::{Attributes, EventContent, MAX_TEXT, NewEvent, Payload, RequestId, check_text},
        event_type::{EventType, OPERATIONAL_TYPES, RESERVED_PREFIX, TEST_TYPE},
        handling::{Handling, OrderingKey, Priority},
        id::TenantId,
        invalid::Invalid,
        operational,
        timestamp::Timestamp,
        trace_context::TraceContext,
    },
    grpc::name,
    publish::Published,
    store::events::StoredEvent,
};

/// Reads an event that a producer publishes.
pub(in crate::grpc) fn new_event(
    tenant: TenantId,
    event: Option<pb::Event>,
    request_id: &str,
    trace: Option<TraceContext>,
    max_data_bytes: usize,
    now: Timestamp,
) -> Result<NewEvent, Invalid> {
    let event = event.ok_or_else(|| Invalid::new("event", "is missing"))?;
    let content = content(event, max_data_bytes, now).map_err(|invalid| invalid.within("event"))?;
    if content.event_type.is_reserved() {
        return Err(reserved());
    }
    let request_id = if request_id.is_empty() { None } else { Some(RequestId::parse(request_id)?) };
    Ok(NewEvent { tenant, request_id, content, trace })
}

/// Reads an event that is not to be published: one that a producer could publish, or Postrider itself.
pub(in crate::grpc) fn imagined_event(
    event: pb::Event,
    max_data_bytes: usize,
    now: Timestamp,
) -> Result<EventContent, Invalid> {
    let content = content(event, max_data_bytes, now).map_err(|invalid| invalid.within("event"))?;
    if content.event_type.is_reserved() && !OPERATIONAL_TYPES.contains(&content.event_type.as_str()) {
        return Err(reserved());
    }
    Ok(content)
}

fn reserved() -> Invalid {
    Invalid::new("event.type", format!("types that begin with `{RESERVED_PREFIX}` are reserved"))
}

fn content(event: pb::Event, max_data_bytes: usize, now: Timestamp) -> Result<EventContent, Invalid> {
    let event_type =
        EventType::parse(&event.r#type).map_err(|invalid| Invalid::new("type", invalid.reason))?;
    check_text("source", &event.source, MAX_TEXT)?;
    check_text("subject", &event.subject, MAX_TEXT)?;
    let handling = Handling {
        ordering_key: match event.ordering_key {
            none if none.is_empty() => None,
            key => Some(OrderingKey::parse(key)?),
        },
        deliver_at: timestamp("deliver_time", event.deliver_time)?,
        expire_at: timestamp("expire_time", event.expire_time)?,
        priority: priority(event.priority)?,
    };
    Ok(EventContent {
        event_type,
        time: timestamp("time", event.time)?,
        payload: Payload::parse(event.data, &event.data_content_type, max_data_bytes)?,
        attributes: Attributes::parse(event.attributes)?,
        handling: handling.check(now)?,
        source: event.source,
        subject: event.subject,
    })
}

fn priority(priority: i32) -> Result<Priority, Invalid> {
    match pb::EventPriority::try_from(priority) {
        Ok(pb::EventPriority::Low) => Ok(Priority::Low),
        Ok(pb::EventPriority::Unspecified | pb::EventPriority::Normal) => Ok(Priority::Normal),
        Ok(pb::EventPriority::High) => Ok(Priority::High),
        Err(_) => Err(Invalid::new("priority", format!("{priority} is not a value of EventPriority"))),
    }
}

fn to_priority(priority: Priority) -> pb::EventPriority {
    match priority {
        Priority::Low => pb::EventPriority::Low,
        Priority::Normal => pb::EventPriority::Normal,
        Priority::High => pb::EventPriority::High,
    }
}

/// Reads the event that a test publishes.
pub(in crate::grpc) fn test_event(
    tenant: TenantId,
    request: &pb::SendTestEventRequest,
    trace: Option<TraceContext>,
    max_data_bytes: usize,
) -> Result<NewEvent, Invalid> {
    let event_type = if request.r#type.is_empty() { TEST_TYPE } else { &request.r#type };
    let test = operational::test_content();
    let content = EventContent {
        event_type: EventType::parse(event_type).map_err(|invalid| Invalid::new("type", invalid.reason))?,
        payload: if request.data.is_empty() {
            test.payload
        } else {
            Payload::parse(request.data.clone().into(), "", max_data_bytes)?
        },
        ..test
    };
    if content.event_type.is_reserved() && content.event_type.as_str() != TEST_TYPE {
        let reason = format!("types that begin with `{RESERVED_PREFIX}` are reserved, but for `{TEST_TYPE}`");
        return Err(Invalid::new("type", reason));
    }
    Ok(NewEvent { tenant, request_id: None, content, trace })
}

/// Shows an event.
pub(in crate::grpc) fn to_event(StoredEvent { event, delivery_count }: StoredEvent) -> pb::Event {
    let time = event.time();
    let handling = event.content.handling;
    pb::Event {
        name: name::of_event(&event.tenant, event.id),
        r#type: event.content.event_type.to_string(),
        source: event.content.source,
        subject: event.content.subject,
        time: to_timestamp(time),
        data: event.content.payload.data,
        data_content_type: event.content.payload.content_type,
        attributes: event.content.attributes.as_map().clone().into_iter().collect(),
        create_time: to_timestamp(event.created_at),
        delivery_count: i32::try_from(delivery_count).unwrap_or(i32::MAX),
        request_id: event.request_id.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        traceparent: event.trace.map(|trace| trace.traceparent().to_owned()).unwrap_or_default(),
        ordering_key: handling.ordering_key.map(|key| key.as_str().to_owned()).unwrap_or_default(),
        deliver_time: handling.deliver_at.and_then(to_timestamp),
        expire_time: handling.expire_at.and_then(to_timestamp),
        priority: to_priority(handling.priority).into(),
    }
}

/// Shows what a publish left behind.
pub(in crate::grpc) fn to_published(tenant: &TenantId, published: Published) -> pb::PublishedEvent {
    pb::PublishedEvent {
        event: name::of_event(tenant, published.event),
        create_time: to_timestamp(published.created_at),
        delivery_count: i32::try_from(published.delivery_count).unwrap_or(i32::MAX),
        duplicate: published.duplicate,
    }
}
