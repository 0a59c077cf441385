//! What a producer asks for beyond delivery: order, a time before which and one after which nothing is sent, and priority.

use std::time::Duration;

use super::{invalid::Invalid, timestamp::Timestamp};

/// The longest ordering key, in bytes.
pub const MAX_ORDERING_KEY: usize = 128;
/// How far ahead a delivery may be put off: no longer than data is kept by default.
pub const MAX_DELAY: Duration = Duration::from_hours(30 * 24);

/// How an event is to be delivered. By default: at once, for as long as the schedule goes, in no order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handling {
    /// Events with one key reach a subscription one after another.
    pub ordering_key: Option<OrderingKey>,
    /// Not before this time; what is past means at once.
    pub deliver_at: Option<Timestamp>,
    /// Not at or after this time.
    pub expire_at: Option<Timestamp>,
    /// Before or after what else is due.
    pub priority: Priority,
}

impl Handling {
    /// Accepts times that leave room for a delivery: not put off for longer than [`MAX_DELAY`], and expiring after they are due.
    /// Whether that is past is another question ([`check_new`](Self::check_new)).
    pub fn check(self, now: Timestamp) -> Result<Self, Invalid> {
        if self.deliver_at.is_some_and(|at| at > now + MAX_DELAY) {
            return Err(Invalid::new("deliver_time", "must not be more than 30 days ahead"));
        }
        if let Some(expire_at) = self.expire_at
            && self.deliver_at.is_some_and(|deliver_at| deliver_at >= expire_at)
        {
            return Err(Invalid::new("expire_time", "must be later than `deliver_time`"));
        }
        Ok(self)
    }

    /// Refuses what has expired. Only of a new event: one that is published once more may well have.
    pub fn check_new(&self, now: Timestamp) -> Result<(), Invalid> {
        if self.expired(now) { Err(Invalid::new("expire_time", "must be in the future")) } else { Ok(()) }
    }

    /// Until when a delivery has to wait, if it has to at `now`.
    #[must_use]
    pub fn put_off(&self, now: Timestamp) -> Option<Timestamp> {
        self.deliver_at.filter(|deliver_at| *deliver_at > now)
    }

    /// Whether it is too late to send the event.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expire_at.is_some_and(|expire_at| now >= expire_at)
    }
}

/// What events have in common that must not overtake one another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderingKey(String);

impl OrderingKey {
    /// Accepts 1 to 128 bytes without control characters.
    pub fn parse(text: String) -> Result<Self, Invalid> {
        let refuse = |reason: String| Err(Invalid::new("ordering_key", reason));
        if text.is_empty() {
            return refuse("must not be empty".to_owned());
        }
        if text.len() > MAX_ORDERING_KEY {
            return refuse(format!("has {} bytes; at most {MAX_ORDERING_KEY} are allowed", text.len()));
        }
        if text.chars().any(char::is_control) {
            return refuse("must not hold control characters".to_owned());
        }
        Ok(Self(text))
    }

    /// From what the database stores.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which of a subscription's due deliveries come first.
///
/// They are taken in the order of their due dates, to each of which its level's [handicap](Self::handicap) is added. So a low one
/// is taken before a high one that came due five minutes after it, and none waits for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// After the others.
    Low,
    /// What most events are.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// For how long after it came due a delivery lets the high ones go before it.
    #[must_use]
    pub const fn handicap(self) -> Duration {
        match self {
            Self::High => Duration::ZERO,
            Self::Normal => Duration::from_secs(30),
            Self::Low => Duration::from_mins(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
    const TICK: Duration = Duration::from_micros(1);

    fn refused(handling: Handling) -> Option<String> {
        let checked = handling.check(NOW).and_then(|handling| handling.check_new(NOW));
        checked.err().map(|invalid| invalid.field)
    }

    #[test]
    fn a_delivery_may_be_put_off_for_thirty_days_and_a_past_time_means_at_once() {
        let at = |deliver_at| Handling { deliver_at: Some(deliver_at), ..Handling::default() };
        assert_eq!(refused(at(NOW + MAX_DELAY)), None);
        assert_eq!(refused(at(NOW + MAX_DELAY + TICK)).as_deref(), Some("deliver_time"));
        assert_eq!(refused(at(NOW.before(MAX_DELAY))), None);
        assert_eq!(at(NOW + TICK).put_off(NOW), Some(NOW + TICK));
        assert_eq!(at(NOW).put_off(NOW), None);
        assert_eq!(Handling::default().put_off(NOW), None);
    }

    #[test]
    fn an_event_expires_in_the_future_and_after_it_is_due() {
        let between = |deliver_at, expire_at| Handling {
            deliver_at,
            expire_at: Some(expire_at),
            ..Handling::default()
        };
        assert_eq!(refused(between(None, NOW + TICK)), None);
        assert_eq!(refused(between(None, NOW)).as_deref(), Some("expire_time"));
        assert_eq!(refused(between(Some(NOW + TICK), NOW + TICK)).as_deref(), Some("expire_time"));
        assert_eq!(refused(between(Some(NOW + TICK), NOW + TICK + TICK)), None);
        assert_eq!(refused(between(Some(NOW.before(TICK)), NOW + TICK)), None);
        assert!(between(None, NOW).check(NOW).is_ok(), "it may be published once more");
        assert!(between(None, NOW).expired(NOW));
        assert!(!between(None, NOW + TICK).expired(NOW));
        assert!(!Handling::default().expired(NOW));
    }

    #[test]
    fn an_ordering_key_has_1_to_128_bytes_without_control_characters() {
        let parse = |text: &str| OrderingKey::parse(text.to_owned());
        assert!(parse("customer 17, ä").is_ok());
        assert!(parse(&"x".repeat(128)).is_ok());
        for bad in ["", "a\nb", "\0", &"x".repeat(129), &"ä".repeat(65)] {
            assert_eq!(parse(bad).unwrap_err().field, "ordering_key", "{bad:?}");
        }
    }

    #[test]
    fn the_lower_the_priority_the_greater_the_handicap() {
        assert!(Priority::ALL.is_sorted_by_key(|priority| priority.handicap()));
        assert!(Priority::ALL.is_sorted_by(|a, b| a > b));
        assert_eq!(Priority::default(), Priority::Normal);
    }
}
