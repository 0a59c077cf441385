//! What attempts need beside their deliveries: events with their data, and subscriptions with their secrets.
//!
//! Rows are written by us, and retention spares what is pending; so one that is missing or does not say what it should is a defect, and
//! will be the same at the next claim. Whose it is is told the cause, and ends with it. The others must not suffer for it.
//!
//! A secret that does not open is none of that: this node may merely lack its key. The attempt fails as our defect, says so in
//! its record, and is repeated.

use std::{collections::HashMap, sync::Arc};

use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, prelude::Uuid};

use super::{
    Error,
    entity::{events, payloads, subscription_secrets, subscriptions},
    keyring::Keyring,
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
            let closed = uids.into_iter().filter(|uid| !targets.contains_key(uid));
            let closed = subscriptions::Entity::find().filter(subscriptions::Column::Uid.is_in(closed));
            if closed.one(connection).await?.is_some() {
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
    let rows =
        events::Entity::find().filter(events::Column::Id.is_in(ids.iter().copied())).all(connection).await?;
    let payloads =
        payloads::Entity::find().filter(payloads::Column::EventId.is_in(ids)).all(connection).await?;
    let mut data: HashMap<_, _> = payloads.into_iter().map(|row| (row.event_id, row.data)).collect();
    let read = |row: events::Model| {
        let (id, data) = (row.id, data.remove(&row.id));
        let read = |data| rows::event(row, Some(data)).map(Arc::new).map_err(Unreadable::from);
        (id, data.ok_or(Unreadable::Missing("payloads")).and_then(read))
    };
    Ok(rows.into_iter().map(read).collect())
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
        .filter(subscriptions::Column::Uid.is_in(uids.iter().copied()))
        .filter(condition)
        .all(connection)
        .await?;
    let secrets = subscription_secrets::Entity::find()
        .filter(subscription_secrets::Column::SubscriptionUid.is_in(uids))
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
