//! A transaction in the making: events with what each of them goes to, and the room that there is for that.

use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
    sync::Arc,
};

use super::{
    AT_ONCE, Batch, Entry, Interest, Outlet,
    hand_over::{Due, HandOver, Reserved},
    match_table::MatchTable,
    pending::Pending,
};
use crate::domain::{
    claim::{NoRoom, Target},
    event::Event,
    handling::OrderingKey,
    id::{DeliveryId, EventId, SubscriptionUid, TenantId},
    timestamp::Timestamp,
};

/// The most deliveries of one transaction, beyond those of its last event.
const MAX_DELIVERIES: usize = 2_000;

/// A batch with the room for the deliveries of each entry.
pub(super) struct Draft<P> {
    pub(super) batch: Batch,
    pub(super) reserved: Vec<Vec<Reserved<P>>>,
    /// How many subscriptions each entry was not matched with, as nobody can tell what they want.
    pub(super) left_out: Vec<usize>,
    /// A subscription that will have room soon, and has none now.
    pub(super) crowded: Option<Arc<Target>>,
}

/// One that is not finished yet.
pub(super) struct Drafting<'a, O: Outlet> {
    outlet: &'a O,
    /// When it was begun.
    begun: Timestamp,
    /// The time that ids are made of.
    ids_from: Timestamp,
    /// How many deliveries there are so far.
    made: usize,
    /// Tenants with an event that was screened by a match table of its own, just read.
    fresh: HashSet<&'a TenantId>,
    /// The lanes in which there is a delivery already.
    lanes: HashSet<(SubscriptionUid, &'a OrderingKey)>,
    versions: BTreeMap<TenantId, Option<i64>>,
    entries: Vec<Entry>,
    reserved: Vec<Vec<Reserved<O::Permit>>>,
    left_out: Vec<usize>,
    crowded: Option<Arc<Target>>,
}

impl<'a, O: Outlet> Drafting<'a, O> {
    /// Begins one `now`, for up to `events` events, with ids of `ids_from`.
    pub(super) fn begin(outlet: &'a O, now: Timestamp, ids_from: Timestamp, events: usize) -> Self {
        Self {
            outlet,
            begun: now,
            ids_from,
            made: 0,
            fresh: HashSet::new(),
            lanes: HashSet::new(),
            versions: BTreeMap::new(),
            entries: Vec::with_capacity(events),
            reserved: Vec::with_capacity(events),
            left_out: Vec::with_capacity(events),
            crowded: None,
        }
    }

    /// Takes one more event in, if it may be part of this transaction. After one that may not, none may, or they would be out of order.
    pub(super) fn add(&mut self, pending: &'a Pending, table: &Arc<MatchTable>) -> ControlFlow<()> {
        if self.made >= MAX_DELIVERIES {
            return ControlFlow::Break(());
        }
        self.count_on(pending, table)?;
        let (hand_over, later) = self.deliver(pending, table);
        if self.crowded.is_some() && !self.entries.is_empty() {
            // It waits, and so do those behind it. Only the first goes on all the same, or nothing would.
            return ControlFlow::Break(());
        }
        let id = EventId::nth(self.ids_from, self.entries.len());
        self.entries.push(Entry {
            fingerprint: pending.event.request_id.as_ref().map(|_| pending.event.content.fingerprint()),
            event: Arc::new(accept(pending, id, self.ids_from)),
            deliveries: hand_over.deliveries,
            later: later.chunks(AT_ONCE).map(<[_]>::to_vec).collect(),
        });
        self.reserved.push(hand_over.reserved);
        self.left_out.push(table.left_out(pending.route));
        ControlFlow::Continue(())
    }

    /// Has the commit check that the table is still good, unless it was just read.
    fn count_on(&mut self, pending: &'a Pending, table: &Arc<MatchTable>) -> ControlFlow<()> {
        let tenant = &pending.event.tenant;
        let is_fresh = pending.screened.as_ref().is_some_and(|screened| screened.is_fresh);
        if is_fresh {
            self.fresh.insert(tenant);
        } else if self.fresh.contains(tenant) {
            // It came in after the table was read, which may be out of date for it, and with it the batch, again and again.
            return ControlFlow::Break(());
        }
        // A tenant that is new has to be made.
        if (table.version.is_none() || !is_fresh) && !self.versions.contains_key(tenant) {
            self.versions.insert(tenant.clone(), table.version);
        }
        ControlFlow::Continue(())
    }

    /// The deliveries of an event, and the subscriptions that get theirs later.
    fn deliver(
        &mut self,
        pending: &'a Pending,
        table: &Arc<MatchTable>,
    ) -> (HandOver<O::Permit>, Vec<SubscriptionUid>) {
        let (mut hand_over, mut later) = (HandOver::default(), Vec::new());
        for interest in table.select(&pending.event.content.event_type, pending.route) {
            if pending.screened.as_ref().is_some_and(|screened| screened.keeps_from(table, interest)) {
                continue;
            }
            if hand_over.deliveries.len() < AT_ONCE {
                let room = self.reserve(pending, interest);
                if matches!(room, Err(NoRoom::Soon)) {
                    self.crowded.get_or_insert_with(|| Arc::clone(&interest.target));
                }
                hand_over.add(DeliveryId::nth(self.ids_from, self.made), &interest.target, room);
                self.made += 1;
            } else {
                later.push(interest.target.uid);
            }
        }
        (hand_over, later)
    }

    /// Takes room for a delivery, if it may go out at once.
    fn reserve(&mut self, pending: &'a Pending, interest: &Interest) -> Result<O::Permit, NoRoom> {
        let content = &pending.event.content;
        // Of several with one ordering key at most the first can go out at once.
        let key = content.handling.ordering_key.as_ref();
        let is_next_in_lane = key.is_none_or(|key| self.lanes.insert((interest.target.uid, key)));
        if interest.held {
            Err(NoRoom::Held)
        } else if is_next_in_lane && content.handling.put_off(self.begun).is_none() {
            self.outlet.reserve(&interest.target, content.payload.data.len())
        } else {
            Err(NoRoom::Taken)
        }
    }

    /// What there is to commit, with what is not put off `due`.
    pub(super) fn finish(self, due: Due) -> Draft<O::Permit> {
        let Self { versions, entries, reserved, left_out, crowded, .. } = self;
        let versions = versions.into_iter().collect();
        let batch = Batch { versions, entries, due_at: due.at, leased_until: due.leased_until };
        Draft { batch, reserved, left_out, crowded }
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
