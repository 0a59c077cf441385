//! Subscriptions.

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_proto::v1 as pb;

use super::to_timestamp;
use crate::{
    domain::{
        address::AddressPolicy,
        invalid::Invalid,
        secret::SigningSecret,
        subscription::{
            Description, DisabledReason, Filter, Subscription, SubscriptionSpec, SubscriptionState,
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
    }
}

/// Fields of `Subscription` that a mask may name and that change nothing (AIP-161).
const OUTPUT_ONLY: [&str; 9] = [
    "name",
    "uid",
    "state",
    "disabled_reason",
    "disable_time",
    "pause_time",
    "create_time",
    "update_time",
    "etag",
];

/// Reads a new subscription.
pub(in crate::grpc) fn spec(
    subscription: &pb::Subscription,
    policy: &AddressPolicy,
) -> Result<SubscriptionSpec, Invalid> {
    Ok(SubscriptionSpec {
        description: description(subscription)?,
        target_url: target_url(subscription, policy)?,
        filter: filter(subscription)?,
    })
}

/// Reads an update: the fields that the mask names, or, without a mask, those that are not empty (AIP-134).
pub(in crate::grpc) fn edit(
    subscription: &pb::Subscription,
    mask: Option<&prost_types::FieldMask>,
    policy: &AddressPolicy,
) -> Result<Edit, Invalid> {
    let paths: Vec<&str> = match mask {
        Some(mask) if mask.paths.iter().any(|path| path == "*") => {
            vec!["description", "target_url", "event_types"]
        }
        Some(mask) if !mask.paths.is_empty() => mask.paths.iter().map(String::as_str).collect(),
        _ => populated(subscription),
    };
    let mut edit = Edit::default();
    for path in paths {
        match path {
            "description" => edit.description = Some(description(subscription)?),
            "target_url" => edit.target_url = Some(target_url(subscription, policy)?),
            "event_types" => edit.filter = Some(filter(subscription)?),
            path if OUTPUT_ONLY.contains(&path) => {}
            unknown => {
                let shown: String = unknown.chars().take(100).collect();
                return Err(Invalid::new(
                    "update_mask",
                    format!(
                        "names `{}`; it may name `description`, `target_url` and `event_types`",
                        shown.escape_debug()
                    ),
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
    }
}

/// Shows a secret in the form that every Standard Webhooks library takes.
pub(in crate::grpc) fn to_secret(secret: &SigningSecret) -> String {
    format!("whsec_{}", STANDARD.encode(secret.expose()))
}
