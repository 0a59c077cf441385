//! Ends deliveries that nobody sends: those of subscriptions that have ended, those that have expired, and those that nobody can
//! read.
//!
//! All go in batches: whoever finds deliveries to end names them, and they are judged again when their rows are locked.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement, Value, prelude::Uuid};

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
    /// What must be true of each, in SQL; `$1` is the time.
    pub(super) condition: &'static str,
    /// What else changes of each, in SQL that begins with a comma.
    pub(super) also_set: &'static str,
}

/// The end of what has expired at `$1` and no attempt is under way at. One that is under way may still succeed; it is
/// judged when it is settled, or claimed again.
const EXPIRED: Ending = Ending {
    reason: EndReason::Expired,
    condition: "expire_at <= $1 AND NOT (
        attempt_count > 0 AND due_at > $1 AND NOT EXISTS (
            SELECT 1 FROM attempts WHERE delivery_id = deliveries.id AND number = deliveries.attempt_count
        ))",
    also_set: "",
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
pub(super) const WAITING: &str = "deliveries.id, subscription_uid, ordering_key, position";

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
    let places: Vec<_> = (1..=ids.len()).map(|n| format!("${n}")).collect();
    let sql =
        format!("SELECT {WAITING} FROM deliveries WHERE id IN ({}) AND state + 0 = 0", places.join(","));
    let ids = ids.iter().map(|id| Value::from(id.uuid()));
    let find = Statement::from_sql_and_values(connection.get_database_backend(), sql, ids);
    Waiting::find_by_statement(find).all(connection).await
}

impl Store {
    /// Ends up to a batch of deliveries that have expired and are not due, or whose subscription is paused. Returns how many.
    pub async fn expire(&self, now: Timestamp) -> Result<u64, Error> {
        let find = Statement::from_sql_and_values(
            self.connections.backend(),
            format!(
                "SELECT {WAITING} FROM deliveries WHERE state = 0 AND expire_at IS NOT NULL AND {}
                 ORDER BY expire_at LIMIT $2",
                EXPIRED.condition
            ),
            [now.as_micros().into(), BATCH.into()],
        );
        let expired = Waiting::find_by_statement(find).all(&self.connections.reader).await?;
        Ok(self.end(expired, EXPIRED, now).await?)
    }

    /// Ends those of these deliveries that are pending and meet the condition. Returns how many.
    pub(super) async fn end(
        &self,
        waiting: Vec<Waiting>,
        Ending { reason, condition, also_set }: Ending,
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
        let mut values: Vec<Value> = vec![
            now.as_micros().into(),
            codes::status_code(reason.status()).into(),
            codes::end_reason_code(reason).into(),
        ];
        let ids: Vec<_> = (0..waiting.len()).map(|n| format!("${}", values.len() + 1 + n)).collect();
        values.extend(waiting.iter().map(|waiting| Value::from(waiting.id)));
        let sql = format!(
            "UPDATE deliveries SET state = $2, end_reason = $3, ended_at = $1 {also_set}
             WHERE state = 0 AND id IN (
                SELECT id FROM deliveries WHERE id IN ({}) AND state = 0 AND {condition} {lock}
             )
             RETURNING {WAITING}",
            ids.join(",")
        );
        let transaction = self.connections.begin().await?;
        lanes::lock(&transaction, &waiting.iter().filter_map(Waiting::lane).collect()).await?;
        let update = Statement::from_sql_and_values(backend, sql, values);
        let ended = Waiting::find_by_statement(update).all(&transaction).await?;
        let left: BTreeSet<_> = ended.iter().filter_map(Waiting::lane).collect();
        lanes::release(&transaction, &left, now).await?;
        transaction.commit().await?;
        Ok(ended.len() as u64)
    }
}
