//! What the dispatcher asks of whoever keeps the deliveries.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
};

use super::Settled;
use crate::domain::{
    claim::Claim,
    id::{DeliveryId, SubscriptionUid, TenantId},
    kept_window::KeptWindow,
    timestamp::Timestamp,
};

/// Where due deliveries are found and settlements are written.
pub trait Queue: Send + Sync + 'static {
    /// Takes due deliveries over, fairly spread over tenants and subscriptions. Leaves out who is blocked or throttled, but for
    /// probes.
    fn claim(&self, ask: &Ask) -> impl Future<Output = Result<Claimed, QueueError>> + Send;

    /// Which subscriptions are in trouble now.
    fn trouble(&self, now: Timestamp) -> impl Future<Output = Result<Trouble, QueueError>> + Send;

    /// Records attempts and what follows from them, in one transaction.
    fn settle(&self, batch: &[Settled]) -> impl Future<Output = Result<Settling, QueueError>> + Send;

    /// The delivery that has been due for longest of those that a claim with this ask could take over now.
    fn overdue(&self, ask: &Ask) -> impl Future<Output = Result<Option<Overdue>, QueueError>> + Send;

    /// Tells other nodes that this one leaves due deliveries over.
    fn hint(&self) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// Subscriptions whose receivers cannot take what they could otherwise.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Those that are blocked.
    pub blocked: HashSet<SubscriptionUid>,
    /// What is kept of windows, and still good.
    pub windows: HashMap<SubscriptionUid, KeptWindow>,
}

/// A delivery that is due and that nobody has claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its subscription.
    pub subscription: SubscriptionUid,
    /// Since when it is due.
    pub since: Timestamp,
}

/// How much a node can take over.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Deliveries that are due at this time.
    pub now: Timestamp,
    /// When they are due again.
    pub leased_until: Timestamp,
    /// At most this many.
    pub max: usize,
    /// Unless it is one, they take at most this many [`places`](super::places).
    pub places: usize,
    /// At most this many of one subscription, less those held.
    pub max_per_subscription: usize,
    /// How many deliveries this node holds, sent or in line, for each subscription that has any.
    pub held: Vec<(SubscriptionUid, usize)>,
    /// At most this many of these subscriptions, less those held.
    pub limits: Vec<(SubscriptionUid, usize)>,
    /// At most this many places of one tenant, less those taken.
    pub max_per_tenant: usize,
    /// How many [`places`](super::places) are taken, for each tenant that has any.
    pub tenants: Vec<(TenantId, usize)>,
}

/// What was taken over.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The deliveries.
    pub claims: Vec<Claim>,
    /// Subscriptions of which something was left for their rate limit's sake, and when to look again.
    pub throttled: Vec<(SubscriptionUid, Timestamp)>,
    /// How many others had expired, and were ended.
    pub expired: usize,
    /// How many others cannot be read, and were ended.
    pub unreadable: u64,
}

/// What became of a batch of settlements.
#[derive(Debug, Default)]
pub struct Settling {
    /// Deliveries that were no longer ours, or no longer pending: nothing followed from the attempt.
    pub lost: Vec<DeliveryId>,
    /// Whether a subscription was disabled.
    pub disabled: bool,
    /// Subscriptions whose breakers have turned as they were to; the others' had been turned by somebody else.
    pub breakers_turned: HashSet<SubscriptionUid>,
    /// Whether deliveries became due that had waited for these to end.
    pub released: bool,
}

/// The queue did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// For reasons that pass.
    #[error("the queue is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// For reasons that do not.
    #[error("the queue is broken")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}
