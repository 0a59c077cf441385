//! How much memory calls may take: what has arrived of messages that are not whole yet, and events that wait for their commit.
//!
//! Counts alone (connections, calls on each, events in line) would allow for terabytes. So bytes are counted too. Where there is no room
//! for more, a call is refused and may be repeated; only a stream waits, which holds its producer back. Of the room for events no tenant
//! gets more than half, so that one that floods does not keep the others out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;
use crate::{
    domain::id::TenantId,
    telemetry::metrics::{Metrics, Shed},
};

/// What is counted in, in bytes: semaphores count to 2³² only. Also what the smallest thing costs us at least.
const UNIT: usize = 1_024;
/// Beyond this many tenants those that have nothing here are forgotten.
const REMEMBERED_TENANTS: usize = 1_024;

/// The room there is. Cheap to clone; the clones share it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Rooms>);

#[derive(Debug)]
struct Rooms {
    arriving: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Of the latter, what one tenant may have.
    share: usize,
    tenants: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
    metrics: Metrics,
}

/// Room for events; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Room for what has arrived of a message; given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Arriving(Option<OwnedSemaphorePermit>);

impl Budget {
    /// Half of `bytes` for what arrives, half for what waits.
    #[must_use]
    pub fn new(bytes: usize, metrics: Metrics) -> Self {
        let half = units(bytes) as usize / 2;
        let room = || Arc::new(Semaphore::new(half));
        let (arriving, waiting) = (room(), room());
        let tenants = Mutex::default();
        Self(Arc::new(Rooms { arriving, waiting, share: half.div_ceil(2), tenants, metrics }))
    }

    /// Takes room for events of a tenant, or says that there is none.
    pub(super) fn take(&self, tenant: &TenantId, bytes: usize) -> Result<Held, Failure> {
        let units = self.at_most_a_share(bytes);
        let own = self.share_of(tenant).try_acquire_many_owned(units);
        let all = Arc::clone(&self.0.waiting).try_acquire_many_owned(units);
        if let (Ok(own), Ok(all)) = (own, all) {
            return Ok(Held { _own: own, _all: all });
        }
        self.0.metrics.shed(Shed::Event);
        Err(Failure::Busy)
    }

    /// Takes room for events of a tenant as soon as there is some.
    pub(super) async fn wait(&self, tenant: &TenantId, bytes: usize) -> Result<Held, Failure> {
        let units = self.at_most_a_share(bytes);
        // The tenant's own first: whoever waits for that must not have of the others' what he cannot use.
        let own = self.share_of(tenant).acquire_many_owned(units).await;
        let all = Arc::clone(&self.0.waiting).acquire_many_owned(units).await;
        match (own, all) {
            (Ok(own), Ok(all)) => Ok(Held { _own: own, _all: all }),
            // They are never closed.
            _ => Err(Failure::Stopping),
        }
    }

    /// Takes or gives back room so that `arriving` has enough for `bytes`; `false` if there is none.
    pub(super) fn adjust(&self, arriving: &mut Arriving, bytes: usize) -> bool {
        let wanted = if bytes == 0 { 0 } else { units(bytes) };
        let had = arriving.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if let Some(surplus) = had.checked_sub(wanted as usize) {
            arriving.0.as_mut().and_then(|room| room.split(surplus));
            return true;
        }
        let more = wanted.saturating_sub(u32::try_from(had).unwrap_or(u32::MAX));
        let Ok(more) = Arc::clone(&self.0.arriving).try_acquire_many_owned(more) else {
            self.0.metrics.shed(Shed::Request);
            return false;
        };
        match &mut arriving.0 {
            Some(room) => room.merge(more),
            none => *none = Some(more),
        }
        true
    }

    /// One request alone must always find room, however large it is.
    fn at_most_a_share(&self, bytes: usize) -> u32 {
        units(bytes).min(u32::try_from(self.0.share).unwrap_or(u32::MAX))
    }

    fn share_of(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut tenants = self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= REMEMBERED_TENANTS {
            tenants.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = tenants.entry(tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.0.share)));
        Arc::clone(share)
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    fn budget(units: usize) -> Budget {
        Budget::new(units * UNIT, Metrics::default())
    }

    #[test]
    fn a_tenant_gets_half_of_the_room_for_events_and_the_others_the_rest() {
        let budget = budget(16);
        let (a, b, c) = (tenant("a"), tenant("b"), tenant("c"));
        let held: Vec<_> = (0..4).map(|_| budget.take(&a, 1).unwrap()).collect();
        assert!(budget.take(&a, 1).is_err());
        let other = budget.take(&b, 4 * UNIT).unwrap();
        assert!(budget.take(&c, 1).is_err(), "there is no room at all");
        drop(other);
        assert!(budget.take(&c, 1).is_ok());
        drop(held);
        assert!(budget.take(&a, 1_000 * UNIT).is_ok(), "alone, any request finds room");
    }

    #[tokio::test]
    async fn whoever_can_wait_gets_room_when_there_is_some() {
        let budget = budget(16);
        let a = tenant("a");
        let held = budget.take(&a, 4 * UNIT).unwrap();
        let mut waiting = std::pin::pin!(budget.wait(&a, UNIT));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(held);
        waiting.await.unwrap();
    }

    #[test]
    fn what_arrives_takes_as_much_room_as_it_has_and_gives_it_back() {
        let budget = budget(8);
        let (mut one, mut other) = (Arriving::default(), Arriving::default());
        assert!(budget.adjust(&mut one, 3 * UNIT));
        assert!(budget.adjust(&mut other, 1));
        assert!(!budget.adjust(&mut one, 3 * UNIT + 1));
        assert!(budget.adjust(&mut other, 0));
        assert!(budget.adjust(&mut one, 3 * UNIT + 1));
        drop(one);
        assert!(budget.adjust(&mut other, 4 * UNIT));
    }
}
