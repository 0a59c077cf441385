//! Takes due deliveries over.

use std::{collections::BTreeMap, sync::Arc};

use postrider_server::{
    dispatch::{Ask, Claimed, RECOVERY, Settled},
    domain::{attempt::AttemptNumber, breaker::Probe, claim::Claim, id::TenantId, timestamp::Timestamp},
};

use super::{Database, Held, Subscription};

/// A due delivery that the claim may take.
struct Candidate {
    delivery: usize,
    tenant: TenantId,
    /// How many its subscription has had before it, those under way included.
    round: usize,
    turn_at: Timestamp,
}

impl Database {
    /// Takes over what is due and has not expired; ends what has.
    pub(crate) fn claim(&mut self, ask: &Ask, node: usize) -> Claimed {
        let mut ended = 0;
        loop {
            let mut taken = self.take_due(ask, node);
            let (expired, claims): (Vec<_>, Vec<_>) =
                taken.claims.into_iter().partition(|claim| claim.expired(ask.now));
            ended += expired.len();
            let none_expired = expired.is_empty();
            let expired: Vec<_> = expired.into_iter().map(|claim| Settled::expired(claim, ask.now)).collect();
            self.settle(&expired);
            if none_expired || !claims.is_empty() {
                taken.claims = claims;
                taken.expired = ended;
                return taken;
            }
        }
    }

    fn take_due(&mut self, ask: &Ask, node: usize) -> Claimed {
        let mut throttled = Vec::new();
        let mut candidates = Vec::new();
        for number in 0..self.subscriptions.len() {
            let mut due = self.due(number, ask.now);
            let subscription = &self.subscriptions[number];
            if due.is_empty() || !subscription.is_active() {
                continue;
            }
            if let Some(until) = subscription.throttled_until.filter(|until| *until > ask.now) {
                throttled.push((subscription.uid, until));
                continue;
            }
            due.truncate(subscription.room(ask).min(subscription.admitted(ask.now)));
            let busy = busy(&ask.held, &subscription.uid);
            candidates.extend(due.into_iter().enumerate().map(|(nth, (delivery, turn_at))| Candidate {
                delivery,
                tenant: subscription.tenant.clone(),
                round: busy + nth + 1,
                turn_at,
            }));
        }
        let mut claims = Vec::new();
        let mut taken_of = BTreeMap::new();
        for delivery in in_turn(candidates, ask) {
            *taken_of.entry(self.deliveries[delivery].subscription).or_insert(0) += 1;
            claims.push(self.take(delivery, ask, node));
        }
        for (number, count) in taken_of {
            let subscription = &mut self.subscriptions[number];
            let probe = subscription
                .blocked_until
                .is_some()
                .then_some(Probe { held_until: ask.leased_until, pauses: subscription.block_pauses });
            subscription.blocked_until = probe.map(|probe| probe.held_until);
            for claim in claims.iter_mut().filter(|claim| claim.target.uid == subscription.uid) {
                claim.probe = probe;
            }
            throttled.extend(subscription.use_up(count, ask.now).map(|until| (subscription.uid, until)));
        }
        Claimed { claims, throttled, expired: 0, unreadable: 0 }
    }

    /// What is due for a subscription, with its handicap, the most urgent first.
    fn due(&self, subscription: usize, now: Timestamp) -> Vec<(usize, Timestamp)> {
        let mut due: Vec<_> = self
            .pending()
            .filter(|(_, delivery)| delivery.subscription == subscription && delivery.due_at <= now)
            .map(|(number, delivery)| {
                let priority = self.event(number).content.handling.priority;
                (number, delivery.due_at + priority.handicap())
            })
            .collect();
        due.sort_by_key(|(number, turn_at)| (*turn_at, *number));
        due
    }

    fn take(&mut self, number: usize, ask: &Ask, node: usize) -> Claim {
        let event = Arc::clone(self.event(number));
        let target = self.subscriptions[self.deliveries[number].subscription].target();
        let delivery = &mut self.deliveries[number];
        delivery.attempt_count += 1;
        delivery.due_at = ask.leased_until;
        delivery.is_timed = true;
        delivery.claim = Some(Held { attempt: delivery.attempt_count, node, is_excused: false });
        Claim {
            delivery: delivery.id,
            attempt: AttemptNumber::new(delivery.attempt_count).unwrap(),
            event,
            target,
            leased_until: ask.leased_until,
            previous_span: None,
            probe: None,
        }
    }
}

impl Subscription {
    /// How many attempts may be claimed by a node that asks for this.
    pub(super) fn room(&self, ask: &Ask) -> usize {
        let most = ask.max_per_subscription;
        let own = self.pace.max_in_flight.map_or(most, |own| own.get() as usize);
        let has_just_recovered = self.recovered_at.is_some_and(|at| at > ask.now.before(RECOVERY));
        let window = ask.limits.iter().find(|(uid, _)| *uid == self.uid);
        let window = window.map_or(if has_just_recovered { 1 } else { most }, |(_, window)| *window);
        let of_subscription = most.min(own).min(window).saturating_sub(busy(&ask.held, &self.uid));
        of_subscription.min(ask.max_per_tenant.saturating_sub(busy(&ask.tenants, &self.tenant)))
    }
}

/// Subscriptions and tenants take turns, as far as the node has room.
fn in_turn(mut candidates: Vec<Candidate>, ask: &Ask) -> Vec<usize> {
    candidates.sort_by_key(|candidate| (candidate.round, candidate.turn_at, candidate.delivery));
    let mut turns: BTreeMap<TenantId, usize> = BTreeMap::new();
    let mut in_turn: Vec<_> = candidates
        .into_iter()
        .map(|candidate| {
            let busy = busy(&ask.tenants, &candidate.tenant);
            let turn = turns.entry(candidate.tenant).or_insert(busy);
            *turn += 1;
            (*turn, candidate.round, candidate.turn_at, candidate.delivery)
        })
        .filter(|(turn, ..)| *turn <= ask.max_per_tenant)
        .collect();
    in_turn.sort_unstable();
    in_turn.into_iter().map(|(.., delivery)| delivery).take(ask.max).collect()
}

fn busy<T: PartialEq>(counts: &[(T, usize)], whose: &T) -> usize {
    counts.iter().find(|(owner, _)| owner == whose).map_or(0, |(_, count)| *count)
}
