//! How many attempts a second a receiver wants at most.
//!
//! The generic cell rate algorithm (ITU-T I.371): all there is to remember of a bucket is until when its rate is used up.

use std::time::Duration;

use super::{invalid::Invalid, timestamp::Timestamp};

/// The lowest and the highest rate: one attempt in about a quarter of an hour, and more than a node makes.
const RATES: (f64, f64) = (0.001, 100_000.0);
/// The most attempts that may go out at once.
const MAX_BURST: u32 = 100_000;
/// Tokens are worth a look when there are enough for this long: a claim for each of many a second would cost more than it brings.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A rate, and how many attempts may go out at once after a while in which there were none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    per_second: f64,
    burst: u32,
}

impl RateLimit {
    /// Accepts a rate from 0.001 to 100,000 and a burst from 1 to 100,000; a burst of 0 stands for one second's worth.
    pub fn parse(per_second: f64, burst: i32) -> Result<Self, Invalid> {
        if !(RATES.0..=RATES.1).contains(&per_second) {
            let reason = format!("must be from {} to {}", RATES.0, RATES.1);
            return Err(Invalid::new("deliveries_per_second", reason));
        }
        let burst = u32::try_from(burst).ok().filter(|burst| *burst <= MAX_BURST).ok_or_else(|| {
            let reason = format!("must be from 1 to {MAX_BURST}, or 0 for one second's worth");
            Invalid::new("burst", reason)
        })?;
        let burst = if burst == 0 { one_second(per_second) } else { burst };
        Ok(Self { per_second, burst })
    }

    /// From what the database stores.
    #[must_use]
    pub fn from_stored(per_second: f64, burst: u32) -> Self {
        Self { per_second: per_second.clamp(RATES.0, RATES.1), burst: burst.clamp(1, MAX_BURST) }
    }

    /// So many attempts a minute, of which one second's worth may go out at once.
    #[must_use]
    pub fn per_minute(attempts: u32) -> Self {
        let per_second = (f64::from(attempts) / 60.0).clamp(RATES.0, RATES.1);
        Self { per_second, burst: one_second(per_second) }
    }

    /// What both allow.
    #[must_use]
    pub fn lower(self, other: Self) -> Self {
        Self { per_second: self.per_second.min(other.per_second), burst: self.burst.min(other.burst) }
    }

    /// Attempts per second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.per_second
    }

    /// How many attempts may go out at once.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// How many attempts may begin now if the rate is used up until then.
    #[must_use]
    pub fn admits(self, used_until: Option<Timestamp>, now: Timestamp) -> u32 {
        let ahead = used_until.map_or(Duration::ZERO, |used| used.since(now));
        let room = (self.interval() * self.burst).saturating_sub(ahead);
        // Never more than the burst, which is a `u32`.
        u32::try_from(room.as_micros() / self.interval().as_micros()).unwrap_or(self.burst)
    }

    /// Until when the rate is used up after `attempts` more.
    #[must_use]
    pub fn after(self, used_until: Option<Timestamp>, attempts: u32, now: Timestamp) -> Timestamp {
        used_until.unwrap_or(now).max(now) + self.interval() * attempts
    }

    /// When there is something to be had again that is worth a look, if the rate is used up until then.
    #[must_use]
    pub fn again_at(self, used_until: Timestamp, now: Timestamp) -> Timestamp {
        let worth_it = LOOK_EVERY.as_micros() / self.interval().as_micros();
        let tokens = u32::try_from(worth_it).unwrap_or(u32::MAX).clamp(1, self.burst);
        // `tokens` are there when what is used lies no further ahead than the others.
        now.max(used_until.before(self.interval() * (self.burst - tokens)))
    }

    /// From one attempt to the next at an even pace.
    fn interval(self) -> Duration {
        let exact = Duration::from_secs_f64(1.0 / self.per_second);
        // To the microsecond, as times are stored. At least 10 µs, at the highest rate.
        exact.saturating_sub(Duration::from_nanos(u64::from(exact.subsec_nanos() % 1_000)))
    }
}

/// How many attempts a rate comes to in a second, and one at least.
fn one_second(per_second: f64) -> u32 {
    (1..=MAX_BURST).find(|burst| f64::from(*burst) >= per_second).unwrap_or(MAX_BURST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    fn limit(per_second: f64, burst: i32) -> RateLimit {
        RateLimit::parse(per_second, burst).unwrap()
    }

    #[test]
    fn what_may_not_be_is_refused() {
        for rate in [0.0, -1.0, 0.0009, 100_001.0, f64::NAN, f64::INFINITY] {
            assert_eq!(RateLimit::parse(rate, 1).unwrap_err().field, "deliveries_per_second", "{rate}");
        }
        for burst in [-1, 100_001] {
            assert_eq!(RateLimit::parse(1.0, burst).unwrap_err().field, "burst", "{burst}");
        }
        assert_eq!([0.5, 1.0, 2.5, 100.0].map(|rate| limit(rate, 0).burst()), [1, 1, 3, 100]);
    }

    #[test]
    fn a_rate_can_be_said_by_the_minute_and_the_lower_one_of_two_holds() {
        let (one, thousand) = (RateLimit::per_minute(1), RateLimit::per_minute(60_000));
        assert_eq!((one.burst(), thousand), (1, limit(1_000.0, 0)));
        assert_eq!(one.after(None, 1, NOW), NOW + Duration::from_mins(1));
        assert_eq!(RateLimit::per_minute(u32::MAX), RateLimit::per_minute(6_000_000));
        assert_eq!((one.lower(thousand), thousand.lower(one)), (one, one));
        let (bursts, even) = (RateLimit::from_stored(0.5, 1_000), RateLimit::from_stored(10.0, 10));
        assert_eq!(bursts.lower(even), RateLimit::from_stored(0.5, 10), "neither is passed in any way");
    }

    #[test]
    fn a_burst_goes_out_at_once_and_then_one_by_one() {
        let limit = limit(10.0, 3);
        assert_eq!(limit.admits(None, NOW), 3);
        let used = limit.after(None, 3, NOW);
        assert_eq!(limit.admits(Some(used), NOW), 0);
        let again = limit.again_at(used, NOW);
        assert_eq!(again, NOW + Duration::from_millis(100));
        assert_eq!(limit.admits(Some(used), again), 1);
        assert_eq!(limit.admits(Some(used), NOW + Duration::from_millis(299)), 2);
        assert_eq!(
            limit.admits(Some(used), NOW + Duration::from_hours(1)),
            3,
            "no more than a burst is saved up"
        );
    }

    #[test]
    fn a_fast_rate_is_looked_at_twenty_times_a_second() {
        let limit = limit(1_000.0, 0);
        let used = limit.after(None, 1_000, NOW);
        let again = limit.again_at(used, NOW);
        assert_eq!((again, limit.admits(Some(used), again)), (NOW + Duration::from_millis(50), 50));
    }

    proptest! {
        /// Whoever takes whatever is admitted whenever he looks gets the burst and the rate, and no more.
        #[test]
        fn no_more_than_burst_and_rate_goes_out_and_no_less(
            rate in 0.01f64..2_000.0, burst in 1i32..50, steps in prop::collection::vec(1u64..2_000_000, 1..60)
        ) {
            let limit = limit(rate, burst);
            let (mut now, mut used, mut taken) = (NOW, None, 0u32);
            for step in steps {
                let admitted = limit.admits(used, now);
                prop_assert!(admitted <= limit.burst());
                used = Some(limit.after(used, admitted, now));
                taken += admitted;
                let again = limit.again_at(used.unwrap(), now);
                prop_assert!(limit.admits(used, again) >= 1);
                now = now + Duration::from_micros(step);
                // An interval is cut to microseconds, which makes it up to a part in 500 faster at 2,000 a second.
                let bound = f64::from(limit.burst()) + now.since(NOW).as_secs_f64() * rate * 1.003;
                prop_assert!(f64::from(taken) <= bound + 1.0, "{taken} of {bound}");
            }
        }
    }
}
