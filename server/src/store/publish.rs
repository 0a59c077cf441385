//! Commits events together with their deliveries.
//!
//! A batch is committed [`at_once`] as long as nothing is unusual about it: no tenant that comes into being, no
//! request id that is known already, no ordering key, nothing to fan out later; on SQLite neither many rows nor a match table that is out of date. Whatever
//! is unusual goes step by step in a transaction.

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbBackend, DbErr, EntityTrait, Iterable, QueryFilter,
    QuerySelect, prelude::Uuid, sea_query::Query,
};

use self::{insert::NewDeliveries, owing::Owing};
use super::{
    Error, ROWS_PER_STATEMENT, STEP_TIMEOUT, Store,
    database::PUBLISH_CONNECTIONS,
    entity::{events, subscription_secrets, subscriptions},
    event_types, lanes, rows, sendable, tenants, within,
};
use crate::{
    domain::{
        catalogue::CataloguedType,
        event::{Fingerprint, NewEvent, RequestId},
        id::{EventId, SubscriptionUid, TenantId},
        secret::SecretSet,
        timestamp::Timestamp,
    },
    publish::{Batch, Commit, Entry, Fate, Interest, Interests, Journal, JournalError},
};

mod at_once;
pub(super) mod insert;
mod owing;

impl Journal for Store {
    async fn interests(&self, tenant: &TenantId) -> Result<Interests, JournalError> {
        Ok(within(STEP_TIMEOUT, self.read_interests(tenant)).await?)
    }

    async fn catalogue(&self) -> Result<(i64, Vec<CataloguedType>), JournalError> {
        Ok(within(STEP_TIMEOUT, self.whole_catalogue()).await?)
    }

    fn commits_at_once(&self) -> usize {
        match self.connections.backend() {
            // All its transactions are one behind the other, and the larger they are the better.
            DbBackend::Sqlite => 1,
            _ => PUBLISH_CONNECTIONS.into(),
        }
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit, JournalError> {
        Ok(within(STEP_TIMEOUT, self.commit_batch(batch)).await?)
    }
}

impl Store {
    async fn read_interests(&self, tenant: &TenantId) -> Result<Interests, Error> {
        let snapshot = self.connections.begin_snapshot().await?;
        let version = tenants::versions(&snapshot, [tenant]).await?.first().map(|(_, version)| *version);
        let catalogue_version = event_types::catalogue_version(&snapshot).await?;
        let rows = subscriptions::Entity::find()
            .filter(subscriptions::Column::TenantId.eq(tenant.as_str()))
            .filter(subscriptions::Column::DeletedAt.is_null())
            .filter(subscriptions::Column::DisabledAt.is_null())
            .all(&snapshot)
            .await?;
        let secrets = secrets_of(tenant).all(&snapshot).await?;
        snapshot.commit().await?;
        let mut secrets = rows::secrets(secrets, &self.keyring);
        let mut interest = |row: &subscriptions::Model| {
            let held = secrets.remove(&SubscriptionUid::from_uuid(row.uid));
            let secrets = held.unwrap_or_else(|| SecretSet::newest_first(Vec::new()));
            let target = rows::target(row, secrets, &self.keyring)?;
            let (filter, held) = (rows::wanted(row)?, sendable::is_held(row));
            Ok::<_, Error>(Interest { filter, target, held, program: None })
        };
        let mut interests = Interests {
            version,
            catalogue_version,
            subscriptions: Vec::with_capacity(rows.len()),
            unreadable: 0,
        };
        for row in rows {
            match interest(&row) {
                Ok(interest) => interests.subscriptions.push(interest),
                // One that cannot be read must not keep the tenant from publishing to the others.
                Err(cause) => {
                    interests.unreadable += 1;
                    tracing::error!(
                        cause = &cause as &dyn std::error::Error,
                        tenant.id = %tenant,
                        subscription.id = row.id,
                        "a subscription cannot be read and gets no events"
                    );
                }
            }
        }
        Ok(interests)
    }

    /// What becomes of an event that is only accepted if it was published before; none if it was not.
    pub async fn known(&self, event: &NewEvent) -> Result<Option<Fate>, Error> {
        let Some(request_id) = &event.request_id else {
            return Ok(None);
        };
        let find = async {
            Ok(events::Entity::find()
                .filter(events::Column::TenantId.eq(event.tenant.as_str()))
                .filter(events::Column::RequestId.eq(request_id.as_str()))
                .one(&self.connections.writer)
                .await?)
        };
        let first = within(STEP_TIMEOUT, find).await?;
        Ok(first.map(|first| fate_after(&first, Some(event.content.fingerprint()))))
    }

    async fn commit_batch(&self, batch: &Batch) -> Result<Commit, Error> {
        if let Some(commit) = at_once::commit(&self.connections, batch).await? {
            return Ok(commit);
        }
        let transaction = self.connections.begin_engine().await?;
        let stale = check_versions(&transaction, batch).await?;
        if !stale.is_empty() {
            transaction.rollback().await?;
            return Ok(Commit::Stale(stale));
        }
        let stored = insert_events(&transaction, &batch.entries).await?;
        let is_stored =
            |entry: &&Entry| stored.as_ref().is_none_or(|stored| stored.contains(&entry.event.id));
        let entries: Vec<_> = batch.entries.iter().filter(is_stored).collect();
        let Batch { due_at, leased_until, .. } = *batch;
        let Owing { at_once, parts, postponed } = Owing::of(&transaction, &entries).await?;
        let places = lanes::enter(&transaction, lanes::of(&at_once), due_at).await?;
        insert::PAYLOADS.insert(&transaction, insert::payloads(&entries)).await?;
        NewDeliveries::of(&at_once, &places, due_at, leased_until).insert(&transaction).await?;
        insert::FAN_OUTS.insert(&transaction, insert::fan_outs(&parts, due_at)).await?;
        let fates = match stored {
            None => vec![Fate::Stored; batch.entries.len()],
            Some(stored) => fates(&transaction, &batch.entries, &stored).await?,
        };
        transaction.commit().await?;
        let parked = lanes::parked(&places).chain(postponed).collect();
        Ok(Commit::Done { fates, parked, owes: !parts.is_empty() })
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

/// Inserts the events whose request id is new; returns which, unless it was all of them.
async fn insert_events(
    transaction: &DatabaseTransaction,
    entries: &[Entry],
) -> Result<Option<HashSet<EventId>>, DbErr> {
    let inserted = insert::EVENTS.insert(transaction, insert::events(entries)).await?;
    if inserted == entries.len() as u64 {
        return Ok(None);
    }
    let mut stored = HashSet::with_capacity(entries.len());
    for chunk in entries.chunks(ROWS_PER_STATEMENT) {
        let ids = events::Entity::find()
            .select_only()
            .column(events::Column::Id)
            .filter(events::Column::Id.is_in(chunk.iter().map(|entry| entry.event.id.uuid())))
            .into_tuple::<Uuid>();
        stored.extend(ids.all(transaction).await?.into_iter().map(EventId::from_uuid));
    }
    Ok(Some(stored))
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
        Ok(fate_after(first, entry.fingerprint))
    };
    entries.iter().map(fate).collect()
}

/// What becomes of an event whose request id the first one has.
fn fate_after(first: &events::Model, fingerprint: Option<Fingerprint>) -> Fate {
    if first.fingerprint.as_deref() != fingerprint.as_ref().map(|fingerprint| &fingerprint.0[..]) {
        return Fate::RequestIdReused;
    }
    Fate::Repeated {
        event: EventId::from_uuid(first.id),
        created_at: Timestamp::from_micros(first.created_at),
        delivery_count: u32::try_from(first.delivery_count).unwrap_or(0),
    }
}
