//! The numbers that stand for enumerations in the database. A number never changes its meaning.

use super::Error;
use crate::domain::{
    attempt::Failure,
    delivery::{DeliveryStatus, EndReason},
    handling::Priority,
    secret::SecretKind,
    subscription::DisabledReason,
};

macro_rules! codes {
    ($table:literal, $enum:ty, $to:ident, $from:ident, { $($variant:ident = $code:literal),+ $(,)? }) => {
        pub(super) const fn $to(value: $enum) -> i16 {
            match value { $(<$enum>::$variant => $code),+ }
        }

        pub(super) fn $from(code: i16) -> Result<$enum, Error> {
            match code {
                $($code => Ok(<$enum>::$variant),)+
                _ => Err(Error::Corrupt { table: $table, cause: format!("{code} is no {}", stringify!($enum)) }),
            }
        }
    };
}

/// The state of a delivery that has not ended.
pub(super) const PENDING: i16 = status_code(DeliveryStatus::Pending);

/// The outcomes of an attempt.
pub(super) const ACKNOWLEDGED: i16 = 1;
pub(super) const REJECTED: i16 = 2;
pub(super) const FAILED: i16 = 3;

codes!("subscription_secrets", SecretKind, secret_kind_code, secret_kind_of, {
    Bytes = 0,
    Text = 1,
});

codes!("deliveries", DeliveryStatus, status_code, status_of, {
    Pending = 0,
    Succeeded = 1,
    Failed = 2,
    Cancelled = 3,
});

codes!("deliveries", EndReason, end_reason_code, end_reason_of, {
    Acknowledged = 1,
    Exhausted = 2,
    Gone = 3,
    Cancelled = 4,
    SubscriptionDeleted = 5,
    SubscriptionDisabled = 6,
    Expired = 7,
    Unreadable = 8,
    Aborted = 9,
});

// The claim probes for what is due by these numbers.
codes!("events", Priority, priority_code, priority_of, {
    Low = -1,
    Normal = 0,
    High = 1,
});

codes!("subscriptions", DisabledReason, disabled_reason_code, disabled_reason_of, {
    Gone = 1,
    Failing = 2,
    Requested = 3,
    HandshakeFailed = 4,
});

codes!("attempts", Failure, failure_code, failure_of, {
    Timeout = 1,
    Dns = 2,
    Connect = 3,
    Tls = 4,
    AddressRefused = 5,
    Protocol = 6,
    Internal = 7,
    Authentication = 8,
    Template = 9,
});
