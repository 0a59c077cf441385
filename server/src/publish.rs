//! Takes events in: matches them with subscriptions and commits them together with their deliveries.
//!
//! Concurrent publishes are gathered into one transaction and answered together (group commit). There is no timer: the first
//! publish goes at once, and while its commit is under way the next batch gathers by itself. Tenants take turns in it ([`lines`]).
//!
//! ```text
//!  Publisher::publish ──lines──> Writer: match (MatchTables) ─> reserve (Outlet) ─> commit (Journal) ─> answer
//!                                                                                       └─> start (Outlet)
//! ```
//!
//! Of one tenant there is never more than one batch under way, so its events are stored in their order. Where the journal can commit
//! several at a time, what one tenant's flood is committed with is not what another's event has to wait for.
//!
//! Where a tenant's events come in faster than they go out to receivers that are quick, its line is held some milliseconds for room: a delivery
//! that has to be claimed costs more than one that goes out from memory, and so its producers and the node keep pace. Other tenants'
//! events are committed meanwhile.
//!
//! A delivery for which the [`Outlet`] has room is committed already leased to this node and started from memory as
//! soon as the commit stands; nobody polls for it. The others are found by the dispatcher's poll: those that are put off, and those
//! that have to wait for an earlier one with the same ordering key, which only the commit finds out.
//!
//! What has to be read of a tenant first, and what its subscriptions ask beyond the type, is looked at beside the writer ([`screen`]), so
//! that it costs nobody else anything.
//!
//! Whether the match tables are current is checked inside the transaction, by a version that every change of a
//! tenant's subscriptions raises: an event published after a subscription was created finds it, on every node. A table that was read
//! after the event had come in needs no check. So an event is matched twice at most, however fast its tenant's subscriptions change.
//!
//! A transaction has a bound, also in deliveries, so that nobody waits for long behind somebody else's. What does not fit goes back to
//! its line. An event that very many subscriptions want is committed with its first deliveries and the names of the other
//! subscriptions; these get theirs part by part ([`fan_out`]).
//!
//! A later event with the same ordering key must not pass it. As long as any part with the key is left, such an event is committed without
//! deliveries, in parts of its own behind the others, however few subscriptions want it. A producer that publishes with that key faster than
//! parts become deliveries stays behind them.

use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use crate::domain::{
    catalogue::{CataloguedType, UnknownTypes},
    event::{EventContent, NewEvent},
    id::{DeliveryId, EventId, SubscriptionUid},
    invalid::Invalid,
    timestamp::Timestamp,
};
use crate::telemetry::metrics::Metrics;

mod deep_stack;
mod draft;
mod explain;
pub mod fan_out;
mod hand_over;
mod journal;
mod judge;
mod lines;
mod match_table;
mod outlet;
mod pending;
mod processors;
mod programs;
mod rulebook;
mod screen;
#[cfg(test)]
mod tests;
mod writer;

pub use explain::{Explanation, explain};
pub use journal::{
    Batch, Beginning, Commit, Entry, Fate, Interest, Interests, Journal, JournalError, NewDelivery,
};
use lines::Lines;
pub use outlet::Outlet;
use pending::Pending;
use rulebook::{Checked, Rulebook};
pub use writer::Writer;

/// The most deliveries of an event that are committed together with it, and the most of each part that follows: few enough for
/// everybody else's publishes to go in between.
pub(crate) const AT_ONCE: usize = 500;

/// Which subscriptions an event goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// All whose patterns match.
    Matching,
    /// This one, whatever its patterns say.
    Only(SubscriptionUid),
}

/// What a successful publish leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The event.
    pub event: EventId,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// How many deliveries it has.
    pub delivery_count: u32,
    /// The first of them; unknown for a duplicate, and with an ordering key, as they may all be made later.
    pub first_delivery: Option<DeliveryId>,
    /// Whether an earlier publish with the same request id had stored it.
    pub duplicate: bool,
}

/// Why an event was not published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Its request id stands for another event.
    #[error("the request id was used before for an event with other content")]
    RequestIdReused,
    /// The database cannot be reached or cannot take writes at the moment.
    #[error("the database cannot be reached or cannot take writes at the moment")]
    Unavailable(#[source] Arc<JournalError>),
    /// The database does not do what it should.
    #[error("the event could not be stored")]
    Broken(#[source] Arc<JournalError>),
    /// The catalogue of event types does not let it through, for these reasons.
    #[error("the catalogue of event types refuses the event")]
    Refused {
        /// What was to be published.
        event: Box<NewEvent>,
        /// What is wrong with it.
        reasons: Vec<Invalid>,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// Memory that was set aside for events; given back when the last clone is dropped.
#[derive(Clone, Default)]
pub struct Room(
    #[expect(dead_code, reason = "is given back when it is dropped")] Option<Arc<dyn Send + Sync>>,
);

impl Room {
    /// What gives it back when dropped.
    #[must_use]
    pub fn of(held: impl Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(held)))
    }
}

/// The way in, for handlers. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    lines: Arc<Lines<Pending>>,
    rules: Arc<Rulebook>,
    unknown_types: UnknownTypes,
}

impl Publisher {
    /// Makes the way in and the writer behind it, which tells `fan_outs` when there is something to fan out.
    pub fn new<J: Journal, O: Outlet>(
        journal: J,
        outlet: O,
        clock: crate::clock::SharedClock,
        metrics: Metrics,
        fan_outs: Arc<Notify>,
    ) -> (Self, Writer<J, O>) {
        let lines = Arc::new(Lines::default());
        let rules = Arc::new(Rulebook::default());
        let publisher = Self {
            lines: Arc::clone(&lines),
            rules: Arc::clone(&rules),
            unknown_types: UnknownTypes::default(),
        };
        (publisher, Writer::new(lines, journal, outlet, clock, metrics, fan_outs, rules))
    }

    /// Does this with events whose types are not in the catalogue.
    #[must_use]
    pub fn with_unknown_types(mut self, unknown_types: UnknownTypes) -> Self {
        self.unknown_types = unknown_types;
        self
    }

    /// The version of the catalogue that events are checked by.
    #[must_use]
    pub fn rules_version(&self) -> i64 {
        self.rules.current().version
    }

    /// Checks events by this catalogue from now on, unless there is a later one.
    pub async fn renew_rules(&self, version: i64, types: Vec<CataloguedType>) {
        self.rules.renew(version, types).await;
    }

    /// What the catalogue, as far as it is known here, has against an event that is for all.
    pub async fn violations(&self, event: &EventContent) -> Vec<Invalid> {
        self.checked(event).await.err().unwrap_or_default()
    }

    /// Checks an event by the catalogue, unless it is one of Postrider's own.
    async fn checked(&self, event: &EventContent) -> Result<Option<(Checked, bool)>, Vec<Invalid>> {
        if event.event_type.is_reserved() {
            return Ok(None);
        }
        self.rules.check(event, self.unknown_types).await.map(Some)
    }

    /// Publishes one event; returns after its commit.
    pub async fn publish(&self, event: NewEvent, route: Route) -> Result<Published, Error> {
        self.submit(event, route, Room::default()).await?.published().await
    }

    /// Checks one event by the catalogue, unless it is for one subscription only or one of Postrider's own, and hands it to the writer,
    /// waiting for a place in line; its commit is awaited separately. The room is given back when it has its answer, whether or not
    /// somebody waits for that.
    pub async fn submit(&self, event: NewEvent, route: Route, room: Room) -> Result<Submitted, Error> {
        let (answer, answered) = oneshot::channel();
        let checked = match route {
            Route::Matching => match self.checked(&event.content).await {
                Ok(checked) => checked,
                Err(reasons) => return Err(Error::Refused { event: Box::new(event), reasons }),
            },
            Route::Only(_) => None,
        };
        let deprecated = checked.is_some_and(|(_, deprecated)| deprecated);
        let checked = checked.map(|(checked, _)| checked);
        let pending = Pending { event, route, answer, screened: None, checked, room };
        self.lines.join(pending).await.map_err(|lines::Closed| Error::Stopping)?;
        Ok(Submitted { answered, deprecated })
    }
}

/// An event that the writer has in hand.
#[derive(Debug)]
pub struct Submitted {
    answered: oneshot::Receiver<Result<Published, Error>>,
    deprecated: bool,
}

impl Submitted {
    /// Whether producers should stop using its type.
    #[must_use]
    pub fn is_deprecated(&self) -> bool {
        self.deprecated
    }

    /// Waits for the commit.
    pub async fn published(self) -> Result<Published, Error> {
        // The writer drops an answer only if it ends first.
        self.answered.await.unwrap_or(Err(Error::Stopping))
    }
}
