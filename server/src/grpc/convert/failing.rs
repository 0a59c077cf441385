//! What happens to subscriptions with nothing but failure.

use postrider_proto::v1::{self as pb, failure_policy::Disabling};

use super::{duration, to_duration, to_timestamp};
use crate::domain::{
    failing::{Disable, FailurePolicy},
    invalid::Invalid,
    subscription::Subscription,
};

/// Reads a policy.
pub(super) fn policy(policy: &pb::FailurePolicy) -> Result<FailurePolicy, Invalid> {
    let disable = match policy.disabling {
        None => None,
        Some(Disabling::DisableAfter(span)) => {
            let span = duration::of(span, "disable_after")?;
            Some(Disable::After(FailurePolicy::parse_disable_after(span)?))
        }
        Some(Disabling::NeverDisable(true)) => Some(Disable::Never),
        Some(Disabling::NeverDisable(false)) => {
            return Err(Invalid::new(
                "never_disable",
                "must be true if it is set; set `disable_after` instead",
            ));
        }
    };
    let probe_interval = duration::optional(policy.probe_interval, "probe_interval")?;
    let probe_interval = probe_interval.map(FailurePolicy::parse_probe_interval).transpose()?;
    if disable == Some(Disable::Never) && probe_interval.is_some() {
        let reason = "cannot be set with `never_disable`: what is not disabled is not probed";
        return Err(Invalid::new("probe_interval", reason));
    }
    Ok(FailurePolicy { disable, probe_interval })
}

/// Shows a policy.
pub(super) fn to_policy(policy: &FailurePolicy) -> pb::FailurePolicy {
    pb::FailurePolicy {
        disabling: policy.disable.map(|disable| match disable {
            Disable::After(span) => Disabling::DisableAfter(to_duration(span)),
            Disable::Never => Disabling::NeverDisable(true),
        }),
        probe_interval: policy.probe_interval.map(to_duration),
    }
}

/// Shows how a subscription fails, if that is certain.
pub(super) fn to_failing(subscription: &Subscription) -> Option<pb::SubscriptionFailing> {
    let failing = subscription.failing.as_ref()?;
    let since = failing.since?;
    let is_disabled = subscription.disabled.is_some();
    Some(pb::SubscriptionFailing {
        since_time: to_timestamp(since),
        last_failure_time: to_timestamp(failing.last_failed_at),
        last_failure: failing.last_failure.clone(),
        description: failing.told(),
        disable_time: failing.disable_at.filter(|_| !is_disabled).and_then(to_timestamp),
        next_probe_time: failing.look_at.filter(|_| is_disabled).and_then(to_timestamp),
    })
}
