//! `SendTestEvent`: an event for one subscription, and what came of it.
//!
//! The event is stored and delivered as all are, by whatever node, and the call waits for its first attempt. It is told when this node
//! has settled it, and looks now and then for what another node has. Nothing hangs on the call: a caller may hang up at any time.

use std::time::Duration;

use futures_util::{StreamExt, stream::BoxStream};
use postrider_proto::v1 as pb;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Parts, convert, failure::Failure, name, tried_target};
use crate::{
    domain::{
        attempt::{Attempt, Failure as Cause, Outcome},
        breaker::Health,
        claim::Target,
        delivery::DeliveryState,
        id::{DeliveryId, SubscriptionId, TenantId},
        rate_limit::RateLimit,
        subscription::{Subscription, SubscriptionState},
        target_check::TargetCheck,
        timestamp::Timestamp,
        trace_context::TraceContext,
    },
    publish::Route,
    store,
};

/// How long it is waited beyond what an attempt may take, if the caller does not say.
const MARGIN: Duration = Duration::from_secs(5);
/// How often it is looked whether another node has made the attempt.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Tells when this node has settled an attempt.
pub trait Settlements: Send + Sync + 'static {
    /// Has an item whenever an attempt of `delivery` was settled here; `None` if too many callers wait.
    fn of(&self, delivery: DeliveryId) -> Option<BoxStream<'static, ()>>;
}

/// How a test event stands.
pub(super) enum Standing {
    /// Its first attempt was made.
    Attempted(Box<Attempt>),
    /// It was not made in time.
    Pending,
    /// The subscription is paused.
    Paused { since: Option<Timestamp> },
    /// The receiver is left alone, as it fails.
    Blocked { since: Timestamp, reason: String, next_probe_at: Timestamp },
    /// Its delivery ended without an attempt.
    Ended,
}

pub(super) async fn send(
    api: &Parts,
    request: pb::SendTestEventRequest,
    trace: Option<TraceContext>,
    patience: Duration,
) -> Result<pb::SendTestEventResponse, Failure> {
    let (tenant, id) = name::subscription("name", &request.name)?;
    let event = convert::event::test_event(tenant.clone(), &request, trace, api.max_data_bytes)?;
    let wait = convert::test_event::wait(request.wait)?;
    let not_found = || Failure::NotFound { field: "name", name: request.name.clone() };
    let subscription = api.store.subscription(&tenant, &id).await?.ok_or_else(not_found)?;
    if subscription.state() == SubscriptionState::Disabled {
        return Err(Failure::WrongState("the subscription is disabled; enable it first".to_owned()));
    }
    if subscription.state() == SubscriptionState::AwaitingHandshake {
        let message = "the subscription awaits its handshake, before which nothing is sent; `VerifySubscription` makes it now";
        return Err(Failure::WrongState(message.to_owned()));
    }
    let published = api.publisher.publish(event, Route::Only(subscription.uid)).await?;
    // Without a delivery it was deleted or disabled in the meantime.
    let delivery = published.first_delivery.ok_or_else(not_found)?;

    let (held, rate) = (held(&subscription), rate(&subscription));
    let target = tried_target::of(subscription);
    let wait = wait.unwrap_or_else(|| api.check.timeout(&target) + MARGIN);
    let deadline = Instant::now() + wait.min(convert::test_event::MAX_WAIT).min(patience);
    let standing = match held {
        Some(held) => held,
        None => attempt(api, &tenant, delivery, deadline).await,
    };
    let check = match &standing {
        Standing::Attempted(attempt) if calls_for_check(attempt) => {
            check(api, (&tenant, &id), &target, deadline).await
        }
        _ => None,
    };
    Ok(pb::SendTestEventResponse {
        event: name::of_event(&tenant, published.event),
        delivery: name::of_delivery(&tenant, delivery),
        check: check.map(convert::target_check::to_check),
        ..convert::test_event::to_response(standing, rate)
    })
}

/// Why a subscription does not send, if it does not.
fn held(subscription: &Subscription) -> Option<Standing> {
    match subscription.state() {
        SubscriptionState::Paused => Some(Standing::Paused { since: subscription.paused_at }),
        SubscriptionState::Active | SubscriptionState::AwaitingHandshake | SubscriptionState::Disabled => {
            match &subscription.health {
                Health::Healthy => None,
                Health::Blocked { failing_since, reason, next_probe_at } => Some(Standing::Blocked {
                    since: *failing_since,
                    reason: reason.clone(),
                    next_probe_at: *next_probe_at,
                }),
            }
        }
    }
}

/// How fast its receiver is sent to at most: as its owner or the receiver wants it, whichever is less.
fn rate(subscription: &Subscription) -> Option<RateLimit> {
    let allowed = subscription.handshake.as_ref().and_then(|handshake| handshake.allowed_rate);
    let limits = subscription.spec.pace.rate.into_iter().chain(allowed.map(RateLimit::per_minute));
    limits.min_by(|one, other| one.per_second().total_cmp(&other.per_second()))
}

/// Waits for the first attempt.
async fn attempt(api: &Parts, tenant: &TenantId, delivery: DeliveryId, deadline: Instant) -> Standing {
    // Before the first look, lest it be made between the two.
    let Some(mut settlements) = api.settlements.of(delivery) else { return Standing::Pending };
    let looking = async {
        loop {
            match look(api, tenant, delivery).await {
                Ok(Some(standing)) => return standing,
                Ok(None) => {}
                // The event is stored all the same, and an error would say otherwise.
                Err(cause) => {
                    let cause = &cause as &dyn std::error::Error;
                    tracing::warn!(cause, "what came of a test event cannot be read");
                }
            }
            tokio::select! {
                _ = settlements.next() => {}
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    };
    tokio::select! {
        seen = timeout_at(deadline, looking) => seen.unwrap_or(Standing::Pending),
        () = api.stop.cancelled() => Standing::Pending,
    }
}

async fn look(
    api: &Parts,
    tenant: &TenantId,
    delivery: DeliveryId,
) -> Result<Option<Standing>, store::Error> {
    // Before its attempts: one that has ended by now has no more of them later.
    let found = api.store.delivery(tenant, delivery).await?;
    let is_pending = found.is_some_and(|found| found.state == DeliveryState::Pending);
    let attempts = api.store.attempts(tenant, delivery, 0, 1).await?.unwrap_or_default();
    Ok(match attempts.into_iter().next() {
        Some(first) => Some(Standing::Attempted(Box::new(first))),
        None if is_pending => None,
        None => Some(Standing::Ended),
    })
}

/// Whether there was no 2xx answer, for a reason that a check of the target can tell more about.
fn calls_for_check(attempt: &Attempt) -> bool {
    match &attempt.outcome {
        Outcome::Acknowledged { .. } => false,
        Outcome::Rejected { .. } => true,
        Outcome::Failed { failure, .. } => match failure {
            Cause::Timeout
            | Cause::Dns
            | Cause::Connect
            | Cause::Tls
            | Cause::AddressRefused
            | Cause::Protocol => attempt.response.is_none(),
            Cause::Authentication | Cause::Template | Cause::Internal => false,
        },
    }
}

async fn check(
    api: &Parts,
    (tenant, id): (&TenantId, &SubscriptionId),
    target: &Target,
    deadline: Instant,
) -> Option<TargetCheck> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return None;
    }
    // A receiver whose answer has ended the subscription is sent nothing more.
    let now = api.store.subscription(tenant, id).await.ok().flatten()?;
    if now.state() == SubscriptionState::Disabled {
        return None;
    }
    tokio::select! {
        check = api.check.check(target, api.clock.now(), left) => check.ok(),
        () = api.stop.cancelled() => None,
    }
}
