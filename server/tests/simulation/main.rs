//! Thousands of schedules of what can happen to several nodes over one database, played with the real publisher and the real
//! dispatcher.
//!
//! ```text
//!   schedule ── steps ──> nodes: Publisher, Writer, Dispatcher (real) ── link ──> database (in memory, shared)
//!      ^  draws                        │                           faults ─┘           │
//!    chance(seed)                      └── sends ──> receivers, with moods             └─> judged at every transaction
//! ```
//!
//! Everything is drawn from one seed: subscriptions and events, how receivers behave, which step is next, what fails. There is no
//! network, no database, one thread, and no time but that which a step lets pass. So a seed that fails does so again:
//!
//! ```text
//! POSTRIDER_SIMULATION_SEED=17 cargo test -p postrider-server --test simulation
//! POSTRIDER_SIMULATION_SCHEDULES=100000 cargo test -p postrider-server --test simulation
//! ```
//!
//! What must hold is checked where it can be broken: when an attempt is begun ([`sends`]), at each transaction ([`transactions`]),
//! when nothing more can happen before time passes ([`schedule`]), and at the end, when everything is healed ([`verdict`]).
//!
//! Not played here: redelivering and cancelling by hand, the jitter of pauses, SQL, HTTP and gRPC. That the real store keeps the contract of the one in memory is for the suites of
//! `integration-tests`, and so are processes that die in earnest.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::{ops::Range, thread};

use schedule::{Played, Schedule};

mod chance;
mod database;
mod faults;
mod gate;
mod link;
mod mood;
mod node;
mod plan;
mod publishes;
mod schedule;
mod sends;
mod steps;
mod transactions;
mod verdict;
mod world;

/// How many schedules are played unless somebody asks for more.
const SCHEDULES: u64 = 2_500;

fn play(seed: u64) -> Played {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(Schedule::play(seed))
}

/// Plays the schedule of a seed, and fails with all there is to know if something was wrong.
fn check(seed: u64) {
    let Played { trace, violations } = play(seed);
    assert!(
        violations.is_empty(),
        "{}\n\nseed {seed} failed: {}\nagain by: \
         POSTRIDER_SIMULATION_SEED={seed} cargo test -p postrider-server --test simulation",
        trace.join("\n"),
        violations.join("; ")
    );
}

/// On as many threads as the machine has: each schedule needs one.
fn check_all(seeds: Range<u64>) {
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    thread::scope(|scope| {
        let part = |nth: u64| seeds.clone().filter(move |seed| seed % threads == nth);
        let parts: Vec<_> = (0..threads).map(|nth| scope.spawn(move || part(nth).for_each(check))).collect();
        for part in parts {
            if let Err(cause) = part.join() {
                std::panic::resume_unwind(cause);
            }
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "a test that is asked for more by hand")]
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn whatever_happens_the_promises_are_kept() {
    match asked("POSTRIDER_SIMULATION_SEED") {
        Some(seed) => check(seed),
        None => check_all(0..asked("POSTRIDER_SIMULATION_SCHEDULES").unwrap_or(SCHEDULES)),
    }
}

#[test]
fn a_seed_is_played_the_same_way_every_time() {
    for seed in 0..20 {
        let (first, second) = (play(seed).trace, play(seed).trace);
        let differs = (0..first.len().max(second.len())).find(|line| first.get(*line) != second.get(*line));
        let at = |line| (first.get(line), second.get(line));
        assert_eq!(differs.map(at), None, "seed {seed}");
    }
}

#[test]
fn schedules_come_to_everything_that_can_happen() {
    let mut missing = vec![
        "(probe)",
        "Acknowledged",
        "Exhausted",
        "Gone",
        "1 expired",
        "Expired",
        "given back",
        "(lost)",
        "Open {",
        "Reopen {",
        "Close {",
        "commits in vain",
        "was there",
        "reuses a request id",
        "not published",
        "is frozen",
        "is killed",
        "all sleep",
        "AnswerLost",
        "LateAnswer",
        "Broken",
    ];
    for seed in 0..SCHEDULES {
        let trace = play(seed).trace;
        missing.retain(|what| !trace.iter().any(|line| line.contains(what)));
        if missing.is_empty() {
            return;
        }
    }
    panic!("in no schedule: {missing:?}");
}
