//! Subscriptions.

use postrider_proto::v1 as pb;

use super::{required, time};
use crate::{
    Result,
    model::{
        Authentication, DeliveryRetryPolicy, DisabledReason, EventFilter, Failing, FailurePolicy, Format,
        Handshake, HandshakeStatus, Health, RateLimit, ReceiverTls, Subscription, SubscriptionState, signing,
    },
};

pub(crate) fn subscription(subscription: Option<pb::Subscription>) -> Result<Subscription> {
    let subscription = required(subscription, "subscription")?;
    Ok(Subscription {
        state: state(subscription.state, subscription.disabled_reason),
        name: subscription.name,
        uid: subscription.uid,
        description: subscription.description,
        target_url: subscription.target_url,
        event_types: subscription.event_types,
        rate_limit: subscription.rate_limit.map(|rate| RateLimit {
            deliveries_per_second: rate.deliveries_per_second,
            burst: u32::try_from(rate.burst).unwrap_or(0),
        }),
        max_in_flight: u32::try_from(subscription.max_in_flight).ok().filter(|most| *most > 0),
        retry_policy: subscription.retry_policy.map(DeliveryRetryPolicy::from_pb).transpose()?,
        timeout: time::duration(subscription.timeout, "timeout")?,
        authentication: subscription.authentication.map(Authentication::from_pb),
        tls: subscription.tls.map(ReceiverTls::from_pb),
        signing: signing::from_pb(subscription.signing),
        filter: subscription.filter.map(EventFilter::from_pb),
        format: subscription.format.map(Format::from_pb),
        failure_policy: subscription.failure_policy.map(FailurePolicy::from_pb).transpose()?,
        failing: subscription.failing.map(Failing::from_pb).transpose()?,
        handshake: subscription.handshake.map(Handshake::from_pb),
        handshake_status: subscription.handshake_status.map(HandshakeStatus::from_pb).transpose()?,
        health: health(subscription.health.unwrap_or_default())?,
        paused_at: time::optional(subscription.pause_time, "pause_time")?,
        disabled_at: time::optional(subscription.disable_time, "disable_time")?,
        created_at: time::from_pb(subscription.create_time, "create_time")?,
        updated_at: time::from_pb(subscription.update_time, "update_time")?,
        etag: subscription.etag,
    })
}

fn state(state: i32, reason: i32) -> SubscriptionState {
    match pb::SubscriptionState::try_from(state) {
        Ok(pb::SubscriptionState::Active) => SubscriptionState::Active,
        Ok(pb::SubscriptionState::Paused) => SubscriptionState::Paused,
        Ok(pb::SubscriptionState::Disabled) => SubscriptionState::Disabled(disabled_reason(reason)),
        Ok(pb::SubscriptionState::AwaitingHandshake) => SubscriptionState::AwaitingHandshake,
        Ok(pb::SubscriptionState::Unspecified) | Err(_) => SubscriptionState::Unrecognized(state),
    }
}

fn health(health: pb::SubscriptionHealth) -> Result<Health> {
    Ok(match pb::SubscriptionHealthState::try_from(health.state) {
        // An older server does not say.
        Ok(pb::SubscriptionHealthState::Healthy | pb::SubscriptionHealthState::Unspecified) => {
            Health::Healthy
        }
        Ok(pb::SubscriptionHealthState::Blocked) => Health::Blocked {
            failing_since: time::optional(health.failing_since_time, "failing_since_time")?,
            reason: health.blocked_reason,
            next_probe_at: time::optional(health.next_probe_time, "next_probe_time")?,
        },
        Err(_) => Health::Unrecognized(health.state),
    })
}

fn disabled_reason(reason: i32) -> DisabledReason {
    match pb::DisabledReason::try_from(reason) {
        Ok(pb::DisabledReason::Gone) => DisabledReason::Gone,
        Ok(pb::DisabledReason::Failing) => DisabledReason::Failing,
        Ok(pb::DisabledReason::Requested) => DisabledReason::Requested,
        Ok(pb::DisabledReason::HandshakeFailed) => DisabledReason::HandshakeFailed,
        Ok(pb::DisabledReason::Unspecified) | Err(_) => DisabledReason::Unrecognized(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unset_or_newer_than_this_sdk_is_no_error() {
        let health_of = |state| health(pb::SubscriptionHealth { state, ..pb::SubscriptionHealth::default() });
        assert_eq!(health_of(0).unwrap(), Health::Healthy);
        assert_eq!(health_of(1).unwrap(), Health::Healthy);
        assert_eq!(health_of(99).unwrap(), Health::Unrecognized(99));
        let reason = String::new();
        assert_eq!(
            health_of(2).unwrap(),
            Health::Blocked { failing_since: None, reason, next_probe_at: None }
        );
    }
}
