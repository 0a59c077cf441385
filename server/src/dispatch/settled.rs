//! What an attempt came to, on its way to the queue.

use std::sync::Arc;

use crate::domain::{
    attempt::{Attempt, AttemptNumber},
    breaker::HealthChange,
    claim::{Claim, Target},
    delivery::{EndReason, Settlement},
    failing::Sign,
    handling::OrderingKey,
    id::DeliveryId,
    kept_window::KeptWindow,
    operational::Exhausted,
    subscription::DisabledReason,
    timestamp::Timestamp,
    trace_context::TraceContext,
};

/// A claim that has been used, and what follows.
#[derive(Debug)]
pub struct Settled {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Which attempt the claim was for.
    pub number: AttemptNumber,
    /// Until when the claim held. Where no attempt was made the next claim has the same number; this tells them apart.
    pub leased_until: Timestamp,
    /// Where it was to go.
    pub target: Arc<Target>,
    /// The event's ordering key, whose next delivery may have to be released.
    pub ordering_key: Option<OrderingKey>,
    /// The attempt; none if it was too late for one.
    pub attempt: Option<Attempt>,
    /// The span of the attempt before, which the next one links to if there was none now.
    pub previous_span: Option<TraceContext>,
    /// What follows.
    pub settlement: Settlement,
    /// What follows for the breaker of the subscription.
    pub health: Option<HealthChange>,
    /// What is to be kept of the subscription's window, if it was cut.
    pub window: Option<KeptWindow>,
    /// What there is to tell of the subscription's failing.
    pub sign: Option<Sign>,
    /// Set if this was the last attempt of the schedule and its tenant is to be told. Rare, so it takes no room in the others.
    pub exhausted: Option<Box<Exhausted>>,
    /// When that was decided.
    pub at: Timestamp,
}

impl Settled {
    /// What follows from an attempt; nothing for the subscription yet.
    #[must_use]
    pub fn attempted(claim: Claim, attempt: Attempt, settlement: Settlement, at: Timestamp) -> Self {
        let exhausted = Exhausted::of(&claim.event, &attempt, settlement).map(Box::new);
        let unattempted = Self::unattempted(claim, settlement, at);
        Self { attempt: Some(attempt), health: None, exhausted, ..unattempted }
    }

    /// What follows for a claim that came too late for an attempt.
    #[must_use]
    pub fn expired(claim: Claim, at: Timestamp) -> Self {
        Self::unattempted(claim, Settlement::End(EndReason::Expired), at)
    }

    /// A claim is given back unused: the delivery is due now.
    #[must_use]
    pub fn returned(claim: Claim, at: Timestamp) -> Self {
        Self::unattempted(claim, Settlement::RetryAt(at), at)
    }

    /// Whether, and why, the subscription is to be disabled too.
    #[must_use]
    pub fn disables(&self) -> Option<DisabledReason> {
        self.settlement.disables(self.attempt.as_ref().and_then(|attempt| attempt.wish))
    }

    /// Whether anything follows for the subscription.
    #[must_use]
    pub fn concerns_its_subscription(&self) -> bool {
        self.health.is_some() || self.window.is_some() || self.sign.is_some() || self.disables().is_some()
    }

    /// No attempt was made. If it was to be the probe of an open breaker, another delivery may be that.
    fn unattempted(claim: Claim, settlement: Settlement, at: Timestamp) -> Self {
        Self {
            delivery: claim.delivery,
            number: claim.attempt,
            leased_until: claim.leased_until,
            target: claim.target,
            ordering_key: claim.event.content.handling.ordering_key.clone(),
            attempt: None,
            previous_span: claim.previous_span,
            settlement,
            window: None,
            sign: None,
            exhausted: None,
            health: claim.probe.map(|probe| HealthChange::Release { held_until: probe.held_until }),
            at,
        }
    }
}
