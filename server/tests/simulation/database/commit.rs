//! Commits events together with their deliveries.

use std::{collections::HashSet, sync::Arc};

use postrider_server::{
    domain::{
        id::{DeliveryId, TenantId},
        timestamp::Timestamp,
    },
    publish::{Batch, Beginning, Commit, Entry, Fate, Interest, Interests, NewDelivery},
};

use super::{Database, Delivery, Held, StoredEvent};

impl Database {
    pub(crate) fn interests(&self, tenant: &TenantId) -> Interests {
        let rows = self.subscriptions.iter().filter(|row| row.tenant == *tenant && !row.has_ended());
        let interest = |row: &super::Subscription| Interest {
            target: row.target(),
            filter: row.filter.clone(),
            held: row.paused,
            program: None,
        };
        Interests {
            version: self.tenants.get(tenant).copied(),
            subscriptions: rows.map(interest).collect(),
            unreadable: 0,
            catalogue_version: 0,
        }
    }

    pub(crate) fn commit(&mut self, batch: &Batch, node: usize) -> Commit {
        let is_stale =
            |(tenant, version): &&(TenantId, Option<i64>)| self.tenants.get(tenant).copied() != *version;
        let stale: Vec<_> =
            batch.versions.iter().filter(is_stale).map(|(tenant, _)| tenant.clone()).collect();
        if !stale.is_empty() {
            return Commit::Stale(stale);
        }
        for (tenant, _) in &batch.versions {
            self.tenants.entry(tenant.clone()).or_default();
        }
        let mut parked = HashSet::new();
        let fates = batch.entries.iter().map(|entry| self.store(batch, entry, node, &mut parked)).collect();
        // Its tenants have few subscriptions.
        Commit::Done { fates, parked, owes: false }
    }

    fn store(&mut self, batch: &Batch, entry: &Entry, node: usize, parked: &mut HashSet<DeliveryId>) -> Fate {
        if let Some(first) = self.published_before(entry) {
            let deliveries = self.deliveries.iter().filter(|delivery| delivery.event == first).count();
            let first = &self.events[first];
            if first.fingerprint != entry.fingerprint {
                return Fate::RequestIdReused;
            }
            return Fate::Repeated {
                event: first.event.id,
                created_at: first.event.created_at,
                delivery_count: u32::try_from(deliveries).unwrap(),
            };
        }
        self.events.push(StoredEvent { event: Arc::clone(&entry.event), fingerprint: entry.fingerprint });
        for delivery in &entry.deliveries {
            if self.insert(batch, delivery, node) {
                parked.insert(delivery.id);
            }
        }
        Fate::Stored
    }

    fn published_before(&self, entry: &Entry) -> Option<usize> {
        let request_id = entry.event.request_id.as_ref()?;
        self.events.iter().position(|stored| {
            stored.event.tenant == entry.event.tenant && stored.event.request_id.as_ref() == Some(request_id)
        })
    }

    /// Inserts a delivery of the latest event; says whether it waits for others of its lane.
    fn insert(&mut self, batch: &Batch, new: &NewDelivery, node: usize) -> bool {
        let event = self.events.len() - 1;
        let handling = self.events[event].event.content.handling.clone();
        let subscription = self.subscription_of(new.subscription);
        let lane = handling.ordering_key.clone().map(|key| (subscription, key));
        let is_parked = lane.as_ref().is_some_and(|lane| self.in_lane(lane).next().is_some());
        let is_claimed = new.beginning == Beginning::Claimed && !is_parked;
        let put_off = handling.put_off(batch.due_at);
        let due_at = if is_parked {
            Timestamp::NEVER
        } else if is_claimed {
            batch.leased_until
        } else {
            put_off.unwrap_or(batch.due_at)
        };
        self.deliveries.push(Delivery {
            id: new.id,
            event,
            subscription,
            ended: None,
            attempt_count: u32::from(is_claimed),
            due_at,
            position: lane.map(|_| self.deliveries.len()),
            // Where the node holds it back, it looks by itself when that is over.
            is_timed: is_claimed || put_off.is_some() || new.beginning == Beginning::Held,
            claim: is_claimed.then_some(Held { attempt: 1, node, is_excused: false }),
            attempts: std::collections::BTreeMap::new(),
        });
        is_parked
    }
}
