//! What a schedule is played with: drawn before its first step, from the seed like everything else.

use std::{num::NonZeroU32, time::Duration};

use postrider_server::{
    dispatch::{Config, Policy},
    domain::{
        breaker::BreakerPolicy,
        rate_limit::RateLimit,
        retry::{Pauses, RetryPolicy},
        subscription::Pace,
    },
};

use crate::chance::Chance;

/// The longest attempt; less than a lease, as the configuration of a server must have it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(15);

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// The rules of one schedule.
pub(crate) struct Plan {
    /// How many nodes there are.
    pub(crate) nodes: usize,
    /// Whether nodes, their links to the database, and their clocks' steadiness are left alone. Then a delivery that comes due by what
    /// happens, and not by the passing of time, is claimed at once.
    pub(crate) is_calm: bool,
    /// How many steps there are before everything is healed.
    pub(crate) steps: usize,
    pub(crate) config: Config,
    pub(crate) policy: Policy,
}

impl Plan {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let is_calm = chance.percent(25);
        Self {
            nodes: if is_calm { 1 } else { chance.from(1..=3) },
            is_calm,
            steps: chance.from(20..=60),
            // Room for twice as much as there is, as a claim takes half of the room at a time.
            config: if is_calm { roomy() } else { config(chance) },
            policy: policy(chance),
        }
    }
}

fn roomy() -> Config {
    Config { poll_interval: MINUTE, max_in_flight: 512, max_in_flight_per_tenant: 512, ..Config::default() }
}

fn config(chance: &mut Chance) -> Config {
    let max_in_flight = chance.one_of(&[2, 4, 16]);
    let max_queued = chance.one_of(&[0, 4, 32]);
    let config = Config {
        lease: chance.one_of(&[20 * SECOND, MINUTE]),
        poll_interval: chance.one_of(&[SECOND, 10 * SECOND]),
        max_in_flight,
        max_in_flight_per_tenant: chance.from(1..=max_in_flight),
        max_in_flight_per_subscription: chance.from(1..=max_in_flight),
        max_queued,
        max_queued_per_subscription: chance.from(0..=max_queued),
    };
    config.validate(TIMEOUT).unwrap();
    config
}

/// Without jitter: the server draws that by itself, and not from our seed.
fn policy(chance: &mut Chance) -> Policy {
    let pauses = [SECOND, 5 * SECOND, MINUTE, 10 * MINUTE, 60 * MINUTE];
    let schedule = (0..chance.from(1..=5)).map(|_| chance.about(&pauses)).collect();
    let breaker = BreakerPolicy {
        consecutive_failures: chance.one_of(&[2, 3, 10]),
        min_attempts: 5,
        max_pause: MINUTE,
        jitter: 0.0,
        ..BreakerPolicy::default()
    };
    let pauses = Pauses::Listed(schedule);
    Policy { retry: RetryPolicy { pauses, jitter: 0.0, max_age: None }, breaker }
}

/// How fast one receiver wants to be sent to.
pub(crate) fn pace(chance: &mut Chance) -> Pace {
    let rate = chance.percent(20).then(|| {
        let (per_second, burst) = chance.one_of(&[(0.2, 1), (1.0, 2), (10.0, 0)]);
        RateLimit::parse(per_second, burst).unwrap()
    });
    let most = u32::try_from(chance.from(1..=3)).unwrap();
    let max_in_flight = if chance.percent(20) { NonZeroU32::new(most) } else { None };
    Pace { rate, max_in_flight }
}
