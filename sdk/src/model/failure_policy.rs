//! What happens to a subscription with nothing but failure.

use std::time::Duration;

use postrider_proto::v1::{self as pb, failure_policy::Disabling};
use time::OffsetDateTime;

use crate::{Result, convert};

/// What happens to a subscription with nothing but failure. By default: as the server is configured, and it stays disabled until
/// somebody enables it.
///
/// ```
/// use std::time::Duration;
/// use postrider_sdk::model::FailurePolicy;
///
/// const HOUR: Duration = Duration::from_secs(3_600);
///
/// let patient = FailurePolicy::disable_after(30 * 24 * HOUR).probe_every(HOUR);
/// let for_ever = FailurePolicy::never_disable();
/// # let _ = (patient, for_ever);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FailurePolicy {
    /// When it is disabled, where that is other than the server is configured for.
    pub disable: Option<Disable>,
    /// How often it is probed after it was disabled for failing, 1 minute to 30 days; a probe that succeeds enables it again.
    pub probe_interval: Option<Duration>,
}

/// When a subscription is disabled that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disable {
    /// After nothing but failure for so long, 1 hour to 90 days.
    After(Duration),
    /// Never.
    Never,
}

impl FailurePolicy {
    /// It is disabled after nothing but failure for so long.
    #[must_use]
    pub const fn disable_after(span: Duration) -> Self {
        Self { disable: Some(Disable::After(span)), probe_interval: None }
    }

    /// It is not disabled, however long it fails.
    #[must_use]
    pub const fn never_disable() -> Self {
        Self { disable: Some(Disable::Never), probe_interval: None }
    }

    /// Once it was disabled for failing, it is asked so often whether it has recovered.
    #[must_use]
    pub const fn probe_every(self, interval: Duration) -> Self {
        Self { probe_interval: Some(interval), ..self }
    }

    pub(crate) fn into_pb(self) -> pb::FailurePolicy {
        pb::FailurePolicy {
            disabling: self.disable.map(|disable| match disable {
                Disable::After(span) => Disabling::DisableAfter(convert::time::duration_to_pb(span)),
                Disable::Never => Disabling::NeverDisable(true),
            }),
            probe_interval: self.probe_interval.map(convert::time::duration_to_pb),
        }
    }

    pub(crate) fn from_pb(policy: pb::FailurePolicy) -> Result<Self> {
        let disable = match policy.disabling {
            Some(Disabling::DisableAfter(span)) => {
                Some(Disable::After(convert::time::duration_from_pb(span, "disable_after")?))
            }
            Some(Disabling::NeverDisable(true)) => Some(Disable::Never),
            Some(Disabling::NeverDisable(false)) | None => None,
        };
        let probe_interval = convert::time::duration(policy.probe_interval, "probe_interval")?;
        Ok(Self { disable, probe_interval })
    }
}

/// A subscription with nothing but failure.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failing {
    /// Since when no attempt has succeeded.
    pub since: OffsetDateTime,
    /// When the last failure was noted.
    pub last_failed_at: Option<OffsetDateTime>,
    /// What it was, for people.
    pub last_failure: String,
    /// All of it in words, for people.
    pub description: String,
    /// When it will be disabled unless an attempt succeeds.
    pub disable_at: Option<OffsetDateTime>,
    /// While it is disabled: when it is probed next, if it is.
    pub next_probe_at: Option<OffsetDateTime>,
}

impl Failing {
    pub(crate) fn from_pb(failing: pb::SubscriptionFailing) -> Result<Self> {
        Ok(Self {
            since: convert::time::from_pb(failing.since_time, "since_time")?,
            last_failed_at: convert::time::optional(failing.last_failure_time, "last_failure_time")?,
            last_failure: failing.last_failure,
            description: failing.description,
            disable_at: convert::time::optional(failing.disable_time, "disable_time")?,
            next_probe_at: convert::time::optional(failing.next_probe_time, "next_probe_time")?,
        })
    }
}
