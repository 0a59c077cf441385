//! A database with nodes on it, and the steps that lead to a test's beginning.

use std::sync::Arc;

use postrider_integration_tests::{Kind, TestDatabase, default_tenant};
use postrider_server::{
    dispatch::{Ask, Queue, Settled, Settling},
    domain::{
        attempt::{Attempt, AttemptNumber},
        claim::Claim,
        delivery::Delivery,
        event::Event,
        id::{DeliveryId, TenantId},
        page::Page,
        subscription::{Subscription, SubscriptionSpec},
        timestamp::Timestamp,
    },
    publish::{Batch, Commit, Entry, Fate, Interests, Journal},
    store::{
        self, Store,
        deliveries::DeliveryFilter,
        keyring::{EncryptionKey, Keyring},
        steering::Steered,
        subscriptions::Change,
    },
};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::fixtures::{Draft, LEASE, NOW, a_draft, a_secret, a_spec, ask, gone, name, one_page, target};

/// One node's store on a database that has been migrated.
pub(crate) struct Node {
    pub(crate) database: Arc<TestDatabase>,
    pub(crate) store: Store,
    key: EncryptionKey,
}

impl Node {
    /// The first node on a new database.
    pub(crate) async fn new(kind: Kind) -> Self {
        let database = Arc::new(TestDatabase::new(kind).await);
        store::migrate(&database.config(), &database.folder()).await.unwrap();
        Self::on(database, EncryptionKey::generate()).await
    }

    /// Another node on the same database.
    pub(crate) async fn another(&self) -> Self {
        Self::on(Arc::clone(&self.database), self.key.clone()).await
    }

    /// The first node on a database that has been migrated.
    pub(crate) async fn on(database: Arc<TestDatabase>, key: EncryptionKey) -> Self {
        let store = open(&database, Keyring::new(key.clone(), Vec::new())).await.unwrap();
        Self { database, store, key }
    }

    /// The key that this node encrypts with.
    pub(crate) fn key(&self) -> EncryptionKey {
        self.key.clone()
    }

    /// Subscribes to everything of the tenant `default`.
    pub(crate) async fn subscribe(&self, id: &str) -> Subscription {
        self.subscribe_with(&default_tenant(), id, &a_spec(), NOW).await
    }

    /// Subscribes to everything of a tenant.
    pub(crate) async fn subscribe_in(&self, tenant: &TenantId, id: &str) -> Subscription {
        self.subscribe_with(tenant, id, &a_spec(), NOW).await
    }

    /// Subscribes.
    pub(crate) async fn subscribe_with(
        &self,
        tenant: &TenantId,
        id: &str,
        spec: &SubscriptionSpec,
        now: Timestamp,
    ) -> Subscription {
        let created = self.store.create_subscription(tenant, Some(name(id)), spec, &a_secret(1), now).await;
        created.unwrap().expect("the id is not taken")
    }

    /// Reads a subscription that must exist.
    pub(crate) async fn subscription(&self, subscription: &Subscription) -> Subscription {
        self.store.subscription(&subscription.tenant, &subscription.id).await.unwrap().unwrap()
    }

    pub(crate) async fn pause(&self, subscription: &Subscription) {
        done(self.store.pause_subscription(&subscription.tenant, &subscription.id, NOW).await.unwrap());
    }

    pub(crate) async fn resume(&self, subscription: &Subscription) {
        done(self.store.resume_subscription(&subscription.tenant, &subscription.id, NOW).await.unwrap());
    }

    pub(crate) async fn enable(&self, subscription: &Subscription) {
        done(self.store.enable_subscription(&subscription.tenant, &subscription.id, NOW).await.unwrap());
    }

    pub(crate) async fn delete(&self, subscription: &Subscription) {
        let deleted = self.store.delete_subscription(&subscription.tenant, &subscription.id, None, NOW).await;
        done(deleted.unwrap());
    }

    /// Disables a subscription in the one way there is: its receiver answers 410 to something.
    pub(crate) async fn disable(&self, subscription: &Subscription) {
        let event = self.publish([a_draft().claimed_to([subscription])]).await.remove(0);
        let delivery = self.deliveries_of(&event).await.remove(0);
        let claim = Claim {
            delivery: delivery.id,
            attempt: AttemptNumber::FIRST,
            target: target(subscription),
            event,
            leased_until: NOW + LEASE,
            previous_span: None,
            probe: None,
        };
        assert!(self.settle([gone(&claim, NOW)]).await.disabled);
    }

    pub(crate) async fn interests(&self, tenant: &TenantId) -> Interests {
        self.store.interests(tenant).await.unwrap()
    }

    /// A batch of these events, made with current match tables.
    pub(crate) async fn batch(&self, drafts: impl IntoIterator<Item = Draft>) -> Batch {
        let entries = entries(drafts);
        let mut tenants: Vec<_> = entries.iter().map(|entry| entry.event.tenant.clone()).collect();
        tenants.sort();
        tenants.dedup();
        let mut versions = Vec::new();
        for tenant in tenants {
            let version = self.interests(&tenant).await.version;
            versions.push((tenant, version));
        }
        let due_at = entries.first().map_or(NOW, |entry| entry.event.created_at);
        let leased_until = due_at + LEASE;
        Batch { versions, entries, due_at, leased_until }
    }

    /// Commits events; answers what became of each.
    pub(crate) async fn commit(&self, drafts: impl IntoIterator<Item = Draft>) -> Vec<Fate> {
        let batch = self.batch(drafts).await;
        self.commit_batch(&batch).await
    }

    /// Commits a batch whose match tables are current.
    pub(crate) async fn commit_batch(&self, batch: &Batch) -> Vec<Fate> {
        match self.store.commit(batch).await.unwrap() {
            Commit::Done { fates, .. } => fates,
            Commit::Stale(tenants) => panic!("stale: {tenants:?}"),
        }
    }

    /// Commits events that must all be stored; returns them.
    pub(crate) async fn publish(&self, drafts: impl IntoIterator<Item = Draft>) -> Vec<Arc<Event>> {
        let batch = self.batch(drafts).await;
        let fates = self.commit_batch(&batch).await;
        assert!(fates.iter().all(|fate| *fate == Fate::Stored), "{fates:?}");
        batch.entries.into_iter().map(|entry| entry.event).collect()
    }

    /// Claims up to `max` deliveries.
    pub(crate) async fn claim(&self, now: Timestamp, max: usize) -> Vec<Claim> {
        self.claim_as(&ask(now, max)).await
    }

    pub(crate) async fn claim_as(&self, ask: &Ask) -> Vec<Claim> {
        self.store.claim(ask).await.unwrap().claims
    }

    /// Publishes one event to one subscription and claims its delivery.
    pub(crate) async fn claimed(&self, subscription: &Subscription) -> Claim {
        self.publish([a_draft().to([subscription])]).await;
        let mut claims = self.claim(NOW, 1).await;
        assert_eq!(claims.len(), 1);
        claims.remove(0)
    }

    pub(crate) async fn settle(&self, batch: impl IntoIterator<Item = Settled>) -> Settling {
        let batch: Vec<_> = batch.into_iter().collect();
        self.store.settle(&batch).await.unwrap()
    }

    /// Reads a delivery of the tenant `default` that must exist.
    pub(crate) async fn delivery(&self, id: DeliveryId) -> Delivery {
        self.store.delivery(&default_tenant(), id).await.unwrap().unwrap()
    }

    /// All deliveries of an event, newest first.
    pub(crate) async fn deliveries_of(&self, event: &Event) -> Vec<Delivery> {
        let filter = DeliveryFilter { event: Some(event.id), ..DeliveryFilter::default() };
        self.list(&filter).await.items
    }

    /// Up to a thousand deliveries.
    pub(crate) async fn list(&self, filter: &DeliveryFilter) -> Page<Delivery> {
        self.store.deliveries(filter, one_page()).await.unwrap()
    }

    /// Lists all attempts at a delivery of the tenant `default`.
    pub(crate) async fn attempts(&self, id: DeliveryId) -> Vec<Attempt> {
        self.store.attempts(&default_tenant(), id, 0, 1_000).await.unwrap().unwrap()
    }

    /// Makes a delivery due now.
    pub(crate) async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Steered {
        self.store.redeliver(&default_tenant(), id, now).await.unwrap()
    }

    /// Calls a delivery off.
    pub(crate) async fn cancel(&self, id: DeliveryId, now: Timestamp) -> Steered {
        self.store.cancel(&default_tenant(), id, now).await.unwrap()
    }

    /// Looks past the store: how many rows a table has.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        count(&self.database.connect().await, &format!("SELECT COUNT(*) AS n FROM {table}")).await
    }

    /// Runs a statement past the store.
    pub(crate) async fn execute(&self, sql: &str) {
        self.database.connect().await.execute_unprepared(sql).await.unwrap();
    }
}

/// Opens a store on a database that has been migrated.
pub(crate) async fn open(database: &TestDatabase, keyring: Keyring) -> Result<Store, store::OpenError> {
    Store::open(&database.config(), &database.folder(), keyring, NOW).await
}

/// Gives events the ids that a batch would give them.
pub(crate) fn entries(drafts: impl IntoIterator<Item = Draft>) -> Vec<Entry> {
    let mut deliveries = 0;
    let entry = |(nth, draft): (usize, Draft)| {
        let entry = draft.into_entry(nth, deliveries);
        deliveries += entry.deliveries.len();
        entry
    };
    drafts.into_iter().enumerate().map(entry).collect()
}

/// The number that a query comes to.
pub(crate) async fn count(connection: &DatabaseConnection, sql: &str) -> i64 {
    let backend: DbBackend = connection.get_database_backend();
    let row = connection.query_one_raw(Statement::from_string(backend, sql)).await.unwrap().unwrap();
    row.try_get("", "n").unwrap()
}

/// The subscription after a change that was made.
#[track_caller]
pub(crate) fn done(change: Change<Subscription>) -> Subscription {
    match change {
        Change::Done(subscription) => subscription,
        refused @ (Change::NotFound | Change::EtagMismatch | Change::Invalid(_)) => panic!("{refused:?}"),
    }
}
