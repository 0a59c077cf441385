//! Cancels what waits for subscriptions that were deleted or disabled.
//!
//! Deleting or disabling changes one row; the deliveries, of which there may be a million, follow in batches. A
//! delivery that is published while its subscription ends is caught here as well.

use sea_orm::{FromQueryResult, Statement, prelude::Uuid};

use super::{
    Error, Store,
    ending::{BATCH, WAITING, Waiting},
};
use crate::domain::{delivery::EndReason, timestamp::Timestamp};

/// Whether a delivery's subscription has ended: it may have been enabled since it was found.
const SUBSCRIPTION_ENDED: &str = "EXISTS (
    SELECT 1 FROM subscriptions
    WHERE uid = deliveries.subscription_uid AND (deleted_at IS NOT NULL OR disabled_at IS NOT NULL)
)";

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
        let find = Statement::from_sql_and_values(
            backend,
            format!(
                "SELECT {WAITING} FROM deliveries WHERE subscription_uid = $1 AND state = 0
                 ORDER BY priority, due_at LIMIT $2"
            ),
            [ended.uid.into(), BATCH.into()],
        );
        let waiting = Waiting::find_by_statement(find).all(&self.connections.reader).await?;
        Ok(self.end(waiting, SUBSCRIPTION_ENDED, reason, now).await?)
    }
}
