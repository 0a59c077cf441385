//! The transactions of nodes: each is noted, and judged by what must hold at every one of them.

use std::{collections::BTreeSet, fmt::Write};

use postrider_server::{
    dispatch::{Ask, Claimed, Settled, Settling},
    domain::{attempt::Outcome, delivery::Settlement},
    publish::{Batch, Beginning, Commit, Entry, Fate},
};

use crate::{link::Link, sends::Send, world::State};

impl State {
    pub(crate) fn claim(&mut self, link: &Link, ask: &Ask) -> Claimed {
        let node = link.node;
        let held: Vec<_> = self.database.deliveries.iter().map(|delivery| delivery.claim).collect();
        let claimed = self.database.claim(ask, node);
        let mut text = String::new();
        for claim in &claimed.claims {
            let number = self.database.number_of(claim.delivery);
            let probe = if claim.probe.is_some() { " (probe)" } else { "" };
            write!(text, " d{number}#{}{probe}", claim.attempt.get()).unwrap();
            if claim.probe.is_none() {
                let subscription = self.database.deliveries[number].subscription;
                self.known_blocked.remove(&(node, subscription));
            }
        }
        if !claimed.claims.is_empty() || claimed.expired > 0 {
            self.say(link.world.now(), format_args!("n{node} claims{text}, {} expired", claimed.expired));
        }
        self.expect(claimed.claims.len() <= ask.max, || format!("n{node} got more than it asked for"));
        for (number, held) in held.into_iter().enumerate() {
            // Whatever a node holds it settles before its lease runs out, unless something keeps it from that.
            let was_left = held.filter(|held| {
                let now_held = self.database.deliveries[number].claim;
                !(held.is_excused || self.troubled.contains(&held.node))
                    && now_held.is_none_or(|now| now.attempt != held.attempt)
            });
            self.expect(was_left.is_none(), || {
                format!(
                    "the lease of d{number} ran out although nothing had happened to its node: {was_left:?}"
                )
            });
        }
        claimed
    }

    pub(crate) fn settle(&mut self, link: &Link, batch: &[Settled]) -> Settling {
        let settling = self.database.settle(batch);
        let mut text = String::new();
        for settled in batch {
            let number = self.database.number_of(settled.delivery);
            let lost = if settling.lost.contains(&settled.delivery) { " (lost)" } else { "" };
            let follows = match settled.settlement {
                Settlement::End(reason) => format!("{reason:?}"),
                Settlement::RetryAt(_) if settled.attempt.is_none() => "given back".to_owned(),
                Settlement::RetryAt(at) => format!("again in {:?}", at.since(settled.at)),
            };
            write!(text, " d{number}#{} {follows}{lost}", settled.number.get()).unwrap();
            if let Some(change) = &settled.health {
                write!(text, " {change:?}").unwrap();
            }
        }
        self.say(link.world.now(), format_args!("n{} settles{text}", link.node));
        for settled in batch {
            self.judge_probe(settled);
        }
        settling
    }

    /// A probe that succeeded closes the breaker, unless somebody else has decided otherwise.
    fn judge_probe(&mut self, settled: &Settled) {
        let number = self.database.number_of(settled.delivery);
        let has_succeeded = settled
            .attempt
            .as_ref()
            .is_some_and(|attempt| matches!(attempt.outcome, Outcome::Acknowledged { .. }));
        let is_it = |send: &Send| send.delivery == number && send.number == settled.number.get();
        let is_probe = self.sends.iter().any(|send| send.is_probe && is_it(send));
        let row = &self.database.subscriptions[self.database.deliveries[number].subscription];
        let is_still_held = row.blocked_until == Some(settled.leased_until);
        self.expect(!(has_succeeded && is_probe && is_still_held), || {
            format!("d{number}#{} was a probe that succeeded, and nothing followed", settled.number.get())
        });
    }

    pub(crate) fn commit(&mut self, link: &Link, batch: &Batch) -> Commit {
        let commit = self.database.commit(batch, link.node);
        let now = link.world.now();
        let Commit::Done { fates, .. } = &commit else {
            self.say(now, format_args!("n{} commits in vain: {commit:?}", link.node));
            return commit;
        };
        for (entry, fate) in batch.entries.iter().zip(fates) {
            self.say(now, format_args!("n{} commits: {}", link.node, self.told(entry, fate)));
            // What was matched with a table read after it had come in may be a little behind.
            let is_checked = batch.versions.iter().any(|(tenant, _)| *tenant == entry.event.tenant);
            if *fate == Fate::Stored && is_checked {
                self.judge_stored(entry);
            }
        }
        commit
    }

    fn told(&self, entry: &Entry, fate: &Fate) -> String {
        let name = &entry.event.content.subject;
        match fate {
            Fate::Stored => {
                let number = |id| self.database.number_of(id);
                let deliveries: Vec<_> = entry
                    .deliveries
                    .iter()
                    .map(|new| {
                        let claimed = if new.beginning == Beginning::Claimed { " claimed" } else { "" };
                        format!(
                            "d{} to s{}{claimed}",
                            number(new.id),
                            self.database.subscription_of(new.subscription)
                        )
                    })
                    .collect();
                format!("{name} as {}", deliveries.join(", "))
            }
            Fate::Repeated { .. } => format!("{name} was there"),
            Fate::RequestIdReused => format!("{name} reuses a request id"),
        }
    }

    /// An event has a delivery for each subscription that wants it when it is committed; and of those that it is sent to at once, none
    /// is to wait.
    fn judge_stored(&mut self, entry: &Entry) {
        let event = &entry.event;
        let rows = &self.database.subscriptions;
        let wanted: BTreeSet<_> = rows
            .iter()
            .filter(|row| row.tenant == event.tenant && !row.has_ended())
            .filter(|row| row.filter.matches(&event.content.event_type))
            .map(|row| row.uid)
            .collect();
        let made: BTreeSet<_> = entry.deliveries.iter().map(|delivery| delivery.subscription).collect();
        let is_whole = wanted == made && made.len() == entry.deliveries.len();
        let is_hasty = entry.deliveries.iter().any(|new| {
            let row = &rows[self.database.subscription_of(new.subscription)];
            new.beginning == Beginning::Claimed && (row.paused || row.pace.rate.is_some())
        });
        let name = &event.content.subject;
        self.expect(is_whole, || format!("{name} was matched with a table that is out of date"));
        self.expect(!is_hasty, || {
            format!("{name} is sent at once to a subscription that is paused or limited to a rate")
        });
    }
}
