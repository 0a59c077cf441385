//! The failing policy: a subscription with nothing but failure for days is disabled, after a notice, and may find its way back.
//!
//! ```text
//!            a retry fails           another, later       a day before the end        the end
//!   well ───────────────> suspected ────────────> failing ─────────────> announced ─────────> disabled
//!     ^                       │                      │                       │                   │ probe_interval
//!     └───────────────────────┴── an attempt succeeds┴───────────────────────┘                   v
//!     └─────────────────────────────────────────────── a probe succeeds ─────────────────────  probed
//! ```
//!
//! All of it is in the subscription's row, so that it holds on all nodes, over restarts, and for subscriptions that get an event a day.
//! (The [`breaker`](super::breaker) is about minutes, and each node counts for itself.)
//!
//! **A success is never missed.** An attempt knows whether its subscription was suspected when its target was read
//! ([`Target::suspected`](super::claim::Target)), and only where it was does a success have anything to write. So an attempt that was
//! under way when the suspicion arose may succeed unseen. That is why a suspicion by itself is held against nobody: what counts is
//! the first failure after the leases of those days are over ([`Failed::sure_before`]). From then on whatever succeeds says so.
//!
//! What is noted is failures of retries, of last attempts and of the breaker's probes. A first attempt that fails is an everyday thing; if
//! it meant more, its retry will fail too.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    attempt::{Attempt, AttemptNumber, Outcome, Wish},
    claim::Claim,
    delivery::{EndReason, GONE, Settlement},
    invalid::Invalid,
    subscription::DisabledReason,
    timestamp::Timestamp,
    verdict::{Told, Verdict},
};

/// How long before it disables a subscription the server says so, if there is that much time.
pub const NOTICE: Duration = Duration::from_hours(24);
/// After how long nothing but failure a subscription is disabled, unless somebody says otherwise.
pub const DEFAULT_DISABLE_AFTER: Duration = Duration::from_hours(5 * 24);
/// The least and the most of that.
const MIN_DISABLE_AFTER: Duration = Duration::from_hours(1);
const MAX_DISABLE_AFTER: Duration = Duration::from_hours(90 * 24);
/// The least and the most between two probes of a subscription that was disabled.
const MIN_PROBE_INTERVAL: Duration = Duration::from_mins(1);
const MAX_PROBE_INTERVAL: Duration = Duration::from_hours(30 * 24);
/// The last failure must come after this part of the time, from its beginning: an outage of an hour with nothing sent for days
/// after it is no failure of days.
const EVIDENCE: u32 = 4;

/// What a subscription's owner has set of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FailurePolicy {
    /// When it is disabled; as the server is configured if absent.
    pub disable: Option<Disable>,
    /// After it was disabled for failing: how often it is asked whether it has recovered; never if absent.
    pub probe_interval: Option<Duration>,
}

/// When a subscription that fails is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disable {
    /// After so long.
    After(Duration),
    /// Not at all.
    Never,
}

impl FailurePolicy {
    /// Accepts 1 hour to 90 days.
    pub fn parse_disable_after(span: Duration) -> Result<Duration, Invalid> {
        if !(MIN_DISABLE_AFTER..=MAX_DISABLE_AFTER).contains(&span) {
            return Err(Invalid::new("disable_after", "must be from 1 hour to 90 days"));
        }
        Ok(span)
    }

    /// Accepts 1 minute to 30 days.
    pub fn parse_probe_interval(span: Duration) -> Result<Duration, Invalid> {
        if !(MIN_PROBE_INTERVAL..=MAX_PROBE_INTERVAL).contains(&span) {
            return Err(Invalid::new("probe_interval", "must be from 1 minute to 30 days"));
        }
        Ok(span)
    }

    /// When subscriptions are disabled that have this policy on a server with this default.
    #[must_use]
    pub fn disable(&self, default: Disable) -> Disable {
        self.disable.unwrap_or(default)
    }
}

/// What an attempt has to tell of its subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// It succeeded, where it was known that others had failed.
    Succeeded,
    /// It failed.
    Failed(Failed),
}

/// A failure that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// In a few words.
    pub told: String,
    /// Of a suspicion that arose before this time, every attempt that has succeeded since was told.
    pub sure_before: Timestamp,
}

impl Sign {
    /// What the attempt of a claim has to tell that was over at `at`. Where one has succeeded `lately`, a failure is not worth a word. No
    /// attempt outlasts its `lease`.
    #[must_use]
    pub fn of(
        claim: &Claim,
        attempt: &Attempt,
        settlement: Settlement,
        lately: impl FnOnce() -> bool,
        lease: Duration,
        at: Timestamp,
    ) -> Option<Self> {
        match Verdict::of(attempt) {
            // One that was not acknowledged proves nothing.
            Verdict::Healthy
                if claim.target.suspected && settlement == Settlement::End(EndReason::Acknowledged) =>
            {
                Some(Self::Succeeded)
            }
            Verdict::Healthy | Verdict::Gone | Verdict::Unknown => None,
            Verdict::Failing => {
                let is_last = matches!(settlement, Settlement::End(_));
                // A breaker's probe is the first attempt of something that has waited.
                let is_repeated = attempt.number > AttemptNumber::FIRST || claim.probe.is_some();
                let counts = (is_repeated || is_last) && !lately();
                counts.then(|| {
                    let told = Told(&attempt.outcome).to_string();
                    // The lease of what was claimed just before, and as much again until its end is written.
                    Self::Failed(Failed { told, sure_before: at.before(lease * 2) })
                })
            }
        }
    }
}

/// What a probe of a subscription that was disabled for failing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It is there again.
    Recovered,
    /// It is not, as far as one can tell.
    Failed(String),
    /// It wants nothing any more.
    Unwanted(DisabledReason),
}

impl Probed {
    /// What this attempt shows.
    #[must_use]
    pub fn of(attempt: &Attempt) -> Self {
        match (&attempt.outcome, attempt.wish) {
            (Outcome::Rejected { status: GONE, .. }, _) => Self::Unwanted(DisabledReason::Gone),
            (_, Some(Wish::Disable)) => Self::Unwanted(DisabledReason::Requested),
            (Outcome::Acknowledged { .. }, _) => Self::Recovered,
            (outcome @ (Outcome::Rejected { .. } | Outcome::Failed { .. }), _) => {
                Self::Failed(Told(outcome).to_string())
            }
        }
    }
}

/// How a subscription stands of which failures were noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// When the first failure was noted.
    pub suspected_at: Timestamp,
    /// Since when there is nothing but failure; absent while that is not certain.
    pub since: Option<Timestamp>,
    /// When the last failure was noted, and what it was.
    pub last_failed_at: Timestamp,
    /// In a few words.
    pub last_failure: String,
    /// When its tenant was told.
    pub announced_at: Option<Timestamp>,
    /// When it will be disabled; absent if never, or if nobody has looked yet.
    pub disable_at: Option<Timestamp>,
    /// When somebody has to look: to announce it, to disable it, or, once it is disabled, to probe it.
    pub look_at: Option<Timestamp>,
}

/// What is to be done with a subscription that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing now.
    Wait,
    /// Its tenant is to be told.
    Announce,
    /// It is to be disabled.
    Disable,
}

impl Failing {
    /// After the first failure.
    #[must_use]
    pub fn suspected(failed: Failed, at: Timestamp) -> Self {
        Self {
            suspected_at: at,
            since: None,
            last_failed_at: at,
            last_failure: failed.told,
            announced_at: None,
            disable_at: None,
            look_at: None,
        }
    }

    /// Takes note of another failure.
    pub fn failed_again(&mut self, failed: Failed, at: Timestamp) {
        self.last_failed_at = self.last_failed_at.max(at);
        self.last_failure = failed.told;
        if self.since.is_none() && self.suspected_at <= failed.sure_before {
            self.since = Some(at);
            self.look_at = Some(at);
        }
        if self.disable_at.is_some_and(|disable_at| disable_at <= at) {
            // It was only spared for want of this one.
            self.look_at.get_or_insert(at);
        }
    }

    /// Says what is to be done at `now`, takes note of it, and of when to look again.
    pub fn look(&mut self, policy: Disable, now: Timestamp) -> Step {
        let (Some(since), Disable::After(span)) = (self.since, policy) else {
            (self.disable_at, self.look_at) = (None, None);
            return Step::Wait;
        };
        let planned = since + span;
        let Some(announced_at) = self.announced_at else {
            let announce_at = planned.before(NOTICE);
            if now < announce_at {
                (self.disable_at, self.look_at) = (Some(planned), Some(announce_at));
                return Step::Wait;
            }
            self.announced_at = Some(now);
            self.disable_at = Some(disable_at(planned, now, span));
            self.look_at = self.disable_at;
            return Step::Announce;
        };
        let disable_at = disable_at(planned, announced_at, span);
        self.disable_at = Some(disable_at);
        if now < disable_at {
            self.look_at = Some(disable_at);
            return Step::Wait;
        }
        self.look_at = None;
        if self.last_failed_at < since + span / EVIDENCE {
            // The next failure has somebody look again.
            return Step::Wait;
        }
        Step::Disable
    }

    /// In words, for people.
    #[must_use]
    pub fn told(&self) -> String {
        let since = self.since.unwrap_or(self.suspected_at);
        format!(
            "no attempt has succeeded since {since}; the last failure, at {}: {}",
            self.last_failed_at, self.last_failure
        )
    }
}

/// A notice that came late leaves half of its time at least.
fn disable_at(planned: Timestamp, announced_at: Timestamp, span: Duration) -> Timestamp {
    planned.max(announced_at + NOTICE.min(span) / 2)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{
        attempt::Failure,
        breaker::Probe,
        claim::Target,
        fixtures::{NOW, attempt, event, target},
        id::DeliveryId,
    };

    const MINUTE: Duration = Duration::from_mins(1);
    const HOUR: Duration = Duration::from_hours(1);
    const DAY: Duration = Duration::from_hours(24);
    const FIVE_DAYS: Disable = Disable::After(DEFAULT_DISABLE_AFTER);
    const RETRY: Settlement = Settlement::RetryAt(NOW);

    fn failed(at: Timestamp) -> Failed {
        Failed { told: "status 500".to_owned(), sure_before: at.before(MINUTE * 2) }
    }

    /// Fails since `NOW`, a minute or two after it was suspected.
    fn failing() -> Failing {
        let mut failing = Failing::suspected(failed(NOW.before(MINUTE * 2)), NOW.before(MINUTE * 2));
        failing.failed_again(failed(NOW), NOW);
        assert_eq!((failing.since, failing.look_at), (Some(NOW), Some(NOW)));
        failing
    }

    fn a_claim(suspected: bool) -> Claim {
        Claim {
            delivery: DeliveryId::new(NOW),
            attempt: AttemptNumber::FIRST,
            event: Arc::new(event(b"{}", "application/json")),
            target: Arc::new(Target { suspected, ..target() }),
            leased_until: NOW + MINUTE,
            previous_span: None,
            probe: None,
        }
    }

    fn sign(number: u32, outcome: Outcome, settlement: Settlement, suspected: bool) -> Option<Sign> {
        let number = AttemptNumber::new(number).unwrap();
        let attempt = Attempt { number, ..attempt(NOW, outcome) };
        Sign::of(&a_claim(suspected), &attempt, settlement, || false, MINUTE, NOW)
    }

    #[test]
    fn what_attempts_have_to_tell() {
        let (ok, error) = (
            || Outcome::Acknowledged { status: 204 },
            || Outcome::Rejected { status: 500, retry_after: None },
        );
        let acknowledged = Settlement::End(EndReason::Acknowledged);
        let exhausted = Settlement::End(EndReason::Exhausted);
        let noted = Some(Sign::Failed(failed(NOW)));
        assert_eq!(sign(1, ok(), acknowledged, false), None, "the hot path");
        assert_eq!(sign(1, ok(), acknowledged, true), Some(Sign::Succeeded));
        assert_eq!(sign(1, error(), RETRY, false), None, "its retry may succeed");
        assert_eq!(sign(2, error(), RETRY, false), noted);
        assert_eq!(sign(2, error(), RETRY, true), noted);
        assert_eq!(sign(1, error(), exhausted, false), noted, "there is no retry");
        for failure in [Failure::Internal, Failure::Template] {
            let ours = Outcome::Failed { failure, message: String::new() };
            assert_eq!(sign(9, ours, exhausted, true), None, "{failure:?}");
        }
        assert_eq!(sign(9, Outcome::Rejected { status: 410, retry_after: None }, exhausted, true), None);
    }

    #[test]
    fn a_probe_of_the_breaker_tells_also_as_a_first_attempt() {
        let error = Outcome::Rejected { status: 500, retry_after: None };
        let probe = Some(Probe { held_until: NOW, pauses: 1 });
        let (claim, attempt) = (Claim { probe, ..a_claim(false) }, attempt(NOW, error));
        let noted = Sign::of(&claim, &attempt, RETRY, || false, MINUTE, NOW);
        assert_eq!(noted, Some(Sign::Failed(failed(NOW))));
    }

    #[test]
    fn where_one_succeeded_lately_and_where_a_message_is_aborted_there_is_nothing_to_tell() {
        let number = AttemptNumber::new(2).unwrap();
        let error = Outcome::Rejected { status: 500, retry_after: None };
        let attempt = Attempt { number, ..attempt(NOW, error) };
        assert_eq!(Sign::of(&a_claim(false), &attempt, RETRY, || true, MINUTE, NOW), None);
        let aborted = Attempt { wish: Some(Wish::AbortMessage), ..attempt };
        let end = Settlement::End(EndReason::Aborted);
        assert_eq!(Sign::of(&a_claim(true), &aborted, end, || false, MINUTE, NOW), None);
    }

    #[test]
    fn it_is_certain_when_all_that_was_under_way_is_over() {
        let mut failing = Failing::suspected(failed(NOW), NOW);
        for seconds in [0, 60, 119] {
            let at = NOW + Duration::from_secs(seconds);
            failing.failed_again(failed(at), at);
            assert_eq!((failing.since, failing.look_at), (None, None));
            assert_eq!(failing.clone().look(FIVE_DAYS, NOW + DAY * 30), Step::Wait);
        }
        let certain = NOW + MINUTE * 2;
        failing.failed_again(failed(certain), certain);
        assert_eq!(failing.since, Some(certain));
        failing.failed_again(failed(certain + DAY), certain + DAY);
        assert_eq!((failing.since, failing.last_failed_at), (Some(certain), certain + DAY));
    }

    #[test]
    fn it_is_announced_a_day_before_it_is_disabled() {
        let mut failing = failing();
        assert_eq!(failing.look(FIVE_DAYS, NOW), Step::Wait);
        assert_eq!((failing.disable_at, failing.look_at), (Some(NOW + DAY * 5), Some(NOW + DAY * 4)));
        failing.failed_again(failed(NOW + DAY * 3), NOW + DAY * 3);
        assert_eq!(failing.look_at, Some(NOW + DAY * 4));
        assert_eq!(failing.look(FIVE_DAYS, NOW + DAY * 4), Step::Announce);
        assert_eq!((failing.disable_at, failing.look_at), (Some(NOW + DAY * 5), Some(NOW + DAY * 5)));
        assert_eq!(failing.look(FIVE_DAYS, NOW + DAY * 5), Step::Disable);
    }

    #[test]
    fn a_short_policy_announces_at_once_and_a_late_notice_leaves_time() {
        let mut short = failing();
        assert_eq!(short.look(Disable::After(HOUR), NOW), Step::Announce);
        assert_eq!(short.disable_at, Some(NOW + HOUR));
        let mut late = failing();
        late.failed_again(failed(NOW + DAY * 6), NOW + DAY * 6);
        assert_eq!(late.look(FIVE_DAYS, NOW + DAY * 6), Step::Announce);
        assert_eq!(late.disable_at, Some(NOW + DAY * 6 + DAY / 2));
    }

    #[test]
    fn without_a_failure_later_on_it_is_spared_until_there_is_one() {
        let mut failing = failing();
        assert_eq!(failing.look(FIVE_DAYS, NOW + DAY * 4), Step::Announce);
        assert_eq!(failing.look(FIVE_DAYS, NOW + DAY * 5), Step::Wait);
        assert_eq!(failing.look_at, None);
        let at = NOW + DAY * 9;
        failing.failed_again(failed(at), at);
        assert_eq!(failing.look_at, Some(at));
        assert_eq!(failing.look(FIVE_DAYS, at), Step::Disable);
    }

    #[test]
    fn never_is_never_and_a_policy_may_change_on_the_way() {
        let mut failing = failing();
        assert_eq!(failing.look(Disable::Never, NOW + DAY * 1_000), Step::Wait);
        assert_eq!((failing.disable_at, failing.look_at), (None, None));
        failing.failed_again(failed(NOW + DAY), NOW + DAY);
        assert_eq!(failing.look_at, None);
        failing.failed_again(failed(NOW + DAY * 3), NOW + DAY * 3);
        assert_eq!(failing.look(FIVE_DAYS, NOW + DAY * 4), Step::Announce);
        assert_eq!(failing.look(Disable::After(DAY * 10), NOW + DAY * 5), Step::Wait);
        assert_eq!(failing.look_at, Some(NOW + DAY * 10));
    }

    #[test]
    fn what_a_probe_shows() {
        let (ok, gone) =
            (Outcome::Acknowledged { status: 200 }, Outcome::Rejected { status: 410, retry_after: None });
        let probed = |outcome: &Outcome, wish| Probed::of(&Attempt { wish, ..attempt(NOW, outcome.clone()) });
        assert_eq!(probed(&ok, None), Probed::Recovered);
        assert_eq!(probed(&ok, Some(Wish::Disable)), Probed::Unwanted(DisabledReason::Requested));
        assert_eq!(probed(&gone, None), Probed::Unwanted(DisabledReason::Gone));
        let error = Outcome::Rejected { status: 500, retry_after: None };
        assert_eq!(probed(&error, Some(Wish::AbortMessage)), Probed::Failed("status 500".to_owned()));
    }

    #[test]
    fn spans_have_bounds() {
        let hours = |hours| FailurePolicy::parse_disable_after(Duration::from_hours(hours)).is_ok();
        assert_eq!([hours(0), hours(1), hours(90 * 24), hours(90 * 24 + 1)], [false, true, true, false]);
        let minutes = |minutes| FailurePolicy::parse_probe_interval(Duration::from_mins(minutes)).is_ok();
        assert_eq!([minutes(0), minutes(1), minutes(43_200), minutes(43_201)], [false, true, true, false]);
        let own = FailurePolicy { disable: Some(Disable::Never), probe_interval: None };
        assert_eq!(own.disable(FIVE_DAYS), Disable::Never);
        assert_eq!(FailurePolicy::default().disable(FIVE_DAYS), FIVE_DAYS);
    }
}
