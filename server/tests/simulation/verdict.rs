//! What must be true at the end of every schedule.

use std::collections::BTreeMap;

use postrider_server::{
    domain::{attempt::Outcome, delivery::EndReason, retry::Pauses},
    publish::Error,
};

use crate::{database::Delivery, publishes::Publish, schedule::Schedule, world::State};

impl Schedule {
    /// Everything is healed, and nothing is left to do.
    pub(crate) fn judge(&self) {
        self.judge_nodes();
        let Pauses::Listed(pauses) = &self.plan.policy.retry.pauses else {
            unreachable!("the plan lists them")
        };
        let schedule = pauses.len();
        let is_running = |node| self.is_running(node);
        let mut state = self.world.state();
        state.judge_deliveries(schedule);
        state.judge_attempts(is_running);
        state.judge_answers(is_running);
    }

    /// All permits are back, and all loops still run.
    fn judge_nodes(&self) {
        for node in self.running() {
            let otherwise = || format!("a loop of n{} has ended", node.number);
            self.world.state().expect(!node.has_lost_a_loop(), otherwise);
            let ask = node.dispatcher.standing().ask;
            let total = self.plan.config.max_in_flight + self.plan.config.max_queued;
            let are_back = ask.max == total && ask.held.is_empty() && ask.tenants.is_empty();
            let otherwise = || format!("n{} has lost permits: {ask:?} of {total}", node.number);
            self.world.state().expect(are_back, otherwise);
        }
    }
}

impl State {
    /// Each delivery has ended for a reason that its attempts bear out, or waits for a subscription that is paused.
    fn judge_deliveries(&mut self, schedule: usize) {
        for number in 0..self.database.deliveries.len() {
            let row = &self.database.deliveries[number];
            let subscription = &self.database.subscriptions[row.subscription];
            let is_told = match row.ended.map(|ended| ended.reason) {
                None => subscription.paused && !subscription.has_ended(),
                Some(EndReason::Acknowledged) => matches!(last(row), Some(Outcome::Acknowledged { .. })),
                Some(EndReason::Gone) => matches!(last(row), Some(Outcome::Rejected { status: 410, .. })),
                Some(EndReason::Exhausted) => row.attempt_count as usize > schedule && last(row).is_some(),
                Some(EndReason::Expired) => self.database.event(number).content.handling.expire_at.is_some(),
                Some(EndReason::SubscriptionDeleted | EndReason::SubscriptionDisabled) => true,
                Some(EndReason::Cancelled | EndReason::Unreadable | EndReason::Aborted) => false,
            };
            let text =
                format!("d{number} is {:?} after {} of {:?}", row.ended, row.attempt_count, row.attempts);
            self.expect(is_told, || text);
        }
    }

    /// What is recorded is what was seen, but for what could not be recorded.
    fn judge_attempts(&mut self, is_running: impl Fn(usize) -> bool) {
        let mut recorded: BTreeMap<_, _> = BTreeMap::new();
        for (number, row) in self.database.deliveries.iter().enumerate() {
            recorded
                .extend(row.attempts.iter().map(|(attempt, outcome)| ((number, *attempt), outcome.clone())));
        }
        let mut wrong = Vec::new();
        for send in &self.sends {
            let found = recorded.remove(&(send.delivery, send.number));
            let may_be_missing = !is_running(send.node) || self.refused.contains(&send.node);
            let is_right = if found.is_none() { may_be_missing } else { found == send.outcome };
            if !is_right {
                wrong.push(format!("d{}#{} is recorded as {found:?}", send.delivery, send.number));
            }
        }
        wrong
            .extend(recorded.keys().map(|(delivery, number)| format!("d{delivery}#{number} was never made")));
        self.violations.extend(wrong);
    }

    /// Every call is answered, and the answer is true.
    fn judge_answers(&mut self, is_running: impl Fn(usize) -> bool) {
        for place in 0..self.publishes.len() {
            let publish = &self.publishes[place];
            let is_true = match &publish.answer {
                None | Some(Err(Error::Stopping)) => !is_running(publish.node),
                Some(Err(Error::Unavailable(_) | Error::Broken(_))) => self.disturbed.contains(&publish.node),
                // There is no catalogue.
                Some(Err(Error::Refused { .. })) => false,
                Some(Ok(_) | Err(Error::RequestIdReused)) => self.is_borne_out(publish),
            };
            let text = format!("{} was answered {:?}", publish.event.content.subject, publish.answer);
            self.expect(is_true, || text);
        }
    }

    /// Whether the rows agree with an answer.
    fn is_borne_out(&self, publish: &Publish) -> bool {
        let is_named = |event: &postrider_server::domain::event::Event| match &publish.event.request_id {
            Some(id) => event.tenant == publish.event.tenant && event.request_id.as_ref() == Some(id),
            None => event.content.subject == publish.event.content.subject,
        };
        let stored: Vec<_> =
            self.database.events.iter().enumerate().filter(|(_, stored)| is_named(&stored.event)).collect();
        let [(number, stored)] = stored[..] else { return false };
        let is_same = stored.event.content.fingerprint() == publish.event.content.fingerprint();
        let deliveries = self.database.deliveries.iter().filter(|row| row.event == number).count();
        match &publish.answer {
            Some(Ok(published)) => {
                is_same
                    && published.event == stored.event.id
                    && published.delivery_count as usize == deliveries
            }
            _ => !is_same,
        }
    }
}

/// What the latest attempt came to.
fn last(row: &Delivery) -> Option<&Outcome> {
    row.attempts.get(&row.attempt_count)
}
