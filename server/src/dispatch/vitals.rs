//! What this node knows of one subscription from the attempts it makes: how many are under way, and how they fare.

use std::time::Duration;

use super::line::Line;
use crate::domain::{
    attempt::{Attempt, Outcome},
    breaker::{BreakerPolicy, HealthChange, Tally},
    concurrency::{Load, Window},
    retry::Jitter,
    subscription::Pace,
    timestamp::Timestamp,
};

/// An attempt that takes longer is slow.
pub(super) const SLOW: Duration = Duration::from_secs(1);
/// For how long a recovery is remembered, so that whoever did not see it does not begin with a burst.
pub const RECOVERY: Duration = Duration::from_mins(1);
/// For how long after a success a failure is taken for an exception.
const LATELY: Duration = Duration::from_mins(1);
/// For how long a subscription with trouble is remembered when nothing is sent to it.
const KEPT: Duration = Duration::from_mins(10);

/// One subscription as this node sees it. Forgotten when nothing is under way and there is no trouble to remember.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// Deliveries that this node holds: attempts under way, in line, or over and not settled yet.
    pub(super) held: usize,
    /// How many places they take.
    pub(super) places: usize,
    /// How fast it wants to be sent to, as the latest of them says.
    pub(super) pace: Pace,
    /// Which of them send.
    pub(super) line: Line,
    /// Whether its receiver takes long to answer.
    pub(super) slow: bool,
    /// When one last waited in line in vain.
    crowded_at: Option<Timestamp>,
    /// The breaker has opened here, and the database does not know it yet.
    pub(super) opening: bool,
    tally: Tally,
    window: Window,
    /// When its breaker last opened or closed: attempts begun before decide nothing any more.
    turned_at: Option<Timestamp>,
    last_outcome_at: Timestamp,
    /// When an attempt last succeeded.
    acknowledged_at: Option<Timestamp>,
}

impl Vitals {
    /// Begins with so many attempts at once, as was found out before.
    pub(super) fn beginning_with(size: u32) -> Self {
        Self { window: Window::of(size), ..Self::default() }
    }

    /// How many deliveries this node may hold: as many as can be sent at once, and where all is well `queued` more.
    pub(super) fn may_hold(&self, limit: usize, queued: usize) -> usize {
        self.may_send(limit) + if self.is_quick() { queued } else { 0 }
    }

    /// Whether its receiver keeps nobody waiting.
    pub(super) fn is_quick(&self) -> bool {
        self.window.is_open() && !self.slow && self.crowded_at.is_none() && !self.opening
    }

    /// How many attempts may be under way, where `limit` is the most.
    pub(super) fn may_send(&self, limit: usize) -> usize {
        if self.opening { 0 } else { self.window.size(number(limit)) as usize }
    }

    /// Whether a claim must be told of its room: where it is less than the limit, or was until a moment ago.
    pub(super) fn is_limited(&self, now: Timestamp) -> bool {
        self.opening
            || self.slow
            || self.crowded_at.is_some()
            || !self.window.is_open()
            || self.turned_at.is_some_and(|at| now < at + RECOVERY)
    }

    /// Takes note of an attempt. Says whether its breaker opens, and to what its window was cut.
    pub(super) fn record(
        &mut self,
        attempt: &Attempt,
        policy: &BreakerPolicy,
        limit: usize,
        now: Timestamp,
        jitter: Jitter,
    ) -> (Option<HealthChange>, Option<u32>) {
        self.last_outcome_at = now;
        if let Outcome::Acknowledged { .. } = attempt.outcome {
            self.acknowledged_at = Some(now);
        }
        self.slow = attempt.timings.total >= SLOW;
        if self.opening || self.turned_at.is_some_and(|at| attempt.started_at < at) {
            return (None, None);
        }
        let load = Load::of(&attempt.outcome, attempt.timings.total);
        let (held, limit) = (number(self.held), number(limit));
        let is_cut = self.window.record(load, attempt.started_at, now, held, limit);
        let change = self.tally.record(policy, attempt, now, jitter);
        if change.is_some() {
            self.opening = true;
            self.turned_at = Some(now);
            self.tally = Tally::default();
            self.line.dissolve();
        }
        (change, is_cut.then(|| self.window.size(limit)))
    }

    /// Whether as many attempts may be under way as the limit allows.
    pub(super) fn bears_all(&self) -> bool {
        self.window.is_open()
    }

    /// Whether an attempt has succeeded lately: then one that fails is no sign of an outage, and not worth the writing.
    pub(super) fn is_well(&self, now: Timestamp) -> bool {
        self.acknowledged_at.is_some_and(|at| now < at + LATELY)
    }

    /// One has waited in line in vain.
    pub(super) fn crowded(&mut self, now: Timestamp) {
        self.crowded_at = Some(now);
        self.last_outcome_at = self.last_outcome_at.max(now);
    }

    /// Forgets that it was crowded, after a while.
    pub(super) fn calm_down(&mut self, now: Timestamp) {
        self.crowded_at = self.crowded_at.filter(|at| now < *at + RECOVERY);
    }

    /// Its breaker closed: it begins with one attempt at a time.
    pub(super) fn recover(&mut self, at: Timestamp, limit: usize) {
        self.opening = false;
        self.turned_at = Some(at);
        self.last_outcome_at = self.last_outcome_at.max(at);
        self.tally = Tally::default();
        self.window.restart(number(limit));
    }

    /// Whether its recovery at this time is known already.
    pub(super) fn knows_of(&self, recovered_at: Timestamp) -> bool {
        self.turned_at.is_some_and(|at| at >= recovered_at)
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_blank(&self) -> bool {
        self.held == 0
            && !self.opening
            && self.turned_at.is_none()
            && !self.slow
            && self.crowded_at.is_none()
            && self.window.is_open()
            && self.tally.is_clean()
    }

    /// Whether what there is to remember is too old to matter.
    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        self.held == 0 && now >= self.last_outcome_at + KEPT
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
