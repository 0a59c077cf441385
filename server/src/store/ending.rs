//! Ends deliveries without an attempt: those of subscriptions that have ended, those that have expired, those that nobody can
//! read, and those that an operator cancels.
//!
//! Who finds deliveries to end names them, and they are judged again when their rows are locked.

use std::collections::BTreeSet;

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, FromQueryResult, Statement, Value, prelude::Uuid,
};

use super::{
    Error, Store, codes,
    lanes::{self, Lane},
};
use crate::domain::{delivery::EndReason, id::DeliveryId, timestamp::Timestamp};

/// How many deliveries one transaction ends.
pub(super) const BATCH: i64 = 1_000;

/// How deliveries are to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// Why.
    pub(super) reason: EndReason,
    /// What must be true of each in the queue, in SQL; `$1` is the time.
    pub(super) condition: &'static str,
    /// How many of the attempts that were begun do not count, because none was made.
    pub(super) uncounted: i32,
}

/// Whether an attempt may be under way at `$1`: one was begun, its lease is not over, and it has no record.
macro_rules! under_way {
    () => {
        "(attempt_count > 0 AND due_at > $1 AND NOT EXISTS (
            SELECT 1 FROM attempts WHERE delivery_id = pending_deliveries.id AND number = pending_deliveries.attempt_count
        ))"
    };
}

/// The end of what has expired at `$1` and no attempt is under way at. One that is under way may still succeed; it is
/// judged when it is settled, or claimed again.
const EXPIRED: Ending = Ending {
    reason: EndReason::Expired,
    condition: concat!("expire_at <= $1 AND NOT ", under_way!()),
    uncounted: 0,
};

/// A pending delivery that may be about to end.
#[derive(Debug, FromQueryResult)]
pub(super) struct Waiting {
    id: Uuid,
    subscription_uid: Uuid,
    ordering_key: Option<String>,
    position: Option<i64>,
}

/// What a [`Waiting`] is made of.
pub(super) const WAITING: &str = "id, subscription_uid, ordering_key, position";

impl Waiting {
    fn lane(&self) -> Option<Lane> {
        Lane::of_row(self.subscription_uid, self.ordering_key.clone(), self.position)
    }
}

/// Those of these deliveries that are pending.
pub(super) async fn pending(
    connection: &impl ConnectionTrait,
    ids: &[DeliveryId],
) -> Result<Vec<Waiting>, DbErr> {
    let mut values = Vec::with_capacity(ids.len());
    let places = parameters(&mut values, ids.iter().map(|id| id.uuid()));
    let sql = format!("SELECT {WAITING} FROM pending_deliveries WHERE id IN ({places})");
    let find = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    Waiting::find_by_statement(find).all(connection).await
}

impl Store {
    /// Ends up to a batch of deliveries that have expired and are not due, or whose subscription is paused. Returns how many.
    pub async fn expire(&self, now: Timestamp) -> Result<u64, Error> {
        let find = Statement::from_sql_and_values(
            self.connections.backend(),
            format!(
                "SELECT {WAITING} FROM pending_deliveries WHERE expire_at IS NOT NULL AND {}
                 ORDER BY expire_at LIMIT {BATCH}",
                EXPIRED.condition
            ),
            [now.as_micros().into()],
        );
        let expired = Waiting::find_by_statement(find).all(&self.connections.keeper).await?;
        Ok(self.end(expired, EXPIRED, now).await?)
    }

    /// Ends those of these deliveries that are pending and meet the condition. Returns how many.
    pub(super) async fn end(
        &self,
        waiting: Vec<Waiting>,
        Ending { reason, condition, uncounted }: Ending,
        now: Timestamp,
    ) -> Result<u64, DbErr> {
        if waiting.is_empty() {
            return Ok(0);
        }
        let backend = self.connections.backend();
        // Those that are being settled at this moment are left to the next time: waiting for them, and they for us, is a deadlock.
        let lock = match backend {
            DbBackend::Sqlite => "",
            _ => "FOR UPDATE SKIP LOCKED",
        };
        let mut values: Vec<Value> = vec![now.as_micros().into()];
        let ids = parameters(&mut values, waiting.iter().map(|waiting| waiting.id));
        // A database wants to know the type of a parameter that a condition does without.
        let sql = format!(
            "SELECT {WAITING} FROM pending_deliveries
             WHERE id IN ({ids}) AND {condition} AND CAST($1 AS bigint) IS NOT NULL {lock}"
        );
        let transaction = self.connections.begin().await?;
        lanes::lock(&transaction, &waiting.iter().filter_map(Waiting::lane).collect()).await?;
        let find = Statement::from_sql_and_values(backend, sql, values);
        let ended = Waiting::find_by_statement(find).all(&transaction).await?;
        close(&transaction, ended.iter().map(|ended| ended.id), reason, uncounted, now).await?;
        let left: BTreeSet<_> = ended.iter().filter_map(Waiting::lane).collect();
        lanes::release(&transaction, &left, now).await?;
        transaction.commit().await?;
        Ok(ended.len() as u64)
    }
}

/// Says of deliveries how they ended, and takes them out of the queue. Their lanes and their rows there are locked.
pub(super) async fn close(
    transaction: &DatabaseTransaction,
    ids: impl ExactSizeIterator<Item = Uuid> + Clone,
    reason: EndReason,
    uncounted: i32,
    at: Timestamp,
) -> Result<(), DbErr> {
    if ids.len() == 0 {
        return Ok(());
    }
    // Of those whose attempts do not count none was made.
    if uncounted == 0 {
        keep_lanes_busy(transaction, ids.clone(), at).await?;
    }
    let mut values: Vec<Value> = vec![
        at.as_micros().into(),
        codes::status_code(reason.status()).into(),
        codes::end_reason_code(reason).into(),
        uncounted.into(),
    ];
    let places = parameters(&mut values, ids.clone());
    // An attempt may be under way that nobody waits for any more, until its lease is over; where it has a record, it is not.
    let update = format!(
        "UPDATE deliveries SET state = $2, end_reason = $3, ended_at = $1,
             (attempt_count, leased_until, last_traceparent) = (
                 SELECT p.attempt_count - $4, CASE WHEN p.attempt_count > $4 THEN p.due_at END, p.last_traceparent
                 FROM pending_deliveries AS p WHERE p.id = deliveries.id
             )
         WHERE id IN ({places})"
    );
    let backend = transaction.get_database_backend();
    let update = Statement::from_sql_and_values(backend, update, values);
    let updated = transaction.execute_raw(update).await?.rows_affected();
    if updated != ids.len() as u64 {
        let missing = ids.len() as u64 - updated;
        tracing::error!(missing, "deliveries that are not kept were in the queue, and leave it");
    }
    let mut values = Vec::with_capacity(ids.len());
    let places = parameters(&mut values, ids);
    let delete = format!("DELETE FROM pending_deliveries WHERE id IN ({places})");
    transaction.execute_raw(Statement::from_sql_and_values(backend, delete, values)).await?;
    Ok(())
}

/// Lets nobody go in the lanes of these deliveries before the leases of attempts that may be under way are over.
async fn keep_lanes_busy(
    transaction: &DatabaseTransaction,
    ids: impl Iterator<Item = Uuid>,
    now: Timestamp,
) -> Result<(), DbErr> {
    let backend = transaction.get_database_backend();
    let later = lanes::later(backend);
    let mut values: Vec<Value> = vec![now.as_micros().into()];
    let ids = parameters(&mut values, ids);
    let under_way = under_way!();
    let sql = format!(
        "UPDATE ordering_lanes SET busy_until = {later}(COALESCE(busy_until, 0), ended.leased_until)
         FROM (
             SELECT subscription_uid, ordering_key, MAX(due_at) AS leased_until FROM pending_deliveries
             WHERE id IN ({ids}) AND position IS NOT NULL AND {under_way}
             GROUP BY subscription_uid, ordering_key
         ) AS ended
         WHERE ordering_lanes.subscription_uid = ended.subscription_uid
             AND ordering_lanes.ordering_key = ended.ordering_key"
    );
    transaction.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    Ok(())
}

/// Adds ids to the values of a statement; returns their places in it, with commas.
pub(super) fn parameters(values: &mut Vec<Value>, ids: impl Iterator<Item = impl Into<Value>>) -> String {
    let mut places = Vec::new();
    for id in ids {
        values.push(id.into());
        places.push(format!("${}", values.len()));
    }
    places.join(",")
}
