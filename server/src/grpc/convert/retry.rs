//! When a subscription's failed attempts are repeated.

use std::time::Duration;

use postrider_proto::v1 as pb;

use super::{duration, to_duration};
use crate::domain::{
    invalid::Invalid,
    retry::{Growth, OwnRetry, Pauses},
};

/// What pauses grow by, if nothing is said.
const DEFAULT_MULTIPLIER: f64 = 2.0;
/// The longest pause, if nothing is said.
const DEFAULT_MAX_PAUSE: Duration = Duration::from_hours(24);

/// Reads a policy.
pub(super) fn own(policy: &pb::RetryPolicy) -> Result<OwnRetry, Invalid> {
    let pauses = policy.pauses.as_ref().map(|pauses| match pauses {
        pb::retry_policy::Pauses::Schedule(schedule) => {
            listed(schedule).map_err(|invalid| invalid.within("schedule"))
        }
        pb::retry_policy::Pauses::Exponential(backoff) => {
            growing(backoff).map_err(|invalid| invalid.within("exponential"))
        }
    });
    let max_age = duration::optional(policy.max_age, "max_age")?;
    Ok(OwnRetry { pauses: pauses.transpose()?, max_age: max_age.map(OwnRetry::parse_max_age).transpose()? })
}

fn listed(schedule: &pb::RetrySchedule) -> Result<Pauses, Invalid> {
    let pause =
        |(index, pause): (usize, &prost_types::Duration)| duration::of(*pause, &format!("pauses[{index}]"));
    Pauses::listed(schedule.pauses.iter().enumerate().map(pause).collect::<Result<_, _>>()?)
}

fn growing(backoff: &pb::ExponentialBackoff) -> Result<Pauses, Invalid> {
    let first = duration::optional(backoff.initial_pause, "initial_pause")?.unwrap_or_default();
    Pauses::growing(Growth {
        first,
        factor: if backoff.multiplier == 0.0 { DEFAULT_MULTIPLIER } else { backoff.multiplier },
        longest: duration::optional(backoff.max_pause, "max_pause")?.unwrap_or(DEFAULT_MAX_PAUSE.max(first)),
        // Below zero is refused like zero.
        attempts: u32::try_from(backoff.max_attempts).unwrap_or(0),
    })
}

/// Shows a policy.
pub(super) fn to_policy(own: &OwnRetry) -> pb::RetryPolicy {
    let pauses = own.pauses.as_ref().map(|pauses| match pauses {
        Pauses::Listed(pauses) => {
            let pauses = pauses.iter().copied().map(to_duration).collect();
            pb::retry_policy::Pauses::Schedule(pb::RetrySchedule { pauses })
        }
        Pauses::Growing(growth) => pb::retry_policy::Pauses::Exponential(pb::ExponentialBackoff {
            initial_pause: Some(to_duration(growth.first)),
            multiplier: growth.factor,
            max_pause: Some(to_duration(growth.longest)),
            max_attempts: i32::try_from(growth.attempts).unwrap_or(i32::MAX),
        }),
    });
    pb::RetryPolicy { pauses, max_age: own.max_age.map(to_duration) }
}
