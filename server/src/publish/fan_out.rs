//! Gives the deliveries of an event that very many subscriptions want, part by part.
//!
//! Such an event is committed with its first deliveries and with the names of all the other subscriptions that were matched: from then
//! on it is owed to them, whatever becomes of this node. The names are stored in parts of some hundred ([`FanOuts`]). Here a part after
//! the other becomes deliveries, each in a transaction of its own, which deletes the part at the same time.
//!
//! - **One event must not hold up others.** Between two parts there is a pause as long as a part takes, in which waiting publishes go
//!   first, and tenants take turns.
//! - **A lease is a due date here as well.** Whoever takes a part pushes its due date behind a lease. If that runs out, any node takes
//!   the part over. Whoever comes too late finds no part to delete, and inserts nothing.
//! - **A subscription is looked at again** when its delivery is made. One that was paused meanwhile waits, and what was made for one that
//!   was deleted or disabled is cancelled with that reason, like everything that waits for such a one.
//! - **Events with one ordering key become deliveries one after another.** Whoever publishes one while parts of others stand there puts it
//!   behind them, in parts of its own, even if it goes to few. One by one these could come in faster than they go, so who takes the last
//!   part of an event takes some of those behind it as well, as many as a transaction should.
//!
//! The node that has published is told at once; others look now and then for what it may have left.

use std::{collections::HashSet, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Notify},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    AT_ONCE, Beginning, Entry, JournalError, NewDelivery, Outlet,
    hand_over::{self, Due, HandOver},
};
use crate::{
    clock::SharedClock,
    domain::{
        claim::{NoRoom, Target},
        event::Event,
        id::{DeliveryId, EventId, SubscriptionUid, TenantId},
        timestamp::Timestamp,
    },
};

#[cfg(test)]
mod tests;

/// For how long a part belongs to who has taken it. It takes some milliseconds.
const LEASE: Duration = Duration::from_secs(10);
/// How often to look for parts that nobody has told of.
const INTERVAL: Duration = Duration::from_secs(5);
/// How soon to look once more when there were some just now, or this node was told of some: what waited for another node's may be due since.
const SOON: Duration = Duration::from_secs(1);
/// How long to wait after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Where parts are kept.
pub trait FanOuts: Send + Sync + 'static {
    /// Takes over the first part that is due of the first tenant that has any and comes `after` the given one. If it is the last one of an
    /// event with an ordering key, some that wait for it come behind it, in their order. Nothing if no part is due.
    fn take_parts(
        &self,
        after: Option<&TenantId>,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> impl Future<Output = Result<Vec<Part>, JournalError>> + Send;

    /// Turns parts that were taken together into deliveries, in one transaction. Does nothing if one of them is no longer there, and says
    /// so.
    fn finish_parts(
        &self,
        parts: &[Part],
        deliveries: &PartDeliveries,
    ) -> impl Future<Output = Result<Finish, JournalError>> + Send;

    /// Makes the first of parts that were taken until `leased_until` due again, as long as its event has been there; if it is still there, and
    /// nobody else has taken it since.
    fn give_back(
        &self,
        part: &Part,
        leased_until: Timestamp,
    ) -> impl Future<Output = Result<(), JournalError>> + Send;
}

/// Some of the subscriptions that an event is owed to.
#[derive(Debug)]
pub struct Part {
    /// The event.
    pub event: Arc<Event>,
    /// Which part of its fan-out, from 0.
    pub number: u32,
    /// The subscriptions, as they are now.
    pub recipients: Vec<Recipient>,
}

/// One subscription that an event is owed to.
#[derive(Debug)]
pub enum Recipient {
    /// It wants deliveries.
    Open(Arc<Target>),
    /// It is paused or awaits its handshake, or has ended: whatever is made for it has to wait.
    Closed(SubscriptionUid),
}

/// The deliveries of parts.
#[derive(Debug)]
pub struct PartDeliveries {
    /// For each part its event, with one delivery for each recipient.
    pub entries: Vec<Entry>,
    /// When a delivery is due that is neither claimed nor put off.
    pub due_at: Timestamp,
    /// When a delivery is due again that is claimed.
    pub leased_until: Timestamp,
}

/// What became of parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// Their deliveries are there.
    Done {
        /// Those that wait for earlier ones with their ordering key.
        parked: HashSet<DeliveryId>,
    },
    /// Those of one of them were there before.
    DoneBefore,
}

/// A part that is due and that nobody has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverduePart {
    /// The event.
    pub event: EventId,
    /// Which part of its fan-out.
    pub number: u32,
    /// Since when it is due.
    pub since: Timestamp,
}

/// Makes the deliveries of parts.
pub struct FanOut<J, O> {
    journal: J,
    outlet: O,
    clock: SharedClock,
    /// Told when there is a part.
    told: Arc<Notify>,
    /// Whose turn was the last one.
    last: Mutex<Option<TenantId>>,
}

impl<J: FanOuts, O: Outlet> FanOut<J, O> {
    /// Looks for parts in `journal` when it is `told`, and now and then.
    pub fn new(journal: J, outlet: O, clock: SharedClock, told: Arc<Notify>) -> Self {
        Self { journal, outlet, clock, told, last: Mutex::default() }
    }

    /// Makes the deliveries of the next part, and of those that come with it; returns how many, or `None` if no part is due.
    pub async fn tick(&self) -> Result<Option<usize>, JournalError> {
        let mut last = self.last.lock().await;
        let now = self.clock.now();
        let leased_until = now + LEASE;
        let parts = self.take(last.as_ref(), now, leased_until).await?;
        *last = parts.first().map(|part| part.event.tenant.clone());
        let Some(first) = parts.first() else { return Ok(None) };
        match self.finish(&parts).await {
            Ok(Some(deliveries)) => Ok(Some(deliveries)),
            Ok(None) => {
                self.give_back(first, leased_until).await;
                Ok(Some(0))
            }
            Err(cause) => {
                // What the database refuses would be in the way of all that its tenant has, look after look.
                if matches!(cause, JournalError::Unavailable(_)) {
                    self.give_back(first, leased_until).await;
                }
                Err(cause)
            }
        }
    }

    async fn give_back(&self, first: &Part, leased_until: Timestamp) {
        if let Err(cause) = self.journal.give_back(first, leased_until).await {
            tracing::warn!(
                cause = &cause as &dyn std::error::Error,
                "a part of a fan-out waits until its lease runs out"
            );
        }
    }

    /// Takes the next tenant's parts, after the last tenant's the first one's.
    async fn take(
        &self,
        last: Option<&TenantId>,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Vec<Part>, JournalError> {
        let parts = self.journal.take_parts(last, now, leased_until).await?;
        if parts.is_empty() && last.is_some() {
            return self.journal.take_parts(None, now, leased_until).await;
        }
        Ok(parts)
    }

    /// Makes the deliveries of parts that were taken; returns how many, or `None` if somebody was quicker.
    async fn finish(&self, parts: &[Part]) -> Result<Option<usize>, JournalError> {
        self.outlet.room().await;
        let due = Due::from(self.clock.now(), &self.outlet);
        let (mut entries, mut reserved) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        let mut in_lanes = HashSet::new();
        for part in parts {
            let made = self.hand_over(part, due, &mut in_lanes);
            let (event, deliveries) = (Arc::clone(&part.event), made.deliveries);
            entries.push(Entry { event, fingerprint: None, deliveries, later: Vec::new() });
            reserved.push(made.reserved);
        }
        let step = PartDeliveries { entries, due_at: due.at, leased_until: due.leased_until };
        let Finish::Done { parked } = self.journal.finish_parts(parts, &step).await? else {
            let event = &parts[0].event;
            tracing::warn!(event.id = %event.id, parts = parts.len(), "a part of a fan-out was taken over by another node");
            return Ok(None);
        };
        for (entry, reserved) in step.entries.iter().zip(reserved) {
            hand_over::start(&self.outlet, entry, reserved, &parked, due);
        }
        Ok(Some(step.entries.iter().map(|entry| entry.deliveries.len()).sum()))
    }

    /// The deliveries of a part. Their ids are of the time of their event, like those that were committed with it. Of those to one
    /// subscription with an ordering key at most the first can go out at once: `in_lanes` has those that are in lanes already.
    fn hand_over(
        &self,
        part: &Part,
        due: Due,
        in_lanes: &mut HashSet<SubscriptionUid>,
    ) -> HandOver<O::Permit> {
        let event = &part.event;
        let is_put_off = event.content.handling.put_off(due.at).is_some();
        let is_in_order = event.content.handling.ordering_key.is_some();
        let mut made = HandOver::default();
        let first = (part.number as usize + 1) * AT_ONCE;
        for (nth, recipient) in (first..).zip(&part.recipients) {
            let id = DeliveryId::nth(event.created_at, nth);
            match recipient {
                Recipient::Open(target) => {
                    let has_to_wait = is_put_off || (is_in_order && !in_lanes.insert(target.uid));
                    let bytes = event.content.payload.data.len();
                    let room =
                        if has_to_wait { Err(NoRoom::Taken) } else { self.outlet.reserve(target, bytes) };
                    made.add(id, target, room);
                }
                Recipient::Closed(subscription) => {
                    let subscription = *subscription;
                    made.deliveries.push(NewDelivery { id, subscription, beginning: Beginning::Held });
                }
            }
        }
        made
    }

    /// Makes deliveries until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut until_look = INTERVAL;
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let pause = match self.tick().await {
                Ok(Some(deliveries)) => {
                    tracing::debug!(deliveries, "made a part of a fan-out");
                    until_look = SOON;
                    begun.elapsed()
                }
                Ok(None) => {
                    let took = begun.elapsed();
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = self.told.notified() => until_look = SOON,
                        () = tokio::time::sleep(until_look) => until_look = INTERVAL,
                    }
                    took
                }
                Err(cause) => {
                    tracing::error!(cause = &cause as &dyn std::error::Error, "a fan-out could not go on");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
