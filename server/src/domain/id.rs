//! Ids: those that Postrider makes (time-ordered, prefixed) and those that callers choose.

use std::{fmt, sync::Arc};

use uuid::Uuid;

use super::{invalid::Invalid, timestamp::Timestamp};

/// Makes a UUIDv7 (RFC 9562) of `now` whose order is that of time and, within one microsecond, of `nth`.
///
/// After the milliseconds come their fraction (the RFC's section 6.2, method 3), 20 bits of `nth`, and chance.
fn uuid_v7(now: Timestamp, nth: usize) -> Uuid {
    let micros = u64::try_from(now.as_micros()).unwrap_or(0);
    let fraction = (micros % 1_000) * 4_096 / 1_000;
    let tail = (nth as u64 & 0xf_ffff) << 42 | rand::random::<u64>() >> 22;
    Uuid::from_u128(
        u128::from(micros / 1_000) << 80 | 7 << 76 | u128::from(fraction) << 64 | 2 << 62 | u128::from(tail),
    )
}

/// The smallest UUIDv7 that `uuid_v7` could have made at `moment`: the border between older and newer ids.
fn uuid_floor(moment: Timestamp) -> Uuid {
    let millis = u64::try_from(moment.as_micros().div_euclid(1_000)).unwrap_or(0);
    Uuid::from_u128(u128::from(millis) << 80)
}

macro_rules! made_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new one, greater than those made in microseconds before.
            #[must_use]
            pub fn new(now: Timestamp) -> Self {
                Self::nth(now, 0)
            }

            /// Makes one of several at once: each is greater than those of a smaller `nth`.
            #[must_use]
            pub fn nth(now: Timestamp, nth: usize) -> Self {
                Self(uuid_v7(now, nth))
            }

            /// Not greater than any id made at `moment` or later, greater than all made in milliseconds before.
            #[must_use]
            pub fn floor(moment: Timestamp) -> Self {
                Self(uuid_floor(moment))
            }

            /// Reads what `Display` writes.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                crockford::decode(text.strip_prefix(concat!($prefix, "_"))?).map(|bits| Self(Uuid::from_u128(bits)))
            }

            /// The bits, as the database stores them.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// From the bits that the database stores.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "_"))?;
                f.write_str(&crockford::encode(self.0.as_u128()))
            }
        }
    };
}

made_id!(
    /// An event's id: `evt_…`. Receivers see it as `webhook-id`.
    EventId, "evt"
);
made_id!(
    /// A delivery's id: `dlv_…`.
    DeliveryId, "dlv"
);
made_id!(
    /// Tells subscriptions apart for ever, also those that had the same name one after another.
    SubscriptionUid, "sub"
);
made_id!(
    /// An operational event's id while it is not published yet, and then its request id: `ope_…`.
    OperationalEventId, "ope"
);

macro_rules! chosen_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts 1 to 63 lower-case letters, digits, `_` and `-`, beginning with a letter.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                check_chosen_id(text).map_err(|reason| Invalid::new("", reason))?;
                Ok(Self(text.into()))
            }

            /// From what the database stores.
            #[must_use]
            pub fn from_stored(text: &str) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

chosen_id!(
    /// A tenant's id.
    TenantId
);
chosen_id!(
    /// The last segment of a subscription's name, unique among the tenant's living subscriptions.
    SubscriptionId
);

impl From<SubscriptionUid> for SubscriptionId {
    fn from(uid: SubscriptionUid) -> Self {
        Self(uid.to_string().into())
    }
}

fn check_chosen_id(text: &str) -> Result<(), String> {
    let well_formed = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
    if !well_formed {
        return Err(
            "must begin with a lower-case letter and hold only lower-case letters, digits, `_` and `-`"
                .to_owned(),
        );
    }
    if text.len() > 63 {
        return Err(format!("has {} characters; at most 63 are allowed", text.len()));
    }
    Ok(())
}

/// Douglas Crockford's base 32, lower case: 128 bits in 26 digits, in the order of the numbers.
mod crockford {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

    pub(super) fn encode(bits: u128) -> String {
        (0..26).rev().map(|place| char::from(DIGITS[(bits >> (place * 5)) as usize & 31])).collect()
    }

    pub(super) fn decode(text: &str) -> Option<u128> {
        // 26 digits hold 130 bits: the first digit has room for three.
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return None;
        }
        text.bytes().try_fold(0, |bits, byte| {
            let digit = DIGITS.iter().position(|digit| *digit == byte)?;
            Some(bits << 5 | digit as u128)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_shown_is_read_back_and_sorts_alike(a: u128, b: u128) {
            let (x, y) = (EventId(Uuid::from_u128(a)), EventId(Uuid::from_u128(b)));
            prop_assert_eq!(EventId::parse(&x.to_string()), Some(x));
            prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
        }
    }

    #[test]
    fn malformed_ids_are_not_read() {
        let good = EventId::new(Timestamp::from_micros(1)).to_string();
        for bad in [
            "",
            "evt_",
            &good[..good.len() - 1],
            &good.replace("evt", "dlv"),
            &good.to_uppercase(),
            "evt_z1jd8zq4n6f9v8xg3k2m5r7t0w",
        ] {
            assert_eq!(EventId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_id_lies_between_the_floors_of_its_own_and_the_next_millisecond() {
        let id = EventId::new(Timestamp::from_micros(1_700_000_000_000_500));
        assert!(EventId::floor(Timestamp::from_micros(1_700_000_000_000_999)) <= id);
        assert!(id < EventId::floor(Timestamp::from_micros(1_700_000_000_001_000)));
    }

    #[test]
    fn ids_are_in_the_order_in_which_they_were_made() {
        let at = |micros: i64, nth| EventId::nth(Timestamp::from_micros(1_700_000_000_000_000 + micros), nth);
        let ids = [at(0, 0), at(0, 1), at(0, 70_000), at(1, 0), at(999, 0), at(1_000, 0)];
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(ids.iter().all(|id| id.uuid().get_version_num() == 7));
        assert_eq!(ids[0].uuid().get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn a_made_subscription_id_is_also_one_that_could_be_chosen() {
        let made = SubscriptionId::from(SubscriptionUid::new(Timestamp::from_micros(1)));
        assert_eq!(SubscriptionId::parse(made.as_str()), Ok(made));
    }

    #[test]
    fn chosen_ids_have_a_form_and_a_length() {
        for bad in ["", "1a", "A", "a.b", "a/b", "ä", "-", &"a".repeat(64)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
        assert!(TenantId::parse(&"a".repeat(63)).is_ok());
    }
}
