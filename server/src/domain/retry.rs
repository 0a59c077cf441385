//! When the next attempt is made.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use super::{attempt::AttemptNumber, invalid::Invalid};

/// A receiver's `Retry-After` is obeyed up to this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);
/// The example schedule of the Standard Webhooks specification: 10 attempts over 75 hours and 35 minutes.
pub const DEFAULT_SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];
/// The most pauses of a schedule.
const MAX_PAUSES: usize = 100;
/// The most attempts: one more.
const MAX_ATTEMPTS: u32 = 101;
/// The shortest pause: less is no pause, and a receiver that fails would be sent to without end.
const MIN_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause: as long as payloads are kept.
const MAX_PAUSE: Duration = Duration::from_hours(30 * 24);
/// The most that a pause can grow by.
const MAX_FACTOR: f64 = 100.0;
/// The youngest age at which deliveries can be given up.
const MIN_AGE: Duration = Duration::from_secs(1);
/// The oldest age at which deliveries can be given up: beyond what any event is kept for by default.
const MAX_AGE: Duration = Duration::from_hours(90 * 24);

/// A number from 0 to 1 that somebody drew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// In the middle: the schedule as it is written.
    pub const NONE: Self = Self(0.5);

    /// Takes a number from 0 to 1; others are brought to the nearer end.
    #[must_use]
    pub fn new(drawn: f64) -> Self {
        Self(drawn.clamp(0.0, 1.0))
    }

    /// Makes a span longer or shorter by up to this part of itself.
    #[must_use]
    pub fn spread(self, span: Duration, part: f64) -> Duration {
        span.mul_f64(1.0 + part * (2.0 * self.0 - 1.0))
    }
}

/// The pauses between attempts. There is one attempt more than there are pauses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pauses {
    /// The pause after the first attempt, the second, …
    Listed(Vec<Duration>),
    /// Each pause so many times as long as the one before.
    Growing(Growth),
}

/// How pauses grow.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// The pause after the first attempt.
    pub first: Duration,
    /// How many times as long as the one before each pause is.
    pub factor: f64,
    /// The longest pause.
    pub longest: Duration,
    /// The number of attempts.
    pub attempts: u32,
}

impl Pauses {
    /// Accepts up to 100 pauses of 1 millisecond to 30 days.
    pub fn listed(pauses: Vec<Duration>) -> Result<Self, Invalid> {
        if pauses.len() > MAX_PAUSES {
            let reason = format!("holds {} pauses; at most {MAX_PAUSES} are allowed", pauses.len());
            return Err(Invalid::new("pauses", reason));
        }
        if let Some(index) = pauses.iter().position(|pause| !(MIN_PAUSE..=MAX_PAUSE).contains(pause)) {
            return Err(Invalid::new(format!("pauses[{index}]"), "must be from 1 millisecond to 30 days"));
        }
        Ok(Self::Listed(pauses))
    }

    /// Accepts a first pause of at least 1 millisecond, a factor from 1 to 100, a longest pause of up to 30 days, and 1 to 101 attempts.
    pub fn growing(growth: Growth) -> Result<Self, Invalid> {
        let Growth { first, factor, longest, attempts } = growth;
        if !(MIN_PAUSE..=MAX_PAUSE).contains(&first) {
            return Err(Invalid::new("initial_pause", "must be from 1 millisecond to 30 days"));
        }
        if !(1.0..=MAX_FACTOR).contains(&factor) {
            return Err(Invalid::new("multiplier", format!("must be from 1 to {MAX_FACTOR}")));
        }
        if longest < first || longest > MAX_PAUSE {
            return Err(Invalid::new("max_pause", "must be at least `initial_pause` and at most 30 days"));
        }
        if !(1..=MAX_ATTEMPTS).contains(&attempts) {
            return Err(Invalid::new("max_attempts", format!("must be from 1 to {MAX_ATTEMPTS}")));
        }
        Ok(Self::Growing(growth))
    }

    /// The pause after this attempt; none after the last.
    fn after(&self, attempt: AttemptNumber) -> Option<Duration> {
        let before = attempt.get() - 1;
        match self {
            Self::Listed(pauses) => pauses.get(before as usize).copied(),
            Self::Growing(Growth { attempts, .. }) if attempt.get() >= *attempts => None,
            Self::Growing(Growth { first, factor, longest, .. }) => {
                // Far beyond the longest pause this is infinite, which is compared like any number.
                let exponent = i32::try_from(before).unwrap_or(i32::MAX);
                let seconds = first.as_secs_f64() * factor.powi(exponent);
                Some(Duration::try_from_secs_f64(seconds).unwrap_or(*longest).min(*longest))
            }
        }
    }
}

/// What a subscription's owner has set of the policy; the rest is the server's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnRetry {
    /// The pauses.
    pub pauses: Option<Pauses>,
    /// How long after its event was due a delivery is given up.
    pub max_age: Option<Duration>,
}

impl OwnRetry {
    /// Accepts an age of 1 second to 90 days.
    pub fn parse_max_age(max_age: Duration) -> Result<Duration, Invalid> {
        if !(MIN_AGE..=MAX_AGE).contains(&max_age) {
            return Err(Invalid::new("max_age", "must be from 1 second to 90 days"));
        }
        Ok(max_age)
    }
}

/// When failed attempts are repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The pauses between attempts.
    pub pauses: Pauses,
    /// Each pause is longer or shorter by up to this part of itself, so that receivers that failed together are
    /// not all retried at one instant: 0.2 is ±20 %.
    pub jitter: f64,
    /// How long after its event was due a delivery is given up, if the pauses have not ended before.
    pub max_age: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { pauses: Pauses::Listed(DEFAULT_SCHEDULE.to_vec()), jitter: 0.2, max_age: None }
    }
}

impl RetryPolicy {
    /// This policy with what the owner of a subscription has set.
    #[must_use]
    pub fn with(&self, own: Option<&OwnRetry>) -> Cow<'_, Self> {
        let Some(own) = own else { return Cow::Borrowed(self) };
        Cow::Owned(Self {
            pauses: own.pauses.as_ref().unwrap_or(&self.pauses).clone(),
            jitter: self.jitter,
            max_age: own.max_age.or(self.max_age),
        })
    }

    /// How long to wait after this attempt has failed; `None` if it was the last.
    ///
    /// A receiver that asked for a longer pause gets it, up to [`MAX_RETRY_AFTER`]; a shorter one is not a reason to hurry.
    #[must_use]
    pub fn pause_after(
        &self,
        attempt: AttemptNumber,
        retry_after: Option<Duration>,
        jitter: Jitter,
    ) -> Option<Duration> {
        let pause = jitter.spread(self.pauses.after(attempt)?, self.jitter);
        Some(pause.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(number: u32) -> AttemptNumber {
        AttemptNumber::new(number).unwrap()
    }

    #[test]
    fn the_default_schedule_is_ten_attempts_in_75_hours_and_35_minutes() {
        let policy = RetryPolicy::default();
        let pauses: Vec<_> =
            (1..).map_while(|n| policy.pause_after(attempt(n), None, Jitter::NONE)).collect();
        assert_eq!(pauses.len(), 9);
        assert_eq!(pauses[0], Duration::from_secs(5));
        assert_eq!(pauses.iter().sum::<Duration>(), Duration::from_secs(75 * 3_600 + 35 * 60 + 5));
    }

    #[test]
    fn retry_after_lengthens_a_pause_up_to_a_day_and_never_shortens_it() {
        let pause = |seconds| {
            let asked = Some(Duration::from_secs(seconds));
            RetryPolicy::default().pause_after(attempt(2), asked, Jitter::NONE).unwrap().as_secs()
        };
        assert_eq!(pause(1), 300);
        assert_eq!(pause(301), 301);
        assert_eq!(pause(1_000_000), 86_400);
    }

    #[test]
    fn growing_pauses_end_at_the_longest_and_with_the_last_attempt() {
        let growth = |attempts| Growth {
            first: Duration::from_secs(2),
            factor: 3.0,
            longest: Duration::from_secs(50),
            attempts,
        };
        let pauses = |growth| {
            let pauses = Pauses::growing(growth).unwrap();
            (1..).map_while(|n| pauses.after(attempt(n))).map(|pause| pause.as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(growth(6)), [2, 6, 18, 50, 50]);
        assert_eq!(pauses(growth(1)), [0; 0]);
        assert_eq!(pauses(Growth { factor: 100.0, ..growth(101) }).len(), 100, "nothing overflows");
    }

    #[test]
    fn what_an_owner_sets_wins_and_the_rest_is_the_servers() {
        let server = RetryPolicy { max_age: Some(Duration::from_mins(1)), ..RetryPolicy::default() };
        assert_eq!(*server.with(None), server);
        let pauses = Pauses::Listed(vec![Duration::from_secs(1)]);
        let own = server.with(Some(&OwnRetry { pauses: Some(pauses.clone()), max_age: None })).into_owned();
        assert_eq!(own, RetryPolicy { pauses, ..server.clone() });
        let own = server.with(Some(&OwnRetry { pauses: None, max_age: Some(MIN_AGE) })).into_owned();
        assert_eq!(own, RetryPolicy { max_age: Some(MIN_AGE), ..server });
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let fine = Growth { first: MIN_AGE, factor: 2.0, longest: MAX_PAUSE, attempts: 101 };
        let refused = |growth| Pauses::growing(growth).unwrap_err().field;
        assert!(Pauses::growing(fine).is_ok());
        assert_eq!(refused(Growth { first: Duration::ZERO, ..fine }), "initial_pause");
        assert_eq!(refused(Growth { first: Duration::from_nanos(1), ..fine }), "initial_pause");
        assert_eq!(refused(Growth { factor: 0.9, ..fine }), "multiplier");
        assert_eq!(refused(Growth { factor: f64::NAN, ..fine }), "multiplier");
        assert_eq!(refused(Growth { longest: Duration::ZERO, ..fine }), "max_pause");
        assert_eq!(refused(Growth { attempts: 0, ..fine }), "max_attempts");
        assert_eq!(refused(Growth { attempts: 102, ..fine }), "max_attempts");
        assert!(Pauses::listed(vec![MAX_PAUSE; 100]).is_ok());
        assert_eq!(Pauses::listed(vec![MAX_PAUSE; 101]).unwrap_err().field, "pauses");
        let long = vec![MIN_AGE, MAX_PAUSE + MIN_AGE];
        assert_eq!(Pauses::listed(long).unwrap_err().field, "pauses[1]");
        assert!(Pauses::listed(vec![MIN_PAUSE]).is_ok());
        for short in [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(999)] {
            let invalid = Pauses::listed(vec![MIN_AGE, short]).unwrap_err();
            assert_eq!(invalid.field, "pauses[1]", "{short:?}");
            assert!(invalid.reason.contains("1 millisecond"), "{invalid}");
        }
        assert_eq!(OwnRetry::parse_max_age(Duration::ZERO).unwrap_err().field, "max_age");
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_bounds(number in 1u32..10, drawn in 0.0f64..=1.0) {
            let policy = RetryPolicy::default();
            let written = policy.pauses.after(attempt(number)).unwrap().as_secs_f64();
            let pause = policy.pause_after(attempt(number), None, Jitter::new(drawn)).unwrap().as_secs_f64();
            prop_assert!(pause >= written * 0.799 && pause <= written * 1.201);
        }
    }
}
