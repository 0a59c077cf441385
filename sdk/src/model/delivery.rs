//! Deliveries: the duty to bring one event to one subscription.

use time::OffsetDateTime;

use super::id_of;

/// The duty to bring one event to one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// `tenants/{tenant}/deliveries/{delivery}`.
    pub name: String,
    /// The event's name.
    pub event: String,
    /// The subscription's name. The subscription may have been deleted since.
    pub subscription: String,
    /// The event's type.
    pub event_type: String,
    /// How it stands.
    pub state: DeliveryState,
    /// Why it ended; `None` while it is pending.
    pub end_reason: Option<EndReason>,
    /// How many attempts were begun.
    pub attempt_count: u32,
    /// While pending: when the next attempt is due, or, while one is under way, when another node may take over. `None`
    /// while it waits for an earlier one with the same ordering key.
    pub due_at: Option<OffsetDateTime>,
    /// When it came into being.
    pub created_at: OffsetDateTime,
    /// When it ended; `None` while it is pending.
    pub ended_at: Option<OffsetDateTime>,
}

impl Delivery {
    /// The last segment of the name.
    #[must_use]
    pub fn id(&self) -> &str {
        id_of(&self.name)
    }
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeliveryState {
    /// An attempt is due, under way, or scheduled.
    Pending,
    /// The receiver acknowledged it with a 2xx status.
    Succeeded,
    /// It was given up.
    Failed,
    /// It was cancelled before it succeeded.
    Cancelled,
    /// A state newer than this SDK, with its number.
    Unrecognized(i32),
}

/// Why a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The receiver acknowledged it.
    Acknowledged,
    /// The retry schedule has no further attempt.
    Exhausted,
    /// The receiver answered 410 Gone.
    Gone,
    /// A caller cancelled it.
    Cancelled,
    /// Its subscription was deleted.
    SubscriptionDeleted,
    /// Its subscription was disabled.
    SubscriptionDisabled,
    /// The event's `expire_at` came before the receiver acknowledged it.
    Expired,
    /// What the server stores of its event or its subscription is missing or damaged, and it cannot be sent.
    Unreadable,
    /// The receiver asked for it not to be repeated.
    Aborted,
    /// A reason newer than this SDK, with its number.
    Unrecognized(i32),
}
