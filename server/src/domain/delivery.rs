//! The duty to bring one event to one subscription, and what follows from each attempt at it.
//!
//! ```text
//!                  claim                     2xx
//!   ┌─ pending ────────────> attempt ─────────────────────────> succeeded
//!   │     ^                   │  │  410 / aborted / schedule used up / expired
//!   │     └── retry at … ─────┘  └────────────────────────────> failed
//!   │  expired, unreadable                                        ^
//!   ├─────────────────────────────────────────────────────────────┘
//!   │  cancel, subscription deleted or disabled
//!   └─────────────────────────────────────────────────────────> cancelled
//!         ^ redeliver: back to pending, from each of the three
//! ```
//!
//! "Claimed" is not a state: a claimed delivery is pending and due when its lease runs out. Nor is "parked": a delivery that waits for
//! an earlier one with its ordering key is pending and [never](Timestamp::NEVER) due until that one has ended.

use super::{
    attempt::{Attempt, AttemptNumber, Outcome, Wish},
    claim::Claim,
    event_type::EventType,
    id::{DeliveryId, EventId, SubscriptionId, SubscriptionUid, TenantId},
    retry::{Jitter, RetryPolicy},
    subscription::DisabledReason,
    timestamp::Timestamp,
};

/// HTTP 410 Gone: the receiver wants nothing more (Standard Webhooks, CloudEvents webhooks section 2.2).
pub(super) const GONE: u16 = 410;

/// A delivery as it is shown.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Its owner.
    pub tenant: TenantId,
    /// What is delivered.
    pub event: EventId,
    /// The type of what is delivered.
    pub event_type: EventType,
    /// To whom.
    pub subscription: SubscriptionId,
    /// The same for good, whatever becomes of its id.
    pub subscription_uid: SubscriptionUid,
    /// How it stands.
    pub state: DeliveryState,
    /// How many attempts were begun.
    pub attempt_count: u32,
    /// While pending: when the next attempt is due, or when the lease of the present one runs out. [`Timestamp::NEVER`] while it
    /// waits for an earlier one with its ordering key.
    pub due_at: Timestamp,
    /// When it came into being.
    pub created_at: Timestamp,
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// An attempt is due, under way or scheduled.
    Pending,
    /// It is over.
    Ended {
        /// When.
        at: Timestamp,
        /// Why.
        reason: EndReason,
    },
}

/// Which deliveries are meant, by how they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// An attempt is due, under way or scheduled.
    Pending,
    /// Acknowledged by the receiver.
    Succeeded,
    /// Given up.
    Failed,
    /// Called off.
    Cancelled,
}

/// Why a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The receiver acknowledged it.
    Acknowledged,
    /// The schedule has no further attempt.
    Exhausted,
    /// The receiver answered 410 Gone.
    Gone,
    /// A caller cancelled it.
    Cancelled,
    /// Its subscription was deleted.
    SubscriptionDeleted,
    /// Its subscription was disabled.
    SubscriptionDisabled,
    /// It was too late to send it.
    Expired,
    /// What is stored of it, its event or its subscription is missing or damaged.
    Unreadable,
    /// The receiver asked for it not to be repeated.
    Aborted,
}

impl DeliveryState {
    /// How it stands, without when and why.
    #[must_use]
    pub fn status(self) -> DeliveryStatus {
        match self {
            Self::Pending => DeliveryStatus::Pending,
            Self::Ended { reason, .. } => reason.status(),
        }
    }
}

impl EndReason {
    /// How a delivery stands that ended for this reason.
    #[must_use]
    pub fn status(self) -> DeliveryStatus {
        match self {
            Self::Acknowledged => DeliveryStatus::Succeeded,
            Self::Exhausted | Self::Gone | Self::Expired | Self::Unreadable | Self::Aborted => {
                DeliveryStatus::Failed
            }
            Self::Cancelled | Self::SubscriptionDeleted | Self::SubscriptionDisabled => {
                DeliveryStatus::Cancelled
            }
        }
    }
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The delivery is due again.
    RetryAt(Timestamp),
    /// The delivery is over.
    End(EndReason),
}

impl Settlement {
    /// What follows where the receiver wishes something: whichever it is, a delivery that it did not acknowledge is over.
    #[must_use]
    pub fn heeding(self, wish: Option<Wish>) -> Self {
        match (wish, self) {
            (None, _) | (Some(_), Self::End(EndReason::Acknowledged | EndReason::Gone)) => self,
            (Some(Wish::Disable | Wish::AbortMessage), _) => Self::End(EndReason::Aborted),
        }
    }

    /// Whether, and why, the subscription is to be disabled too.
    #[must_use]
    pub fn disables(self, wish: Option<Wish>) -> Option<DisabledReason> {
        match (self, wish) {
            (Self::End(EndReason::Gone), _) => Some(DisabledReason::Gone),
            (Self::End(_) | Self::RetryAt(_), Some(Wish::Disable)) => Some(DisabledReason::Requested),
            (Self::End(_) | Self::RetryAt(_), Some(Wish::AbortMessage) | None) => None,
        }
    }
}

/// Decides what follows from an attempt at what was claimed, which has come to its end `now`. `default` holds where the subscription has no retry
/// policy of its own.
#[must_use]
pub fn settle(
    claim: &Claim,
    attempt: &Attempt,
    default: &RetryPolicy,
    now: Timestamp,
    jitter: Jitter,
) -> Settlement {
    let own = claim.target.settings.as_ref().and_then(|settings| settings.retry.as_ref());
    let policy = default.with(own);
    let (created_at, handling) = (claim.event.created_at, &claim.event.content.handling);
    let due_since = handling.deliver_at.unwrap_or(created_at).max(created_at);
    after(attempt.number, &attempt.outcome, &policy, due_since, handling.expire_at, now, jitter)
        .heeding(attempt.wish)
}

/// What follows from an `outcome` by itself. What would be repeated too late is not repeated: after `expire_at`, or when the policy's
/// greatest age is reached since `due_since`.
fn after(
    attempt: AttemptNumber,
    outcome: &Outcome,
    policy: &RetryPolicy,
    due_since: Timestamp,
    expire_at: Option<Timestamp>,
    now: Timestamp,
    jitter: Jitter,
) -> Settlement {
    let retry_after = match outcome {
        Outcome::Acknowledged { .. } => return Settlement::End(EndReason::Acknowledged),
        Outcome::Rejected { status: GONE, .. } => return Settlement::End(EndReason::Gone),
        Outcome::Rejected { retry_after, .. } => *retry_after,
        Outcome::Failed { .. } => None,
    };
    match policy.pause_after(attempt, retry_after, jitter) {
        Some(pause) if expire_at.is_some_and(|expire_at| now + pause >= expire_at) => {
            Settlement::End(EndReason::Expired)
        }
        Some(pause) if policy.max_age.is_some_and(|max_age| now + pause >= due_since + max_age) => {
            Settlement::End(EndReason::Exhausted)
        }
        Some(pause) => Settlement::RetryAt(now + pause),
        None => Settlement::End(EndReason::Exhausted),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::attempt::Failure;

    #[test]
    fn what_follows_from_each_outcome() {
        let now = Timestamp::from_micros(1_000_000);
        let in_seconds = |seconds| Settlement::RetryAt(now + Duration::from_secs(seconds));
        let rejected = |status| Outcome::Rejected { status, retry_after: None };
        let failed = |failure| Outcome::Failed { failure, message: String::new() };
        let asked = Outcome::Rejected { status: 429, retry_after: Some(Duration::from_mins(1)) };
        for (attempt, outcome, expected) in [
            (1, Outcome::Acknowledged { status: 204 }, Settlement::End(EndReason::Acknowledged)),
            (10, Outcome::Acknowledged { status: 200 }, Settlement::End(EndReason::Acknowledged)),
            (1, rejected(500), in_seconds(5)),
            (1, rejected(302), in_seconds(5)),
            (1, rejected(404), in_seconds(5)),
            (2, rejected(500), in_seconds(300)),
            (1, asked, in_seconds(60)),
            (1, failed(Failure::Timeout), in_seconds(5)),
            (1, failed(Failure::Internal), in_seconds(5)),
            (10, failed(Failure::Dns), Settlement::End(EndReason::Exhausted)),
            (11, rejected(500), Settlement::End(EndReason::Exhausted)),
            (1, rejected(410), Settlement::End(EndReason::Gone)),
        ] {
            let number = AttemptNumber::new(attempt).unwrap();
            let settled = after(number, &outcome, &RetryPolicy::default(), now, None, now, Jitter::NONE);
            assert_eq!(settled, expected, "attempt {attempt}: {outcome:?}");
        }
    }

    #[test]
    fn a_retry_that_would_come_too_late_ends_the_delivery_as_expired() {
        let now = Timestamp::from_micros(1_000_000);
        let rejected = Outcome::Rejected { status: 500, retry_after: None };
        let settled = |attempt, outcome: &Outcome, micros| {
            let expire_at = Some(now + Duration::from_micros(micros));
            let number = AttemptNumber::new(attempt).unwrap();
            after(number, outcome, &RetryPolicy::default(), now, expire_at, now, Jitter::NONE)
        };
        let retry = Settlement::RetryAt(now + Duration::from_secs(5));
        assert_eq!(settled(1, &rejected, 5_000_001), retry);
        assert_eq!(settled(1, &rejected, 5_000_000), Settlement::End(EndReason::Expired));
        assert_eq!(settled(1, &rejected, 0), Settlement::End(EndReason::Expired));
        assert_eq!(
            settled(10, &rejected, 0),
            Settlement::End(EndReason::Exhausted),
            "nor would it otherwise"
        );
        let late = Outcome::Acknowledged { status: 204 };
        assert_eq!(settled(1, &late, 0), Settlement::End(EndReason::Acknowledged), "it was begun in time");
    }

    #[test]
    fn a_retry_that_would_come_at_the_greatest_age_ends_the_delivery_as_exhausted() {
        let now = Timestamp::from_micros(100_000_000);
        let policy = RetryPolicy { max_age: Some(Duration::from_mins(1)), ..RetryPolicy::default() };
        let rejected = Outcome::Rejected { status: 500, retry_after: None };
        let settled = |age| {
            let due_since = now.before(Duration::from_secs(age));
            after(AttemptNumber::new(1).unwrap(), &rejected, &policy, due_since, None, now, Jitter::NONE)
        };
        assert_eq!(settled(54), Settlement::RetryAt(now + Duration::from_secs(5)));
        assert_eq!(settled(55), Settlement::End(EndReason::Exhausted));
    }

    #[test]
    fn a_wish_ends_what_was_not_acknowledged() {
        let end = |reason| Settlement::End(reason);
        let retry = Settlement::RetryAt(Timestamp::from_micros(1));
        for wish in [Wish::Disable, Wish::AbortMessage].map(Some) {
            for failed in [retry, end(EndReason::Exhausted), end(EndReason::Expired)] {
                assert_eq!(failed.heeding(wish), end(EndReason::Aborted), "{failed:?}");
                assert_eq!(failed.heeding(None), failed);
            }
            for decided in [EndReason::Acknowledged, EndReason::Gone].map(end) {
                assert_eq!(decided.heeding(wish), decided);
            }
        }
    }

    #[test]
    fn gone_and_the_wish_for_it_disable_the_subscription_and_nothing_else_does() {
        let end = |reason| Settlement::End(reason);
        assert_eq!(end(EndReason::Gone).disables(None), Some(DisabledReason::Gone));
        assert_eq!(end(EndReason::Gone).disables(Some(Wish::Disable)), Some(DisabledReason::Gone));
        assert_eq!(end(EndReason::Exhausted).disables(None), None);
        assert_eq!(end(EndReason::Aborted).disables(Some(Wish::AbortMessage)), None);
        for settlement in [end(EndReason::Acknowledged), end(EndReason::Aborted)] {
            assert_eq!(settlement.disables(Some(Wish::Disable)), Some(DisabledReason::Requested));
        }
    }
}
