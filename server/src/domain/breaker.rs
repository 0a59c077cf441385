//! The circuit breaker: a receiver that fails is left alone for a while, and then asked by one attempt at a time.
//!
//! ```text
//!            failures in a row, or a failure rate
//!   closed ───────────────────────────────────────> open until T <──────────────┐
//!     ^                                                  │ T, something is due    │ failure: a longer pause
//!     │                     success                      v                        │
//!     └──────────────────────────────────────────────  probe ───────────────────┘
//! ```
//!
//! The state is in the subscription's row, so that it holds on all nodes and over restarts: open is a `blocked until`; a probe
//! is that moved behind the lease of the one delivery that was claimed. If the node dies, the next probe goes out when
//! the lease is over; if there is no attempt after all, at once. Each node counts for itself what makes it open ([`Tally`]).
//!
//! While it is open, deliveries that wait are not touched. What was under way when it opened or closed decides nothing any more.

use std::time::Duration;

use super::{
    attempt::{Attempt, Outcome},
    retry::{Jitter, MAX_RETRY_AFTER},
    timestamp::Timestamp,
    verdict::{Told, Verdict},
};

/// Into how many parts the sliding window of the failure rate is cut.
const SLOTS: u8 = 6;

/// When the breaker opens, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerPolicy {
    /// It opens after so many failures in a row …
    pub consecutive_failures: u32,
    /// … or when at least this part of the attempts fail,
    pub failure_rate: f64,
    /// of which there are at least so many
    pub min_attempts: u32,
    /// within this time.
    pub window: Duration,
    /// The first pause. Each one that follows without a success in between is twice as long,
    pub first_pause: Duration,
    /// but not longer than this.
    pub max_pause: Duration,
    /// Each pause is longer or shorter by up to this part of itself.
    pub jitter: f64,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            consecutive_failures: 10,
            failure_rate: 0.5,
            min_attempts: 20,
            window: Duration::from_secs(30),
            first_pause: Duration::from_secs(5),
            max_pause: Duration::from_mins(5),
            jitter: 0.2,
        }
    }
}

impl BreakerPolicy {
    /// How long the pause is that follows this many others. One that the receiver asked for counts where it is longer.
    #[must_use]
    pub fn pause(&self, others: u32, outcome: &Outcome, jitter: Jitter) -> Duration {
        let doubled = self.first_pause.saturating_mul(2u32.saturating_pow(others)).min(self.max_pause);
        let asked = match outcome {
            Outcome::Rejected { retry_after, .. } => retry_after.unwrap_or_default().min(MAX_RETRY_AFTER),
            Outcome::Acknowledged { .. } | Outcome::Failed { .. } => Duration::ZERO,
        };
        jitter.spread(doubled, self.jitter).max(asked)
    }

    /// What a probe that was over at `now` changes; nothing where the subscription is disabled anyway.
    #[must_use]
    pub fn after_probe(
        &self,
        probe: Probe,
        attempt: &Attempt,
        now: Timestamp,
        jitter: Jitter,
    ) -> Option<HealthChange> {
        let outcome = &attempt.outcome;
        match Verdict::of(attempt) {
            Verdict::Healthy => Some(HealthChange::Close { held_until: probe.held_until }),
            Verdict::Failing => Some(HealthChange::Reopen {
                held_until: probe.held_until,
                until: now + self.pause(probe.pauses, outcome, jitter),
                pauses: probe.pauses.saturating_add(1),
                reason: match probe.pauses {
                    0 | 1 => format!("the probe failed: {}", Told(outcome)),
                    probes => format!("{probes} probes in a row failed; the last one: {}", Told(outcome)),
                },
            }),
            Verdict::Gone => None,
            // It was not the receiver's fault that nothing was learnt: as long a pause once more.
            Verdict::Unknown => Some(HealthChange::Reopen {
                held_until: probe.held_until,
                until: now + self.pause(probe.pauses.saturating_sub(1), outcome, jitter),
                pauses: probe.pauses,
                reason: format!("a probe could not be made: {}", Told(outcome)),
            }),
        }
    }
}

/// The right to make the one attempt that decides whether a block ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Until when the row says that it is blocked for this probe's sake; also the fence for what follows from it.
    pub held_until: Timestamp,
    /// How many pauses there were before it.
    pub pauses: u32,
}

/// What an attempt changes about its subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthChange {
    /// The breaker opens, unless it is open, or was closed since the first of these failures began.
    Open {
        /// When the first probe may go out.
        until: Timestamp,
        /// When the first of the failures began that led to it.
        failing_since: Timestamp,
        /// For people.
        reason: String,
    },
    /// The probe failed, and the pause is a longer one, unless somebody else has decided otherwise.
    Reopen {
        /// The probe's.
        held_until: Timestamp,
        /// When the next probe may go out.
        until: Timestamp,
        /// How many pauses there have been, this one included.
        pauses: u32,
        /// For people.
        reason: String,
    },
    /// The probe was not made: another may go out now, unless somebody else has decided otherwise.
    Release {
        /// The probe's.
        held_until: Timestamp,
    },
    /// The probe succeeded, and the breaker closes, unless somebody else has decided otherwise.
    Close {
        /// The probe's.
        held_until: Timestamp,
    },
}

/// How a subscription fares, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Health {
    /// Nothing keeps its deliveries.
    #[default]
    Healthy,
    /// Nothing is sent but probes.
    Blocked {
        /// When the first of the failures began that led to it.
        failing_since: Timestamp,
        /// For people.
        reason: String,
        /// When the next probe may go out. While one is under way: when the one after it may, should nothing come of it.
        next_probe_at: Timestamp,
    },
}

/// The attempts at one receiver of late, as far as they matter to the breaker.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Failures since the last success, and when the first of them began.
    run: u32,
    run_began: Timestamp,
    slots: [Slot; SLOTS as usize],
}

/// The attempts that ended in one part of the window.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    number: i64,
    attempts: u32,
    failures: u32,
    /// When the first of the failures began.
    failing_since: Timestamp,
}

impl Tally {
    /// Takes note of an attempt that was over at `now`. Says whether that is too much.
    pub fn record(
        &mut self,
        policy: &BreakerPolicy,
        attempt: &Attempt,
        now: Timestamp,
        jitter: Jitter,
    ) -> Option<HealthChange> {
        let Attempt { outcome, started_at: begun_at, .. } = attempt;
        let begun_at = *begun_at;
        let failed = match Verdict::of(attempt) {
            Verdict::Healthy => false,
            Verdict::Failing => true,
            Verdict::Gone | Verdict::Unknown => return None,
        };
        self.count(failed, begun_at, now, policy.window);
        if !failed {
            return None;
        }
        let recent =
            || self.slots.iter().fold((0, 0), |sum, slot| (sum.0 + slot.attempts, sum.1 + slot.failures));
        let (failing_since, what) = if self.run >= policy.consecutive_failures {
            (self.run_began, format!("{} attempts in a row", self.run))
        } else {
            let (attempts, failures) = recent();
            let too_many = f64::from(failures) >= f64::from(attempts) * policy.failure_rate;
            if attempts < policy.min_attempts || !too_many {
                return None;
            }
            let failing = self.slots.iter().filter(|slot| slot.failures > 0).map(|slot| slot.failing_since);
            let what = format!("{failures} of {attempts} attempts within {} s", policy.window.as_secs());
            (failing.min().unwrap_or(begun_at), what)
        };
        Some(HealthChange::Open {
            until: now + policy.pause(0, outcome, jitter),
            failing_since,
            reason: format!("{what} failed; the last one: {}", Told(outcome)),
        })
    }

    /// Whether there is no failure to remember.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.run == 0 && self.slots.iter().all(|slot| slot.failures == 0)
    }

    fn count(&mut self, failed: bool, begun_at: Timestamp, now: Timestamp, window: Duration) {
        let length = i64::try_from(window.as_micros()).unwrap_or(i64::MAX) / i64::from(SLOTS);
        let number = now.as_micros() / length.max(1);
        for slot in &mut self.slots {
            // A clock that was set back is no reason to remember for ever.
            if !(number - i64::from(SLOTS) + 1..=number).contains(&slot.number) {
                *slot = Slot::default();
            }
        }
        let place = usize::try_from(number.rem_euclid(i64::from(SLOTS))).unwrap_or(0);
        let slot = &mut self.slots[place];
        slot.number = number;
        slot.attempts += 1;
        if failed {
            slot.failing_since = if slot.failures == 0 { begun_at } else { slot.failing_since.min(begun_at) };
            slot.failures += 1;
            self.run_began = if self.run == 0 { begun_at } else { self.run_began.min(begun_at) };
            self.run += 1;
        } else {
            self.run = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{attempt::Failure, fixtures::attempt};

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
    const OK: Outcome = Outcome::Acknowledged { status: 204 };
    const SECOND: Duration = Duration::from_secs(1);

    fn rejected(status: u16) -> Outcome {
        Outcome::Rejected { status, retry_after: None }
    }

    fn failed(failure: Failure) -> Outcome {
        Outcome::Failed { failure, message: "the cause".to_owned() }
    }

    fn policy() -> BreakerPolicy {
        BreakerPolicy::default()
    }

    /// Counts outcomes, one a second, each of an attempt that took a second; says what the last one led to.
    fn counted<'a>(
        tally: &mut Tally,
        outcomes: impl IntoIterator<Item = &'a Outcome>,
    ) -> Option<HealthChange> {
        let (mut begun_at, mut change) = (NOW, None);
        for outcome in outcomes {
            let now = begun_at + SECOND;
            change = tally.record(&policy(), &attempt(begun_at, outcome.clone()), now, Jitter::NONE);
            begun_at = now;
        }
        change
    }

    #[test]
    fn it_opens_on_the_tenth_failure_in_a_row() {
        let timeout = failed(Failure::Timeout);
        let mut tally = Tally::default();
        assert_eq!(counted(&mut tally, [&timeout; 9]), None);
        let tenth =
            tally.record(&policy(), &attempt(NOW + SECOND * 9, timeout), NOW + SECOND * 10, Jitter::NONE);
        let reason = "10 attempts in a row failed; the last one: timeout".to_owned();
        let until = NOW + SECOND * 15;
        assert_eq!(tenth, Some(HealthChange::Open { until, failing_since: NOW, reason }));
    }

    #[test]
    fn a_success_in_between_breaks_the_row() {
        let (ok, error) = (OK, rejected(500));
        let mut outcomes = vec![&error; 9];
        outcomes.push(&ok);
        outcomes.extend([&error; 9]);
        assert_eq!(counted(&mut Tally::default(), outcomes), None);
    }

    #[test]
    fn it_opens_when_half_of_twenty_attempts_fail_within_half_a_minute() {
        let (ok, error) = (OK, rejected(503));
        let alternating = |count| [&ok, &error].into_iter().cycle().take(count);
        assert_eq!(counted(&mut Tally::default(), alternating(19)), None);
        match counted(&mut Tally::default(), alternating(20)) {
            Some(HealthChange::Open { failing_since, reason, .. }) => {
                assert_eq!(failing_since, NOW + SECOND);
                assert_eq!(reason, "10 of 20 attempts within 30 s failed; the last one: status 503");
            }
            other => panic!("{other:?}"),
        }
        let a_third = [&ok, &ok, &error].into_iter().cycle().take(300);
        assert_eq!(counted(&mut Tally::default(), a_third), None);
    }

    #[test]
    fn failures_that_are_longer_ago_do_not_count_for_the_rate() {
        let mut tally = Tally::default();
        for nth in 0..100 {
            // Never more than 15 attempts within 30 s.
            let now = NOW + SECOND * 2 * nth;
            let outcome = if nth % 2 == 0 { OK } else { rejected(500) };
            assert_eq!(tally.record(&policy(), &attempt(now, outcome), now, Jitter::NONE), None);
        }
        assert!(!tally.is_clean());
        let later = NOW + Duration::from_hours(1);
        tally.record(&policy(), &attempt(later, OK), later, Jitter::NONE);
        assert!(tally.is_clean());
    }

    #[test]
    fn what_counts_as_a_failure() {
        for failing in [
            rejected(301),
            rejected(400),
            rejected(404),
            rejected(429),
            rejected(500),
            failed(Failure::Timeout),
            failed(Failure::Dns),
            failed(Failure::Connect),
            failed(Failure::Tls),
            failed(Failure::AddressRefused),
            failed(Failure::Protocol),
        ] {
            assert!(counted(&mut Tally::default(), [&failing; 10]).is_some(), "{failing:?}");
        }
        for other in [rejected(410), failed(Failure::Internal), OK] {
            assert_eq!(counted(&mut Tally::default(), [&other; 100]), None, "{other:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let pauses = [0, 1, 2, 3, 4, 5, 6, 7, u32::MAX];
        let seconds = pauses.map(|others| policy().pause(others, &rejected(500), Jitter::NONE).as_secs());
        assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn retry_after_lengthens_a_pause_up_to_a_day_and_never_shortens_it() {
        let pause = |seconds| {
            let asked = Outcome::Rejected { status: 503, retry_after: Some(Duration::from_secs(seconds)) };
            policy().pause(1, &asked, Jitter::NONE).as_secs()
        };
        assert_eq!([pause(1), pause(11), pause(1_000_000)], [10, 11, 86_400]);
    }

    #[test]
    fn what_follows_from_a_probe() {
        let (held_until, until) = (NOW + Duration::from_mins(1), |seconds| NOW + SECOND * seconds);
        let after = |pauses, outcome| {
            policy().after_probe(Probe { held_until, pauses }, &attempt(NOW, outcome), NOW, Jitter::NONE)
        };
        assert_eq!(after(3, OK), Some(HealthChange::Close { held_until }));
        let reason = "the probe failed: status 500".to_owned();
        let second = HealthChange::Reopen { held_until, until: until(10), pauses: 2, reason };
        assert_eq!(after(1, rejected(500)), Some(second));
        let reason = "3 probes in a row failed; the last one: timeout".to_owned();
        let fourth = HealthChange::Reopen { held_until, until: until(40), pauses: 4, reason };
        assert_eq!(after(3, failed(Failure::Timeout)), Some(fourth));
        let reason = "a probe could not be made: a defect of the server".to_owned();
        let again = HealthChange::Reopen { held_until, until: until(20), pauses: 3, reason };
        assert_eq!(after(3, failed(Failure::Internal)), Some(again));
        assert_eq!(after(1, rejected(410)), None);
    }

    proptest! {
        #[test]
        fn a_pause_stays_within_its_bounds(others in 0u32..40, drawn in 0.0f64..=1.0) {
            let (policy, error) = (policy(), rejected(500));
            let written = policy.pause(others, &error, Jitter::NONE).as_secs_f64();
            let pause = policy.pause(others, &error, Jitter::new(drawn)).as_secs_f64();
            prop_assert!(pause >= written * 0.799 && pause <= written * 1.201);
        }

        /// It opens exactly when the plain counts say so.
        #[test]
        fn it_opens_when_and_only_when_too_much_has_failed(
            attempts in prop::collection::vec((any::<bool>(), 0u64..8_000), 1..200)
        ) {
            let (mut tally, mut now, policy) = (Tally::default(), NOW, policy());
            let mut past: Vec<(Timestamp, bool)> = Vec::new();
            for (ok, millis) in attempts {
                now = now + Duration::from_millis(millis);
                past.push((now, ok));
                let outcome = if ok { OK } else { rejected(500) };
                let opens = tally.record(&policy, &attempt(now, outcome), now, Jitter::NONE).is_some();
                let run = past.iter().rev().take_while(|(_, ok)| !ok).count();
                // The window slides by sixths of itself.
                let sixth = 5_000_000;
                let begin = Timestamp::from_micros((now.as_micros() / sixth - 5) * sixth);
                let recent: Vec<_> = past.iter().filter(|(at, _)| *at >= begin).collect();
                let failures = recent.iter().filter(|(_, ok)| !ok).count();
                let too_many = recent.len() >= 20 && failures * 2 >= recent.len();
                prop_assert_eq!(opens, !ok && (run >= 10 || too_many));
            }
        }
    }
}
