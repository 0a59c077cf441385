//! Matches events with subscriptions and commits them, batch after batch.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Commit, Entry, Fate, Journal, JournalError, Outlet, Published,
    draft::{Draft, Drafting},
    hand_over::{self, Due},
    lines::{HeldLines, Lines},
    match_table::{MatchTable, MatchTables},
    pending::{Pending, refuse},
    rulebook::Rulebook,
    screen::Screen,
};
use crate::{
    clock::SharedClock,
    domain::{claim::Target, id::DeliveryId, timestamp::Timestamp},
    telemetry::metrics::Metrics,
};

/// The most events of one transaction: enough for the cost of a commit to vanish, few enough for its answer to come soon.
const MAX_EVENTS: usize = 500;
/// The most payload bytes of one transaction, beyond its last event.
const MAX_BYTES: usize = 4 << 20;

/// Gathers publishes and commits them.
pub struct Writer<J, O: Outlet> {
    /// When the last batch was made.
    last: Mutex<Timestamp>,
    lines: Arc<Lines<Pending>>,
    journal: Arc<J>,
    outlet: O,
    clock: SharedClock,
    metrics: Metrics,
    /// Told when there is something to fan out.
    fan_outs: Arc<Notify>,
    tables: Arc<MatchTables>,
    screen: Screen<J>,
}

/// What a commit leaves to do.
#[derive(Default)]
struct Left {
    events: Vec<Pending>,
    /// What will have room soon.
    crowded: Option<Arc<Target>>,
}

/// A subscription that will have room soon, and its tenant's line, which is held until then.
struct Crowded {
    target: Arc<Target>,
    line: HeldLines<Pending>,
}

impl<J: Journal, O: Outlet> Writer<J, O> {
    pub(super) fn new(
        lines: Arc<Lines<Pending>>,
        journal: J,
        outlet: O,
        clock: SharedClock,
        metrics: Metrics,
        fan_outs: Arc<Notify>,
        rules: Arc<Rulebook>,
    ) -> Self {
        let (journal, tables) = (Arc::new(journal), Arc::new(MatchTables::default()));
        let screen = Screen::new(Arc::clone(&journal), Arc::clone(&tables), rules, metrics.clone());
        let last = Mutex::new(Timestamp::default());
        Self { last, lines, journal, outlet, clock, metrics, fan_outs, tables, screen }
    }

    /// Commits batch after batch. After `stop` it takes no more, and returns when what it has is committed.
    pub async fn run(&self, stop: CancellationToken) {
        let mut committing = FuturesUnordered::new();
        // Tenants whose lines are held until there is room for their deliveries.
        let mut held_up = FuturesUnordered::new();
        loop {
            let has_turn = committing.len() < self.journal.commits_at_once();
            let batch = tokio::select! {
                biased;
                Some(crowded) = committing.next() => {
                    // In the end they go on without room.
                    if let Some(crowded) = crowded && !stop.is_cancelled() {
                        held_up.push(self.room_for(crowded));
                    }
                    continue;
                }
                Some(()) = held_up.next() => continue,
                () = stop.cancelled(), if !self.lines.is_closed() => {
                    held_up.clear();
                    self.lines.close();
                    continue;
                }
                batch = self.lines.next(MAX_EVENTS, MAX_BYTES), if has_turn => batch,
            };
            let Some(batch) = batch else { break };
            committing.push(self.publish(batch));
        }
    }

    /// Waits for room, with its line held.
    async fn room_for(&self, Crowded { target, line }: Crowded) {
        let _held = line;
        self.outlet.room_for(&target).await;
    }

    /// Publishes the first of these, as many as a transaction takes and there is room for. The others go back to their lines, behind other
    /// tenants' events, if there are any: they had a turn.
    async fn publish(&self, mut batch: HeldLines<Pending>) -> Option<Crowded> {
        let Left { events, crowded } = self.commit(std::mem::take(&mut batch.items)).await;
        batch.items = events;
        crowded.map(|target| Crowded { line: self.lines.hold(target.tenant.clone()), target })
    }

    /// Commits the first of these, and answers them.
    async fn commit(&self, mut pending: Vec<Pending>) -> Left {
        loop {
            let tables = self.sort_out(&mut pending);
            if pending.is_empty() {
                return Left::default();
            }
            let draft = self.draft(&pending, &tables);
            match self.journal.commit(&draft.batch).await {
                Ok(Commit::Done { fates, parked, owes }) => {
                    if owes {
                        self.fan_outs.notify_one();
                    }
                    let events = pending.split_off(fates.len());
                    let crowded = draft.crowded.clone();
                    self.answer(pending, draft, fates, &parked);
                    return Left { events, crowded };
                }
                Ok(Commit::Stale(tenants)) => {
                    // They are set aside, and come back with a table that is good for them.
                    self.tables.forget(&tenants);
                    for pending in
                        pending.iter_mut().filter(|pending| tenants.contains(&pending.event.tenant))
                    {
                        pending.screened = None;
                    }
                }
                Err(JournalError::Broken(_)) if pending.len() > 1 => {
                    // One of them spoils it for all: find it by halves, of which the second waits, as something of the first may do.
                    let rest = pending.split_off(pending.len() / 2);
                    let mut left = Box::pin(self.commit(pending)).await;
                    left.events.extend(rest);
                    return left;
                }
                Err(cause) => {
                    refuse(pending, cause);
                    return Left::default();
                }
            }
        }
    }

    /// Leaves those that can be matched, and returns their match tables. Tenants of which something has to be found out first are set aside.
    fn sort_out(&self, pending: &mut Vec<Pending>) -> Vec<Arc<MatchTable>> {
        let mut tables = Vec::with_capacity(pending.len());
        let mut aside = BTreeMap::new();
        {
            let at_hand = self.tables.at_hand();
            for pending in pending.iter() {
                let tenant = &pending.event.tenant;
                match table_for(pending, at_hand.get(tenant)) {
                    Some(table) => tables.push(Arc::clone(table)),
                    None => {
                        aside.entry(tenant.clone()).or_insert_with(Vec::new);
                    }
                }
            }
        }
        if aside.is_empty() {
            return tables;
        }
        // All of such a tenant's, so that they stay in order.
        for item in std::mem::take(pending) {
            match aside.get_mut(&item.event.tenant) {
                Some(aside) => aside.push(item),
                None => pending.push(item),
            }
        }
        for (tenant, items) in aside {
            let mut held = self.lines.hold(tenant.clone());
            held.items = items;
            self.screen.look_at(held, tenant, self.clock.now());
        }
        self.sort_out(pending)
    }

    /// Matches the first of these with subscriptions, as many as a transaction takes.
    fn draft(&self, pending: &[Pending], tables: &[Arc<MatchTable>]) -> Draft<O::Permit> {
        let ids_from = self.next_moment();
        let mut drafting = Drafting::begin(&self.outlet, self.clock.now(), ids_from, pending.len());
        for (pending, table) in pending.iter().zip(tables) {
            if drafting.add(pending, table).is_break() {
                break;
            }
        }
        // By the clock itself, which may have been set back since the batch before.
        drafting.finish(Due::from(self.clock.now(), &self.outlet))
    }

    /// Now, but later than any batch before, so that ids are in the order of the lines whatever the clock does.
    fn next_moment(&self) -> Timestamp {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = self.clock.now().max(*last + Duration::from_micros(1));
        *last
    }

    /// Answers those whose events are committed, and starts their deliveries.
    fn answer(
        &self,
        pending: Vec<Pending>,
        draft: Draft<O::Permit>,
        fates: Vec<Fate>,
        parked: &HashSet<DeliveryId>,
    ) {
        let Draft { batch, reserved, left_out, crowded: _ } = draft;
        let stored = left_out.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Stored);
        self.metrics.left_out(stored.map(|(left_out, _)| left_out).sum());
        let due = Due { at: batch.due_at, leased_until: batch.leased_until };
        let settled = batch.entries.iter().zip(reserved).zip(fates);
        for (pending, ((entry, reserved), fate)) in pending.into_iter().zip(settled) {
            let answer = fate.of_known().unwrap_or_else(|| {
                hand_over::start(&self.outlet, entry, reserved, parked, due);
                Ok(published(entry))
            });
            // Nobody may be waiting any more; the event is stored all the same.
            let _ = pending.answer.send(answer);
        }
    }
}

/// The table to match an event with; none if something has to be found out first. It was checked by the rules that were in force when the
/// table was read, or later ones, and judged by this very table if there is anything to judge.
fn table_for<'a>(pending: &'a Pending, at_hand: Option<&'a Arc<MatchTable>>) -> Option<&'a Arc<MatchTable>> {
    let screened = pending.screened.as_ref();
    let own = screened.filter(|screened| screened.is_fresh).map(|screened| &screened.table);
    let table = own.or(at_hand)?;
    let is_checked = pending.checked.is_none_or(|checked| checked.version >= table.catalogue_version);
    let is_judged = || screened.is_some_and(|screened| screened.is_by(table));
    (is_checked && (!table.asks(pending) || is_judged())).then_some(table)
}

fn published(entry: &Entry) -> Published {
    let is_in_order = entry.event.content.handling.ordering_key.is_some();
    let first = if is_in_order { None } else { entry.deliveries.first() };
    Published {
        event: entry.event.id,
        created_at: entry.event.created_at,
        delivery_count: u32::try_from(entry.delivery_count()).unwrap_or(u32::MAX),
        first_delivery: first.map(|delivery| delivery.id),
        duplicate: false,
    }
}
