//! Valid by default: a test says only what it is about.

use postrider_sdk::Event;
use postrider_server::domain::id::TenantId;

/// An event that every server takes.
pub fn an_event() -> Event {
    Event::new("order.created").data(r#"{"order": 1}"#, "application/json")
}

/// The tenant that always exists.
#[must_use]
pub fn default_tenant() -> TenantId {
    TenantId::parse("default").unwrap()
}
