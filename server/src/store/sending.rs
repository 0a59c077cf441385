//! What attempts need beside their deliveries: events with their data, and subscriptions with their secrets.
//!
//! Rows are written by us, and retention spares what is pending; so one that is missing or does not say what it should is a defect, and
//! will be the same at the next claim. Whose it is is told the cause, and ends with it. The others must not suffer for it.
//!
//! A secret that does not open is none of that: this node may merely lack its key. The attempt fails as our defect, says so in
//! its record, and is repeated.

use std::{collections::HashMap, sync::Arc};

use sea_orm::{
    Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect, prelude::Uuid, sea_query::Expr,
};

use super::{
    Error,
    entity::{events, payloads, subscription_secrets, subscriptions},
    keyring::Keyring,
    lookup::is_among,
    rows, sendable,
};
use crate::domain::{claim::Target, event::Event, id::SubscriptionUid, secret::SecretSet};

/// Why nobody will ever be able to send a delivery.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it has no row in {0}")]
    Missing(&'static str),
    #[error(transparent)]
    Corrupt(Arc<Error>),
}

/// What was read, by the ids that deliveries name.
pub(super) struct Contents {
    events: HashMap<Uuid, Result<Arc<Event>, Unreadable>>,
    targets: HashMap<Uuid, Result<Arc<Target>, Unreadable>>,
}

impl Contents {
    /// Reads what deliveries of these events to these subscriptions need, which may be sent to; `None` if one of them no longer may: it was
    /// changed after it was found, and what would be read of it is not what was judged.
    pub(super) async fn read(
        connection: &impl ConnectionTrait,
        keyring: &Keyring,
        event_ids: impl Iterator<Item = Uuid>,
        subscriptions: impl Iterator<Item = Uuid>,
    ) -> Result<Option<Self>, Error> {
        let uids = once_each(subscriptions);
        let targets = targets(connection, keyring, uids.iter().copied(), sendable::condition()).await?;
        if targets.len() < uids.len() {
            let closed = uids.into_iter().filter(|uid| !targets.contains_key(uid)).collect();
            let are_there = is_among(connection, subscriptions::Column::Uid, closed);
            if subscriptions::Entity::find().filter(are_there).one(connection).await?.is_some() {
                return Ok(None);
            }
        }
        Ok(Some(Self { events: events(connection, event_ids).await?, targets }))
    }

    /// What one delivery needs.
    pub(super) fn of(
        &self,
        event: Uuid,
        subscription: Uuid,
    ) -> Result<(Arc<Event>, Arc<Target>), Unreadable> {
        let event = self.events.get(&event).cloned().unwrap_or(Err(Unreadable::Missing("events")))?;
        let target =
            self.targets.get(&subscription).cloned().unwrap_or(Err(Unreadable::Missing("subscriptions")))?;
        Ok((event, target))
    }
}

fn once_each(ids: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl From<Error> for Unreadable {
    fn from(cause: Error) -> Self {
        Self::Corrupt(Arc::new(cause))
    }
}

/// These events, with their data.
pub(super) async fn events(
    connection: &impl ConnectionTrait,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Result<Arc<Event>, Unreadable>>, Error> {
    let ids = once_each(ids);
    let are_asked_for = is_among(connection, events::Column::Id, ids.clone());
    let rows = events::Entity::find().filter(are_asked_for).all(connection).await?;
    let are_theirs = is_among(connection, payloads::Column::EventId, ids);
    let payloads = payloads::Entity::find().filter(are_theirs).all(connection).await?;
    let mut data: HashMap<_, _> = payloads.into_iter().map(|row| (row.event_id, row.data)).collect();
    let read = |row: events::Model| {
        let (id, data) = (row.id, data.remove(&row.id));
        let read = |data| rows::event(row, Some(data)).map(Arc::new).map_err(Unreadable::from);
        (id, data.ok_or(Unreadable::Missing("payloads")).and_then(read))
    };
    Ok(rows.into_iter().map(read).collect())
}

/// How many bytes the data of these events has, without reading it.
pub(super) async fn sizes(
    connection: &impl ConnectionTrait,
    events: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, usize>, DbErr> {
    let are_theirs = is_among(connection, payloads::Column::EventId, once_each(events));
    let sizes = payloads::Entity::find()
        .select_only()
        .column(payloads::Column::EventId)
        .expr_as(Expr::cust("length(data)"), "size")
        .filter(are_theirs)
        .into_tuple::<(Uuid, i32)>();
    let size = |(event, size): (Uuid, i32)| (event, usize::try_from(size).unwrap_or(0));
    Ok(sizes.all(connection).await?.into_iter().map(size).collect())
}

/// Those of these subscriptions that meet a condition.
pub(super) async fn targets(
    connection: &impl ConnectionTrait,
    keyring: &Keyring,
    uids: impl Iterator<Item = Uuid>,
    condition: Condition,
) -> Result<HashMap<Uuid, Result<Arc<Target>, Unreadable>>, Error> {
    let uids = once_each(uids);
    let rows = subscriptions::Entity::find()
        .filter(is_among(connection, subscriptions::Column::Uid, uids.clone()))
        .filter(condition)
        .all(connection)
        .await?;
    let secrets = subscription_secrets::Entity::find()
        .filter(is_among(connection, subscription_secrets::Column::SubscriptionUid, uids))
        .all(connection)
        .await?;
    let mut secrets = rows::secrets(secrets, keyring);
    let read = |row: subscriptions::Model| {
        let held = secrets
            .remove(&SubscriptionUid::from_uuid(row.uid))
            .unwrap_or_else(|| SecretSet::newest_first(Vec::new()));
        (row.uid, rows::target(&row, held, keyring).map_err(Unreadable::from))
    };
    Ok(rows.into_iter().map(read).collect())
}
