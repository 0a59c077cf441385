//! A due delivery that this node has taken over for a while, with all that an attempt needs.

use std::sync::Arc;

use super::{
    attempt::AttemptNumber,
    breaker::Probe,
    event::Event,
    id::{DeliveryId, SubscriptionId, SubscriptionUid, TenantId},
    secret::SecretSet,
    settings::Settings,
    subscription::Pace,
    target_url::TargetUrl,
    timestamp::Timestamp,
    trace_context::TraceContext,
};

/// The right and the duty to make one attempt before the lease runs out.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Which attempt is to be made; also the fence when it is settled.
    pub attempt: AttemptNumber,
    /// What is to be sent.
    pub event: Arc<Event>,
    /// Where to.
    pub target: Arc<Target>,
    /// When the delivery is due again, unless the attempt is settled before.
    pub leased_until: Timestamp,
    /// The span of the attempt before.
    pub previous_span: Option<TraceContext>,
    /// Set if the receiver is to show by this attempt whether it has recovered.
    pub probe: Option<Probe>,
}

impl Claim {
    /// Whether it is too late for the attempt.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        self.event.content.handling.expired(now)
    }
}

/// The part of a subscription that sending needs.
#[derive(Debug)]
pub struct Target {
    /// Tells the subscription apart for ever.
    pub uid: SubscriptionUid,
    /// Its owner.
    pub tenant: TenantId,
    /// The last segment of its name.
    pub id: SubscriptionId,
    /// Where events are sent.
    pub url: TargetUrl,
    /// What they are signed with.
    pub secrets: SecretSet,
    /// How fast.
    pub pace: Pace,
    /// Whether failures of it were noted, so that a success has something to tell ([`failing`](super::failing)).
    pub suspected: bool,
    /// When it was last unblocked.
    pub recovered_at: Option<Timestamp>,
    /// Counts the changes of the subscription, for those who keep what they made of it.
    pub revision: i64,
    /// What its owner has set beyond that; absent if this node cannot decrypt it.
    pub settings: Option<Arc<Settings>>,
}

/// Why there is no room for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// It will be there in a moment, as deliveries to receivers that are well and quick take it. What goes out from memory costs less than what is
    /// claimed, so it pays to wait for it.
    Soon,
    /// It may be there at any moment, or the claim, which counts for all nodes, has to say: somebody has to look.
    Taken,
    /// The subscription is not to be sent to for a while, and it is known until when: nobody needs to look before.
    Held,
}
