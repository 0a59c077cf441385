//! The tables as sea-orm sees them. They never leave the store: [`rows`](super::rows) turns them into domain values.

pub(super) mod attempts;
pub(super) mod catalogue;
pub(super) mod deliveries;
pub(super) mod event_types;
pub(super) mod events;
pub(super) mod operational_events;
pub(super) mod payloads;
pub(super) mod pending_deliveries;
pub(super) mod secret_keys;
pub(super) mod subscription_secrets;
pub(super) mod subscriptions;
pub(super) mod tenants;
