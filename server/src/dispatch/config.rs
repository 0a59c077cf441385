//! How much a node takes over, for how long, and what follows from its attempts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{breaker::BreakerPolicy, invalid::Invalid, retry::RetryPolicy};

/// For recording the outcome after the longest possible attempt.
const MARGIN: Duration = Duration::from_secs(5);

/// How deliveries are taken over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a delivery belongs to the node that claimed it. Must outlast the longest possible attempt.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// How often the node looks for due deliveries when nothing wakes it.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    /// The most attempts under way on this node.
    pub max_in_flight: usize,
    /// The most attempts under way on this node for one tenant.
    pub max_in_flight_per_tenant: usize,
    /// The most attempts under way from this node to one subscription.
    pub max_in_flight_per_subscription: usize,
    /// The most deliveries that this node holds beyond those, to send them from memory as soon as their receivers have answered others. One
    /// whose data is larger than 64 KiB counts as one for each 64 KiB: with those under way this bounds the memory that they take.
    pub max_queued: usize,
    /// The most of them for one subscription, whose receiver must be well and quick.
    pub max_queued_per_subscription: usize,
}

/// What follows from attempts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    /// For the delivery.
    pub retry: RetryPolicy,
    /// For the subscription.
    pub breaker: BreakerPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_mins(1),
            poll_interval: Duration::from_secs(1),
            max_in_flight: 1_024,
            max_in_flight_per_tenant: 768,
            max_in_flight_per_subscription: 128,
            max_queued: 3_072,
            max_queued_per_subscription: 896,
        }
    }
}

impl Config {
    /// The longest attempt that the lease leaves room for.
    #[must_use]
    pub fn longest_attempt(&self) -> Duration {
        self.lease.saturating_sub(MARGIN)
    }

    /// Checks each field, and that a lease outlasts an attempt of `timeout` and its settlement.
    pub fn validate(&self, timeout: Duration) -> Result<(), Invalid> {
        if self.lease < timeout + MARGIN {
            let least = humantime(timeout + MARGIN);
            return Err(Invalid::new(
                "dispatch.lease",
                format!(
                    "is {}, but must outlast `sender.timeout` by 5s: at least {least}",
                    humantime(self.lease)
                ),
            ));
        }
        if !(Duration::from_millis(10)..=Duration::from_mins(1)).contains(&self.poll_interval) {
            return Err(Invalid::new("dispatch.poll_interval", "must be from 10ms to 1m"));
        }
        if !(1..=100_000).contains(&self.max_in_flight) {
            return Err(Invalid::new("dispatch.max_in_flight", "must be from 1 to 100000"));
        }
        for (field, limit) in [
            ("dispatch.max_in_flight_per_tenant", self.max_in_flight_per_tenant),
            ("dispatch.max_in_flight_per_subscription", self.max_in_flight_per_subscription),
        ] {
            if !(1..=self.max_in_flight).contains(&limit) {
                return Err(Invalid::new(field, "must be from 1 to `dispatch.max_in_flight`"));
            }
        }
        if self.max_queued > 100_000 {
            return Err(Invalid::new("dispatch.max_queued", "must be at most 100000"));
        }
        if self.max_queued_per_subscription > self.max_queued {
            let field = "dispatch.max_queued_per_subscription";
            return Err(Invalid::new(field, "must be at most `dispatch.max_queued`"));
        }
        Ok(())
    }
}

fn humantime(span: Duration) -> String {
    humantime_serde::re::humantime::format_duration(span).to_string()
}
