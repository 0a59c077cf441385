//! What the tests of several parts begin with.

use bytes::Bytes;

use super::{
    attempt::{Attempt, AttemptNumber, Outcome, Timings},
    claim::Target,
    event::{Attributes, Event, EventContent, Payload},
    event_type::EventType,
    handling::Handling,
    id::{EventId, SubscriptionId, SubscriptionUid, TenantId},
    secret::SecretSet,
    settings::Settings,
    subscription::Pace,
    target_url::TargetUrl,
    timestamp::Timestamp,
};

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_732_186_800_900_000);

pub(crate) fn event(data: &[u8], content_type: &str) -> Event {
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

pub(crate) fn target() -> Target {
    Target {
        uid: SubscriptionUid::new(NOW),
        tenant: TenantId::parse("default").unwrap(),
        id: SubscriptionId::parse("orders").unwrap(),
        url: TargetUrl::parse("https://example.com/hook").unwrap(),
        secrets: SecretSet::newest_first(Vec::new()),
        pace: Pace::default(),
        suspected: false,
        recovered_at: None,
        revision: 1,
        settings: Some(Settings::plain()),
    }
}

/// The first attempt of a delivery.
pub(crate) fn attempt(started_at: Timestamp, outcome: Outcome) -> Attempt {
    Attempt {
        number: AttemptNumber::FIRST,
        started_at,
        target_url: String::new(),
        outcome,
        wish: None,
        response: None,
        timings: Timings::default(),
        span: None,
    }
}
