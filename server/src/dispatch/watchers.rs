//! Callers that wait for what comes of a delivery. Told when this node has settled it; another node's settlements they do not hear of,
//! so this is a hint, and they look by themselves as well.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::domain::id::DeliveryId;

/// How many deliveries are waited for at a time: each costs a look at the database now and then.
const MAX_WATCHED: usize = 256;

/// Who waits for what. Nobody nearly always, which costs one look at a number.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    count: AtomicUsize,
    watched: Mutex<HashMap<DeliveryId, Watched>>,
}

#[derive(Debug, Default)]
struct Watched {
    told: Arc<Notify>,
    watches: usize,
}

/// Waits for one delivery, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    delivery: DeliveryId,
    told: Arc<Notify>,
    watchers: Arc<Watchers>,
}

impl Watchers {
    /// Begins to wait for a delivery, unless others wait for too many.
    pub(super) fn watch(self: &Arc<Self>, delivery: DeliveryId) -> Option<Watch> {
        let mut watched = self.watched();
        if watched.len() >= MAX_WATCHED {
            return None;
        }
        let entry = watched.entry(delivery).or_default();
        entry.watches += 1;
        let told = Arc::clone(&entry.told);
        self.count.store(watched.len(), Ordering::Release);
        drop(watched);
        Some(Watch { delivery, told, watchers: Arc::clone(self) })
    }

    /// These are settled, and the database shows it.
    pub(super) fn settled(&self, deliveries: impl Iterator<Item = DeliveryId>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let watched = self.watched();
        for delivery in deliveries {
            if let Some(entry) = watched.get(&delivery) {
                entry.told.notify_waiters();
                // For one who looks at the database at this moment and waits then.
                entry.told.notify_one();
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<DeliveryId, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Returns when the delivery was settled here since the last time.
    pub async fn settled(&self) {
        self.told.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.watchers.watched();
        if let Some(entry) = watched.get_mut(&self.delivery) {
            entry.watches -= 1;
            if entry.watches == 0 {
                watched.remove(&self.delivery);
            }
        }
        self.watchers.count.store(watched.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::domain::fixtures::NOW;

    #[test]
    fn who_waits_is_told_once_and_leaves_nothing_behind() {
        let watchers = Arc::<Watchers>::default();
        let (this, other) = (DeliveryId::new(NOW), DeliveryId::new(NOW));
        watchers.settled([this].into_iter());
        let watch = watchers.watch(this).unwrap();
        assert!(watch.settled().now_or_never().is_none(), "that was before");
        watchers.settled([other].into_iter());
        assert!(watch.settled().now_or_never().is_none(), "that was another");
        watchers.settled([other, this].into_iter());
        assert!(watch.settled().now_or_never().is_some(), "also if it was settled between two looks");
        assert!(watch.settled().now_or_never().is_none());
        let others: Vec<_> =
            (1..MAX_WATCHED).map(|_| watchers.watch(DeliveryId::new(NOW)).unwrap()).collect();
        assert!(watchers.watch(other).is_none(), "as many wait as may");
        drop((watch, others));
        assert!(watchers.watched().is_empty());
        assert_eq!(watchers.count.load(Ordering::Acquire), 0);
    }
}
