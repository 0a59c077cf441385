//! Resource names (AIP-122): `tenants/{tenant}/…`.

use crate::domain::{
    event_type::EventType,
    id::{DeliveryId, EventId, SubscriptionId, TenantId},
    invalid::Invalid,
};

/// Reads `tenants/{tenant}`.
pub(super) fn tenant(field: &str, name: &str) -> Result<TenantId, Invalid> {
    let malformed = || Invalid::new(field, "must be a name like `tenants/default`");
    let id = name.strip_prefix("tenants/").ok_or_else(malformed)?;
    if id.contains('/') {
        return Err(malformed());
    }
    TenantId::parse(id).map_err(|invalid| Invalid::new(field, format!("the tenant's id {}", invalid.reason)))
}

/// Reads `tenants/{tenant}`, or `tenants/-` for all of them (AIP-159).
pub(super) fn tenant_or_all(field: &str, name: &str) -> Result<Option<TenantId>, Invalid> {
    if name == "tenants/-" { Ok(None) } else { tenant(field, name).map(Some) }
}

/// Reads `tenants/{tenant}/subscriptions/{subscription}`.
pub(super) fn subscription(field: &str, name: &str) -> Result<(TenantId, SubscriptionId), Invalid> {
    let (tenant, id) = split(field, name, "subscriptions")?;
    let id = SubscriptionId::parse(id)
        .map_err(|invalid| Invalid::new(field, format!("the subscription's id {}", invalid.reason)))?;
    Ok((tenant, id))
}

/// Reads `tenants/{tenant}/events/{event}`.
pub(super) fn event(field: &str, name: &str) -> Result<(TenantId, EventId), Invalid> {
    let (tenant, id) = split(field, name, "events")?;
    let malformed =
        || Invalid::new(field, "the event's id must be `evt_` and 26 letters and digits, as it was made");
    Ok((tenant, EventId::parse(id).ok_or_else(malformed)?))
}

/// Reads `tenants/{tenant}/deliveries/{delivery}`.
pub(super) fn delivery(field: &str, name: &str) -> Result<(TenantId, DeliveryId), Invalid> {
    let (tenant, id) = split(field, name, "deliveries")?;
    let malformed =
        || Invalid::new(field, "the delivery's id must be `dlv_` and 26 letters and digits, as it was made");
    Ok((tenant, DeliveryId::parse(id).ok_or_else(malformed)?))
}

/// Reads `eventTypes/{event_type}`.
pub(super) fn event_type(field: &str, name: &str) -> Result<EventType, Invalid> {
    let malformed = || Invalid::new(field, "must be a name like `eventTypes/order.created`");
    let id = name.strip_prefix("eventTypes/").ok_or_else(malformed)?;
    EventType::parse(id).map_err(|invalid| Invalid::new(field, format!("the event type {}", invalid.reason)))
}

/// Takes `tenants/{tenant}/{collection}/{id}` apart.
fn split<'a>(field: &str, name: &'a str, collection: &str) -> Result<(TenantId, &'a str), Invalid> {
    let mut segments = name.split('/');
    match (segments.next(), segments.next(), segments.next(), segments.next(), segments.next()) {
        (Some("tenants"), Some(owner), Some(found), Some(id), None) if found == collection => {
            Ok((tenant(field, &format!("tenants/{owner}"))?, id))
        }
        _ => {
            Err(Invalid::new(field, format!("must be a name like `tenants/{{tenant}}/{collection}/{{id}}`")))
        }
    }
}

/// Writes a tenant's name.
pub(super) fn of_tenant(tenant: &TenantId) -> String {
    format!("tenants/{tenant}")
}

/// Writes a subscription's name.
pub(super) fn of_subscription(tenant: &TenantId, id: &SubscriptionId) -> String {
    format!("tenants/{tenant}/subscriptions/{id}")
}

/// Writes an event type's name.
pub(super) fn of_event_type(event_type: &EventType) -> String {
    format!("eventTypes/{event_type}")
}

/// Writes an event's name.
pub(super) fn of_event(tenant: &TenantId, id: EventId) -> String {
    format!("tenants/{tenant}/events/{id}")
}

/// Writes a delivery's name.
pub(super) fn of_delivery(tenant: &TenantId, id: DeliveryId) -> String {
    format!("tenants/{tenant}/deliveries/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::timestamp::Timestamp;

    #[test]
    fn names_are_read_as_they_are_written() {
        let tenant_id = TenantId::parse("acme").unwrap();
        let now = Timestamp::from_micros(1);
        let (evt, dlv) = (EventId::new(now), DeliveryId::new(now));
        let sub = SubscriptionId::parse("orders").unwrap();
        assert_eq!(tenant("parent", &of_tenant(&tenant_id)), Ok(tenant_id.clone()));
        assert_eq!(event("name", &of_event(&tenant_id, evt)), Ok((tenant_id.clone(), evt)));
        assert_eq!(delivery("name", &of_delivery(&tenant_id, dlv)), Ok((tenant_id.clone(), dlv)));
        assert_eq!(subscription("name", &of_subscription(&tenant_id, &sub)), Ok((tenant_id, sub)));
    }

    #[test]
    fn malformed_names_are_refused_under_the_name_of_their_field() {
        for bad in
            ["", "acme", "tenants", "tenants/", "tenants/ACME", "tenants/a/b", "/tenants/a", "tenants/a/"]
        {
            assert_eq!(tenant("parent", bad).unwrap_err().field, "parent", "{bad}");
        }
        for bad in [
            "",
            "tenants/a/events",
            "tenants/a/events/",
            "tenants/a/events/1",
            "tenants/a/deliveries/dlv_1",
            "tenants/a/events/evt_/x",
        ] {
            assert_eq!(event("name", bad).unwrap_err().field, "name", "{bad}");
        }
        assert_eq!(tenant_or_all("parent", "tenants/-"), Ok(None));
        assert!(tenant("parent", "tenants/-").is_err());
    }
}
