//! Event types and the patterns that subscriptions match them with.

use std::{fmt, sync::Arc};

use super::invalid::Invalid;

/// The longest event type and the longest pattern, in characters.
pub const MAX_LENGTH: usize = 255;

/// Types below this are Postrider's own.
pub const RESERVED_PREFIX: &str = "postrider.";

/// Types of operational events: of subscriptions that fail, are disabled, recover, and of deliveries that are given up.
pub const OPERATIONAL_TYPES: [&str; 4] = [FAILING_TYPE, DISABLED_TYPE, RECOVERED_TYPE, EXHAUSTED_TYPE];
/// A subscription has nothing but failure.
pub const FAILING_TYPE: &str = "postrider.subscription.failing";
/// Policy has disabled a subscription.
pub const DISABLED_TYPE: &str = "postrider.subscription.disabled";
/// A subscription that had been announced as failing does so no longer.
pub const RECOVERED_TYPE: &str = "postrider.subscription.recovered";
/// A delivery has used up its schedule.
pub const EXHAUSTED_TYPE: &str = "postrider.delivery.exhausted";

/// The type of events that are sent to see whether a receiver is there.
pub const TEST_TYPE: &str = "postrider.test";

/// What happened: `order.created`. Dot-separated segments of letters, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventType(Arc<str>);

impl EventType {
    /// Accepts 1 to 255 characters in segments separated by dots.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        check_length(text)?;
        if text.split('.').all(is_segment) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(
                "",
                "must be segments of letters, digits, `_` and `-`, separated by dots, like `order.created`",
            ))
        }
    }

    /// From what the database stores.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether producers may not publish it.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which event types a subscription wants: an event type in which `*` stands for one segment and `**` for any
/// number of segments, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypePattern(String);

impl TypePattern {
    /// Accepts what [`EventType::parse`] accepts, with `*` and `**` as segments.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        check_length(text)?;
        if !text.split('.').all(|segment| matches!(segment, "*" | "**") || is_segment(segment)) {
            return Err(Invalid::new(
                "",
                "must be segments of letters, digits, `_` and `-`, or `*` or `**`, separated by dots, like `order.*`",
            ));
        }
        let pattern = Self(text.to_owned());
        let is_operational = |name: &&str| pattern.matches(&EventType::from_stored(name));
        if text.starts_with(RESERVED_PREFIX) && !OPERATIONAL_TYPES.iter().any(is_operational) {
            let reason = format!(
                "matches no operational event; there are `{}`, and `postrider.**` matches all",
                OPERATIONAL_TYPES.join("`, `")
            );
            return Err(Invalid::new("", reason));
        }
        Ok(pattern)
    }

    /// From what the database stores.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// Whether an event of this type is wanted. Postrider's own are, by patterns that name it and no others: `**` is for all that
    /// producers publish.
    #[must_use]
    pub fn matches(&self, event_type: &EventType) -> bool {
        if event_type.is_reserved() && !self.0.starts_with(RESERVED_PREFIX) {
            return false;
        }
        // As with wildcards in file names: on a mismatch only the latest `**` may take one more segment, so
        // the work is at most the product of the two lengths, whatever the pattern.
        let (mut pattern, mut segments) = (self.0.split('.'), event_type.0.split('.'));
        let mut retry = None;
        loop {
            let mut left = segments.clone();
            let Some(segment) = left.next() else { return pattern.all(|rest| rest == "**") };
            match (pattern.next(), &mut retry) {
                (Some("**"), _) => retry = Some((pattern.clone(), segments.clone())),
                (Some(wanted), _) if wanted == "*" || wanted == segment => segments = left,
                (_, Some((after, untaken))) => {
                    untaken.next();
                    (pattern, segments) = (after.clone(), untaken.clone());
                }
                (_, None) => return false,
            }
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_length(text: &str) -> Result<(), Invalid> {
    match text.len() {
        0 => Err(Invalid::new("", "must not be empty")),
        length if length > MAX_LENGTH => {
            Err(Invalid::new("", format!("has {length} characters; at most {MAX_LENGTH} are allowed")))
        }
        _ => Ok(()),
    }
}

fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, event_type: &str) -> bool {
        TypePattern::parse(pattern).unwrap().matches(&EventType::parse(event_type).unwrap())
    }

    #[test]
    fn what_begins_with_our_name_is_reserved() {
        let is_reserved = |text| EventType::parse(text).unwrap().is_reserved();
        assert!(is_reserved("postrider.subscription.failing"));
        assert!(!is_reserved("postrider") && !is_reserved("postriders") && !is_reserved("order.postrider"));
    }

    #[test]
    fn one_star_is_one_segment_and_two_are_any_number() {
        for (pattern, event_type, expected) in [
            ("order.created", "order.created", true),
            ("order.created", "order.created.v2", false),
            ("order.*", "order.created", true),
            ("order.*", "order", false),
            ("order.*", "order.created.v2", false),
            ("*.created", "order.created", true),
            ("*", "order", true),
            ("order.**", "order", true),
            ("order.**", "order.created.v2", true),
            ("**", "a.b.c", true),
            ("**.created", "created", true),
            ("**.created", "a.created.created", true),
            ("a.**.z", "a.z", true),
            ("a.**.m.*.z", "a.m.m.x.z", true),
            ("a.**.z", "a.b.c", false),
            ("a.**.**", "a", true),
            // Operational events are for those who name them.
            ("postrider.**", "postrider.subscription.failing", true),
            ("postrider.*.failing", "postrider.subscription.failing", true),
            ("postrider.delivery.exhausted", "postrider.delivery.exhausted", true),
            ("**", "postrider.subscription.failing", false),
            ("*.subscription.failing", "postrider.subscription.failing", false),
            ("**.failing", "postrider.subscription.failing", false),
            ("**", "postrider", true),
            ("**", "postrider_lite.order", true),
        ] {
            assert_eq!(matches(pattern, event_type), expected, "{pattern} on {event_type}");
        }
    }

    #[test]
    fn a_pattern_for_operational_events_that_matches_none_is_refused() {
        for pattern in
            ["postrider.*", "postrider.subscription", "postrider.subscription.failed", "postrider.test"]
        {
            let refused = TypePattern::parse(pattern).unwrap_err().reason;
            assert!(refused.contains("`postrider.delivery.exhausted`"), "{pattern}: {refused}");
        }
        for pattern in ["postrider.**", "postrider.*.*", "postrider.delivery.*", "postriders.*", "postrider"]
        {
            TypePattern::parse(pattern).unwrap();
        }
    }

    /// The definition, straight: slow, and obviously right.
    fn by_definition(pattern: &[&str], segments: &[&str]) -> bool {
        match (pattern.split_first(), segments.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => (0..=segments.len()).any(|n| by_definition(rest, &segments[n..])),
            (Some((wanted, rest)), Some((segment, left))) => {
                (*wanted == "*" || wanted == segment) && by_definition(rest, left)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_does_what_its_definition_says(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..7),
            segments in prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..7),
        ) {
            prop_assert_eq!(matches(&pattern.join("."), &segments.join(".")), by_definition(&pattern, &segments));
        }
    }

    #[test]
    fn malformed_types_and_patterns_are_refused() {
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "ä", "a/b", &"a".repeat(256)] {
            assert!(EventType::parse(bad).is_err(), "{bad}");
            assert!(TypePattern::parse(bad).is_err(), "{bad}");
        }
        assert!(EventType::parse("order.*").is_err());
        assert!(TypePattern::parse("order.***").is_err());
        assert!(TypePattern::parse("order.a*").is_err());
    }
}
