//! Takes events in: matches them with subscriptions and commits them together with their deliveries.
//!
//! Concurrent publishes are gathered into one transaction and answered together (group commit). There is no timer: the first
//! publish goes at once, and while its commit is under way the next batch gathers by itself. Tenants take turns in it ([`queue`]).
//!
//! ```text
//!  Publisher::publish ──queue──> Writer: match (MatchTables) ─> reserve (Outlet) ─> commit (Journal) ─> answer
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
//! Not so an event with an ordering key: all its deliveries enter their lanes in its own transaction, whatever their number. A later
//! event with the key would pass those that were not in their lanes yet.

use std::{collections::HashSet, future::Future, sync::Arc, time::Duration};

use tokio::sync::{Notify, oneshot};

use crate::domain::{
    catalogue::{CataloguedType, UnknownTypes},
    claim::{Claim, Target},
    conditions::{Conditions, Judgement},
    event::{Event, EventContent, Fingerprint, NewEvent},
    expression::{Facts, Program},
    id::{DeliveryId, EventId, SubscriptionUid, TenantId},
    invalid::Invalid,
    subscription::Filter,
    timestamp::Timestamp,
};
use crate::telemetry::metrics::Metrics;

mod deep_stack;
mod draft;
mod explain;
pub mod fan_out;
mod hand_over;
mod judge;
mod match_table;
mod pending;
mod programs;
mod queue;
mod rulebook;
mod screen;
#[cfg(test)]
mod tests;
mod turns;
mod writer;

pub use explain::{Explanation, explain};
use pending::Pending;
use queue::Queue;
use rulebook::{Checked, Rulebook};
pub use writer::Writer;

/// The most deliveries of an event without an ordering key that are committed together with it, and the most of each part
/// that follows: few enough for everybody else's publishes to go in between.
const AT_ONCE: usize = 500;

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
    /// The first of them; unknown for a duplicate.
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

/// Why a batch could not be committed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// For reasons that pass.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// For reasons that do not.
    #[error("the database is broken")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where events are kept.
pub trait Journal: Send + Sync + 'static {
    /// Reads what matching needs to know of a tenant, as it is at one moment.
    fn interests(&self, tenant: &TenantId) -> impl Future<Output = Result<Interests, JournalError>> + Send;

    /// Reads the catalogue of event types, with its version.
    fn catalogue(&self) -> impl Future<Output = Result<(i64, Vec<CataloguedType>), JournalError>> + Send;

    /// How many commits are worth having under way at a time. Two of them never have a tenant in common.
    fn commits_at_once(&self) -> usize;

    /// Stores a batch in one transaction, or nothing of it if its match tables are not current.
    fn commit(&self, batch: &Batch) -> impl Future<Output = Result<Commit, JournalError>> + Send;
}

/// Who wants what in one tenant.
#[derive(Debug)]
pub struct Interests {
    /// Changes with every change of the tenant's subscriptions; `None` if the tenant does not exist yet.
    pub version: Option<i64>,
    /// The version of the catalogue, whose changes change `version` too.
    pub catalogue_version: i64,
    /// Subscriptions that events are matched with.
    pub subscriptions: Vec<Interest>,
    /// How many others there are that nobody can tell the wishes of, as their rows are damaged.
    pub unreadable: usize,
}

/// What one subscription wants.
#[derive(Debug)]
pub struct Interest {
    /// Where to.
    pub target: Arc<Target>,
    /// Which types of events.
    pub filter: Filter,
    /// Whether its deliveries are to wait: it is paused, or its receiver has still to agree.
    pub held: bool,
    /// What the expression of its conditions is compiled to.
    pub program: Option<Arc<Program>>,
}

impl Interest {
    /// What is asked of events beyond their type. What this node cannot decrypt is not asked: an event too many can be
    /// dealt with, one too few is lost.
    fn conditions(&self) -> Option<&Conditions> {
        self.target.settings.as_ref()?.filter.as_ref()
    }

    fn judge(&self, facts: &Facts<'_>) -> Judgement {
        self.conditions()
            .map_or(Judgement::Wanted, |conditions| conditions.judge(self.program.as_deref(), facts))
    }
}

/// Events and deliveries for one transaction.
#[derive(Debug)]
pub struct Batch {
    /// The versions of the match tables that the deliveries were made with, of those that may be out of date.
    pub versions: Vec<(TenantId, Option<i64>)>,
    /// The events.
    pub entries: Vec<Entry>,
    /// When a delivery is due that is committed as not claimed and not put off: now.
    pub due_at: Timestamp,
    /// When a delivery is due again that is committed as claimed.
    pub leased_until: Timestamp,
}

/// One event with its deliveries.
#[derive(Debug)]
pub struct Entry {
    /// The event.
    pub event: Arc<Event>,
    /// Identifies its content; `None` if it has no request id.
    pub fingerprint: Option<Fingerprint>,
    /// One for each subscription that it goes to, or for the first of them.
    pub deliveries: Vec<NewDelivery>,
    /// The other subscriptions, in the parts that they get their deliveries in.
    pub later: Vec<Vec<SubscriptionUid>>,
}

impl Entry {
    /// How many deliveries the event has, with those that it is still owed.
    #[must_use]
    pub fn delivery_count(&self) -> usize {
        self.deliveries.len() + self.later.iter().map(Vec::len).sum::<usize>()
    }
}

/// One delivery of a new event.
#[derive(Debug)]
pub struct NewDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// Where to.
    pub subscription: SubscriptionUid,
    /// Whether this node makes the first attempt at once.
    pub claimed: bool,
    /// Whether its subscription is paused, held or at its end, so that it waits and nobody needs to look.
    pub paused: bool,
}

/// What became of a batch.
#[derive(Debug)]
pub enum Commit {
    /// Nothing was stored: the match tables of these tenants are not current.
    Stale(Vec<TenantId>),
    /// Everything was stored that was to be.
    Done {
        /// An answer for each entry, in order.
        fates: Vec<Fate>,
        /// Deliveries that wait for earlier ones with their ordering key, or for the attempt of one; they are not claimed, even if they
        /// were to be.
        parked: HashSet<DeliveryId>,
    },
}

/// What became of one event of a committed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was stored.
    Stored,
    /// An event with this request id and content is stored already.
    Repeated {
        /// The first event.
        event: EventId,
        /// When that was accepted.
        created_at: Timestamp,
        /// How many deliveries it has.
        delivery_count: u32,
    },
    /// Another event has this request id.
    RequestIdReused,
}

impl Fate {
    /// The answer to a publish that stored nothing; none if it stored its event.
    pub(crate) fn of_known(self) -> Option<Result<Published, Error>> {
        match self {
            Self::Stored => None,
            Self::Repeated { event, created_at, delivery_count } => Some(Ok(Published {
                event,
                created_at,
                delivery_count,
                first_delivery: None,
                duplicate: true,
            })),
            Self::RequestIdReused => Some(Err(Error::RequestIdReused)),
        }
    }
}

/// Why there is no room for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// It will be there in a moment, and what goes out from memory costs less: the publish waits for it ([`Outlet::room_for`]).
    Soon,
    /// It may be there at any moment: the delivery waits for it, and somebody has to look.
    Taken,
    /// The receiver is not to be sent to for a while. When that is over somebody looks by himself.
    Held,
}

/// Where deliveries go out.
pub trait Outlet: Send + Sync + 'static {
    /// Room for one attempt; given back when dropped.
    type Permit: Send;

    /// For how long a delivery is committed as claimed.
    fn lease(&self) -> Duration;

    /// Returns when there is room for attempts, or when it is no use to wait for that any longer: in some milliseconds at most.
    fn room(&self) -> impl Future<Output = ()> + Send;

    /// Returns when there is some room for attempts at this target for which there was none ([`NoRoom::Soon`]), or when it is no use to wait for
    /// that any longer: in some milliseconds at most.
    fn room_for(&self, target: &Target) -> impl Future<Output = ()> + Send;

    /// Takes room for an attempt at this target with so many bytes of data, if there is any.
    fn reserve(&self, target: &Arc<Target>, bytes: usize) -> Result<Self::Permit, NoRoom>;

    /// Makes the attempt.
    fn start(&self, permit: Self::Permit, claim: Claim);

    /// Says that there are deliveries that nobody has claimed.
    fn wake(&self);

    /// Says that there will be such deliveries at `due_at`.
    fn wake_at(&self, due_at: Timestamp);
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
    queue: Arc<Queue<Pending>>,
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
        let queue = Arc::new(Queue::default());
        let rules = Arc::new(Rulebook::default());
        let publisher = Self {
            queue: Arc::clone(&queue),
            rules: Arc::clone(&rules),
            unknown_types: UnknownTypes::default(),
        };
        (publisher, Writer::new(queue, journal, outlet, clock, metrics, fan_outs, rules))
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
        self.queue.join(pending).await.map_err(|queue::Closed| Error::Stopping)?;
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
