//! Judges events by the conditions of a tenant's subscriptions.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Checked, Error, match_table::MatchTable, pending::Pending, screen::Screened};
use crate::{
    domain::{
        catalogue::Rules,
        conditions::Judgement,
        expression::{Facts, Failure, Pause},
        id::{SubscriptionUid, TenantId},
        timestamp::Timestamp,
    },
    telemetry::metrics::Metrics,
};

/// A failure is logged no more often than this.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// What events are judged by.
pub(super) struct Judge {
    pub(super) table: Arc<MatchTable>,
    /// Whether the table was read after the events had come in.
    pub(super) is_fresh: bool,
    pub(super) rules: Arc<Rules>,
    pub(super) failures: Arc<Failures>,
    pub(super) now: Timestamp,
}

impl Judge {
    /// Whether nothing has to be computed to look at these.
    pub(super) fn has_little_to_do(&self, events: &[Pending]) -> bool {
        let is_checked =
            |pending: &Pending| pending.checked.is_none_or(|checked| checked.version >= self.rules.version);
        events.iter().all(|pending| is_checked(pending) && !self.table.asks(pending))
    }

    /// Looks at these, with pauses now and then, as long as they say to go on. Returns those that were looked
    /// at, without those that were refused, which have their answers; and those that are left.
    pub(super) fn look_at_all(&self, events: Vec<Pending>, pause: &Pause) -> (Vec<Pending>, Vec<Pending>) {
        let mut events = events.into_iter();
        let mut looked_at = Vec::with_capacity(events.len());
        while let Some(pending) = events.next() {
            match self.look_at(pending, pause) {
                Looked::Done(pending) => looked_at.push(pending),
                Looked::Refused => {}
                Looked::Stopped(pending) => {
                    let left = std::iter::once(pending).chain(events).collect();
                    return (looked_at, left);
                }
            }
        }
        (looked_at, Vec::new())
    }

    /// Checks an event again if the catalogue has changed, and judges it.
    fn look_at(&self, mut pending: Pending, pause: &Pause) -> Looked {
        if let Some(Checked { version, unknown }) = pending.checked
            && version < self.rules.version
        {
            if let Err(reasons) = self.rules.check(&pending.event.content, unknown) {
                // Nobody may be waiting any more.
                let _ = pending.answer.send(Err(Error::Refused { event: Box::new(pending.event), reasons }));
                return Looked::Refused;
            }
            pending.checked = Some(Checked { version: self.rules.version, unknown });
        }
        let refused = if self.table.asks(&pending) {
            let Some(refused) = self.refused_by(&pending, pause) else { return Looked::Stopped(pending) };
            refused
        } else {
            Vec::new()
        };
        pending.screened =
            Some(Screened { table: Arc::clone(&self.table), is_fresh: self.is_fresh, refused });
        Looked::Done(pending)
    }

    /// Who does not want an event; none if it was not to go on.
    fn refused_by(&self, pending: &Pending, pause: &Pause) -> Option<Vec<SubscriptionUid>> {
        let facts = Facts::new(&pending.event.content, self.now).with_pause(Rc::clone(pause));
        let mut refused = Vec::new();
        for interest in self.table.conditional(&pending.event.content.event_type) {
            let judgement = interest.judge(&facts);
            if judgement == Judgement::Failed(Failure::Stopped) {
                return None;
            }
            if matches!(judgement, Judgement::Failed(_)) {
                self.failures.count(&pending.event.tenant, interest.target.uid, self.now);
            }
            if judgement != Judgement::Wanted {
                refused.push(interest.target.uid);
            }
        }
        Some(refused)
    }
}

/// What became of an event that was to be looked at.
enum Looked {
    Done(Pending),
    /// It has its answer.
    Refused,
    /// It was not to go on; nothing was found out.
    Stopped(Pending),
}

/// Makes failures visible, and no flood of them.
pub(super) struct Failures {
    metrics: Metrics,
    unlogged: AtomicU64,
    logged_at: AtomicI64,
}

impl Failures {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, unlogged: AtomicU64::default(), logged_at: AtomicI64::default() }
    }

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
