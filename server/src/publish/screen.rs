//! Looks at events beside the writer: reads what is to be known of their tenant, and judges them by the conditions of its subscriptions.
//!
//! Reading ten thousand subscriptions takes its time, and what an event is judged by belongs to strangers and may take a while, and the
//! writer serves all tenants. So where there is something to find out first the writer *sets events aside*: their line is held, so that
//! nothing overtakes them, they are looked at in a task of their own, and go back to the head of the line with what was found.
//! Other tenants' events are committed meanwhile.
//!
//! ```text
//!   Writer: take ─ table at hand, no conditions ───────────────────────────────────> commit
//!             └─ no table, or not judged ──> hold the line ─> read ─> judge ─> release ─┐
//!             └─ looked at <────────────────────────────────────────────────────────────┘ ─> commit
//! ```
//!
//! Only some tenants' tables are read at a time. Only one processor less than there are judges, by [turns](super::processors) that go to
//! who has used it least, so that a tenant with costly expressions holds up its own events and nobody else's. What no subscription
//! with conditions can want is not judged.
//!
//! A table that is read here is good for the events it was read for, whatever becomes of the subscriptions meanwhile: they had come in before.
//! Events that were judged by an older one are judged again if the tenant's subscriptions have changed when they come back.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    thread::available_parallelism,
};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{
    Interest, Journal, JournalError, Rulebook,
    deep_stack::on_deep_stack,
    judge::{Failures, Judge},
    lines::HeldLines,
    match_table::{MatchTable, MatchTables},
    pending::{Pending, refuse},
    processors::{Processors, Turn},
    programs::Programs,
};
use crate::{
    domain::{
        expression::Pause,
        id::{SubscriptionUid, TenantId},
        timestamp::Timestamp,
    },
    telemetry::metrics::Metrics,
};

/// How many tenants' tables are read at a time.
const READERS: usize = 4;
/// How many tenants' evaluations can be interrupted at a time.
const PLACES: usize = 32;

/// What was found out about an event, and who does not want it. The rest of those whose patterns match do.
pub(super) struct Screened {
    pub(super) table: Arc<MatchTable>,
    /// Whether the table was read after the event had come in. Then it holds every subscription that the event must find.
    pub(super) is_fresh: bool,
    pub(super) refused: Vec<SubscriptionUid>,
}

impl Screened {
    /// Whether it was judged by this very table, and not by one that has become out of date since.
    pub(super) fn is_by(&self, table: &Arc<MatchTable>) -> bool {
        Arc::ptr_eq(&self.table, table)
    }

    /// Whether the conditions of a subscription in this table do not hold.
    pub(super) fn keeps_from(&self, table: &Arc<MatchTable>, interest: &Interest) -> bool {
        self.is_by(table) && self.refused.contains(&interest.target.uid)
    }
}

/// Where events are looked at.
pub(super) struct Screen<J> {
    shared: Arc<Shared<J>>,
    tasks: TaskTracker,
}

struct Shared<J> {
    journal: Arc<J>,
    tables: Arc<MatchTables>,
    rules: Arc<Rulebook>,
    programs: Arc<Mutex<Programs>>,
    readers: Semaphore,
    processors: Arc<Processors>,
    /// For evaluations that are interrupted: each keeps a thread and its event's data.
    places: Semaphore,
    failures: Arc<Failures>,
}

impl<J: Journal> Screen<J> {
    /// Reads `journal` and keeps the `tables`, and the `rules` where those have later ones.
    pub(super) fn new(
        journal: Arc<J>,
        tables: Arc<MatchTables>,
        rules: Arc<Rulebook>,
        metrics: Metrics,
    ) -> Self {
        // One processor is left to the writer and everything else, where there are several.
        let processors = available_parallelism().map_or(1, |all| (all.get() - 1).max(1));
        let shared = Shared {
            journal,
            tables,
            rules,
            programs: Arc::default(),
            readers: Semaphore::new(READERS),
            processors: Processors::new(processors),
            places: Semaphore::new(PLACES),
            failures: Arc::new(Failures::new(metrics)),
        };
        Self { shared: Arc::new(shared), tasks: TaskTracker::new() }
    }

    /// Looks at the events of one tenant, whose line is held.
    pub(super) fn look_at(&self, held: HeldLines<Pending>, tenant: TenantId, now: Timestamp) {
        self.tasks.spawn(Arc::clone(&self.shared).look_at(held, tenant, now));
    }
}

impl<J: Journal> Shared<J> {
    async fn look_at(self: Arc<Self>, mut held: HeldLines<Pending>, tenant: TenantId, now: Timestamp) {
        let (table, is_fresh) = match self.known_of(&tenant).await {
            Ok(known) => known,
            Err(cause) => return refuse(std::mem::take(&mut held.items), cause),
        };
        let judge =
            Judge { rules: self.rules.current(), failures: Arc::clone(&self.failures), table, is_fresh, now };
        if judge.has_little_to_do(&held.items) {
            (held.items, _) = judge.look_at_all(std::mem::take(&mut held.items), &go_on());
        } else {
            self.judge_all(held, judge, &tenant).await;
        }
    }

    /// Judges events in turn with other tenants. An evaluation that takes long can be interrupted where there is a place for it to wait; where
    /// there is none, as many tenants have costly expressions, it is broken off, and begun again when there is one.
    async fn judge_all(&self, mut held: HeldLines<Pending>, judge: Judge, tenant: &TenantId) {
        let judge = Arc::new(judge);
        let mut left = std::mem::take(&mut held.items);
        let mut place = self.places.try_acquire().ok();
        while !left.is_empty() {
            let (turn, has_place) = (self.processors.next(tenant).await, place.is_some());
            let (events, judge) = (std::mem::take(&mut left), Arc::clone(&judge));
            let judged = on_deep_stack(move || {
                let pause = if has_place { interruptible(turn) } else { in_haste(turn) };
                judge.look_at_all(events, &pause)
            });
            let Some((judged, rest)) = judged.await else {
                return tracing::error!("events could not be judged");
            };
            held.items.extend(judged);
            left = rest;
            if !left.is_empty() {
                // Never closed.
                place = self.places.acquire().await.ok();
            }
        }
    }

    /// Returns a tenant's match table and whether it was read just now, and sees to it that the rules are as late as it.
    async fn known_of(&self, tenant: &TenantId) -> Result<(Arc<MatchTable>, bool), JournalError> {
        let at_hand = self.tables.at_hand().get(tenant).map(Arc::clone);
        let is_fresh = at_hand.is_none();
        let table = match at_hand {
            Some(table) => table,
            None => self.read(tenant).await?,
        };
        if table.catalogue_version > self.rules.current().version {
            let (version, types) = self.journal.catalogue().await?;
            self.rules.renew(version, types).await;
        }
        Ok((table, is_fresh))
    }

    async fn read(&self, tenant: &TenantId) -> Result<Arc<MatchTable>, JournalError> {
        // Never closed.
        let _reader = self.readers.acquire().await.ok();
        let mut table = MatchTable::new(self.journal.interests(tenant).await?);
        if table.is_conditional {
            // Compiling takes its time, of which the runtime's threads have none.
            let programs = Arc::clone(&self.programs);
            let compiled = tokio::task::spawn_blocking(move || {
                table.compile(&mut programs.lock().unwrap_or_else(PoisonError::into_inner));
                table
            });
            table = compiled.await.map_err(|cause| JournalError::Broken(cause.into()))?;
        }
        let table = Arc::new(table);
        self.tables.keep(tenant.clone(), &table);
        Ok(table)
    }
}

fn go_on() -> Pause {
    Rc::new(|| true)
}

fn interruptible(turn: Turn) -> Pause {
    let turn = RefCell::new(turn);
    Rc::new(move || {
        turn.borrow_mut().yield_to_others();
        true
    })
}

/// Up to the second pause: some milliseconds, which are counted in steps, so that who is kept waiting by others is not taken for costly.
fn in_haste(turn: Turn) -> Pause {
    let pauses = Cell::new(0);
    Rc::new(move || {
        // Kept until nobody can ask any more.
        let _ = &turn;
        pauses.set(pauses.get() + 1);
        pauses.get() < 2
    })
}
