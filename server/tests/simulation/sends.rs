//! The receivers' side: each attempt, as it is begun and as it ends.
//!
//! An attempt is held until the schedule answers it or it takes too long.

use std::time::Duration;

use postrider_server::{
    dispatch::Sender,
    domain::{
        attempt::{Attempt, Failure, Outcome, Timings},
        claim::{Claim, Target},
        timestamp::Timestamp,
        trace_context::TraceContext,
    },
};
use tokio::sync::oneshot;

use crate::{
    link::Link,
    plan::TIMEOUT,
    world::{State, World},
};

/// How long after it has learnt of a block a node may still send what it was about to: as long as deliveries wait for their turn.
const TURNS: Duration = Duration::from_secs(5);

/// One attempt.
pub(crate) struct Send {
    pub(crate) node: usize,
    pub(crate) delivery: usize,
    pub(crate) subscription: usize,
    pub(crate) number: u32,
    pub(crate) is_probe: bool,
    leased_until: Timestamp,
    /// Where the node waits for its outcome.
    pub(crate) answer: Option<oneshot::Sender<Outcome>>,
    /// What the node was told.
    pub(crate) outcome: Option<Outcome>,
}

impl Sender for Link {
    async fn send(&self, claim: &Claim, _: Option<&TraceContext>, now: Timestamp) -> Attempt {
        let (answer, answered) = oneshot::channel();
        let place = self.world.state().begin(&self.world, self.node, claim, now, answer);
        let outcome = tokio::time::timeout(TIMEOUT, answered).await.unwrap_or_else(|_| Ok(timed_out()));
        self.while_it_runs().await;
        let Ok(outcome) = outcome else {
            // The node was killed.
            return std::future::pending().await;
        };
        let at = self.world.now();
        let mut state = self.world.state();
        let send = &mut state.sends[place];
        send.answer = None;
        send.outcome = Some(outcome.clone());
        let text = format!("n{} hears of d{}#{}: {outcome:?}", self.node, send.delivery, send.number);
        state.say(at, text);
        Attempt {
            number: claim.attempt,
            started_at: now,
            target_url: String::new(),
            outcome,
            wish: None,
            response: None,
            timings: Timings { total: at.since(now), ..Timings::default() },
            span: None,
        }
    }

    fn timeout(&self, _: &Target) -> Duration {
        TIMEOUT
    }
}

fn timed_out() -> Outcome {
    Outcome::Failed { failure: Failure::Timeout, message: String::new() }
}

impl State {
    fn begin(
        &mut self,
        world: &World,
        node: usize,
        claim: &Claim,
        now: Timestamp,
        answer: oneshot::Sender<Outcome>,
    ) -> usize {
        let delivery = self.database.number_of(claim.delivery);
        let send = Send {
            node,
            delivery,
            subscription: self.database.deliveries[delivery].subscription,
            number: claim.attempt.get(),
            is_probe: claim.probe.is_some(),
            leased_until: claim.leased_until,
            answer: Some(answer),
            outcome: None,
        };
        self.say(now, format_args!("n{node} sends d{delivery}#{} to s{}", send.number, send.subscription));
        self.judge_claim(&send, claim, now);
        self.judge_order(&send);
        self.judge_room(&send, world, now);
        self.sends.push(send);
        self.sends.len() - 1
    }

    /// An attempt is made by whoever has the delivery, once for each claim, within its lease, and not too late.
    fn judge_claim(&mut self, send: &Send, claim: &Claim, now: Timestamp) {
        let Send { node, delivery, number, .. } = *send;
        let row = &self.database.deliveries[delivery];
        let is_called_off = row.ended.is_some_and(|ended| ended.by_sweep);
        let is_over = row.ended.is_some() && !is_called_off;
        let is_theirs = row.attempt_count != number && !is_called_off;
        let fits = now + TIMEOUT < claim.leased_until;
        let of_delivery = || self.sends.iter().filter(move |other| other.delivery == delivery);
        let is_twice = of_delivery().any(|other| other.number == number);
        let overlaps = of_delivery().any(|other| other.answer.is_some() && now < other.leased_until);
        self.expect(!is_over, || format!("n{node} sent d{delivery}#{number} although it had ended"));
        self.expect(!is_theirs, || format!("n{node} sent d{delivery}#{number}, which was somebody else's"));
        self.expect(fits, || format!("n{node} sent d{delivery}#{number}, which does not fit into its lease"));
        self.expect(!is_twice, || format!("n{node} sent d{delivery}#{number} again"));
        self.expect(!overlaps, || format!("n{node} sent d{delivery}#{number} beside another attempt at it"));
        self.expect(!claim.expired(now), || format!("n{node} sent d{delivery}#{number}, which had expired"));
    }

    /// In a lane only the first that is pending is sent.
    fn judge_order(&mut self, send: &Send) {
        let Send { node, delivery, number, .. } = *send;
        let first = self.database.first_in_lane_of(delivery);
        let is_pending = self.database.deliveries[delivery].ended.is_none();
        let is_first = first.is_none_or(|first| first == delivery);
        self.expect(is_first || !is_pending, || {
            format!("n{node} sent d{delivery}#{number} before {first:?}, which is earlier in its lane")
        });
    }

    /// No more is under way than may be, and nothing but probes to who is blocked.
    fn judge_room(&mut self, send: &Send, world: &World, now: Timestamp) {
        let Send { node, subscription, .. } = *send;
        let row = &self.database.subscriptions[subscription];
        let under_way = || self.sends.iter().filter(|other| other.node == node && other.answer.is_some());
        let to_it = under_way().filter(|other| other.subscription == subscription && !other.is_probe).count();
        let probes = self.sends.iter().filter(|other| other.subscription == subscription && other.is_probe);
        let probes = probes.filter(|other| other.answer.is_some() && now < other.leased_until).count();
        let limit = world.config.max_in_flight_per_subscription;
        let limit = row.pace.max_in_flight.map_or(limit, |own| limit.min(own.get() as usize));
        let all = under_way().count();
        let most = world.config.max_in_flight + world.config.max_queued;
        let learnt_at = self.known_blocked.get(&(node, subscription)).filter(|_| row.blocked_until.is_some());
        let is_known = learnt_at.is_some_and(|at| *at + world.config.poll_interval + TURNS < now);
        self.expect(all < most, || format!("n{node} has {all} attempts under way and sends one more"));
        if send.is_probe {
            self.expect(probes == 0, || format!("n{node} sent a second probe to s{subscription}"));
        } else {
            self.expect(to_it < limit, || {
                format!("n{node} has {to_it} attempts under way to s{subscription} and sends one more")
            });
            self.expect(!is_known, || {
                format!("n{node} sent to s{subscription}, which it knew to be blocked")
            });
        }
    }
}
