//! How many attempts at one receiver are under way at once: as many as it may have, until it shows that this is too many.
//!
//! Additive increase, multiplicative decrease, as TCP does it: trouble halves the window, once for all attempts that
//! were under way together; successes make it larger again. After an outage it begins at one and doubles with every
//! round (slow start) until it is half of what it was.
//!
//! What counts as trouble: 429 at once; 5xx, timeouts and broken connections when they are more than a sixteenth of a round,
//! so that one event that a receiver cannot digest does not slow down the others; and a latency that has risen
//! to more than twice its recent best.

use std::time::Duration;

use super::{
    attempt::{Failure, Outcome},
    timestamp::Timestamp,
};

/// One failure in so many is borne.
const BORNE: u32 = 16;
/// Differences in latency below this are noise, ours as well as the receiver's.
const NOISE: Duration = Duration::from_millis(100);
/// How much of a new sample goes into the smoothed latency: one part in so many. Also how many samples make one.
const SMOOTHING: u32 = 16;
/// The best latency is that of the latest one to two such spans.
const RECENT: Duration = Duration::from_secs(30);

/// What an attempt says of how busy its receiver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// It kept up, in this time.
    Bearable(Duration),
    /// It failed in a way that overload may cause.
    Failing,
    /// It asked us to slow down.
    TooMuch,
    /// Nothing.
    Unknown,
}

impl Load {
    /// Reads it from an outcome that took so long.
    #[must_use]
    pub fn of(outcome: &Outcome, took: Duration) -> Self {
        match outcome {
            Outcome::Acknowledged { .. } => Self::Bearable(took),
            Outcome::Rejected { status: 429, .. } => Self::TooMuch,
            Outcome::Rejected { status: 500.., .. } => Self::Failing,
            Outcome::Rejected { .. } => Self::Unknown,
            Outcome::Failed { failure, .. } => match failure {
                Failure::Timeout | Failure::Connect | Failure::Protocol => Self::Failing,
                Failure::Dns
                | Failure::Tls
                | Failure::AddressRefused
                | Failure::Authentication
                | Failure::Template
                | Failure::Internal => Self::Unknown,
            },
        }
    }
}

/// The number of attempts that may be under way at one receiver.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// `None`: the limit, whatever that is.
    reduced: Option<Reduced>,
    /// When it was last cut. Attempts that were begun before were under way together with the one that cut it.
    cut_at: Option<Timestamp>,
    /// Outcomes since the round began, and the failures among them.
    round: (u32, u32),
    latency: Latency,
}

#[derive(Debug, Clone, Copy)]
struct Reduced {
    size: u32,
    /// Up to here it grows with every success, from here on with every round.
    slow_start_to: u32,
    /// Successes since it last grew by one.
    credit: u32,
}

impl Window {
    /// How many attempts may be under way, where `limit` is the most: from 1 to that.
    #[must_use]
    pub fn size(&self, limit: u32) -> u32 {
        self.reduced.map_or(limit, |reduced| reduced.size.min(limit)).max(1)
    }

    /// One that begins with so many attempts, as somebody else has found out, and doubles with every round until it is shown to be too large.
    #[must_use]
    pub fn of(size: u32) -> Self {
        let reduced = Reduced { size: size.max(1), slow_start_to: u32::MAX, credit: 0 };
        Self { reduced: Some(reduced), ..Self::default() }
    }

    /// Whether it is as large as it may be.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.reduced.is_none()
    }

    /// Begins anew with one attempt, after an outage.
    pub fn restart(&mut self, limit: u32) {
        let slow_start_to = (self.size(limit) / 2).max(1);
        *self = Self { reduced: Some(Reduced { size: 1, slow_start_to, credit: 0 }), ..Self::default() };
    }

    /// Takes note of an attempt that was begun at `begun_at` and ended at `now`, when `under_way` attempts were, itself
    /// included. Says whether it is smaller now.
    pub fn record(
        &mut self,
        load: Load,
        begun_at: Timestamp,
        now: Timestamp,
        under_way: u32,
        limit: u32,
    ) -> bool {
        if self.cut_at.is_some_and(|cut_at| begun_at <= cut_at) {
            return false;
        }
        let size = self.size(limit);
        self.round.0 += 1;
        let too_much = match load {
            Load::Unknown => false,
            Load::TooMuch => true,
            Load::Failing => {
                self.round.1 += 1;
                self.round.1 > size / BORNE
            }
            Load::Bearable(took) => {
                self.latency.record(took, now);
                self.latency.has_risen()
            }
        };
        if too_much {
            self.cut(size, now);
        } else if let Load::Bearable(_) = load
            && under_way.saturating_mul(2) >= size
        {
            // One that is not used has not been shown to be right.
            self.grow(limit);
        }
        if self.round.0 >= size {
            self.round = (0, 0);
        }
        self.size(limit) < size
    }

    fn cut(&mut self, size: u32, now: Timestamp) {
        let size = (size / 2).max(1);
        self.reduced = Some(Reduced { size, slow_start_to: size, credit: 0 });
        self.cut_at = Some(now);
        self.round = (0, 0);
        // What led to this says nothing of how it will be from now on.
        self.latency.samples = 0;
    }

    fn grow(&mut self, limit: u32) {
        let Some(reduced) = &mut self.reduced else { return };
        reduced.credit += 1;
        if reduced.size < reduced.slow_start_to || reduced.credit >= reduced.size {
            reduced.size += 1;
            reduced.credit = 0;
        }
        if reduced.size >= limit {
            self.reduced = None;
        }
    }
}

/// How long attempts take, and how long they took when it was best.
#[derive(Debug, Clone, Default)]
struct Latency {
    smoothed: Duration,
    samples: u32,
    /// The lowest smoothed one of this span and of the one before.
    lowest: (Option<Duration>, Option<Duration>),
    span_began: Timestamp,
}

impl Latency {
    fn record(&mut self, took: Duration, now: Timestamp) {
        if self.samples < SMOOTHING {
            self.samples += 1;
        }
        // The mean of the first samples, then a moving one.
        self.smoothed = (self.smoothed * (self.samples - 1) + took) / self.samples;
        if self.samples < SMOOTHING {
            return;
        }
        if now.since(self.span_began) > RECENT {
            self.lowest = (None, self.lowest.0);
            self.span_began = now;
        }
        let lowest = self.lowest.0.map_or(self.smoothed, |lowest| lowest.min(self.smoothed));
        self.lowest.0 = Some(lowest);
    }

    fn has_risen(&self) -> bool {
        let lowest = self.lowest.0.into_iter().chain(self.lowest.1).min();
        let is_known = self.samples == SMOOTHING;
        is_known && lowest.is_some_and(|lowest| self.smoothed > lowest * 2 + NOISE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u32 = 128;
    const FAST: Load = Load::Bearable(Duration::from_millis(10));

    /// Lets attempts go out in rounds, each of as many as there may be, a second apart.
    struct Receiver {
        window: Window,
        now: Timestamp,
    }

    impl Receiver {
        fn new() -> Self {
            Self { window: Window::default(), now: Timestamp::from_micros(1) }
        }

        fn size(&self) -> u32 {
            self.window.size(LIMIT)
        }

        /// One round; returns the size after it.
        fn round(&mut self, load: impl Fn(u32) -> Load) -> u32 {
            let (begun_at, size) = (self.now + Duration::from_millis(1), self.size());
            self.now = begun_at + Duration::from_secs(1);
            for nth in 0..size {
                self.window.record(load(nth), begun_at, self.now, size, LIMIT);
            }
            self.size()
        }
    }

    #[test]
    fn it_is_at_its_limit_until_there_is_trouble() {
        let mut receiver = Receiver::new();
        for _ in 0..100 {
            assert_eq!(receiver.round(|_| FAST), LIMIT);
        }
        assert!(receiver.window.is_open());
    }

    #[test]
    fn trouble_halves_it_once_for_all_that_were_under_way_together() {
        for load in [Load::Failing, Load::TooMuch] {
            let mut receiver = Receiver::new();
            assert_eq!(
                [(); 9].map(|()| receiver.round(|_| load)),
                [64, 32, 16, 8, 4, 2, 1, 1, 1],
                "{load:?}"
            );
        }
    }

    #[test]
    fn it_grows_by_one_with_every_round_of_successes_after_a_cut() {
        let mut receiver = Receiver::new();
        receiver.round(|_| Load::TooMuch);
        assert_eq!([(); 3].map(|()| receiver.round(|_| FAST)), [65, 66, 67]);
        assert_eq!((0..61).map(|_| receiver.round(|_| FAST)).max(), Some(LIMIT));
        assert!(receiver.window.is_open(), "and then it is as if nothing had been");
    }

    #[test]
    fn after_an_outage_it_doubles_up_to_half_of_what_it_was_and_then_grows_by_one() {
        let mut receiver = Receiver::new();
        receiver.window.restart(LIMIT);
        assert_eq!(receiver.size(), 1);
        assert_eq!([(); 8].map(|()| receiver.round(|_| FAST)), [2, 4, 8, 16, 32, 64, 65, 66]);
        receiver.round(|_| Load::TooMuch);
        receiver.window.restart(LIMIT);
        assert_eq!([(); 6].map(|()| receiver.round(|_| FAST)), [2, 4, 8, 16, 17, 18]);
    }

    #[test]
    fn one_event_in_a_hundred_that_is_always_refused_does_not_slow_down_the_others() {
        let mut receiver = Receiver::new();
        for _ in 0..100 {
            receiver.round(|nth| if nth % 100 == 7 { Load::Failing } else { FAST });
        }
        assert_eq!(receiver.size(), LIMIT);
    }

    #[test]
    fn what_says_nothing_of_the_load_changes_nothing() {
        let mut receiver = Receiver::new();
        assert_eq!(receiver.round(|_| Load::Unknown), LIMIT);
        receiver.window.restart(LIMIT);
        assert_eq!(receiver.round(|_| Load::Unknown), 1);
    }

    #[test]
    fn a_latency_that_more_than_doubles_cuts_it_and_noise_does_not() {
        let after = |before, then| {
            let mut receiver = Receiver::new();
            receiver.round(|_| Load::Bearable(Duration::from_micros(before)));
            receiver.round(|_| Load::Bearable(Duration::from_micros(then)));
            receiver.size()
        };
        assert_eq!(after(200, 90_000), LIMIT, "450 times as much, but little");
        assert_eq!(after(500_000, 1_000_000), LIMIT);
        assert_eq!(after(100_000, 400_000), LIMIT / 2);
        assert_eq!(after(1_000, 10_000_000), LIMIT / 2);
    }

    #[test]
    fn one_stall_cuts_it_once() {
        let mut receiver = Receiver::new();
        receiver.round(|_| FAST);
        receiver.round(|_| Load::Bearable(Duration::from_secs(2)));
        assert_eq!(receiver.size(), LIMIT / 2);
        receiver.round(|_| FAST);
        assert_eq!(receiver.size(), LIMIT / 2 + 1);
    }

    #[test]
    fn a_latency_that_stays_high_becomes_the_usual_one() {
        let slow = |_| Load::Bearable(Duration::from_secs(1));
        let mut receiver = Receiver::new();
        receiver.round(|_| FAST);
        receiver.round(slow);
        assert_eq!(receiver.size(), LIMIT / 2);
        for _ in 0..400 {
            receiver.round(slow);
        }
        assert_eq!(receiver.size(), LIMIT);
    }

    #[test]
    fn a_receiver_that_is_slow_always_is_not_held_back() {
        let mut receiver = Receiver::new();
        for _ in 0..50 {
            assert_eq!(receiver.round(|_| Load::Bearable(Duration::from_secs(10))), LIMIT);
        }
    }

    #[test]
    fn who_begins_with_what_others_found_doubles_with_each_round() {
        let mut window = Window::of(2);
        for round in 1..=5_u32 {
            let size = window.size(LIMIT);
            assert_eq!(size, 2_u32.pow(round));
            let at = Timestamp::from_micros(i64::from(round));
            for _ in 0..size {
                window.record(FAST, at, at, size, LIMIT);
            }
        }
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut window = Window::default();
        window.restart(LIMIT);
        for at in 1..1_000 {
            let at = Timestamp::from_micros(at);
            window.record(FAST, at, at, 1, LIMIT);
        }
        assert_eq!(window.size(LIMIT), 3);
    }

    fn any_load() -> impl Strategy<Value = Load> {
        prop_oneof![
            (0u64..20_000).prop_map(|millis| Load::Bearable(Duration::from_millis(millis))),
            Just(Load::Failing),
            Just(Load::TooMuch),
            Just(Load::Unknown),
        ]
    }

    proptest! {
        #[test]
        fn it_stays_between_one_and_its_limit(
            limit in 1u32..300,
            attempts in prop::collection::vec((any_load(), 0u64..1_000_000, 0u32..300, any::<bool>()), 0..300),
        ) {
            let (mut window, mut now) = (Window::default(), Timestamp::from_micros(1));
            for (load, step, under_way, restarts) in attempts {
                let (begun_at, before) = (now, window.size(limit));
                now = now + Duration::from_micros(step);
                window.record(load, begun_at, now, under_way, limit);
                let size = window.size(limit);
                prop_assert!((1..=limit).contains(&size));
                prop_assert!(size >= before / 2 && size <= before + 1);
                if restarts && step % 50 == 0 {
                    window.restart(limit);
                }
            }
        }

        #[test]
        fn a_healthy_receiver_is_never_held_back(latencies in prop::collection::vec(0u64..100_000, 0..2_000)) {
            let (mut window, mut now) = (Window::default(), Timestamp::from_micros(1));
            for latency in latencies {
                let (took, begun_at) = (Duration::from_micros(latency), now);
                now = now + took;
                window.record(Load::Bearable(took), begun_at, now, LIMIT, LIMIT);
                prop_assert!(window.is_open());
            }
        }
    }
}
