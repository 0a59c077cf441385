//! Ends deliveries that nobody sends: those of subscriptions that have ended, and those that have expired.
//!
//! Both go in batches: whoever finds deliveries to end names them, and they are judged again when their rows are locked.

use std::collections::BTreeSet;

use sea_orm::{DbBackend, DbErr, FromQueryResult, Statement, Value, prelude::Uuid};

use super::{
    Error, Store, codes,
    lanes::{self, Lane},
};
use crate::domain::{delivery::EndReason, timestamp::Timestamp};

/// How many deliveries one transaction ends.
pub(super) const BATCH: i64 = 1_000;

/// Whether a delivery has expired at `$1` and no attempt is under way at it. One that is under way may still succeed; it is
/// judged when it is settled, or claimed again.
const EXPIRED: &str = "expire_at <= $1 AND NOT (
    attempt_count > 0 AND due_at > $1 AND NOT EXISTS (
        SELECT 1 FROM attempts WHERE delivery_id = deliveries.id AND number = deliveries.attempt_count
    ))";

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

impl Store {
    /// Ends up to a batch of deliveries that have expired and are not due, or whose subscription is paused. Returns how many.
    pub async fn expire(&self, now: Timestamp) -> Result<u64, Error> {
        let find = Statement::from_sql_and_values(
            self.connections.backend(),
            format!(
                "SELECT {WAITING} FROM deliveries WHERE state = 0 AND expire_at IS NOT NULL AND {EXPIRED}
                 ORDER BY expire_at LIMIT $2"
            ),
            [now.as_micros().into(), BATCH.into()],
        );
        let expired = Waiting::find_by_statement(find).all(&self.connections.reader).await?;
        Ok(self.end(expired, EXPIRED, EndReason::Expired, now).await?)
    }

    /// Ends those of these deliveries that are pending and meet `condition`, in which `$1` is the time. Returns how many.
    pub(super) async fn end(
        &self,
        waiting: Vec<Waiting>,
        condition: &str,
        reason: EndReason,
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
            "UPDATE deliveries SET state = $2, end_reason = $3, ended_at = $1
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
