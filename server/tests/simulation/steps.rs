//! What can happen in one step.

use std::time::Duration;

use postrider_server::domain::{id::TenantId, subscription::Filter};

use crate::{faults::Fault, mood::Mood, node::Node, plan::pace, publishes::TENANTS, schedule::Schedule};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const FILTERS: [&[&str]; 4] = [&["**"], &["order.*"], &["order.created", "user.*"], &["order.paid"]];

impl Schedule {
    pub(crate) async fn step(&mut self) {
        match self.chance.below(if self.plan.is_calm { 80 } else { 100 }) {
            0..22 => (0..self.chance.from(1..=5)).for_each(|_| self.publish()),
            22..46 => self.answer_some(),
            46..56 => self.wait(&[SECOND / 1_000, SECOND / 10, SECOND, 5 * SECOND]).await,
            56..62 => self.wait(&[20 * SECOND, 60 * SECOND, HOUR / 6, HOUR, 24 * HOUR]).await,
            62..69 => self.change_mood(),
            69..76 => self.steer(),
            76..79 => self.sweep(),
            79 => self.wake(),
            80..91 => self.break_link(),
            91..94 => self.freeze(),
            94..96 => self.thaw(),
            96..98 => self.kill(),
            98 => self.start_nodes(),
            _ => self.suspend().await,
        }
    }

    /// Receivers answer some of the attempts that are under way, in any order.
    fn answer_some(&mut self) {
        for _ in 0..self.chance.from(1..=6) {
            let waiting = self.waiting();
            if !waiting.is_empty() {
                let send = self.chance.one_of(&waiting);
                self.answer(send);
            }
        }
    }

    /// Receivers answer whatever is under way.
    pub(crate) fn answer_all(&mut self) {
        for send in self.waiting() {
            self.answer(send);
        }
    }

    /// Attempts whose nodes could hear an answer.
    fn waiting(&self) -> Vec<usize> {
        let state = self.world.state();
        let waits = |(place, send): (usize, &crate::sends::Send)| {
            (send.answer.is_some() && self.is_running(send.node)).then_some(place)
        };
        state.sends.iter().enumerate().filter_map(waits).collect()
    }

    fn answer(&mut self, place: usize) {
        let mut state = self.world.state();
        let send = &mut state.sends[place];
        let outcome = self.moods[send.subscription].outcome(&mut self.chance);
        if let Some(outcome) = outcome
            && let Some(answer) = send.answer.take()
        {
            // It may have taken too long.
            let _ = answer.send(outcome);
        }
    }

    async fn wait(&mut self, spans: &[Duration]) {
        let span = self.chance.about(spans);
        self.world.say(format_args!("{span:?} pass"));
        self.advance(span).await;
    }

    fn change_mood(&mut self) {
        let (receiver, mood) = (self.chance.below(self.moods.len()), Mood::draw(&mut self.chance));
        self.world.say(format_args!("s{receiver} is {mood:?}"));
        self.moods[receiver] = mood;
    }

    /// People change subscriptions.
    fn steer(&mut self) {
        let number = self.chance.below(self.moods.len());
        let what =
            self.chance.one_of(&["pause", "resume", "resume", "enable", "enable", "delete", "subscribe"]);
        let now = self.world.now();
        let mut state = self.world.state();
        if what != "subscribe" && state.database.subscriptions[number].deleted {
            return;
        }
        state.say(now, format_args!("{what} s{number}"));
        match what {
            "pause" => return state.database.pause(number),
            "delete" => return state.database.delete(number, now),
            "resume" => state.database.resume(number, now),
            "enable" => state.database.enable(number, now),
            _ => {
                drop(state);
                return self.subscribe();
            }
        }
        drop(state);
        self.wake();
    }

    pub(crate) fn subscribe(&mut self) {
        let tenant = TenantId::parse(self.chance.one_of(&TENANTS[..2])).unwrap();
        let filter = Filter::parse(self.chance.one_of(&FILTERS)).unwrap();
        let pace = pace(&mut self.chance);
        let mut state = self.world.state();
        let text = format!("of {tenant}: {filter:?}, {pace:?}");
        let number = state.database.subscribe(&tenant, filter, pace);
        state.say(self.world.now(), format_args!("s{number} {text}"));
        drop(state);
        self.moods.push(Mood::Well);
    }

    /// Housekeeping: it is done by every node, so it does not matter which does it.
    pub(crate) fn sweep(&mut self) {
        let (now, mut state) = (self.world.now(), self.world.state());
        state.database.sweep(now);
        state.database.expire(now);
    }

    fn wake(&mut self) {
        let running: Vec<_> = self.running().map(|node| node.dispatcher.clone()).collect();
        if !running.is_empty() {
            self.chance.one_of(&running).wake();
        }
    }

    /// Something is to happen to calls of a node.
    fn break_link(&mut self) {
        let numbers: Vec<_> = self.nodes.iter().flatten().map(|node| node.number).collect();
        if !numbers.is_empty() {
            let node = self.chance.one_of(&numbers);
            let faults = Fault::draw(&mut self.chance, node);
            self.world.state().faults.extend(faults);
        }
    }

    fn freeze(&mut self) {
        let place = self.chance.below(self.nodes.len());
        if let Some(node) = &self.nodes[place] {
            node.freeze();
            let mut state = self.world.state();
            state.excuse(node.number);
            state.say(self.world.now(), format_args!("n{} is frozen", node.number));
        }
    }

    pub(crate) fn thaw(&mut self) {
        self.world.say("all nodes go on");
        self.nodes.iter().flatten().for_each(Node::thaw);
    }

    fn kill(&mut self) {
        let place = self.chance.below(self.nodes.len());
        if let Some(node) = self.nodes[place].take() {
            self.world.say(format_args!("n{} is killed", node.number));
            node.kill(&self.world);
        }
    }

    /// All machines sleep for a while.
    async fn suspend(&mut self) {
        let span = self.chance.about(&[5 * SECOND, 30 * SECOND, 60 * SECOND, HOUR]);
        self.world.say(format_args!("all sleep for {span:?}"));
        let numbers: Vec<_> = self.nodes.iter().flatten().map(|node| node.number).collect();
        for node in numbers {
            self.world.state().excuse(node);
        }
        self.pass(span).await;
    }
}
