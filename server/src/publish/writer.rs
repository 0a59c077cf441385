//! The one lane through which events are committed.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::{
    AT_ONCE, Batch, Commit, Entry, Error, Fate, Interest, Journal, JournalError, NoRoom, Outlet, Pending,
    Published,
    hand_over::{self, Due, HandOver, Reserved},
    match_table::{MatchTable, MatchTables},
    queue::Queue,
    rulebook::Rulebook,
    screen::Screen,
};
use crate::{
    clock::SharedClock,
    domain::{
        claim::Target,
        event::Event,
        handling::OrderingKey,
        id::{DeliveryId, EventId, SubscriptionUid},
        timestamp::Timestamp,
    },
    telemetry::metrics::Metrics,
};

/// The most events of one transaction: enough for the cost of a commit to vanish, few enough for its answer to come soon.
const MAX_EVENTS: usize = 500;
/// The most payload bytes of one transaction, beyond its last event.
const MAX_BYTES: usize = 4 << 20;
/// The most deliveries of one transaction, beyond those of its last event.
const MAX_DELIVERIES: usize = 2_000;

/// Gathers publishes and commits them.
pub struct Writer<J, O: Outlet> {
    // A mutex, so that a supervisor can start the loop again after a defect ended it.
    state: Mutex<State>,
    queue: Arc<Queue<Pending>>,
    journal: J,
    outlet: O,
    clock: SharedClock,
    metrics: Metrics,
    /// Told when there is something to fan out.
    fan_outs: Arc<Notify>,
    screen: Screen,
    rules: Arc<Rulebook>,
}

struct State {
    tables: MatchTables,
    last: Timestamp,
}

/// What became of a try.
enum Tried {
    /// It is committed, as far as there are answers.
    Done(Vec<Result<Published, Error>>),
    /// The match tables were out of date, and are no longer there.
    Stale,
    /// Something in it is to be judged first.
    Unjudged,
}

/// A batch with the room for the deliveries of each entry.
struct Draft<P> {
    batch: Batch,
    reserved: Vec<Vec<Reserved<P>>>,
    /// How many subscriptions each entry was not matched with, as nobody can tell what they want.
    left_out: Vec<usize>,
    /// A subscription that will have room soon, and has none now.
    crowded: Option<Arc<Target>>,
}

/// The lanes in which a batch has a delivery already.
type Lanes<'a> = HashSet<(SubscriptionUid, &'a OrderingKey)>;

impl<J: Journal, O: Outlet> Writer<J, O> {
    pub(super) fn new(
        queue: Arc<Queue<Pending>>,
        journal: J,
        outlet: O,
        clock: SharedClock,
        metrics: Metrics,
        fan_outs: Arc<Notify>,
        rules: Arc<Rulebook>,
    ) -> Self {
        let state = Mutex::new(State { tables: MatchTables::default(), last: Timestamp::default() });
        let screen = Screen::new(metrics.clone());
        Self { state, queue, journal, outlet, clock, metrics, fan_outs, screen, rules }
    }

    /// Commits batch after batch. After `stop` it takes no more, and returns when what it has is committed.
    pub async fn run(&self, stop: CancellationToken) {
        let mut state = self.state.lock().await;
        let State { tables, last } = &mut *state;
        // Tenants whose lines are held until there is room for their deliveries.
        let mut held_up = FuturesUnordered::new();
        loop {
            let pending = tokio::select! {
                biased;
                Some(()) = held_up.next() => continue,
                pending = self.queue.next(MAX_EVENTS, MAX_BYTES) => pending,
                () = stop.cancelled() => {
                    held_up.clear();
                    self.queue.close();
                    self.queue.rest(MAX_EVENTS, MAX_BYTES).await
                }
            };
            if pending.is_empty() {
                return;
            }
            // Later than the batch before, so that ids are in the order of the queue whatever the clock does.
            *last = self.clock.now().max(*last + Duration::from_micros(1));
            let mut crowded = None;
            let left = self.publish(pending, tables, *last, &mut crowded).await;
            // Behind other tenants' events, if there are any: they had a turn.
            self.queue.give_back(left);
            held_up.extend(crowded.map(|target| self.hold_up(target)));
        }
    }

    /// Holds the line of a tenant until there is some room for one of its subscriptions.
    async fn hold_up(&self, crowded: Arc<Target>) {
        let _held = self.queue.hold(crowded.tenant.clone());
        self.outlet.room_for(&crowded).await;
    }

    /// Publishes the first of these, as many as a transaction takes and there is room for; returns the others. What will have room soon
    /// goes to `crowded`.
    async fn publish(
        &self,
        mut pending: Vec<Pending>,
        tables: &mut MatchTables,
        now: Timestamp,
        crowded: &mut Option<Arc<Target>>,
    ) -> Vec<Pending> {
        tables.age();
        // Rejected once, for tables that are out of date, and then made with fresh ones. (Twice if a tenant came into being between.)
        let answers = loop {
            match self.try_publish(&pending, tables, now, crowded).await {
                Ok(Tried::Done(answers)) => break Ok(answers),
                Ok(Tried::Stale) => {}
                Ok(Tried::Unjudged) => match self.set_aside(&mut pending, tables, now).await {
                    Ok(()) if pending.is_empty() => return Vec::new(),
                    Ok(()) => {}
                    Err(cause) => break Err(cause),
                },
                Err(cause) => break Err(cause),
            }
        };
        match answers {
            Ok(answers) => {
                let left = pending.split_off(answers.len());
                for (pending, answer) in pending.into_iter().zip(answers) {
                    // Nobody may be waiting any more; the event is stored all the same.
                    let _ = pending.answer.send(answer);
                }
                left
            }
            Err(JournalError::Broken(_)) if pending.len() > 1 => {
                // One of them spoils it for all: find it by halves.
                let rest = pending.split_off(pending.len() / 2);
                let mut left = Box::pin(self.publish(pending, tables, now, crowded)).await;
                if left.is_empty() {
                    return Box::pin(self.publish(rest, tables, now, crowded)).await;
                }
                left.extend(rest);
                left
            }
            Err(cause) => {
                refuse(pending, cause);
                Vec::new()
            }
        }
    }

    /// Takes those out of the batch that are to be judged first, with what the current match table asks.
    async fn set_aside(
        &self,
        pending: &mut Vec<Pending>,
        tables: &mut MatchTables,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let mut unjudged = BTreeMap::new();
        for pending in pending.iter() {
            let table = tables.of(&pending.event.tenant, &self.journal).await?;
            if !is_ready(pending, &table) {
                unjudged.insert(pending.event.tenant.clone(), (table, Vec::new()));
            }
        }
        let tables = unjudged.values().map(|(table, _): &(Arc<MatchTable>, Vec<Pending>)| table);
        if tables.map(|table| table.catalogue_version).max() > Some(self.rules.current().version) {
            let (version, types) = self.journal.catalogue().await?;
            self.rules.renew(version, types).await;
        }
        // All of such a tenant's, so that they stay in order.
        for item in std::mem::take(pending) {
            match unjudged.get_mut(&item.event.tenant) {
                Some((_, aside)) => aside.push(item),
                None => pending.push(item),
            }
        }
        for (tenant, (table, aside)) in unjudged {
            self.screen.set_aside(&self.queue, &table, &self.rules, tenant, aside, now);
        }
        Ok(())
    }

    /// Commits the first of these and starts their deliveries, if they can be committed as they are.
    async fn try_publish(
        &self,
        pending: &[Pending],
        tables: &mut MatchTables,
        now: Timestamp,
        crowded: &mut Option<Arc<Target>>,
    ) -> Result<Tried, JournalError> {
        let Some(draft) = self.draft(pending, tables, now).await? else { return Ok(Tried::Unjudged) };
        let Draft { batch, reserved, left_out, crowded: soon } = draft;
        *crowded = soon;
        match self.journal.commit(&batch).await? {
            Commit::Stale(tenants) => {
                for tenant in &tenants {
                    tables.forget(tenant);
                }
                Ok(Tried::Stale)
            }
            Commit::Done { fates, parked } => {
                let stored = left_out.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Stored);
                self.metrics.left_out(stored.map(|(left_out, _)| left_out).sum());
                let settled = batch.entries.iter().zip(reserved).zip(fates);
                Ok(Tried::Done(
                    settled
                        .map(|((entry, reserved), fate)| self.answer(&batch, entry, reserved, fate, &parked))
                        .collect(),
                ))
            }
        }
    }

    /// Matches the first of these with subscriptions, as many as a transaction takes; `None` if one is to be judged first.
    async fn draft(
        &self,
        pending: &[Pending],
        tables: &mut MatchTables,
        now: Timestamp,
    ) -> Result<Option<Draft<O::Permit>>, JournalError> {
        let mut versions = BTreeMap::new();
        let mut entries = Vec::with_capacity(pending.len());
        let mut reserved = Vec::with_capacity(pending.len());
        let mut left_out = Vec::with_capacity(pending.len());
        let mut made = 0;
        let mut crowded = None;
        let mut lanes = Lanes::new();
        let arrived = self.clock.now();
        for (event_number, pending) in pending.iter().enumerate() {
            if made >= MAX_DELIVERIES {
                break;
            }
            let tenant = &pending.event.tenant;
            let table = tables.of(tenant, &self.journal).await?;
            if !is_ready(pending, &table) {
                return Ok(None);
            }
            // A tenant that is new has to be made.
            if table.version.is_none() || !tables.is_fresh(tenant) {
                versions.entry(tenant.clone()).or_insert(table.version);
            }
            let mut hand_over = HandOver::default();
            let mut later = Vec::new();
            let in_order = pending.event.content.handling.ordering_key.is_some();
            for interest in table.select(&pending.event.content.event_type, pending.route) {
                if pending.screened.as_ref().is_some_and(|screened| screened.keeps_from(&table, interest)) {
                    continue;
                }
                if hand_over.deliveries.len() < AT_ONCE || in_order {
                    let room = self.reserve(pending, interest, arrived, &mut lanes);
                    if matches!(room, Err(NoRoom::Soon)) {
                        crowded.get_or_insert_with(|| Arc::clone(&interest.target));
                    }
                    hand_over.add(DeliveryId::nth(now, made), &interest.target, room);
                    made += 1;
                } else {
                    later.push(interest.target.uid);
                }
            }
            if crowded.is_some() && !entries.is_empty() {
                // It waits, and so do those behind it. Only the first goes on all the same, or nothing would.
                break;
            }
            entries.push(Entry {
                fingerprint: pending.event.request_id.as_ref().map(|_| pending.event.content.fingerprint()),
                event: Arc::new(accept(pending, EventId::nth(now, event_number), now)),
                deliveries: hand_over.deliveries,
                later: later.chunks(AT_ONCE).map(<[_]>::to_vec).collect(),
            });
            reserved.push(hand_over.reserved);
            left_out.push(table.left_out(pending.route));
        }
        let versions = versions.into_iter().collect();
        // By the clock itself, which may have been set back since the batch before.
        let Due { at: due_at, leased_until } = Due::from(self.clock.now(), &self.outlet);
        let batch = Batch { versions, entries, due_at, leased_until };
        Ok(Some(Draft { batch, reserved, left_out, crowded }))
    }

    /// Takes room for a delivery, if it may go out at once.
    fn reserve<'a>(
        &self,
        pending: &'a Pending,
        interest: &Interest,
        now: Timestamp,
        lanes: &mut Lanes<'a>,
    ) -> Result<O::Permit, NoRoom> {
        let handling = &pending.event.content.handling;
        // Of several with one ordering key at most the first can go out at once.
        let next_in_lane =
            handling.ordering_key.as_ref().is_none_or(|key| lanes.insert((interest.target.uid, key)));
        if interest.held {
            Err(NoRoom::Held)
        } else if next_in_lane && handling.put_off(now).is_none() {
            self.outlet.reserve(&interest.target, pending.event.content.payload.data.len())
        } else {
            Err(NoRoom::Taken)
        }
    }

    fn answer(
        &self,
        batch: &Batch,
        entry: &Entry,
        reserved: Vec<Reserved<O::Permit>>,
        fate: Fate,
        parked: &HashSet<DeliveryId>,
    ) -> Result<Published, Error> {
        if let Some(answer) = fate.of_known() {
            return answer;
        }
        let due = Due { at: batch.due_at, leased_until: batch.leased_until };
        hand_over::start(&self.outlet, entry, reserved, parked, due);
        if !entry.later.is_empty() {
            self.fan_outs.notify_one();
        }
        Ok(Published {
            event: entry.event.id,
            created_at: entry.event.created_at,
            delivery_count: u32::try_from(entry.delivery_count()).unwrap_or(u32::MAX),
            first_delivery: entry.deliveries.first().map(|delivery| delivery.id),
            duplicate: false,
        })
    }
}

/// Whether nothing is left to be looked at: it was checked by the rules that were in force when the table was read, or later ones, and
/// judged by this very table if there is anything to judge.
fn is_ready(pending: &Pending, table: &Arc<MatchTable>) -> bool {
    let is_checked = pending.checked.is_none_or(|checked| checked.version >= table.catalogue_version);
    let is_judged = || pending.screened.as_ref().is_some_and(|screened| screened.is_by(table));
    is_checked && (!table.is_conditional || is_judged())
}

/// Tells those who wait that their events were not stored.
fn refuse(pending: Vec<Pending>, cause: JournalError) {
    let events = pending.len();
    tracing::error!(cause = &cause as &dyn std::error::Error, events, "events could not be stored");
    let error = match cause {
        JournalError::Unavailable(_) => Error::Unavailable(Arc::new(cause)),
        JournalError::Broken(_) => Error::Broken(Arc::new(cause)),
    };
    for pending in pending {
        let _ = pending.answer.send(Err(error.clone()));
    }
}

fn accept(pending: &Pending, id: EventId, now: Timestamp) -> Event {
    Event {
        id,
        tenant: pending.event.tenant.clone(),
        request_id: pending.event.request_id.clone(),
        content: pending.event.content.clone(),
        trace: pending.event.trace.clone(),
        created_at: now,
    }
}
