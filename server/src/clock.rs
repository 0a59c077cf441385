//! The time, for those who may ask: loops and handlers. Everybody else gets `now` as an argument.
//!
//! # Several nodes
//!
//! Due dates and leases are written by one node and judged by another, so nodes must agree on the time. If their clocks were off by
//! `s`, nothing would be lost (settlements are fenced by the attempt's number), but leases of the one that is behind would run
//! out `s` too early, and what it is sending would be sent by another node as well; and what the one that is ahead
//! puts off would come `s` too late. So nodes of one PostgreSQL do not use their own clocks: [`DatabaseClock`] counts from
//! the database's, which it is shown when the server starts and each second from then on. It is off by no more than
//! a look took, there and back; and since it counts on with a clock that nobody sets, setting the machine's clock
//! does nothing.
//!
//! The embedded database has one node and no clock of its own: there the machine's clock is used as it is.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::RngExt;

use crate::domain::{retry::Jitter, timestamp::Timestamp};

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// What time it is.
    fn now(&self) -> Timestamp;
}

/// The clock that all parts of one server share.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn now(&self) -> Timestamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(0) + since_epoch
    }
}

/// A clock that is off: for fault tests, which have nodes with clocks that disagree.
#[derive(Debug)]
pub struct SkewedClock {
    /// What it is off from.
    pub clock: SharedClock,
    /// By how much, in seconds.
    pub seconds: i64,
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now().as_micros().saturating_add(self.seconds * 1_000_000))
    }
}

/// The database's clock, once it has been shown it; before that, and for ever with an embedded database, the machine's.
#[derive(Debug)]
pub struct DatabaseClock {
    machine: SharedClock,
    begun: Instant,
    /// What the database's clock showed at `begun`, in microseconds.
    origin: AtomicI64,
}

/// When a look at the database's clock began.
#[derive(Debug, Clone, Copy)]
pub struct Look(i64);

impl DatabaseClock {
    /// Of `origin`: the database's clock was never seen.
    const UNKNOWN: i64 = i64::MIN;

    /// Shows the machine's time until it is told better.
    #[must_use]
    pub fn beginning_with(machine: SharedClock) -> Self {
        Self { machine, begun: Instant::now(), origin: AtomicI64::new(Self::UNKNOWN) }
    }

    /// To be called before the database is asked.
    #[must_use]
    pub fn look(&self) -> Look {
        Look(self.elapsed())
    }

    /// The database showed this time, at some moment since `look`. Only one may tell at a time.
    ///
    /// A look that took long tells little, and changes nothing that it does not contradict: a node that was stopped in the midst of one
    /// goes on with what it knew.
    pub fn shown(&self, look: Look, database: Timestamp) {
        let (earliest, latest) = (database.as_micros() - self.elapsed(), database.as_micros() - look.0);
        let known = self.origin.load(Ordering::Relaxed);
        let origin =
            if known == Self::UNKNOWN { earliest.midpoint(latest) } else { known.clamp(earliest, latest) };
        self.origin.store(origin, Ordering::Relaxed);
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        match self.origin.load(Ordering::Relaxed) {
            Self::UNKNOWN => self.machine.now(),
            origin => Timestamp::from_micros(origin + self.elapsed()),
        }
    }
}

/// A clock that tests set.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.as_micros()))
    }

    /// Puts the clock forward.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// Draws a number for the length of a pause.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn jitter() -> Jitter {
    Jitter::new(rand::rng().random())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn clock() -> DatabaseClock {
        DatabaseClock::beginning_with(Arc::new(ManualClock::at(Timestamp::from_micros(HOUR))))
    }

    fn is_about(clock: &DatabaseClock, micros: i64) -> bool {
        (0..1_000_000).contains(&(clock.now().as_micros() - micros))
    }

    #[test]
    fn it_is_the_machines_time_until_the_databases_is_known() {
        let clock = clock();
        assert_eq!(clock.now(), Timestamp::from_micros(HOUR));
        clock.shown(clock.look(), Timestamp::from_micros(5 * HOUR));
        assert!(is_about(&clock, 5 * HOUR), "{:?}", clock.now());
    }

    #[test]
    fn a_look_that_took_long_does_not_make_it_worse() {
        let clock = clock();
        clock.shown(clock.look(), Timestamp::from_micros(5 * HOUR));
        // It began an hour ago, and the database answered at some time since.
        let long = Look(-HOUR);
        clock.shown(long, Timestamp::from_micros(5 * HOUR));
        assert!(is_about(&clock, 5 * HOUR), "{:?}", clock.now());
        clock.shown(long, Timestamp::from_micros(4 * HOUR + HOUR / 2));
        assert!(is_about(&clock, 5 * HOUR), "{:?}", clock.now());
    }

    #[test]
    fn when_the_databases_clock_is_another_one_so_is_ours() {
        let clock = clock();
        clock.shown(clock.look(), Timestamp::from_micros(5 * HOUR));
        for hour in [7, 2] {
            clock.shown(clock.look(), Timestamp::from_micros(hour * HOUR));
            assert!(is_about(&clock, hour * HOUR), "{:?}", clock.now());
        }
    }
}
