//! What events of a batch become deliveries with it, and which are owed theirs: to subscriptions beyond the first, or because they must
//! not pass an event with their ordering key that is being fanned out.
//!
//! Among the parts of its key, an event has a greater position than all that were committed before it looked. Of two that are committed at once,
//! neither of which was answered before the other came, either may be first.

use std::collections::{HashMap, HashSet};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement, Value, prelude::Uuid};

use crate::{
    domain::id::DeliveryId,
    publish::Entry,
    store::{ROWS_PER_STATEMENT, lanes::rows_of},
};

/// Deliveries of one event that are still to be made.
pub(super) struct NewPart<'a> {
    pub(super) entry: &'a Entry,
    /// Which part of the event's fan-out.
    pub(super) number: i32,
    /// Where the event stands among those with its ordering key.
    pub(super) position: Option<i64>,
    /// To whom.
    pub(super) to: Vec<Uuid>,
}

/// The events of a batch, by what becomes of their deliveries now.
#[derive(Default)]
pub(super) struct Owing<'a> {
    /// Events whose first deliveries come into being with them.
    pub(super) at_once: Vec<&'a Entry>,
    pub(super) parts: Vec<NewPart<'a>>,
    /// The deliveries that were to come into being with their events, and do not.
    pub(super) postponed: HashSet<DeliveryId>,
}

/// An ordering key of a tenant.
type Key = (String, String);

impl<'a> Owing<'a> {
    /// Sorts out the events of a batch, which are in the order of their publishing.
    pub(super) async fn of(transaction: &DatabaseTransaction, entries: &[&'a Entry]) -> Result<Self, DbErr> {
        let mut last = last_positions(transaction, entries).await?;
        let mut owing = Self::default();
        for &entry in entries {
            let key = key_of(entry);
            let before = key.as_ref().and_then(|key| last.get(key).copied());
            let mut parts: Vec<Vec<Uuid>> = Vec::new();
            if before.is_some() {
                owing.postponed.extend(entry.deliveries.iter().map(|delivery| delivery.id));
                // No more than a part has: the rest is owed anyway.
                let to: Vec<_> =
                    entry.deliveries.iter().map(|delivery| delivery.subscription.uuid()).collect();
                parts.extend((!to.is_empty()).then_some(to));
            } else {
                owing.at_once.push(entry);
            }
            parts.extend(entry.later.iter().map(|part| part.iter().map(|uid| uid.uuid()).collect()));
            if parts.is_empty() {
                continue;
            }
            let position = key.map(|key| {
                let position = before.map_or(1, |before| before + 1);
                last.insert(key, position);
                position
            });
            owing.parts.extend((0..).zip(parts).map(|(number, to)| NewPart { entry, number, position, to }));
        }
        Ok(owing)
    }
}

fn key_of(entry: &Entry) -> Option<Key> {
    let key = entry.event.content.handling.ordering_key.as_ref()?;
    Some((entry.event.tenant.as_str().to_owned(), key.as_str().to_owned()))
}

/// The last position of each of the events' ordering keys that has parts.
async fn last_positions(
    transaction: &DatabaseTransaction,
    entries: &[&Entry],
) -> Result<HashMap<Key, i64>, DbErr> {
    let keys: HashSet<_> = entries.iter().filter_map(|entry| key_of(entry)).collect();
    let keys: Vec<_> = keys.into_iter().collect();
    let mut last = HashMap::new();
    for chunk in keys.chunks(ROWS_PER_STATEMENT) {
        // Key by key: either database would read all parts of the tenant, or of the key, to find the last one of several.
        let sql = format!(
            "SELECT column1 AS tenant_id, column2 AS ordering_key, (
                 SELECT MAX(position) FROM fan_outs WHERE tenant_id = column1 AND ordering_key = column2
             ) AS position
             FROM ({}) AS v",
            rows_of(2, chunk.len())
        );
        let values: Vec<Value> = chunk.iter().flat_map(|(tenant, key)| [tenant.into(), key.into()]).collect();
        let look = Statement::from_sql_and_values(transaction.get_database_backend(), sql, values);
        for row in transaction.query_all_raw(look).await? {
            if let Some(position) = row.try_get::<Option<i64>>("", "position")? {
                let key = (row.try_get("", "tenant_id")?, row.try_get("", "ordering_key")?);
                last.insert(key, position);
            }
        }
    }
    Ok(last)
}
