//! Operational events: what Postrider tells a tenant of its own subscriptions and deliveries, as events of that tenant.
//!
//! They are published, matched, signed and repeated like all others. Only patterns that begin with `postrider.` match them, so that
//! `**` keeps meaning "all that my producer publishes". What is in them is a contract: `docs/operational-events.md`. Fields may be added,
//! none is renamed or taken away.

use serde_json::json;

use super::{
    attempt::{Attempt, AttemptNumber},
    delivery::{EndReason, Settlement},
    event::{Attributes, Event, EventContent, Payload},
    event_type::{DISABLED_TYPE, EXHAUSTED_TYPE, EventType, FAILING_TYPE, RECOVERED_TYPE, TEST_TYPE},
    failing::Failing,
    handling::Handling,
    id::{DeliveryId, EventId, SubscriptionId, SubscriptionUid, TenantId},
    subscription::DisabledReason,
    timestamp::Timestamp,
    verdict::Told,
};

/// What operational events say they come from.
const SOURCE: &str = "postrider";

/// Something to tell a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whom.
    pub tenant: TenantId,
    /// As what.
    pub event_type: &'static str,
    /// What it is about: a resource name.
    pub subject: String,
    /// What there is to say: JSON.
    pub data: String,
    /// When it happened.
    pub at: Timestamp,
}

/// The subscription that a notice is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Its owner.
    pub tenant: &'a TenantId,
    /// The last segment of its name.
    pub id: &'a SubscriptionId,
    /// Tells it apart for ever.
    pub uid: SubscriptionUid,
}

/// A delivery that has used up its schedule.
#[derive(Debug, Clone)]
pub struct Exhausted {
    /// What was to be delivered.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// What the last attempt came to, in a few words.
    pub last_failure: String,
}

impl About<'_> {
    fn name(&self) -> String {
        format!("tenants/{}/subscriptions/{}", self.tenant, self.id)
    }

    /// A notice of this data, to which is added what it is about. What is null is left out.
    fn notice(
        &self,
        event_type: &'static str,
        subject: String,
        data: serde_json::Value,
        at: Timestamp,
    ) -> Notice {
        let about = json!({ "subscription": self.name(), "subscription_uid": self.uid.uuid().to_string() });
        let members = [about, data].into_iter().filter_map(|part| match part {
            serde_json::Value::Object(members) => Some(members),
            _ => None,
        });
        let data: serde_json::Map<_, _> = members.flatten().filter(|(_, value)| !value.is_null()).collect();
        let data = serde_json::Value::Object(data).to_string();
        Notice { tenant: self.tenant.clone(), event_type, subject, data, at }
    }

    /// There is nothing but failure, and when that will have gone on for too long.
    #[must_use]
    pub fn failing(&self, failing: &Failing, at: Timestamp) -> Notice {
        let data = json!({
            "failing_since_time": text(failing.since),
            "disable_time": text(failing.disable_at),
            "last_failure": last_failure(failing),
        });
        self.notice(FAILING_TYPE, self.name(), data, at)
    }

    /// Policy has disabled it.
    #[must_use]
    pub fn disabled(&self, reason: DisabledReason, failing: Option<&Failing>, at: Timestamp) -> Notice {
        let data = json!({
            "reason": match reason {
                DisabledReason::Gone => "GONE",
                DisabledReason::Failing => "FAILING",
                DisabledReason::Requested => "REQUESTED",
                DisabledReason::HandshakeFailed => "HANDSHAKE_FAILED",
            },
            "disable_time": text(Some(at)),
            "failing_since_time": text(failing.and_then(|failing| failing.since)),
            "last_failure": failing.map(last_failure),
            "next_probe_time": text(failing.and_then(|failing| failing.look_at)),
        });
        self.notice(DISABLED_TYPE, self.name(), data, at)
    }

    /// An attempt has succeeded after it had been announced that it fails, or a probe after it had been disabled for that.
    #[must_use]
    pub fn recovered(&self, failing: &Failing, enabled_by_probe: bool, at: Timestamp) -> Notice {
        let data = json!({
            "failing_since_time": text(failing.since),
            "recover_time": text(Some(at)),
            "enabled_by_probe": enabled_by_probe,
        });
        self.notice(RECOVERED_TYPE, self.name(), data, at)
    }

    /// A delivery to it has used up its schedule.
    #[must_use]
    pub fn exhausted(
        &self,
        exhausted: &Exhausted,
        delivery: DeliveryId,
        attempt: AttemptNumber,
        at: Timestamp,
    ) -> Notice {
        let delivery = format!("tenants/{}/deliveries/{delivery}", self.tenant);
        let data = json!({
            "delivery": delivery,
            "event": format!("tenants/{}/events/{}", self.tenant, exhausted.event),
            "event_type": exhausted.event_type.as_str(),
            "attempt_count": attempt.get(),
            "end_time": text(Some(at)),
            "last_failure": { "time": text(Some(at)), "message": exhausted.last_failure },
        });
        self.notice(EXHAUSTED_TYPE, delivery, data, at)
    }
}

fn last_failure(failing: &Failing) -> serde_json::Value {
    json!({ "time": text(Some(failing.last_failed_at)), "message": failing.last_failure })
}

/// RFC 3339.
fn text(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

impl Exhausted {
    /// If a delivery of this event has. One of an operational event has nothing to tell: it would tell of itself.
    #[must_use]
    pub fn of(event: &Event, attempt: &Attempt, settlement: Settlement) -> Option<Self> {
        let event_type = &event.content.event_type;
        let is_told = settlement == Settlement::End(EndReason::Exhausted) && !event_type.is_reserved();
        is_told.then(|| Self {
            event: event.id,
            event_type: event_type.clone(),
            last_failure: Told(&attempt.outcome).to_string(),
        })
    }
}

impl Notice {
    /// The event that tells it.
    #[must_use]
    pub fn content(event_type: &str, subject: String, data: String, at: Timestamp) -> EventContent {
        EventContent {
            event_type: EventType::from_stored(event_type),
            source: SOURCE.to_owned(),
            subject,
            time: Some(at),
            payload: payload(data.into_bytes()),
            attributes: Attributes::default(),
            handling: Handling::default(),
        }
    }
}

/// What a receiver is sent to see whether it is there.
#[must_use]
pub fn test_content() -> EventContent {
    EventContent {
        event_type: EventType::from_stored(TEST_TYPE),
        source: String::new(),
        subject: String::new(),
        time: None,
        payload: payload(br#"{"test":true}"#.to_vec()),
        attributes: Attributes::default(),
        handling: Handling::default(),
    }
}

fn payload(data: Vec<u8>) -> Payload {
    Payload { data: data.into(), content_type: "application/json".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::fixtures::NOW;

    fn failing() -> Failing {
        Failing {
            suspected_at: NOW,
            since: Some(NOW),
            last_failed_at: NOW + Duration::from_mins(1),
            last_failure: "status 500".to_owned(),
            announced_at: Some(NOW),
            disable_at: Some(NOW + Duration::from_hours(24)),
            look_at: Some(NOW + Duration::from_hours(24)),
        }
    }

    fn told(notice: impl Fn(About<'_>) -> Notice) -> (String, serde_json::Value) {
        let (tenant, id) = (TenantId::parse("acme").unwrap(), SubscriptionId::parse("orders").unwrap());
        let uid = SubscriptionUid::from_uuid(uuid::Uuid::nil());
        let notice = notice(About { tenant: &tenant, id: &id, uid });
        (format!("{} {}", notice.event_type, notice.subject), serde_json::from_str(&notice.data).unwrap())
    }

    #[test]
    fn what_is_told_of_a_subscription() {
        let name = "tenants/acme/subscriptions/orders";
        let last = serde_json::json!({"time": "2024-11-21T11:01:00.9Z", "message": "status 500"});
        let (what, data) = told(|about| about.failing(&failing(), NOW));
        assert_eq!(what, format!("postrider.subscription.failing {name}"));
        let expected = serde_json::json!({
            "subscription": name, "subscription_uid": uuid::Uuid::nil().to_string(),
            "failing_since_time": "2024-11-21T11:00:00.9Z", "disable_time": "2024-11-22T11:00:00.9Z", "last_failure": last,
        });
        assert_eq!(data, expected);
        let (what, data) = told(|about| {
            about.disabled(DisabledReason::Failing, Some(&failing()), NOW + Duration::from_secs(1))
        });
        assert_eq!(what, format!("postrider.subscription.disabled {name}"));
        assert_eq!(
            (&data["reason"], &data["disable_time"]),
            (&"FAILING".into(), &"2024-11-21T11:00:01.9Z".into())
        );
        assert_eq!(data["next_probe_time"], "2024-11-22T11:00:00.9Z");
        let (_, data) = told(|about| about.disabled(DisabledReason::Gone, None, NOW));
        assert_eq!((&data["reason"], data.get("last_failure")), (&"GONE".into(), None));
        let (what, data) = told(|about| about.recovered(&failing(), true, NOW));
        assert_eq!(what, format!("postrider.subscription.recovered {name}"));
        assert_eq!(
            (&data["recover_time"], &data["enabled_by_probe"]),
            (&"2024-11-21T11:00:00.9Z".into(), &true.into())
        );
    }

    #[test]
    fn what_is_told_of_a_delivery() {
        let (delivery, event) = (DeliveryId::new(NOW), EventId::new(NOW));
        let exhausted = Exhausted {
            event,
            event_type: EventType::from_stored("order.created"),
            last_failure: "timeout".to_owned(),
        };
        let (what, data) =
            told(|about| about.exhausted(&exhausted, delivery, AttemptNumber::new(10).unwrap(), NOW));
        assert_eq!(what, format!("postrider.delivery.exhausted tenants/acme/deliveries/{delivery}"));
        assert_eq!(data["event"], format!("tenants/acme/events/{event}"));
        assert_eq!(
            data["last_failure"],
            serde_json::json!({"time": "2024-11-21T11:00:00.9Z", "message": "timeout"})
        );
        assert_eq!((&data["attempt_count"], &data["event_type"]), (&10.into(), &"order.created".into()));
    }
}
