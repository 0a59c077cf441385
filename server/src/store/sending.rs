//! Reads what attempts need: events with their data, and where they go.

use std::{collections::HashMap, sync::Arc};

use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, prelude::Uuid};

use super::{
    Error,
    entity::{events, payloads, subscription_secrets, subscriptions},
    keyring::Keyring,
    rows,
};
use crate::domain::{claim::Target, event::Event, id::SubscriptionUid, secret::SecretSet};

/// These events, with their data. One that cannot be read is missed.
pub(super) async fn events(
    connection: &impl ConnectionTrait,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Arc<Event>>, Error> {
    let ids = distinct(ids);
    let rows =
        events::Entity::find().filter(events::Column::Id.is_in(ids.iter().copied())).all(connection).await?;
    let payloads =
        payloads::Entity::find().filter(payloads::Column::EventId.is_in(ids)).all(connection).await?;
    let mut data: HashMap<_, _> = payloads.into_iter().map(|row| (row.event_id, row.data)).collect();
    let mut found = HashMap::new();
    for row in rows {
        if let Some(data) = data.remove(&row.id) {
            let id = row.id;
            if let Ok(event) = rows::event(row, Some(data)) {
                found.insert(id, Arc::new(event));
            }
        }
    }
    Ok(found)
}

/// Those of these subscriptions that meet a condition. One that cannot be read is missed.
pub(super) async fn targets(
    connection: &impl ConnectionTrait,
    keyring: &Keyring,
    uids: impl Iterator<Item = Uuid>,
    condition: Condition,
) -> Result<HashMap<Uuid, Arc<Target>>, Error> {
    let uids = distinct(uids);
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
    let mut found = HashMap::new();
    for row in rows {
        // Without a secret the attempt fails as our defect, and says so in its record.
        let held = secrets
            .remove(&SubscriptionUid::from_uuid(row.uid))
            .unwrap_or_else(|| SecretSet::newest_first(Vec::new()));
        // One that cannot be read is missed by its claims alone, which say so.
        if let Ok(target) = rows::target(&row, held) {
            found.insert(row.uid, target);
        }
    }
    Ok(found)
}

fn distinct(ids: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
