//! Subscriptions.

use std::{sync::Arc, time::Duration};

use postrider_proto::v1 as pb;

use super::{
    authentication, duration, failing, filter, format, handshake, receiver_tls, retry, signing, to_duration,
    to_timestamp,
};
use crate::{
    clock::Clock,
    domain::{
        address::AddressPolicy,
        breaker::Health,
        failing::FailurePolicy,
        invalid::Invalid,
        rate_limit::RateLimit,
        settings::Settings,
        subscription::{
            Description, DisabledReason, Filter, Pace, Subscription, SubscriptionSpec, SubscriptionState,
        },
        target_url::TargetUrl,
    },
    grpc::name,
};

/// What the server allows.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Which targets may be subscribed.
    pub addresses: AddressPolicy,
    /// The longest timeout of an attempt.
    pub max_timeout: Duration,
    /// Tells whether certificates are in force.
    pub clock: Arc<dyn Clock>,
}

/// Sets one field of a subscription to what was read.
type Set = Box<dyn FnOnce(&mut SubscriptionSpec) + Send>;

/// A field that an owner sets, each as a whole.
struct Field {
    /// As a mask names it.
    path: &'static str,
    /// Whether a message without a mask says something about it.
    is_populated: fn(&pb::Subscription) -> bool,
    /// Reads it; what is not populated is read as its default.
    read: fn(&pb::Subscription, &Limits) -> Result<Set, Invalid>,
}

/// All of them.
const FIELDS: [Field; 14] = [
    Field {
        path: "description",
        is_populated: |message| !message.description.is_empty(),
        read: |message, _| {
            let description = Description::parse(&message.description)?;
            Ok(Box::new(|spec| spec.description = description))
        },
    },
    Field {
        path: "target_url",
        is_populated: |message| !message.target_url.is_empty(),
        read: |message, limits| {
            let target_url = target_url(message, limits)?;
            Ok(Box::new(|spec| spec.target_url = target_url))
        },
    },
    Field {
        path: "event_types",
        is_populated: |message| !message.event_types.is_empty(),
        read: |message, _| {
            let filter = Filter::parse(&message.event_types)?;
            Ok(Box::new(|spec| spec.filter = filter))
        },
    },
    Field {
        path: "rate_limit",
        is_populated: |message| message.rate_limit.is_some(),
        read: |message, _| {
            let rate = message.rate_limit.as_ref();
            let rate = rate
                .map(|rate| RateLimit::parse(rate.deliveries_per_second, rate.burst))
                .transpose()
                .map_err(|invalid| invalid.within("rate_limit"))?;
            Ok(Box::new(move |spec| spec.pace.rate = rate))
        },
    },
    Field {
        path: "max_in_flight",
        is_populated: |message| message.max_in_flight != 0,
        read: |message, _| {
            let max_in_flight = Pace::parse_max_in_flight(message.max_in_flight)?;
            Ok(Box::new(move |spec| spec.pace.max_in_flight = max_in_flight))
        },
    },
    Field {
        path: "retry_policy",
        is_populated: |message| message.retry_policy.is_some(),
        read: |message, _| {
            let policy = message.retry_policy.as_ref().map(retry::own).transpose();
            let policy = policy.map_err(|invalid| invalid.within("retry_policy"))?;
            Ok(Box::new(|spec| spec.settings.retry = policy))
        },
    },
    Field {
        path: "timeout",
        is_populated: |message| message.timeout.is_some(),
        read: |message, limits| {
            let timeout = duration::optional(message.timeout, "timeout")?;
            let timeout =
                timeout.map(|timeout| Settings::parse_timeout(timeout, limits.max_timeout)).transpose()?;
            Ok(Box::new(move |spec| spec.settings.timeout = timeout))
        },
    },
    Field {
        path: "authentication",
        is_populated: |message| message.authentication.is_some(),
        read: |message, limits| {
            let own = message.authentication.as_ref();
            let own = own.map(|own| authentication::own(own, &limits.addresses)).transpose();
            let mut own = own.map_err(|invalid| invalid.within("authentication"))?;
            Ok(Box::new(move |spec| {
                if let Some(own) = &mut own {
                    own.keep_secrets(spec.settings.authentication.as_ref());
                }
                spec.settings.authentication = own;
            }))
        },
    },
    Field {
        path: "tls",
        is_populated: |message| message.tls.is_some(),
        read: |message, limits| {
            let own = message.tls.as_ref().map(|own| receiver_tls::own(own, limits.clock.now())).transpose();
            let mut own = own.map_err(|invalid| invalid.within("tls"))?.flatten();
            Ok(Box::new(move |spec| {
                if let Some(own) = &mut own {
                    own.keep_secrets(spec.settings.tls.as_ref());
                }
                spec.settings.tls = own;
            }))
        },
    },
    Field {
        path: "signing",
        is_populated: |message| message.signing.is_some(),
        read: |message, _| {
            let signing = message.signing.as_ref().map(signing::signing).transpose();
            let signing = signing.map_err(|invalid| invalid.within("signing"))?;
            Ok(Box::new(|spec| spec.settings.signing = signing))
        },
    },
    Field {
        path: "filter",
        is_populated: |message| message.filter.is_some(),
        read: |message, _| {
            let conditions = message.filter.as_ref().map(filter::conditions).transpose();
            let conditions = conditions.map_err(|invalid| invalid.within("filter"))?.flatten();
            Ok(Box::new(|spec| spec.settings.filter = conditions))
        },
    },
    Field {
        path: "format",
        is_populated: |message| message.format.is_some(),
        read: |message, _| {
            let form = message.format.as_ref().map(format::form).transpose();
            let form = form.map_err(|invalid| invalid.within("format"))?.flatten();
            Ok(Box::new(|spec| spec.settings.set_form(form)))
        },
    },
    Field {
        path: "failure_policy",
        is_populated: |message| message.failure_policy.is_some(),
        read: |message, _| {
            let policy = message.failure_policy.as_ref().map(failing::policy).transpose();
            let policy = policy.map_err(|invalid| invalid.within("failure_policy"))?;
            let policy = policy.filter(|policy| *policy != FailurePolicy::default());
            Ok(Box::new(move |spec| spec.settings.failure = policy))
        },
    },
    Field {
        path: "handshake",
        is_populated: |message| message.handshake.is_some(),
        read: |message, _| {
            let own = message.handshake.as_ref().map(handshake::own).transpose();
            let mut own = own.map_err(|invalid| invalid.within("handshake"))?;
            Ok(Box::new(move |spec| {
                if let Some(own) = &mut own {
                    own.keep_secrets(spec.settings.handshake.as_ref());
                }
                spec.settings.handshake = own;
            }))
        },
    },
];

/// Fields of `Subscription` that a mask may name and that change nothing (AIP-161).
const OUTPUT_ONLY: [&str; 12] = [
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
    "failing",
    "handshake_status",
];

/// What an update sets.
pub(in crate::grpc) struct Edit(Vec<Set>);

impl Edit {
    /// Sets what is to be set.
    pub(in crate::grpc) fn apply(self, spec: &mut SubscriptionSpec) -> Result<(), Invalid> {
        for set in self.0 {
            set(spec);
        }
        spec.check().map_err(within)
    }
}

/// Reads a new subscription.
pub(in crate::grpc) fn spec(
    subscription: &pb::Subscription,
    limits: &Limits,
) -> Result<SubscriptionSpec, Invalid> {
    let mut spec = SubscriptionSpec {
        description: Description::parse("").map_err(within)?,
        target_url: target_url(subscription, limits).map_err(within)?,
        filter: Filter::parse(&subscription.event_types).map_err(within)?,
        pace: Pace::default(),
        settings: Settings::default(),
    };
    let sets: Result<_, _> = FIELDS.iter().map(|field| (field.read)(subscription, limits)).collect();
    Edit(sets.map_err(within)?).apply(&mut spec)?;
    Ok(spec)
}

/// Reads an update: the fields that the mask names, or, without a mask, those that are not empty (AIP-134).
pub(in crate::grpc) fn edit(
    subscription: &pb::Subscription,
    mask: Option<&prost_types::FieldMask>,
    limits: &Limits,
) -> Result<Edit, Invalid> {
    let mut fields: Vec<&Field> = Vec::new();
    match mask {
        Some(mask) if mask.paths.iter().any(|path| path == "*") => fields.extend(&FIELDS),
        Some(mask) if !mask.paths.is_empty() => {
            for path in mask.paths.iter().filter(|path| !OUTPUT_ONLY.contains(&path.as_str())) {
                fields.push(FIELDS.iter().find(|field| field.path == path).ok_or_else(|| unknown(path))?);
            }
        }
        _ => fields.extend(FIELDS.iter().filter(|field| (field.is_populated)(subscription))),
    }
    let sets: Result<_, _> = fields.into_iter().map(|field| (field.read)(subscription, limits)).collect();
    sets.map(Edit).map_err(within)
}

/// A mask names a field that there is not.
fn unknown(path: &str) -> Invalid {
    let shown: String = path.chars().take(100).collect();
    let known = FIELDS.map(|field| field.path).join("`, `");
    Invalid::new("update_mask", format!("names `{}`; it may name `{known}`", shown.escape_debug()))
}

/// The first of the three gates; the others stand before each request.
fn target_url(subscription: &pb::Subscription, limits: &Limits) -> Result<TargetUrl, Invalid> {
    let target_url = TargetUrl::parse(&subscription.target_url)?;
    limits
        .addresses
        .check_url(&target_url)
        .map_err(|refused| Invalid::new("target_url", refused.to_string()))?;
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
            SubscriptionState::AwaitingHandshake => pb::SubscriptionState::AwaitingHandshake,
        }
        .into(),
        disabled_reason: match subscription.disabled {
            None => pb::DisabledReason::Unspecified,
            Some((_, DisabledReason::Gone)) => pb::DisabledReason::Gone,
            Some((_, DisabledReason::Failing)) => pb::DisabledReason::Failing,
            Some((_, DisabledReason::Requested)) => pb::DisabledReason::Requested,
            Some((_, DisabledReason::HandshakeFailed)) => pb::DisabledReason::HandshakeFailed,
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
        retry_policy: subscription.spec.settings.retry.as_ref().map(retry::to_policy),
        timeout: subscription.spec.settings.timeout.map(to_duration),
        authentication: subscription
            .spec
            .settings
            .authentication
            .as_ref()
            .map(authentication::to_authentication),
        tls: subscription.spec.settings.tls.as_ref().map(receiver_tls::to_tls),
        signing: subscription.spec.settings.signing.as_ref().map(signing::to_signing),
        filter: subscription.spec.settings.filter.as_ref().map(filter::to_filter),
        format: subscription.spec.settings.form.as_ref().map(format::to_format),
        failure_policy: subscription.spec.settings.failure.as_ref().map(failing::to_policy),
        failing: failing::to_failing(subscription),
        handshake: subscription.spec.settings.handshake.as_ref().map(handshake::to_handshake),
        handshake_status: subscription.handshake.as_ref().map(handshake::to_status),
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
