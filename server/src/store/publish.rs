//! Commits events together with their deliveries.

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, Iterable, QueryFilter,
    QuerySelect,
    prelude::Uuid,
    sea_query::{OnConflict, Query},
};

use super::{
    Error, ROWS_PER_STATEMENT, STEP_TIMEOUT, Store, codes,
    entity::{deliveries, events, payloads, subscription_secrets, subscriptions},
    lanes::{self, Lane},
    rows, tenants, within,
};
use crate::{
    domain::{
        event::RequestId,
        id::{DeliveryId, EventId, SubscriptionUid, TenantId},
        secret::SecretSet,
        timestamp::Timestamp,
    },
    publish::{Batch, Commit, Entry, Fate, Interest, Interests, Journal, JournalError, NewDelivery},
};

impl Journal for Store {
    async fn interests(&self, tenant: &TenantId) -> Result<Interests, JournalError> {
        Ok(within(STEP_TIMEOUT, self.read_interests(tenant)).await?)
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit, JournalError> {
        Ok(within(STEP_TIMEOUT, self.commit_batch(batch)).await?)
    }
}

impl Store {
    async fn read_interests(&self, tenant: &TenantId) -> Result<Interests, Error> {
        // Not by the readers' connections: those may all be busy with listings, and publishing must not wait for them.
        let reader = &self.connections.writer;
        // The version first. If a change comes in between, the table is newer than its version says, and the
        // commit sends us back here; the other way round it would go unnoticed.
        let version = tenants::versions(reader, [tenant]).await?.first().map(|(_, version)| *version);
        let rows = subscriptions::Entity::find()
            .filter(subscriptions::Column::TenantId.eq(tenant.as_str()))
            .filter(subscriptions::Column::DeletedAt.is_null())
            .filter(subscriptions::Column::DisabledAt.is_null())
            .all(reader)
            .await?;
        let secrets = secrets_of(tenant).all(reader).await?;
        let mut secrets = rows::secrets(secrets, &self.keyring);
        let mut interest = |row: subscriptions::Model| {
            let held = secrets.remove(&SubscriptionUid::from_uuid(row.uid));
            let target = rows::target(&row, held.unwrap_or_else(|| SecretSet::newest_first(Vec::new())))?;
            Ok::<_, Error>(Interest { filter: rows::wanted(&row)?, target, paused: row.paused_at.is_some() })
        };
        let mut interests = Vec::with_capacity(rows.len());
        for row in rows {
            match interest(row) {
                Ok(interest) => interests.push(interest),
                // One that cannot be read must not keep the tenant from publishing to the others.
                Err(cause) => tracing::error!(
                    cause = &cause as &dyn std::error::Error,
                    tenant.id = %tenant,
                    "a subscription cannot be read"
                ),
            }
        }
        Ok(Interests { version, subscriptions: interests })
    }

    async fn commit_batch(&self, batch: &Batch) -> Result<Commit, Error> {
        let transaction = self.connections.begin().await?;
        let stale = check_versions(&transaction, batch).await?;
        if !stale.is_empty() {
            transaction.rollback().await?;
            return Ok(Commit::Stale(stale));
        }
        let stored = insert_events(&transaction, &batch.entries).await?;
        let is_stored = |entry: &&Entry| stored.contains(&entry.event.id);
        insert_payloads(&transaction, batch.entries.iter().filter(is_stored)).await?;
        let parked = insert_deliveries(&transaction, batch.entries.iter().filter(is_stored), batch).await?;
        let fates = if stored.len() == batch.entries.len() {
            vec![Fate::Stored; stored.len()]
        } else {
            fates(&transaction, &batch.entries, &stored).await?
        };
        transaction.commit().await?;
        Ok(Commit::Done { fates, parked })
    }
}

/// The query for the secrets of a tenant's subscriptions.
fn secrets_of(tenant: &TenantId) -> sea_orm::Select<subscription_secrets::Entity> {
    let of_tenant = Query::select()
        .column(subscriptions::Column::Uid)
        .from(subscriptions::Entity)
        .and_where(subscriptions::Column::TenantId.eq(tenant.as_str()))
        .and_where(subscriptions::Column::DeletedAt.is_null())
        .to_owned();
    subscription_secrets::Entity::find()
        .filter(subscription_secrets::Column::SubscriptionUid.in_subquery(of_tenant))
}

/// Which of the batch's match tables are out of date. Tenants that do not exist yet come into being.
async fn check_versions(transaction: &DatabaseTransaction, batch: &Batch) -> Result<Vec<TenantId>, DbErr> {
    let current: HashMap<_, _> =
        tenants::versions(transaction, batch.versions.iter().map(|(tenant, _)| tenant))
            .await?
            .into_iter()
            .collect();
    let mut stale = Vec::new();
    for (tenant, known) in &batch.versions {
        match (known, current.get(tenant)) {
            (None, None) => {
                let created_at =
                    batch.entries.first().map(|entry| entry.event.created_at).unwrap_or_default();
                tenants::ensure(transaction, tenant, created_at).await?;
            }
            (Some(known), Some(current)) if known == current => {}
            _ => stale.push(tenant.clone()),
        }
    }
    Ok(stale)
}

/// Inserts the events whose request id is new; returns which.
async fn insert_events(
    transaction: &DatabaseTransaction,
    entries: &[Entry],
) -> Result<HashSet<EventId>, DbErr> {
    let mut rows: Vec<_> = entries.iter().map(event_row).collect();
    // All nodes in one order, so that two that bring the same request ids wait for each other and do not deadlock.
    rows.sort_by(|a, b| {
        (a.tenant_id.as_ref(), a.request_id.as_ref()).cmp(&(b.tenant_id.as_ref(), b.request_id.as_ref()))
    });
    let mut stored = HashSet::with_capacity(entries.len());
    for chunk in rows.chunks(ROWS_PER_STATEMENT) {
        let mut insert = events::Entity::insert_many(chunk.to_vec())
            .on_conflict(OnConflict::new().do_nothing().to_owned());
        let statement = sea_orm::QueryTrait::query(&mut insert).returning_col(events::Column::Id).to_owned();
        for row in transaction.query_all(&statement).await? {
            stored.insert(EventId::from_uuid(row.try_get::<Uuid>("", "id")?));
        }
    }
    Ok(stored)
}

fn event_row(entry: &Entry) -> events::ActiveModel {
    let event = &entry.event;
    let attributes = event.content.attributes.as_map();
    let handling = &event.content.handling;
    events::ActiveModel {
        id: Set(event.id.uuid()),
        tenant_id: Set(event.tenant.as_str().to_owned()),
        event_type: Set(event.content.event_type.as_str().to_owned()),
        source: Set(event.content.source.clone()),
        subject: Set(event.content.subject.clone()),
        occurred_at: Set(event.content.time.map(Timestamp::as_micros)),
        content_type: Set(event.content.payload.content_type.clone()),
        // Strings always serialise.
        attributes: Set(
            (!attributes.is_empty()).then(|| serde_json::to_string(attributes).unwrap_or_default())
        ),
        request_id: Set(event.request_id.as_ref().map(|id| id.as_str().to_owned())),
        fingerprint: Set(entry.fingerprint.map(|fingerprint| fingerprint.0.to_vec())),
        traceparent: Set(event.trace.as_ref().map(|trace| trace.traceparent().to_owned())),
        tracestate: Set(event.trace.as_ref().map(|trace| trace.tracestate().to_owned())),
        ordering_key: Set(handling.ordering_key.as_ref().map(|key| key.as_str().to_owned())),
        deliver_at: Set(handling.deliver_at.map(Timestamp::as_micros)),
        expire_at: Set(handling.expire_at.map(Timestamp::as_micros)),
        priority: Set(codes::priority_code(handling.priority)),
        delivery_count: Set(i32::try_from(entry.deliveries.len()).unwrap_or(i32::MAX)),
        created_at: Set(event.created_at.as_micros()),
    }
}

async fn insert_payloads<'a>(
    transaction: &DatabaseTransaction,
    entries: impl Iterator<Item = &'a Entry>,
) -> Result<(), DbErr> {
    let rows: Vec<_> = entries
        .map(|entry| payloads::ActiveModel {
            event_id: Set(entry.event.id.uuid()),
            data: Set(entry.event.content.payload.data.to_vec()),
        })
        .collect();
    for chunk in rows.chunks(ROWS_PER_STATEMENT) {
        payloads::Entity::insert_many(chunk.to_vec()).exec_without_returning(transaction).await?;
    }
    Ok(())
}

/// Inserts the deliveries; returns those that have to wait for an earlier one with their ordering key.
async fn insert_deliveries<'a>(
    transaction: &DatabaseTransaction,
    entries: impl Iterator<Item = &'a Entry>,
    batch: &Batch,
) -> Result<HashSet<DeliveryId>, DbErr> {
    let deliveries: Vec<_> =
        entries.flat_map(|entry| entry.deliveries.iter().map(move |delivery| (entry, delivery))).collect();
    let keyed = deliveries.iter().filter_map(|(entry, delivery)| {
        let key = entry.event.content.handling.ordering_key.as_ref()?;
        Some((delivery.id, Lane::new(delivery.target.uid, key)))
    });
    let places = lanes::enter(transaction, keyed.collect()).await?;
    let row = |(entry, delivery): &(&Entry, &NewDelivery)| {
        let place = places.get(&delivery.id);
        let handling = &entry.event.content.handling;
        let (attempt_count, due_at) = if place.is_some_and(|place| place.parked) {
            (0, Timestamp::NEVER)
        } else if delivery.claimed {
            // It is already in its first attempt: due again only if this node dies.
            (1, batch.leased_until)
        } else {
            (0, handling.put_off(batch.due_at).unwrap_or(batch.due_at))
        };
        deliveries::ActiveModel {
            id: Set(delivery.id.uuid()),
            event_id: Set(entry.event.id.uuid()),
            subscription_uid: Set(delivery.target.uid.uuid()),
            tenant_id: Set(entry.event.tenant.as_str().to_owned()),
            state: Set(codes::PENDING),
            end_reason: Set(None),
            attempt_count: Set(attempt_count),
            due_at: Set(due_at.as_micros()),
            created_at: Set(entry.event.created_at.as_micros()),
            ended_at: Set(None),
            last_traceparent: Set(None),
            priority: Set(codes::priority_code(handling.priority)),
            ordering_key: Set(handling.ordering_key.as_ref().map(|key| key.as_str().to_owned())),
            position: Set(place.map(|place| place.position)),
            expire_at: Set(handling.expire_at.map(Timestamp::as_micros)),
        }
    };
    let rows: Vec<_> = deliveries.iter().map(row).collect();
    for chunk in rows.chunks(ROWS_PER_STATEMENT) {
        deliveries::Entity::insert_many(chunk.to_vec()).exec_without_returning(transaction).await?;
    }
    Ok(places.into_iter().filter(|(_, place)| place.parked).map(|(id, _)| id).collect())
}

/// Tells repeated publishes from reused request ids, by the events that were there first.
async fn fates(
    transaction: &DatabaseTransaction,
    entries: &[Entry],
    stored: &HashSet<EventId>,
) -> Result<Vec<Fate>, Error> {
    let mut first = HashMap::new();
    let known: Vec<_> = entries.iter().filter(|entry| !stored.contains(&entry.event.id)).collect();
    for chunk in known.chunks(ROWS_PER_STATEMENT) {
        let mut any = Condition::any();
        for entry in chunk {
            let request_id = entry.event.request_id.as_ref().map(RequestId::as_str);
            any = any.add(
                Condition::all()
                    .add(events::Column::TenantId.eq(entry.event.tenant.as_str()))
                    .add(events::Column::RequestId.eq(request_id)),
            );
        }
        let rows =
            events::Entity::find().select_only().columns(events::Column::iter()).filter(any).all(transaction);
        for row in rows.await? {
            first.insert((row.tenant_id.clone(), row.request_id.clone()), row);
        }
    }
    let fate = |entry: &Entry| {
        if stored.contains(&entry.event.id) {
            return Ok(Fate::Stored);
        }
        let request_id = entry.event.request_id.as_ref().map(|id| id.as_str().to_owned());
        let Some(first) = first.get(&(entry.event.tenant.as_str().to_owned(), request_id)) else {
            let cause = format!("{} was neither stored nor there before", entry.event.id);
            return Err(Error::Corrupt { table: "events", cause });
        };
        if first.fingerprint.as_deref() != entry.fingerprint.as_ref().map(|fingerprint| &fingerprint.0[..]) {
            return Ok(Fate::RequestIdReused);
        }
        Ok(Fate::Repeated {
            event: EventId::from_uuid(first.id),
            created_at: Timestamp::from_micros(first.created_at),
            delivery_count: u32::try_from(first.delivery_count).unwrap_or(0),
        })
    };
    entries.iter().map(fate).collect()
}
