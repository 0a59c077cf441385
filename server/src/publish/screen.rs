//! Judges events by the conditions of subscriptions, beside the writer.
//!
//! What an event is judged by belongs to strangers and may take a while, and the writer serves all tenants. So where a tenant has
//! conditions the writer *sets its events aside*: their line is held, so that nothing overtakes them, they are judged on a thread of
//! their own, and go back to the head of the line with what was found. Other tenants' events are committed meanwhile.
//!
//! ```text
//!   Writer: take ─ plain tenant ───────────────────────────────> commit
//!             └─ with conditions, not judged ─> hold the line ─> judge ─> release ─┐
//!             └─ judged by the current table <─────────────────────────────────────┘ ─> commit
//! ```
//!
//! Only some events are judged at a time, in slices of some milliseconds and by turns, so that tenants with costly expressions
//! share what there is of the processors and leave the rest alone. A tenant without conditions never comes by here.
//!
//! Should the tenant's subscriptions have changed when the events come back, they are judged again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread::available_parallelism,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{
    Checked, Error, Interest, Pending, Route, Rulebook,
    deep_stack::on_deep_stack,
    match_table::MatchTable,
    queue::{Held, Queue},
};
use crate::{
    domain::{
        catalogue::Rules,
        conditions::Judgement,
        expression::Facts,
        id::{SubscriptionUid, TenantId},
        timestamp::Timestamp,
    },
    telemetry::metrics::Metrics,
};

/// How long one tenant's events are judged before it is another one's turn.
const SLICE: Duration = Duration::from_millis(5);
/// A failure is logged no more often than this.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// What an event was judged by, and who does not want it. The rest of those whose patterns match do.
pub(super) struct Screened {
    table: Arc<MatchTable>,
    refused: Vec<SubscriptionUid>,
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

/// Where events are judged.
pub(super) struct Screen {
    turns: Arc<Semaphore>,
    tasks: TaskTracker,
    failures: Arc<Failures>,
}

impl Screen {
    pub(super) fn new(metrics: Metrics) -> Self {
        // One processor is left to the writer and everything else, where there are several.
        let turns = available_parallelism().map_or(1, |processors| (processors.get() - 1).max(1));
        Self {
            turns: Arc::new(Semaphore::new(turns)),
            tasks: TaskTracker::new(),
            failures: Arc::new(Failures {
                metrics,
                unlogged: AtomicU64::default(),
                logged_at: AtomicI64::default(),
            }),
        }
    }

    /// Sets events of one tenant aside until they are judged.
    pub(super) fn set_aside(
        &self,
        queue: &Arc<Queue<Pending>>,
        table: &Arc<MatchTable>,
        rules: &Rulebook,
        tenant: TenantId,
        pending: Vec<Pending>,
        now: Timestamp,
    ) {
        let held = queue.hold(tenant);
        let judge = Judge {
            table: Arc::clone(table),
            rules: rules.current(),
            failures: Arc::clone(&self.failures),
            now,
        };
        self.tasks.spawn(judge_all(held, pending, Arc::new(judge), Arc::clone(&self.turns)));
    }
}

async fn judge_all(mut held: Held<Pending>, pending: Vec<Pending>, judge: Arc<Judge>, turns: Arc<Semaphore>) {
    let mut rest = pending.into_iter();
    while rest.len() > 0 {
        // Never closed.
        let Ok(_turn) = turns.acquire().await else { return };
        let judge = Arc::clone(&judge);
        let slice = on_deep_stack(move || {
            let until = Instant::now() + SLICE;
            let mut judged = Vec::new();
            for pending in rest.by_ref() {
                judged.extend(judge.look_at(pending));
                if Instant::now() >= until {
                    break;
                }
            }
            (judged, rest)
        });
        let Some((judged, left)) = slice.await else {
            tracing::error!("events could not be judged");
            return;
        };
        held.first.extend(judged);
        rest = left;
    }
}

/// What events are judged by.
struct Judge {
    table: Arc<MatchTable>,
    rules: Arc<Rules>,
    failures: Arc<Failures>,
    now: Timestamp,
}

impl Judge {
    /// Checks an event again if the catalogue has changed, and judges it. One that is refused has its answer.
    fn look_at(&self, mut pending: Pending) -> Option<Pending> {
        if let Some(Checked { version, unknown }) = pending.checked
            && version < self.rules.version
        {
            if let Err(reasons) = self.rules.check(&pending.event.content, unknown) {
                // Nobody may be waiting any more.
                let _ = pending.answer.send(Err(Error::Refused { event: Box::new(pending.event), reasons }));
                return None;
            }
            pending.checked = Some(Checked { version: self.rules.version, unknown });
        }
        let refused = if pending.route == Route::Matching { self.refused_by(&pending) } else { Vec::new() };
        pending.screened = Some(Screened { table: Arc::clone(&self.table), refused });
        Some(pending)
    }

    /// Who does not want an event.
    fn refused_by(&self, pending: &Pending) -> Vec<SubscriptionUid> {
        let facts = Facts::new(&pending.event.content, self.now);
        let mut refused = Vec::new();
        for interest in self.table.conditional(&pending.event.content.event_type) {
            match interest.judge(&facts) {
                Judgement::Wanted => continue,
                Judgement::Attribute(_) | Judgement::False => {}
                Judgement::Failed(_) => {
                    self.failures.count(&pending.event.tenant, interest.target.uid, self.now);
                }
            }
            refused.push(interest.target.uid);
        }
        refused
    }
}

/// Makes failures visible, and no flood of them.
struct Failures {
    metrics: Metrics,
    unlogged: AtomicU64,
    logged_at: AtomicI64,
}

impl Failures {
    fn count(&self, tenant: &TenantId, subscription: SubscriptionUid, now: Timestamp) {
        self.metrics.filter_failed();
        let unlogged = self.unlogged.fetch_add(1, Ordering::Relaxed) + 1;
        let last = self.logged_at.load(Ordering::Relaxed);
        let is_due = last == 0 || now.since(Timestamp::from_micros(last)) >= LOG_INTERVAL;
        let mine = is_due
            && self
                .logged_at
                .compare_exchange(last, now.as_micros(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            self.unlogged.fetch_sub(unlogged, Ordering::Relaxed);
            // Not how: that can hold parts of the event. ExplainEvent says it to the owner.
            tracing::warn!(
                tenant.id = %tenant,
                subscription.uid = %subscription,
                failures = unlogged,
                "filters failed on events and count as not matching"
            );
        }
    }
}
