//! Turns at the processors for tenants whose events have to be judged: whoever has used them least goes first.
//!
//! What an expression costs is known when it has been evaluated. So every tenant has an account of the time that its evaluations took
//! lately, of which a tenth of the time that goes by is forgiven. One with costly expressions waits behind all others, also in the midst
//! of an expression.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::domain::id::TenantId;

/// How long a turn is, if somebody waits who has used less.
const LENGTH: Duration = Duration::from_millis(2);
/// The part of the time that goes by that is forgiven.
const FORGIVEN: u32 = 10;
/// From this many accounts on those that are even again are closed.
const MANY_ACCOUNTS: usize = 1_000;

/// The processors that may be used for it.
pub(super) struct Processors(Mutex<State>);

struct State {
    /// How many more can be taken at once.
    free: usize,
    /// By what they have used, and then by their arrival.
    waiting: BTreeMap<(Duration, u64), Waiting>,
    arrivals: u64,
    accounts: HashMap<TenantId, Account>,
}

struct Waiting {
    tenant: TenantId,
    turn: oneshot::Sender<Turn>,
}

/// What a tenant has used.
#[derive(Clone, Copy)]
struct Account {
    used: Duration,
    at: Instant,
}

impl Account {
    fn at(self, now: Instant) -> Duration {
        self.used.saturating_sub(now.saturating_duration_since(self.at) / FORGIVEN)
    }
}

/// A turn that was taken; it ends when this is dropped.
pub(super) struct Turn {
    /// None if it was passed on.
    processors: Option<Arc<Processors>>,
    tenant: TenantId,
    since: Instant,
}

impl Processors {
    /// This many at a time.
    pub(super) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free: at_once,
            waiting: BTreeMap::new(),
            arrivals: 0,
            accounts: HashMap::new(),
        })))
    }

    /// Waits for a tenant's turn.
    pub(super) async fn next(self: &Arc<Self>, tenant: &TenantId) -> Turn {
        let waiting = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return self.turn(tenant.clone());
            }
            state.wait(tenant.clone(), Instant::now())
        };
        // Nobody is forgotten as long as there are turns, and this holds them.
        waiting.await.unwrap_or_else(|_| Turn::out_of_turn(tenant))
    }

    fn turn(self: &Arc<Self>, tenant: TenantId) -> Turn {
        Turn { processors: Some(Arc::clone(self)), tenant, since: Instant::now() }
    }

    /// Gives a turn that has become free to who waits with the least used.
    fn pass_on(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        while let Some((_, Waiting { tenant, turn })) = state.waiting.pop_first() {
            match turn.send(self.turn(tenant)) {
                Ok(()) => return,
                // Nobody waits for it any more.
                Err(mut turn) => turn.processors = None,
            }
        }
        state.free += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, tenant: TenantId, now: Instant) -> oneshot::Receiver<Turn> {
        let (turn, waiting) = oneshot::channel();
        self.arrivals += 1;
        let place = (self.used(&tenant, now), self.arrivals);
        self.waiting.insert(place, Waiting { tenant, turn });
        waiting
    }

    fn used(&self, tenant: &TenantId, now: Instant) -> Duration {
        self.accounts.get(tenant).map_or(Duration::ZERO, |account| account.at(now))
    }

    fn charge(&mut self, tenant: &TenantId, since: Instant, now: Instant) {
        if self.accounts.len() >= MANY_ACCOUNTS {
            self.accounts.retain(|_, account| account.at(now) > Duration::ZERO);
        }
        let used = self.used(tenant, now) + now.saturating_duration_since(since);
        self.accounts.insert(tenant.clone(), Account { used, at: now });
    }
}

impl Turn {
    fn out_of_turn(tenant: &TenantId) -> Self {
        Self { processors: None, tenant: tenant.clone(), since: Instant::now() }
    }

    /// Lets those go first who have used less, if this turn has taken long. Blocks the thread meanwhile.
    pub(super) fn yield_to_others(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.since) >= LENGTH {
            self.yield_at(now);
        }
    }

    fn yield_at(&mut self, now: Instant) {
        let Some(processors) = self.processors.clone() else { return };
        let mut state = processors.state();
        state.charge(&self.tenant, self.since, now);
        self.since = now;
        let used = state.used(&self.tenant, now);
        let is_first = state.waiting.first_key_value().is_none_or(|((least, _), _)| *least >= used);
        if is_first {
            return;
        }
        let waiting = state.wait(self.tenant.clone(), now);
        // What goes to another is not this one's to end.
        self.processors = None;
        processors.pass_on(state);
        if let Ok(turn) = waiting.blocking_recv() {
            *self = turn;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(processors) = self.processors.take() else { return };
        let mut state = processors.state();
        state.charge(&self.tenant, self.since, Instant::now());
        processors.pass_on(state);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::task::yield_now;
    use tokio_util::task::TaskTracker;

    use super::*;

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    /// As if it had taken so long.
    fn taken_for(turn: &mut Turn, time: Duration) {
        turn.since = turn.since.checked_sub(time).unwrap();
    }

    #[tokio::test]
    async fn whoever_has_used_least_goes_first() {
        let processors = Processors::new(1);
        let (costly, cheap, other) = (tenant("costly"), tenant("cheap"), tenant("other"));
        let mut turn = processors.next(&costly).await;
        taken_for(&mut turn, Duration::from_secs(1));
        drop(turn);

        let held = processors.next(&other).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let tracker = TaskTracker::new();
        let mut tasks = Vec::new();
        for tenant in [costly.clone(), costly, cheap] {
            let (processors, order) = (Arc::clone(&processors), Arc::clone(&order));
            tasks.push(tracker.spawn(async move {
                let _turn = processors.next(&tenant).await;
                order.lock().unwrap().push(tenant.to_string());
            }));
            yield_now().await;
        }
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["cheap", "costly", "costly"]);
        let state = processors.state();
        assert!(state.free == 1 && state.waiting.is_empty());
    }

    #[tokio::test]
    async fn who_takes_long_is_interrupted_for_others_and_goes_on_after_them() {
        let processors = Processors::new(1);
        let mut turn = processors.next(&tenant("costly")).await;
        taken_for(&mut turn, LENGTH);
        turn.yield_to_others();
        assert!(processors.state().free == 0, "it goes on if nobody waits");

        taken_for(&mut turn, LENGTH);
        let waiting = TaskTracker::new().spawn({
            let processors = Arc::clone(&processors);
            async move { processors.next(&tenant("cheap")).await }
        });
        yield_now().await;
        let interrupted = thread::spawn(move || {
            turn.yield_to_others();
            turn
        });
        let cheap = waiting.await.unwrap();
        assert!(!interrupted.is_finished());
        drop(cheap);
        drop(interrupted.join().unwrap());
        let state = processors.state();
        assert_eq!(state.free, 1);
    }

    #[tokio::test]
    async fn a_turn_that_nobody_waits_for_any_more_goes_to_the_next() {
        let processors = Processors::new(1);
        let held = processors.next(&tenant("a")).await;
        let gone = tokio::time::timeout(Duration::ZERO, processors.next(&tenant("b"))).await;
        assert!(gone.is_err());
        let next = tenant("c");
        let (other, ()) = tokio::join!(processors.next(&next), async { drop(held) });
        drop(other);
        assert_eq!(processors.state().free, 1);
    }

    #[test]
    fn what_was_used_is_forgiven_with_time() {
        let at = Instant::now();
        let account = Account { used: Duration::from_secs(1), at };
        assert_eq!(account.at(at + Duration::from_secs(4)), Duration::from_millis(600));
        assert_eq!(account.at(at + Duration::from_secs(11)), Duration::ZERO);
    }
}
