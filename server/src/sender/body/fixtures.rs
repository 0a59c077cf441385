//! Events for the tests of all forms.

use bytes::Bytes;

use crate::domain::{
    event::{Attributes, Event, EventContent, Payload},
    event_type::EventType,
    handling::Handling,
    id::{EventId, TenantId},
    timestamp::Timestamp,
};

pub(in crate::sender) const NOW: Timestamp = Timestamp::from_micros(1_732_186_800_900_000);

pub(in crate::sender) fn event(data: &[u8], content_type: &str) -> Event {
    Event {
        id: EventId::new(NOW),
        tenant: TenantId::parse("default").unwrap(),
        request_id: None,
        content: EventContent {
            event_type: EventType::parse("order.created").unwrap(),
            source: String::new(),
            subject: String::new(),
            time: Some(Timestamp::from_micros(1_732_186_799_250_000)),
            payload: Payload::parse(Bytes::copy_from_slice(data), content_type, 8 << 20).unwrap(),
            attributes: Attributes::default(),
            handling: Handling::default(),
        },
        trace: None,
        created_at: NOW,
    }
}
