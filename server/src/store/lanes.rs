//! Lanes: the deliveries to one subscription with one ordering key, which go out one after another.
//!
//! - **A row is the lock.** [`lock`] and [`enter`] hold the rows of `ordering_lanes` to the end of their transaction, always before
//!   rows of deliveries, and always in the order of [`Lane`], so that nobody waits in a circle. There is a row as long as
//!   something is pending in the lane: whoever ends the last of it takes the row away.
//! - **The first is due, the others are parked**: due [never](Timestamp::NEVER), so that they cost the claim nothing.
//!   Whoever ends a delivery of a lane [releases](release) the next one in the same transaction.
//! - **An attempt holds its lane, also when its delivery has ended**: an operator may cancel it, or its subscription be disabled, while its
//!   request is on the way. The lane is busy until that attempt [is over](attempts_over), at the latest when its lease is, and nobody goes
//!   before.
//! - **Positions, not clocks.** They are counted up under the lock, so the order of a lane is that in which deliveries were committed,
//!   whichever nodes took their events in. An event that is owed some of them gets behind all that were published before it.
//!
//! What has no ordering key comes by none of this. Nor does a delivery that was ended and is redelivered: it has lost its
//! place, and goes out beside its lane.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, FromQueryResult, Statement, Value, prelude::Uuid,
};

use super::{Error, ROWS_PER_STATEMENT, Store};
use crate::{
    domain::{
        handling::OrderingKey,
        id::{DeliveryId, SubscriptionUid},
        timestamp::Timestamp,
    },
    publish::{Entry, NewDelivery},
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
    /// Not due before: [never](Timestamp::NEVER) if it has to wait for others, later if an attempt may be under way.
    pub(super) waits_until: Option<Timestamp>,
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

/// The deliveries of events that stand in a lane, in the order of the events.
pub(super) fn of(entries: &[&Entry]) -> Vec<(DeliveryId, Lane)> {
    let mut in_lanes = Vec::new();
    for entry in entries {
        if let Some(key) = &entry.event.content.handling.ordering_key {
            let lane = |delivery: &NewDelivery| (delivery.id, Lane::new(delivery.subscription, key));
            in_lanes.extend(entry.deliveries.iter().map(lane));
        }
    }
    in_lanes
}

/// Those that have to wait.
pub(super) fn parked(places: &HashMap<DeliveryId, Place>) -> impl Iterator<Item = DeliveryId> {
    places.iter().filter(|(_, place)| place.waits_until.is_some()).map(|(id, _)| *id)
}

/// Gives new deliveries, in the order of their publishing, the last places of their lanes. Locks the lanes.
pub(super) async fn enter(
    transaction: &DatabaseTransaction,
    deliveries: Vec<(DeliveryId, Lane)>,
    now: Timestamp,
) -> Result<HashMap<DeliveryId, Place>, DbErr> {
    let mut by_lane: BTreeMap<Lane, Vec<DeliveryId>> = BTreeMap::new();
    for (delivery, lane) in deliveries {
        by_lane.entry(lane).or_default().push(delivery);
    }
    let mut places = HashMap::new();
    let lanes: Vec<_> = by_lane.keys().collect();
    for chunk in lanes.chunks(ROWS_PER_STATEMENT) {
        let ends = lengthen(transaction, chunk, &by_lane).await?;
        // Only now: under the lock nobody else adds to these lanes or ends what is in them.
        let occupied = occupied(transaction, chunk).await?;
        for &lane in chunk {
            let (deliveries, End { last_position, busy_until }) = (&by_lane[lane], ends[lane]);
            for (back, delivery) in deliveries.iter().rev().enumerate() {
                let first = back + 1 == deliveries.len() && !occupied.contains(lane);
                let position = last_position - i64::try_from(back).unwrap_or(i64::MAX);
                let waits_until =
                    if first { busy_until.filter(|until| now < *until) } else { Some(Timestamp::NEVER) };
                places.insert(*delivery, Place { position, waits_until });
            }
        }
    }
    Ok(places)
}

/// The end of a lane.
#[derive(Clone, Copy)]
struct End {
    last_position: i64,
    busy_until: Option<Timestamp>,
}

/// Makes room for what enters; returns where each lane ends.
async fn lengthen(
    transaction: &DatabaseTransaction,
    lanes: &[&Lane],
    entering: &BTreeMap<Lane, Vec<DeliveryId>>,
) -> Result<HashMap<Lane, End>, DbErr> {
    let mut values: Vec<Value> = Vec::with_capacity(lanes.len() * 3);
    for &lane in lanes {
        let count = i64::try_from(entering[lane].len()).unwrap_or(i64::MAX);
        values.extend([lane.subscription_uid.into(), lane.ordering_key.clone().into(), count.into()]);
    }
    let sql = format!(
        "INSERT INTO ordering_lanes (subscription_uid, ordering_key, last_position) {}
         ON CONFLICT (subscription_uid, ordering_key)
             DO UPDATE SET last_position = ordering_lanes.last_position + excluded.last_position
         RETURNING subscription_uid, ordering_key, last_position, busy_until",
        rows_of(3, lanes.len())
    );
    let mut ends = HashMap::with_capacity(lanes.len());
    for row in query(transaction, sql, values).await? {
        let busy_until: Option<i64> = row.try_get("", "busy_until")?;
        let end = End {
            last_position: row.try_get("", "last_position")?,
            busy_until: busy_until.map(Timestamp::from_micros),
        };
        ends.insert(Lane::from_query_result(&row, "")?, end);
    }
    Ok(ends)
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
        // Locks are taken in the order of the rows, which is ours as well.
        let sql = format!(
            "SELECT last_position FROM ordering_lanes WHERE (subscription_uid, ordering_key) IN ({})
             ORDER BY subscription_uid, ordering_key FOR UPDATE",
            table_of(chunk.len())
        );
        query(transaction, sql, names(chunk.iter().copied())).await?;
    }
    Ok(())
}

/// Says that attempts are over that keep these lanes busy until the ends of their leases, if they do. The caller holds the lanes'
/// locks, and releases them.
pub(super) async fn attempts_over(
    transaction: &DatabaseTransaction,
    leases: &[(Lane, Timestamp)],
) -> Result<(), DbErr> {
    let backend = transaction.get_database_backend();
    let busy = busy(transaction, leases.iter().map(|(lane, _)| lane).collect()).await?;
    // Claims that were taken together have one lease. So this may be that of another delivery with the key, if one was redelivered, which goes
    // beside its lane, and both were cancelled.
    for (lane, leased_until) in leases.iter().filter(|(lane, until)| busy.get(lane) == Some(until)) {
        let Lane { subscription_uid, ordering_key } = lane;
        let lease =
            [(*subscription_uid).into(), ordering_key.as_str().into(), leased_until.as_micros().into()];
        let free = "UPDATE ordering_lanes SET busy_until = NULL
            WHERE subscription_uid = $1 AND ordering_key = $2 AND busy_until = $3";
        transaction.execute_raw(Statement::from_sql_and_values(backend, free, lease.clone())).await?;
        let park = format!(
            "UPDATE pending_deliveries SET due_at = {}
             WHERE subscription_uid = $1 AND ordering_key = $2 AND due_at = $3 AND attempt_count = 0
                 AND position IS NOT NULL",
            Timestamp::NEVER.as_micros()
        );
        transaction.execute_raw(Statement::from_sql_and_values(backend, park, lease)).await?;
    }
    Ok(())
}

/// Until when these lanes are kept busy by attempts whose deliveries have ended, where they are.
pub(super) async fn busy(
    transaction: &DatabaseTransaction,
    lanes: BTreeSet<&Lane>,
) -> Result<HashMap<Lane, Timestamp>, DbErr> {
    let mut busy = HashMap::new();
    let lanes: Vec<_> = lanes.into_iter().collect();
    for chunk in lanes.chunks(ROWS_PER_STATEMENT) {
        let sql = format!(
            "SELECT subscription_uid, ordering_key, busy_until FROM ordering_lanes
             WHERE (subscription_uid, ordering_key) IN ({}) AND busy_until IS NOT NULL",
            table_of(chunk.len())
        );
        for row in query(transaction, sql, names(chunk.iter().copied())).await? {
            let until = Timestamp::from_micros(row.try_get("", "busy_until")?);
            busy.insert(Lane::from_query_result(&row, "")?, until);
        }
    }
    Ok(busy)
}

/// Makes the first of what is pending in these lanes due, if it is parked, and takes away the lanes in which nothing is. The
/// caller holds their locks. Returns how many deliveries wait for nobody any more.
pub(super) async fn release(
    transaction: &DatabaseTransaction,
    lanes: &BTreeSet<Lane>,
    now: Timestamp,
) -> Result<u64, DbErr> {
    let backend = transaction.get_database_backend();
    let later = later(backend);
    let mut released = 0;
    let lanes: Vec<_> = lanes.iter().collect();
    for chunk in lanes.chunks(ROWS_PER_STATEMENT) {
        let keys = chunk.len() * 2;
        let sql = format!(
            "UPDATE pending_deliveries SET due_at = {later}(
                 ${},
                 COALESCE((SELECT deliver_at FROM events WHERE events.id = pending_deliveries.event_id), 0),
                 COALESCE((
                     SELECT busy_until FROM ordering_lanes AS lane
                     WHERE lane.subscription_uid = pending_deliveries.subscription_uid
                         AND lane.ordering_key = pending_deliveries.ordering_key
                 ), 0)
             )
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
                 AND (SELECT p.position {HEAD}) IS NULL AND COALESCE(busy_until, 0) <= ${}",
            table_of(chunk.len()),
            keys + 1
        );
        let mut values = names(chunk.iter().copied());
        values.push(now.as_micros().into());
        let statement = Statement::from_sql_and_values(backend, sql, values);
        transaction.execute_raw(statement).await?;
    }
    Ok(released)
}

/// The function that tells the later of some times.
pub(super) const fn later(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Sqlite => "MAX",
        _ => "GREATEST",
    }
}

impl Store {
    /// Releases lanes whose first delivery is parked, or in which nothing is. There should be none: whoever ends a delivery
    /// releases the next. Returns how many there were. Takes away the lanes that were busy last and have been empty since.
    pub async fn release_stuck_lanes(&self, now: Timestamp) -> Result<usize, Error> {
        let mut stuck = 0;
        loop {
            let Mended { lanes, stuck: more } = self.release_idle_lanes(now).await?;
            stuck += more;
            if lanes < ROWS_PER_STATEMENT {
                return Ok(stuck);
            }
        }
    }

    /// Releases a batch of them.
    async fn release_idle_lanes(&self, now: Timestamp) -> Result<Mended, Error> {
        let find = Statement::from_sql_and_values(
            self.connections.backend(),
            format!(
                "SELECT subscription_uid, ordering_key,
                     busy_until IS NOT NULL AND (SELECT p.due_at {HEAD}) IS NULL AS was_busy
                 FROM ordering_lanes AS lane
                 WHERE COALESCE((SELECT p.due_at {HEAD}), $1) = $1 AND COALESCE(busy_until, 0) <= $2
                 LIMIT {ROWS_PER_STATEMENT}"
            ),
            [Timestamp::NEVER.as_micros().into(), now.as_micros().into()],
        );
        let (mut idle, mut stuck) = (BTreeSet::new(), 0);
        for row in self.connections.keeper.query_all_raw(find).await? {
            let was_busy: bool = row.try_get("", "was_busy")?;
            stuck += usize::from(!was_busy);
            idle.insert(Lane::from_query_result(&row, "")?);
        }
        if !idle.is_empty() {
            let transaction = self.connections.begin().await?;
            lock(&transaction, &idle).await?;
            release(&transaction, &idle, now).await?;
            transaction.commit().await?;
        }
        Ok(Mended { lanes: idle.len(), stuck })
    }
}

/// Lanes that nothing went on in.
struct Mended {
    lanes: usize,
    /// How many of them somebody had forgotten.
    stuck: usize,
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
