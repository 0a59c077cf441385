//! Cancels what waits for subscriptions that were deleted or disabled.
//!
//! Deleting or disabling changes one row; the deliveries, of which there may be a million, follow in batches. A
//! delivery that is published while its subscription ends is caught here as well.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement, prelude::Uuid};

use super::{Error, Store, codes};
use crate::domain::{delivery::EndReason, timestamp::Timestamp};

/// How many deliveries one transaction cancels.
const BATCH: i64 = 1_000;

/// A subscription that has ended and still has deliveries waiting.
#[derive(Debug, FromQueryResult)]
struct Ended {
    uid: Uuid,
    deleted: bool,
}

impl Store {
    /// Cancels up to a batch of deliveries that wait for a subscription that has ended. Returns how many.
    pub async fn sweep(&self, now: Timestamp) -> Result<u64, Error> {
        let backend = self.connections.backend();
        let find = Statement::from_string(
            backend,
            "SELECT uid, deleted_at IS NOT NULL AS deleted FROM subscriptions
             WHERE (deleted_at IS NOT NULL OR disabled_at IS NOT NULL)
                AND EXISTS (SELECT 1 FROM deliveries WHERE subscription_uid = uid AND state = 0)
             LIMIT 1",
        );
        let Some(ended) = Ended::find_by_statement(find).one(&self.connections.reader).await? else {
            return Ok(0);
        };
        let reason =
            if ended.deleted { EndReason::SubscriptionDeleted } else { EndReason::SubscriptionDisabled };
        Ok(self.cancel_batch(ended.uid, reason, now).await?)
    }

    async fn cancel_batch(
        &self,
        subscription: Uuid,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<u64, DbErr> {
        // The subscription is judged again within the statement: it may have been enabled since.
        // Those that are being settled at this moment are left to the next sweep: waiting for them, and they for us, is a deadlock.
        let lock = match self.connections.backend() {
            DbBackend::Sqlite => "",
            _ => "FOR UPDATE OF deliveries SKIP LOCKED",
        };
        let cancel = Statement::from_sql_and_values(
            self.connections.backend(),
            format!("UPDATE deliveries SET state = $2, end_reason = $3, ended_at = $4
             WHERE state = 0 AND id IN (
                SELECT deliveries.id FROM deliveries JOIN subscriptions ON uid = subscription_uid
                WHERE subscription_uid = $1 AND state = 0 AND (deleted_at IS NOT NULL OR disabled_at IS NOT NULL)
                ORDER BY due_at LIMIT $5 {lock}
             )"),
            [
                subscription.into(),
                codes::status_code(reason.status()).into(),
                codes::end_reason_code(reason).into(),
                now.as_micros().into(),
                BATCH.into(),
            ],
        );
        let transaction = self.connections.begin().await?;
        let cancelled = transaction.execute_raw(cancel).await?.rows_affected();
        transaction.commit().await?;
        Ok(cancelled)
    }
}
