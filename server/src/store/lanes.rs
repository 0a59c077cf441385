//! Lanes: the deliveries to one subscription with one ordering key, which go out one after another.
//!
//! - **A row is the lock.** [`lock`] and [`enter`] hold the rows of `ordering_lanes` to the end of their transaction, always before
//!   rows of deliveries, and always in the order of [`Lane`], so that nobody waits in a circle. There is a row as long as
//!   something is pending in the lane: whoever ends the last of it takes the row away.
//! - **The first is due, the others are parked**: due [never](Timestamp::NEVER), so that they cost the claim nothing.
//!   Whoever ends a delivery of a lane [releases](release) the next one in the same transaction.
//! - **Positions, not clocks.** They are counted up under the lock, so the order of a lane is that in which publishes were
//!   committed, whichever nodes took them in.
//!
//! What has no ordering key comes by none of this. Nor does a delivery that was ended and is redelivered: it has lost its
//! place, and goes out beside its lane.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, FromQueryResult, Statement, Value, prelude::Uuid,
};

use super::{Error, ROWS_PER_STATEMENT, Store};
use crate::domain::{
    handling::OrderingKey,
    id::{DeliveryId, SubscriptionUid},
    timestamp::Timestamp,
};

/// Finds the first of what is pending in the lane `(subscription_uid, ordering_key)` of the table `lane`.
const HEAD: &str = "FROM pending_deliveries AS p
    WHERE p.subscription_uid = lane.subscription_uid AND p.ordering_key = lane.ordering_key
        AND p.position IS NOT NULL
    ORDER BY p.position LIMIT 1";

/// Tells a lane apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, FromQueryResult)]
pub(super) struct Lane {
    subscription_uid: Uuid,
    ordering_key: String,
}

/// Where a new delivery stands in its lane.
pub(super) struct Place {
    pub(super) position: i64,
    /// Whether it has to wait for others.
    pub(super) parked: bool,
}

impl Lane {
    pub(super) fn new(subscription: SubscriptionUid, key: &OrderingKey) -> Self {
        Self { subscription_uid: subscription.uuid(), ordering_key: key.as_str().to_owned() }
    }

    /// The lane of a delivery's row; none if it stands in none.
    pub(super) fn of_row(subscription_uid: Uuid, key: Option<String>, position: Option<i64>) -> Option<Self> {
        position.and(key).map(|ordering_key| Self { subscription_uid, ordering_key })
    }
}

/// Gives new deliveries, in the order of their publishing, the last places of their lanes. Locks the lanes.
pub(super) async fn enter(
    transaction: &DatabaseTransaction,
    deliveries: Vec<(DeliveryId, Lane)>,
) -> Result<HashMap<DeliveryId, Place>, DbErr> {
    let mut by_lane: BTreeMap<Lane, Vec<DeliveryId>> = BTreeMap::new();
    for (delivery, lane) in deliveries {
        by_lane.entry(lane).or_default().push(delivery);
    }
    let mut places = HashMap::new();
    let lanes: Vec<_> = by_lane.keys().collect();
    for chunk in lanes.chunks(ROWS_PER_STATEMENT) {
        let last_positions = lengthen(transaction, chunk, &by_lane).await?;
        // Only now: under the lock nobody else adds to these lanes or ends what is in them.
        let occupied = occupied(transaction, chunk).await?;
        for &lane in chunk {
            let (deliveries, last) = (&by_lane[lane], last_positions[lane]);
            for (back, delivery) in deliveries.iter().rev().enumerate() {
                let first = back + 1 == deliveries.len() && !occupied.contains(lane);
                let position = last - i64::try_from(back).unwrap_or(i64::MAX);
                places.insert(*delivery, Place { position, parked: !first });
            }
        }
    }
    Ok(places)
}

/// Makes room for what enters; returns the last position of each lane.
async fn lengthen(
    transaction: &DatabaseTransaction,
    lanes: &[&Lane],
    entering: &BTreeMap<Lane, Vec<DeliveryId>>,
) -> Result<HashMap<Lane, i64>, DbErr> {
    let mut values: Vec<Value> = Vec::with_capacity(lanes.len() * 3);
    for &lane in lanes {
        let count = i64::try_from(entering[lane].len()).unwrap_or(i64::MAX);
        values.extend([lane.subscription_uid.into(), lane.ordering_key.clone().into(), count.into()]);
    }
    let sql = format!(
        "INSERT INTO ordering_lanes (subscription_uid, ordering_key, last_position) {}
         ON CONFLICT (subscription_uid, ordering_key)
             DO UPDATE SET last_position = ordering_lanes.last_position + excluded.last_position
         RETURNING subscription_uid, ordering_key, last_position",
        rows_of(3, lanes.len())
    );
    let mut last_positions = HashMap::with_capacity(lanes.len());
    for row in query(transaction, sql, values).await? {
        last_positions.insert(Lane::from_query_result(&row, "")?, row.try_get("", "last_position")?);
    }
    Ok(last_positions)
}

/// Those of these lanes in which something is pending.
async fn occupied(transaction: &DatabaseTransaction, lanes: &[&Lane]) -> Result<HashSet<Lane>, DbErr> {
    let sql = format!(
        "SELECT subscription_uid, ordering_key FROM ({}) AS lane WHERE (SELECT p.position {HEAD}) IS NOT NULL",
        table_of(lanes.len())
    );
    let rows = query(transaction, sql, names(lanes.iter().copied())).await?;
    rows.iter().map(|row| Lane::from_query_result(row, "")).collect()
}

/// Locks lanes to the end of the transaction. One that has no row has nothing pending in it, and needs no lock.
pub(super) async fn lock(transaction: &DatabaseTransaction, lanes: &BTreeSet<Lane>) -> Result<(), DbErr> {
    // A transaction of SQLite that writes is alone anyway.
    if transaction.get_database_backend() == DbBackend::Sqlite {
        return Ok(());
    }
    let lanes: Vec<_> = lanes.iter().collect();
    for chunk in lanes.chunks(ROWS_PER_STATEMENT) {
        // Locks are taken in the order of the rows, which is ours as well: the bytes of the key, whatever the database's collation.
        let sql = format!(
            r#"SELECT last_position FROM ordering_lanes WHERE (subscription_uid, ordering_key) IN ({})
               ORDER BY subscription_uid, ordering_key COLLATE "C" FOR UPDATE"#,
            table_of(chunk.len())
        );
        query(transaction, sql, names(chunk.iter().copied())).await?;
    }
    Ok(())
}

/// Makes the first of what is pending in these lanes due, if it is parked, and takes away the lanes in which nothing is. The
/// caller holds their locks. Returns how many deliveries are due that were not.
pub(super) async fn release(
    transaction: &DatabaseTransaction,
    lanes: &BTreeSet<Lane>,
    now: Timestamp,
) -> Result<u64, DbErr> {
    let backend = transaction.get_database_backend();
    let later = match backend {
        DbBackend::Sqlite => "MAX",
        _ => "GREATEST",
    };
    let mut released = 0;
    let lanes: Vec<_> = lanes.iter().collect();
    for chunk in lanes.chunks(ROWS_PER_STATEMENT) {
        let keys = chunk.len() * 2;
        let sql = format!(
            "UPDATE pending_deliveries SET due_at = {later}(${}, COALESCE(
                 (SELECT deliver_at FROM events WHERE events.id = pending_deliveries.event_id), 0
             ))
             WHERE due_at = ${} AND id IN (
                 SELECT (SELECT p.id {HEAD}) FROM ({}) AS lane
             )",
            keys + 1,
            keys + 2,
            table_of(chunk.len())
        );
        let mut values = names(chunk.iter().copied());
        values.extend([now.as_micros().into(), Timestamp::NEVER.as_micros().into()]);
        let statement = Statement::from_sql_and_values(backend, sql, values);
        released += transaction.execute_raw(statement).await?.rows_affected();
        let sql = format!(
            "DELETE FROM ordering_lanes AS lane WHERE (subscription_uid, ordering_key) IN ({})
                 AND (SELECT p.position {HEAD}) IS NULL",
            table_of(chunk.len())
        );
        let statement = Statement::from_sql_and_values(backend, sql, names(chunk.iter().copied()));
        transaction.execute_raw(statement).await?;
    }
    Ok(released)
}

impl Store {
    /// Releases lanes whose first delivery is parked, or in which nothing is. There should be none: whoever ends a delivery
    /// releases the next. Returns how many there were, up to a batch.
    pub async fn release_stuck_lanes(&self, now: Timestamp) -> Result<usize, Error> {
        let find = Statement::from_sql_and_values(
            self.connections.backend(),
            format!(
                "SELECT subscription_uid, ordering_key FROM ordering_lanes AS lane
                 WHERE COALESCE((SELECT p.due_at {HEAD}), $1) = $1 LIMIT $2"
            ),
            [
                Timestamp::NEVER.as_micros().into(),
                i64::try_from(ROWS_PER_STATEMENT).unwrap_or(i64::MAX).into(),
            ],
        );
        let stuck = Lane::find_by_statement(find).all(&self.connections.reader).await?;
        if stuck.is_empty() {
            return Ok(0);
        }
        let stuck: BTreeSet<_> = stuck.into_iter().collect();
        let transaction = self.connections.begin().await?;
        lock(&transaction, &stuck).await?;
        release(&transaction, &stuck, now).await?;
        transaction.commit().await?;
        Ok(stuck.len())
    }
}

/// `VALUES` with so many rows of parameters, from `$1` on.
pub(super) fn rows_of(columns: usize, rows: usize) -> String {
    let row = |row: usize| {
        let columns: Vec<_> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", columns.join(","))
    };
    format!("VALUES {}", (0..rows).map(row).collect::<Vec<_>>().join(","))
}

/// A query for so many [`names`] of lanes. SQLite finds rows by an index if they are `IN` such a query, and not if they are `IN` bare values.
fn table_of(lanes: usize) -> String {
    format!("SELECT column1 AS subscription_uid, column2 AS ordering_key FROM ({}) AS v", rows_of(2, lanes))
}

fn names<'a>(lanes: impl Iterator<Item = &'a Lane>) -> Vec<Value> {
    lanes.flat_map(|lane| [lane.subscription_uid.into(), lane.ordering_key.clone().into()]).collect()
}

async fn query(
    transaction: &DatabaseTransaction,
    sql: String,
    values: Vec<Value>,
) -> Result<Vec<sea_orm::QueryResult>, DbErr> {
    let backend = transaction.get_database_backend();
    transaction.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await
}
