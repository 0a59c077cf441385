//! When failed attempts are repeated.

use std::time::Duration;

use postrider_proto::v1 as pb;

use crate::{Result, convert};

/// When failed attempts of a subscription's deliveries are repeated. Each pause is made longer or shorter by a random part of it.
///
/// ```
/// use std::time::Duration;
/// use postrider_sdk::model::DeliveryRetryPolicy;
///
/// let three_attempts = DeliveryRetryPolicy::schedule([Duration::from_secs(1), Duration::from_secs(60)]);
/// let for_a_day = DeliveryRetryPolicy::exponential(Duration::from_secs(10), 100).max_age(Duration::from_secs(86_400));
/// # let _ = (three_attempts, for_a_day);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct DeliveryRetryPolicy {
    /// How long the pauses between attempts are; as the server is configured if not set.
    pub pauses: Option<Pauses>,
    /// How long after its event was published a delivery is given up.
    pub max_age: Option<Duration>,
}

/// The pauses between attempts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Pauses {
    /// The pause after the first attempt, the second, …
    Schedule(Vec<Duration>),
    /// Pauses that grow.
    #[non_exhaustive]
    Exponential {
        /// The pause after the first attempt.
        initial: Duration,
        /// How many times as long as the one before each pause is; 0 in what is sent stands for 2.
        multiplier: f64,
        /// The longest pause; 24 hours if not set in what is sent.
        max: Option<Duration>,
        /// The number of attempts.
        max_attempts: u32,
    },
}

impl DeliveryRetryPolicy {
    /// These pauses; there is one attempt more. Without any there is a single attempt.
    pub fn schedule(pauses: impl IntoIterator<Item = Duration>) -> Self {
        Self { pauses: Some(Pauses::Schedule(pauses.into_iter().collect())), max_age: None }
    }

    /// Pauses that double, and so many attempts.
    #[must_use]
    pub fn exponential(initial: Duration, max_attempts: u32) -> Self {
        let pauses = Pauses::Exponential { initial, multiplier: 0.0, max: None, max_attempts };
        Self { pauses: Some(pauses), max_age: None }
    }

    /// The longest of the pauses that grow.
    #[must_use]
    pub fn max_pause(mut self, pause: Duration) -> Self {
        if let Some(Pauses::Exponential { max, .. }) = &mut self.pauses {
            *max = Some(pause);
        }
        self
    }

    /// How many times as long as the one before each of the pauses that grow is.
    #[must_use]
    pub fn multiplier(mut self, times: f64) -> Self {
        if let Some(Pauses::Exponential { multiplier, .. }) = &mut self.pauses {
            *multiplier = times;
        }
        self
    }

    /// A delivery is given up so long after its event was published.
    #[must_use]
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { max_age: Some(max_age), ..self }
    }

    pub(crate) fn into_pb(self) -> pb::RetryPolicy {
        let pauses = self.pauses.map(|pauses| match pauses {
            Pauses::Schedule(pauses) => {
                let pauses = pauses.into_iter().map(convert::time::duration_to_pb).collect();
                pb::retry_policy::Pauses::Schedule(pb::RetrySchedule { pauses })
            }
            Pauses::Exponential { initial, multiplier, max, max_attempts } => {
                pb::retry_policy::Pauses::Exponential(pb::ExponentialBackoff {
                    initial_pause: Some(convert::time::duration_to_pb(initial)),
                    multiplier,
                    max_pause: max.map(convert::time::duration_to_pb),
                    max_attempts: i32::try_from(max_attempts).unwrap_or(i32::MAX),
                })
            }
        });
        pb::RetryPolicy { pauses, max_age: self.max_age.map(convert::time::duration_to_pb) }
    }

    pub(crate) fn from_pb(policy: pb::RetryPolicy) -> Result<Self> {
        let pauses = policy.pauses.map(|pauses| match pauses {
            pb::retry_policy::Pauses::Schedule(schedule) => {
                let pauses =
                    schedule.pauses.into_iter().map(|pause| convert::time::duration_from_pb(pause, "pauses"));
                Ok(Pauses::Schedule(pauses.collect::<Result<_>>()?))
            }
            pb::retry_policy::Pauses::Exponential(backoff) => Ok(Pauses::Exponential {
                initial: convert::time::duration_from_pb(
                    backoff.initial_pause.unwrap_or_default(),
                    "initial_pause",
                )?,
                multiplier: backoff.multiplier,
                max: backoff
                    .max_pause
                    .map(|pause| convert::time::duration_from_pb(pause, "max_pause"))
                    .transpose()?,
                max_attempts: u32::try_from(backoff.max_attempts).unwrap_or(0),
            }),
        });
        let max_age = policy.max_age.map(|age| convert::time::duration_from_pb(age, "max_age"));
        Ok(Self { pauses: pauses.transpose()?, max_age: max_age.transpose()? })
    }
}
