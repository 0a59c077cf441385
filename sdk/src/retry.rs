//! What is tried again, when, and for how long: the policy as a value. `client::tries` follows it.

use std::time::Duration;

/// How often a call that can be repeated is tried, and the pauses in between.
///
/// Tried again are calls that failed because the server could not be reached or could not serve, and of these only
/// the ones that do no harm when they happen twice: everything that reads, every publish (its `request_id` is fixed
/// before the first try), and `pause`, `resume`, `enable` and `cancel`.
///
/// ```
/// use std::time::Duration;
/// use postrider_sdk::RetryPolicy;
///
/// let patient = RetryPolicy::default().with_max_tries(20).with_deadline(Duration::from_secs(300));
/// # assert_ne!(patient, RetryPolicy::default());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    max_tries: u32,
    deadline: Duration,
    first_pause: Duration,
    longest_pause: Duration,
}

impl Default for RetryPolicy {
    /// Five tries within a minute, pauses of 100 ms, then twice as long each time up to 10 s.
    fn default() -> Self {
        Self {
            max_tries: 5,
            deadline: Duration::from_mins(1),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// One try.
    #[must_use]
    pub fn never() -> Self {
        Self::default().with_max_tries(1)
    }

    /// At most this many tries, the first one included; 0 means 1.
    #[must_use]
    pub fn with_max_tries(mut self, tries: u32) -> Self {
        self.max_tries = tries.max(1);
        self
    }

    /// All tries and pauses of a call end within this time.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The pause after the first try, and the longest that it grows to. Each pause is drawn between half of its
    /// length and the whole, so that clients that failed together don't come back together. Where the server asks for
    /// a longer pause, that counts.
    #[must_use]
    pub fn with_backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = first;
        self.longest_pause = longest;
        self
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn allows_another(&self, tries: u32) -> bool {
        tries < self.max_tries
    }

    /// The pause after this many tries; `jitter` is from 0 to 1.
    pub(crate) fn pause(&self, tries: u32, jitter: f64) -> Duration {
        let doublings = tries.saturating_sub(1).min(31);
        let whole = self.first_pause.saturating_mul(1 << doublings).min(self.longest_pause);
        whole.mul_f64(0.5 + jitter / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = RetryPolicy::default().with_backoff(Duration::from_secs(1), Duration::from_secs(5));
        let pauses = [1, 2, 3, 4, 100].map(|tries| policy.pause(tries, 1.0).as_secs());
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
    }

    #[test]
    fn jitter_shortens_a_pause_by_at_most_half() {
        let policy = RetryPolicy::default().with_backoff(Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(policy.pause(1, 0.0), Duration::from_millis(500));
        assert_eq!(policy.pause(1, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn a_policy_without_tries_still_tries_once() {
        assert!(!RetryPolicy::default().with_max_tries(0).allows_another(1));
        assert!(!RetryPolicy::never().allows_another(1));
        assert!(RetryPolicy::default().allows_another(4));
        assert!(!RetryPolicy::default().allows_another(5));
    }
}
