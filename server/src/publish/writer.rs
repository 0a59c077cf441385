//! The one lane through which events are committed.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    Batch, Commit, Entry, Error, Fate, Journal, JournalError, NewDelivery, NoRoom, Outlet, Pending,
    Published, match_table::MatchTables, queue::Queue,
};
use crate::{
    clock::SharedClock,
    domain::{
        attempt::AttemptNumber,
        claim::Claim,
        event::Event,
        id::{DeliveryId, EventId},
        timestamp::Timestamp,
    },
    telemetry::metrics::Metrics,
};

/// The most events of one transaction: enough for the cost of a commit to vanish, few enough for its answer to come soon.
const MAX_EVENTS: usize = 500;
/// The most payload bytes of one transaction, beyond its last event.
const MAX_BYTES: usize = 4 << 20;

/// Gathers publishes and commits them.
pub struct Writer<J, O: Outlet> {
    // A mutex, so that a supervisor can start the loop again after a defect ended it.
    state: Mutex<State>,
    queue: Arc<Queue<Pending>>,
    journal: J,
    outlet: O,
    clock: SharedClock,
    metrics: Metrics,
}

struct State {
    tables: MatchTables,
    last: Timestamp,
}

/// A delivery to start once its batch is committed.
struct Reserved<P> {
    delivery: usize,
    permit: P,
}

impl<J: Journal, O: Outlet> Writer<J, O> {
    pub(super) fn new(
        queue: Arc<Queue<Pending>>,
        journal: J,
        outlet: O,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Self {
        let state = Mutex::new(State { tables: MatchTables::default(), last: Timestamp::default() });
        Self { state, queue, journal, outlet, clock, metrics }
    }

    /// Commits batch after batch. After `stop` it takes no more, and returns when what it has is committed.
    pub async fn run(&self, stop: CancellationToken) {
        let mut state = self.state.lock().await;
        let State { tables, last } = &mut *state;
        loop {
            self.outlet.room().await;
            let pending = tokio::select! {
                biased;
                pending = self.queue.next(MAX_EVENTS, MAX_BYTES) => pending,
                () = stop.cancelled() => {
                    self.queue.close();
                    self.queue.take(MAX_EVENTS, MAX_BYTES)
                }
            };
            if pending.is_empty() {
                return;
            }
            // Later than the batch before, so that ids are in the order of the queue whatever the clock does.
            *last = self.clock.now().max(*last + Duration::from_micros(1));
            self.publish(pending, tables, *last).await;
        }
    }

    async fn publish(&self, mut pending: Vec<Pending>, tables: &mut MatchTables, now: Timestamp) {
        // Rejected once per change of a tenant's subscriptions, and then with fresh tables.
        let answers = loop {
            match self.try_publish(&pending, tables, now).await {
                Ok(Some(answers)) => break Ok(answers),
                Ok(None) => {}
                Err(cause) => break Err(cause),
            }
        };
        match answers {
            Ok(answers) => {
                for (pending, answer) in pending.into_iter().zip(answers) {
                    // Nobody may be waiting any more; the event is stored all the same.
                    let _ = pending.answer.send(answer);
                }
            }
            Err(JournalError::Broken(_)) if pending.len() > 1 => {
                // One of them spoils it for all: find it by halves.
                let rest = pending.split_off(pending.len() / 2);
                Box::pin(self.publish(pending, tables, now)).await;
                Box::pin(self.publish(rest, tables, now)).await;
            }
            Err(cause) => refuse(pending, cause),
        }
    }

    /// Commits the batch and starts its deliveries; `None` if the match tables were out of date.
    async fn try_publish(
        &self,
        pending: &[Pending],
        tables: &mut MatchTables,
        now: Timestamp,
    ) -> Result<Option<Vec<Result<Published, Error>>>, JournalError> {
        let mut versions = BTreeMap::new();
        let mut entries = Vec::with_capacity(pending.len());
        let mut reserved = Vec::with_capacity(pending.len());
        let mut left_out = Vec::with_capacity(pending.len());
        let mut delivery_number = 0;
        let mut lanes = HashSet::new();
        let arrived = self.clock.now();
        for (event_number, pending) in pending.iter().enumerate() {
            let table = tables.of(&pending.event.tenant, &self.journal).await?;
            versions.entry(pending.event.tenant.clone()).or_insert(table.version);
            let handling = &pending.event.content.handling;
            let put_off = handling.put_off(arrived).is_some();
            let mut permits = Vec::new();
            let mut deliveries = Vec::new();
            for interest in table.select(&pending.event.content.event_type, pending.route) {
                // Of several with one ordering key at most the first can go out at once.
                let next_in_lane =
                    handling.ordering_key.as_ref().is_none_or(|key| lanes.insert((interest.target.uid, key)));
                let reserved = if interest.paused {
                    Err(NoRoom::Held)
                } else if next_in_lane && !put_off {
                    self.outlet.reserve(&interest.target)
                } else {
                    Err(NoRoom::Taken)
                };
                let paused = matches!(reserved, Err(NoRoom::Held));
                let permit = reserved.ok();
                let id = DeliveryId::nth(now, delivery_number);
                delivery_number += 1;
                deliveries.push(NewDelivery {
                    id,
                    target: Arc::clone(&interest.target),
                    claimed: permit.is_some(),
                    paused,
                });
                permits.extend(permit.map(|permit| Reserved { delivery: deliveries.len() - 1, permit }));
            }
            entries.push(Entry {
                fingerprint: pending.event.request_id.as_ref().map(|_| pending.event.content.fingerprint()),
                event: Arc::new(accept(pending, EventId::nth(now, event_number), now)),
                deliveries,
            });
            reserved.push(permits);
            left_out.push(table.left_out(pending.route));
        }
        let versions = versions.into_iter().collect();
        // By the clock itself, which may have been set back since the batch before.
        let due_at = self.clock.now();
        let batch = Batch { versions, entries, due_at, leased_until: due_at + self.outlet.lease() };
        match self.journal.commit(&batch).await? {
            Commit::Stale(tenants) => {
                for tenant in &tenants {
                    tables.forget(tenant);
                }
                Ok(None)
            }
            Commit::Done { fates, parked } => {
                let stored = left_out.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Stored);
                self.metrics.left_out(stored.map(|(left_out, _)| left_out).sum());
                let settled = batch.entries.iter().zip(reserved).zip(fates);
                Ok(Some(
                    settled
                        .map(|((entry, reserved), fate)| self.answer(&batch, entry, reserved, fate, &parked))
                        .collect(),
                ))
            }
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
        let waits =
            |delivery: &NewDelivery| !delivery.claimed && !delivery.paused && !parked.contains(&delivery.id);
        if entry.deliveries.iter().any(waits) {
            match entry.event.content.handling.put_off(batch.due_at) {
                Some(due_at) => self.outlet.wake_at(due_at),
                None => self.outlet.wake(),
            }
        }
        for Reserved { delivery, permit } in reserved {
            let delivery = &entry.deliveries[delivery];
            if parked.contains(&delivery.id) {
                continue;
            }
            let claim = Claim {
                delivery: delivery.id,
                attempt: AttemptNumber::FIRST,
                event: Arc::clone(&entry.event),
                target: Arc::clone(&delivery.target),
                leased_until: batch.leased_until,
                previous_span: None,
                probe: None,
            };
            self.outlet.start(permit, claim);
        }
        Ok(Published {
            event: entry.event.id,
            created_at: entry.event.created_at,
            delivery_count: u32::try_from(entry.deliveries.len()).unwrap_or(u32::MAX),
            first_delivery: entry.deliveries.first().map(|delivery| delivery.id),
            duplicate: false,
        })
    }
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
