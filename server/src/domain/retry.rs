//! When the next attempt is made.

use std::time::Duration;

use super::attempt::AttemptNumber;

/// A receiver's `Retry-After` is obeyed up to this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

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
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The pause after the first attempt, the second, …
    pub schedule: Vec<Duration>,
    /// Each pause is longer or shorter by up to this part of itself, so that receivers that failed together are
    /// not all retried at one instant: 0.2 is ±20 %.
    pub jitter: f64,
}

/// The example schedule of the Standard Webhooks specification: 10 attempts over 75 hours and 35 minutes.
impl Default for RetryPolicy {
    fn default() -> Self {
        const HOUR: u64 = 3_600;
        let seconds = [5, 5 * 60, 30 * 60, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
        Self { schedule: seconds.map(Duration::from_secs).to_vec(), jitter: 0.2 }
    }
}

impl RetryPolicy {
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
        let scheduled = self.schedule.get(attempt.get() as usize - 1)?;
        let pause = jitter.spread(*scheduled, self.jitter);
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

    proptest! {
        #[test]
        fn jitter_stays_within_its_bounds(number in 1u32..10, drawn in 0.0f64..=1.0) {
            let policy = RetryPolicy::default();
            let written = policy.schedule[number as usize - 1].as_secs_f64();
            let pause = policy.pause_after(attempt(number), None, Jitter::new(drawn)).unwrap().as_secs_f64();
            prop_assert!(pause >= written * 0.799 && pause <= written * 1.201);
        }
    }
}
