//! Subscriptions.

use std::num::NonZeroU32;

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_proto::v1 as pb;

use super::to_timestamp;
use crate::{
    domain::{
        address::AddressPolicy,
        breaker::Health,
        invalid::Invalid,
        rate_limit::RateLimit,
        secret::SigningSecret,
        subscription::{
            Description, DisabledReason, Filter, Pace, Subscription, SubscriptionSpec, SubscriptionState,
        },
        target_url::TargetUrl,
    },
    grpc::name,
};

/// What an update sets.
#[derive(Debug, Default)]
pub(in crate::grpc) struct Edit {
    description: Option<Description>,
    target_url: Option<TargetUrl>,
    filter: Option<Filter>,
    pace: Pace,
    sets_rate: bool,
    sets_max_in_flight: bool,
}

impl Edit {
    /// Sets what is to be set.
    pub(in crate::grpc) fn apply(self, spec: &mut SubscriptionSpec) {
        if let Some(description) = self.description {
            spec.description = description;
        }
        if let Some(target_url) = self.target_url {
            spec.target_url = target_url;
        }
        if let Some(filter) = self.filter {
            spec.filter = filter;
        }
        if self.sets_rate {
            spec.pace.rate = self.pace.rate;
        }
        if self.sets_max_in_flight {
            spec.pace.max_in_flight = self.pace.max_in_flight;
        }
    }
}

/// Fields of `Subscription` that a mask may name and that change nothing (AIP-161).
const OUTPUT_ONLY: [&str; 10] = [
    "name",
    "uid",
    "state",
    "disabled_reason",
    "disable_time",
    "pause_time",
    "create_time",
    "update_time",
    "etag",
    "health",
];

/// Fields of `Subscription` that an update can set.
const EDITABLE: [&str; 5] = ["description", "target_url", "event_types", "rate_limit", "max_in_flight"];

/// Reads a new subscription.
pub(in crate::grpc) fn spec(
    subscription: &pb::Subscription,
    policy: &AddressPolicy,
) -> Result<SubscriptionSpec, Invalid> {
    Ok(SubscriptionSpec {
        description: description(subscription)?,
        target_url: target_url(subscription, policy)?,
        filter: filter(subscription)?,
        pace: Pace { rate: rate(subscription)?, max_in_flight: max_in_flight(subscription)? },
    })
}

/// Reads an update: the fields that the mask names, or, without a mask, those that are not empty (AIP-134).
pub(in crate::grpc) fn edit(
    subscription: &pb::Subscription,
    mask: Option<&prost_types::FieldMask>,
    policy: &AddressPolicy,
) -> Result<Edit, Invalid> {
    let paths: Vec<&str> = match mask {
        Some(mask) if mask.paths.iter().any(|path| path == "*") => EDITABLE.to_vec(),
        Some(mask) if !mask.paths.is_empty() => mask.paths.iter().map(String::as_str).collect(),
        _ => populated(subscription),
    };
    let mut edit = Edit::default();
    for path in paths {
        match path {
            "description" => edit.description = Some(description(subscription)?),
            "target_url" => edit.target_url = Some(target_url(subscription, policy)?),
            "event_types" => edit.filter = Some(filter(subscription)?),
            "rate_limit" => (edit.pace.rate, edit.sets_rate) = (rate(subscription)?, true),
            "max_in_flight" => {
                (edit.pace.max_in_flight, edit.sets_max_in_flight) = (max_in_flight(subscription)?, true);
            }
            path if OUTPUT_ONLY.contains(&path) => {}
            unknown => {
                let shown: String = unknown.chars().take(100).collect();
                return Err(Invalid::new(
                    "update_mask",
                    format!("names `{}`; it may name `{}`", shown.escape_debug(), EDITABLE.join("`, `")),
                ));
            }
        }
    }
    Ok(edit)
}

fn populated(subscription: &pb::Subscription) -> Vec<&'static str> {
    let mut paths = Vec::new();
    if !subscription.description.is_empty() {
        paths.push("description");
    }
    if !subscription.target_url.is_empty() {
        paths.push("target_url");
    }
    if !subscription.event_types.is_empty() {
        paths.push("event_types");
    }
    if subscription.rate_limit.is_some() {
        paths.push("rate_limit");
    }
    if subscription.max_in_flight != 0 {
        paths.push("max_in_flight");
    }
    paths
}

fn description(subscription: &pb::Subscription) -> Result<Description, Invalid> {
    Description::parse(&subscription.description).map_err(within)
}

fn filter(subscription: &pb::Subscription) -> Result<Filter, Invalid> {
    Filter::parse(&subscription.event_types).map_err(within)
}

/// The first of the three gates; the others stand before each request.
fn target_url(subscription: &pb::Subscription, policy: &AddressPolicy) -> Result<TargetUrl, Invalid> {
    let target_url = TargetUrl::parse(&subscription.target_url).map_err(within)?;
    policy
        .check_url(&target_url)
        .map_err(|refused| within(Invalid::new("target_url", refused.to_string())))?;
    Ok(target_url)
}

fn rate(subscription: &pb::Subscription) -> Result<Option<RateLimit>, Invalid> {
    let rate = subscription.rate_limit.as_ref();
    rate.map(|rate| RateLimit::parse(rate.deliveries_per_second, rate.burst))
        .transpose()
        .map_err(|invalid| within(invalid.within("rate_limit")))
}

fn max_in_flight(subscription: &pb::Subscription) -> Result<Option<NonZeroU32>, Invalid> {
    Pace::parse_max_in_flight(subscription.max_in_flight).map_err(within)
}

fn within(invalid: Invalid) -> Invalid {
    invalid.within("subscription")
}

/// Shows a subscription.
pub(in crate::grpc) fn to_subscription(subscription: &Subscription) -> pb::Subscription {
    pb::Subscription {
        name: name::of_subscription(&subscription.tenant, &subscription.id),
        uid: subscription.uid.uuid().to_string(),
        description: subscription.spec.description.as_str().to_owned(),
        target_url: subscription.spec.target_url.as_str().to_owned(),
        event_types: subscription.spec.filter.patterns().map(str::to_owned).collect(),
        state: match subscription.state() {
            SubscriptionState::Active => pb::SubscriptionState::Active,
            SubscriptionState::Paused => pb::SubscriptionState::Paused,
            SubscriptionState::Disabled => pb::SubscriptionState::Disabled,
        }
        .into(),
        disabled_reason: match subscription.disabled {
            None => pb::DisabledReason::Unspecified,
            Some((_, DisabledReason::Gone)) => pb::DisabledReason::Gone,
        }
        .into(),
        disable_time: subscription.disabled.and_then(|(at, _)| to_timestamp(at)),
        pause_time: subscription.paused_at.and_then(to_timestamp),
        create_time: to_timestamp(subscription.created_at),
        update_time: to_timestamp(subscription.updated_at),
        etag: subscription.etag(),
        rate_limit: subscription.spec.pace.rate.map(|rate| pb::RateLimit {
            deliveries_per_second: rate.per_second(),
            burst: i32::try_from(rate.burst()).unwrap_or(i32::MAX),
        }),
        max_in_flight: subscription
            .spec
            .pace
            .max_in_flight
            .map_or(0, |most| i32::try_from(most.get()).unwrap_or(i32::MAX)),
        health: Some(to_health(&subscription.health)),
    }
}

fn to_health(health: &Health) -> pb::SubscriptionHealth {
    match health {
        Health::Healthy => pb::SubscriptionHealth {
            state: pb::SubscriptionHealthState::Healthy.into(),
            ..pb::SubscriptionHealth::default()
        },
        Health::Blocked { failing_since, reason, next_probe_at } => pb::SubscriptionHealth {
            state: pb::SubscriptionHealthState::Blocked.into(),
            failing_since_time: to_timestamp(*failing_since),
            blocked_reason: reason.clone(),
            next_probe_time: to_timestamp(*next_probe_at),
        },
    }
}

/// Shows a secret in the form that every Standard Webhooks library takes.
pub(in crate::grpc) fn to_secret(secret: &SigningSecret) -> String {
    format!("whsec_{}", STANDARD.encode(secret.expose()))
}
