//! A queue and a sender that are not there, and what goes between them.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    dispatch::{Ask, Claimed, Overdue, Queue, QueueError, Sender, Settled, Settling, Trouble},
    domain::{
        attempt::{Attempt, AttemptNumber, Outcome},
        breaker::HealthChange,
        claim::{Claim, Target},
        event::Event,
        fixtures,
        id::{DeliveryId, SubscriptionUid},
        timestamp::Timestamp,
        trace_context::TraceContext,
    },
};

/// How long the fake sender says that it may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);

/// Deliveries that are due, and those that were settled.
#[derive(Default)]
pub(super) struct FakeQueue {
    pub(super) due: Mutex<BTreeMap<SubscriptionUid, VecDeque<Claim>>>,
    pub(super) settled: tokio::sync::watch::Sender<usize>,
    /// How many of those had no attempt.
    pub(super) unattempted: Mutex<usize>,
    pub(super) changes: Mutex<Vec<HealthChange>>,
    pub(super) blocked: Mutex<HashSet<SubscriptionUid>>,
    /// Nobody can tell who is blocked.
    pub(super) confused: Mutex<bool>,
    pub(super) unavailable: Mutex<usize>,
    /// Settlements come to no end.
    pub(super) silent_for_good: Mutex<bool>,
    /// The next settlement ends its loop.
    pub(super) faulty: Mutex<bool>,
    /// How many settlements are refused after that.
    pub(super) broken: Mutex<usize>,
    pub(super) hints: Mutex<usize>,
    /// How many hints do not get through before that.
    pub(super) silent: Mutex<usize>,
    /// What happens while the next claim is under way, too late for it to see.
    pub(super) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl FakeQueue {
    pub(super) fn holding(deliveries: usize, subscriptions: usize) -> Arc<Self> {
        let queue = Arc::new(Self::default());
        for _ in 0..subscriptions {
            let target = target();
            let claims = (0..deliveries).map(|_| claim(&target)).collect();
            queue.due.lock().unwrap().insert(target.uid, claims);
        }
        queue
    }
}

impl Queue for Arc<FakeQueue> {
    async fn claim(&self, ask: &Ask) -> Result<Claimed, QueueError> {
        let busy: BTreeMap<_, _> = ask.held.iter().copied().collect();
        let limits: BTreeMap<_, _> = ask.limits.iter().copied().collect();
        let blocked = self.blocked.lock().unwrap().clone();
        let mut claims = Vec::new();
        for (uid, due) in self.due.lock().unwrap().iter_mut() {
            let window = limits.get(uid).copied().unwrap_or(ask.max_per_subscription);
            let window = if blocked.contains(uid) { 0 } else { window };
            let room = window.saturating_sub(busy.get(uid).copied().unwrap_or(0));
            let room = room.min(ask.max - claims.len()).min(due.len());
            claims.extend(due.drain(..room));
        }
        if let Some(happens) = self.meanwhile.lock().unwrap().take() {
            happens();
        }
        Ok(Claimed { claims, ..Claimed::default() })
    }

    async fn trouble(&self, _: Timestamp) -> Result<Trouble, QueueError> {
        if *self.confused.lock().unwrap() {
            return Err(QueueError::Unavailable("nobody knows".into()));
        }
        Ok(Trouble { blocked: self.blocked.lock().unwrap().clone(), ..Trouble::default() })
    }

    async fn settle(&self, batch: &[Settled]) -> Result<Settling, QueueError> {
        assert!(!std::mem::take(&mut *self.faulty.lock().unwrap()), "a defect");
        if *self.silent_for_good.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        let mut unavailable = self.unavailable.lock().unwrap();
        if *unavailable > 0 {
            *unavailable -= 1;
            return Err(QueueError::Unavailable("gone".into()));
        }
        let mut broken = self.broken.lock().unwrap();
        if *broken > 0 {
            *broken -= 1;
            return Err(QueueError::Broken("cannot be written".into()));
        }
        *self.unattempted.lock().unwrap() += batch.iter().filter(|settled| settled.attempt.is_none()).count();
        let mut turned = HashSet::new();
        for settled in batch {
            if let Some(change) = &settled.health {
                self.changes.lock().unwrap().push(change.clone());
                self.blocked.lock().unwrap().insert(settled.target.uid);
                turned.insert(settled.target.uid);
            }
        }
        self.settled.send_modify(|settled| *settled += batch.len());
        Ok(Settling { breakers_turned: turned, ..Settling::default() })
    }

    async fn overdue(&self, _: &Ask) -> Result<Option<Overdue>, QueueError> {
        Ok(None)
    }

    async fn hint(&self) -> Result<(), QueueError> {
        let mut silent = self.silent.lock().unwrap();
        if *silent > 0 {
            *silent -= 1;
            return Err(QueueError::Unavailable("gone".into()));
        }
        *self.hints.lock().unwrap() += 1;
        Ok(())
    }
}

/// Is acknowledged at once, but for those that it is told to fail at, and notes how many attempts were under way together.
#[derive(Default)]
pub(super) struct FakeSender {
    pub(super) under_way: Mutex<(usize, usize)>,
    /// With which status.
    pub(super) failing: BTreeMap<SubscriptionUid, u16>,
}

impl Sender for Arc<FakeSender> {
    async fn send(&self, claim: &Claim, _: Option<&TraceContext>, now: Timestamp) -> Attempt {
        {
            let mut under_way = self.under_way.lock().unwrap();
            under_way.0 += 1;
            under_way.1 = under_way.1.max(under_way.0);
        }
        tokio::task::yield_now().await;
        self.under_way.lock().unwrap().0 -= 1;
        let outcome = match self.failing.get(&claim.target.uid) {
            Some(status) => Outcome::Rejected { status: *status, retry_after: None },
            None => Outcome::Acknowledged { status: 204 },
        };
        Attempt { number: claim.attempt, ..fixtures::attempt(now, outcome) }
    }

    fn timeout(&self, _: &Target) -> Duration {
        TIMEOUT
    }
}

pub(in crate::dispatch) fn target() -> Arc<Target> {
    Arc::new(fixtures::target())
}

pub(super) fn claim(target: &Arc<Target>) -> Claim {
    let now = Timestamp::from_micros(0);
    let event = Event { created_at: now, ..fixtures::event(b"1", "") };
    Claim {
        delivery: DeliveryId::new(now),
        attempt: AttemptNumber::FIRST,
        event: Arc::new(event),
        target: Arc::clone(target),
        leased_until: now + Duration::from_mins(1),
        previous_span: None,
        probe: None,
    }
}
