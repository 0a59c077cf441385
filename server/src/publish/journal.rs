//! What publishing asks of whoever keeps the events.

use std::{collections::HashSet, future::Future, sync::Arc};

use super::{Error, Published};
use crate::domain::{
    catalogue::CataloguedType,
    claim::Target,
    conditions::{Conditions, Judgement},
    event::{Event, Fingerprint},
    expression::{Facts, Program},
    id::{DeliveryId, EventId, SubscriptionUid, TenantId},
    subscription::Filter,
    timestamp::Timestamp,
};

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
    pub(super) fn conditions(&self) -> Option<&Conditions> {
        self.target.settings.as_ref()?.filter.as_ref()
    }

    pub(super) fn judge(&self, facts: &Facts<'_>) -> Judgement {
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
    /// When deliveries are due that nobody has claimed, unless their event puts them off: now.
    pub due_at: Timestamp,
    /// When deliveries are due again that are claimed, should this node die.
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
    /// Who makes the first attempt.
    pub beginning: Beginning,
}

/// Who makes the first attempt of a new delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// This node, as soon as the commit stands: it is leased to it.
    Claimed,
    /// Whoever claims it when it is due: somebody has to look.
    Unclaimed,
    /// Nobody before its subscription is sent to again: it is paused, held or at its end, and nobody has to look.
    Held,
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
        /// were to be. Of an event that has to wait for the fan-out of one before, these are all, and its fan-out makes others for them.
        parked: HashSet<DeliveryId>,
        /// Whether something is left to fan out.
        owes: bool,
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
