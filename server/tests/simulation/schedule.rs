//! One schedule: nodes over one database, and what happens to them, step by step.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use postrider_server::{dispatch::Ask, domain::timestamp::Timestamp};
use tokio_util::task::TaskTracker;

use crate::{
    chance::Chance, database::Delivery, mood::Mood, node::Node, plan::Plan, publishes::Publish, world::World,
};

/// What never comes to rest is broken off after so many rounds.
const MAX_ROUNDS: usize = 2_000;
/// A timer of tokio's may be late by a millisecond.
const TIMER: Duration = Duration::from_millis(2);
/// While nodes are at work, time passes in pieces of this length, so that they keep up.
const PIECE: Duration = Duration::from_secs(1);
/// How long a delivery may be left lying after a poll should have found it: a look that fails is followed by a rest.
const SLACK: Duration = Duration::from_secs(5);

/// What came of a schedule.
pub(crate) struct Played {
    pub(crate) trace: Vec<String>,
    /// What may not be, and was.
    pub(crate) violations: Vec<String>,
}

pub(crate) struct Schedule {
    pub(crate) chance: Chance,
    pub(crate) plan: Plan,
    pub(crate) world: Arc<World>,
    /// Where nodes run; an empty place is one whose node was killed.
    pub(crate) nodes: Vec<Option<Node>>,
    /// How many nodes were ever started.
    started: usize,
    /// How each receiver is at present.
    pub(crate) moods: Vec<Mood>,
    pub(crate) tasks: TaskTracker,
    /// When time last passed.
    last_passed: Timestamp,
}

impl Schedule {
    /// Plays the schedule of a seed.
    pub(crate) async fn play(seed: u64) -> Played {
        let mut schedule = Self::begin(Chance::seeded(seed));
        let ended = AssertUnwindSafe(schedule.run()).catch_unwind().await;
        // Whatever panicked may have held it.
        let state = &mut *schedule.world.state.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_err() {
            state.violations.push("it panicked".to_owned());
        }
        Played { trace: std::mem::take(&mut state.trace), violations: std::mem::take(&mut state.violations) }
    }

    async fn run(&mut self) {
        for _ in 0..self.plan.steps {
            self.step().await;
            self.settle_down().await;
            if self.has_failed() {
                return;
            }
        }
        self.heal().await;
        if !self.has_failed() {
            self.judge();
        }
    }

    fn begin(mut chance: Chance) -> Self {
        let plan = Plan::draw(&mut chance);
        let world = World::new(plan.config.clone());
        let last_passed = world.now();
        let mut schedule = Self {
            chance,
            world,
            nodes: Vec::new(),
            started: 0,
            moods: Vec::new(),
            tasks: TaskTracker::new(),
            last_passed,
            plan,
        };
        schedule.nodes.resize_with(schedule.plan.nodes, || None);
        schedule.start_nodes();
        for _ in 0..schedule.chance.from(1..=5) {
            schedule.subscribe();
        }
        schedule
    }

    fn has_failed(&self) -> bool {
        !self.world.state().violations.is_empty()
    }

    /// Starts a node in each empty place.
    pub(crate) fn start_nodes(&mut self) {
        for place in self.nodes.iter_mut().filter(|place| place.is_none()) {
            self.world.say(format_args!("n{} starts", self.started));
            *place = Some(Node::start(self.started, &self.world, &self.plan, &self.tasks));
            self.started += 1;
        }
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten().filter(|node| !node.is_frozen())
    }

    pub(crate) fn is_running(&self, number: usize) -> bool {
        self.running().any(|node| node.number == number)
    }

    /// Lets the nodes do what they can without time passing.
    pub(crate) async fn settle_down(&self) {
        self.come_to_rest().await;
        if self.plan.is_calm && self.forgotten().is_some() {
            // After a look in vain the poll rests for a moment.
            self.world.pass(TIMER).await;
            self.come_to_rest().await;
            if let Some(number) = self.forgotten() {
                self.world.state().violations.push(format!("nobody was woken for d{number}"));
            }
        }
    }

    async fn come_to_rest(&self) {
        loop {
            let before = self.world.state().trace.len();
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            let hints = std::mem::take(&mut self.world.state().hints);
            for node in &hints {
                self.running()
                    .filter(|other| other.number != *node)
                    .for_each(|other| other.dispatcher.wake_by_other());
            }
            if hints.is_empty() && self.world.state().trace.len() == before {
                break;
            }
        }
    }

    /// A delivery that came due by what has happened since time last passed, and is not under way although there is room for it.
    fn forgotten(&self) -> Option<usize> {
        let asks = self.asks();
        let state = self.world.state();
        let is_new = |row: &Delivery| !row.is_timed && row.due_at > self.last_passed;
        let mut claimable = asks.iter().flat_map(|ask| state.database.claimable(ask));
        claimable.find(|(_, row)| is_new(row)).map(|(number, _)| number)
    }

    /// What each node would claim now.
    fn asks(&self) -> Vec<Ask> {
        self.running().map(|node| node.dispatcher.standing().ask).collect()
    }

    /// Lets time pass, from one thing that is due to the next.
    pub(crate) async fn advance(&mut self, span: Duration) {
        let until = self.world.now() + span;
        loop {
            let left = until.since(self.world.now());
            if left.is_zero() || self.has_failed() {
                return;
            }
            let next = self.next_stop().unwrap_or(left);
            self.pass(next.min(left)).await;
        }
    }

    pub(crate) async fn pass(&mut self, span: Duration) {
        self.world.pass(span).await;
        self.last_passed = self.world.now();
        self.settle_down().await;
    }

    /// Whether a delivery is in the hands of a node that runs.
    fn is_at_work(&self, row: &Delivery) -> bool {
        row.due_at > self.world.now() && row.claim.is_some_and(|held| self.is_running(held.node))
    }

    /// How long it is until something is to happen.
    fn next_stop(&self) -> Option<Duration> {
        let (now, state) = (self.world.now(), self.world.state());
        let database = &state.database;
        if database.pending().any(|(_, row)| self.is_at_work(row)) {
            return Some(PIECE);
        }
        let due = database.pending().map(|(_, delivery)| delivery.due_at);
        let kept = database.subscriptions.iter().flat_map(|row| [row.blocked_until, row.throttled_until]);
        let next = due.chain(kept.flatten()).filter(|at| *at > now && *at < Timestamp::NEVER).min();
        next.map(|at| at.since(now) + TIMER)
    }

    /// Everything is repaired, and goes on until there is nothing left to do.
    async fn heal(&mut self) {
        self.world.state().faults.clear();
        self.thaw();
        self.start_nodes();
        self.moods.fill(Mood::Well);
        self.world.say("everything is healed");
        let mut standstill = None;
        for _ in 0..MAX_ROUNDS {
            self.answer_all();
            self.sweep();
            self.settle_down().await;
            if self.has_failed() || self.is_idle() {
                return;
            }
            let is_overdue = self.judge_punctuality(&mut standstill);
            let poll = self.plan.config.poll_interval + TIMER;
            let next = self.next_stop().unwrap_or(poll);
            self.pass(if is_overdue { next.min(poll) } else { next }).await;
        }
        self.world.state().violations.push("it did not come to rest".to_owned());
    }

    /// Whether there is nothing left to do.
    fn is_idle(&self) -> bool {
        let state = self.world.state();
        let database = &state.database;
        let rests = |(_, row): (usize, &Delivery)| {
            database.subscriptions[row.subscription].paused && !self.is_at_work(row)
        };
        let are_resting = database.pending().all(rests);
        let is_unanswered = |publish: &Publish| publish.answer.is_none() && self.is_running(publish.node);
        let has_none = |ask: &Ask| ask.held.is_empty();
        let is_answered = !state.publishes.iter().any(is_unanswered) && state.troubled.is_empty();
        drop(state);
        are_resting && is_answered && self.asks().iter().all(has_none)
    }

    /// Where there is room, polls find what is due: it does not lie about while nothing is sent. Says whether anything is due; takes
    /// note of since when how much was sent.
    fn judge_punctuality(&self, standstill: &mut Option<(Timestamp, usize)>) -> bool {
        let (now, asks) = (self.world.now(), self.asks());
        let state = &mut *self.world.state();
        let overdue = asks.iter().find_map(|ask| state.database.overdue(ask));
        let (since, sent) = standstill.take().unwrap_or((now, state.sends.len()));
        if let Some(overdue) = overdue.filter(|_| state.troubled.is_empty() && state.sends.len() == sent) {
            *standstill = Some((since, sent));
            let number = state.database.number_of(overdue.delivery);
            let is_late = now > since + self.plan.config.poll_interval + SLACK;
            state.expect(!is_late, || format!("d{number} is left lying"));
        }
        overdue.is_some()
    }
}
