//! Ends what waits for subscriptions that will not take it: those that were deleted or disabled, and those that are missing.
//!
//! Deleting or disabling changes one row; the deliveries, of which there may be a million, follow in batches. A
//! delivery that is published while its subscription ends is caught here as well.

use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, Statement, prelude::Uuid};

use super::{
    Error, Store,
    ending::{BATCH, Ending, WAITING, Waiting},
    queue,
};
use crate::domain::{delivery::EndReason, timestamp::Timestamp};

/// The end of what waits for a subscription that has ended: it may have been enabled since it was found.
const fn with_subscription(reason: EndReason) -> Ending {
    let condition = "EXISTS (
        SELECT 1 FROM subscriptions
        WHERE uid = pending_deliveries.subscription_uid AND (deleted_at IS NOT NULL OR disabled_at IS NOT NULL)
    )";
    Ending { reason, condition, uncounted: 0 }
}

/// The end of what waits for a subscription without a row.
const ORPHANED: Ending = Ending {
    reason: EndReason::Unreadable,
    condition: "NOT EXISTS (SELECT 1 FROM subscriptions WHERE uid = pending_deliveries.subscription_uid)",
    uncounted: 0,
};

/// A subscription that has ended and still has deliveries waiting.
#[derive(Debug, FromQueryResult)]
struct Ended {
    uid: Uuid,
    deleted: bool,
}

impl Store {
    /// Cancels up to a batch of deliveries that wait for a subscription that has ended. Returns how many.
    pub async fn sweep(&self, now: Timestamp) -> Result<u64, Error> {
        // From those that anything waits for, who are few most of the time; those that have ended become more and more.
        let find = format!(
            "WITH RECURSIVE {}
             SELECT s.uid, s.deleted_at IS NOT NULL AS deleted
             FROM waiting CROSS JOIN subscriptions AS s
             WHERE s.uid = waiting.uid AND (s.deleted_at IS NOT NULL OR s.disabled_at IS NOT NULL)
             LIMIT 1",
            queue::waiting("$1", "$2")
        );
        let all = [Uuid::nil().into(), Uuid::max().into()];
        let find = Statement::from_sql_and_values(self.connections.backend(), find, all);
        let Some(ended) = Ended::find_by_statement(find).one(&self.connections.keeper).await? else {
            return Ok(0);
        };
        let reason =
            if ended.deleted { EndReason::SubscriptionDeleted } else { EndReason::SubscriptionDisabled };
        let waiting = self.waiting_for(ended.uid).await?;
        Ok(self.end(waiting, with_subscription(reason), now).await?)
    }

    /// Ends up to a batch of deliveries whose subscription has no row. There should be none: a deleted one keeps its row as long as
    /// deliveries name it. The claim cannot find them. Returns how many.
    pub async fn end_orphans(&self, now: Timestamp) -> Result<u64, Error> {
        let find = format!(
            "WITH RECURSIVE {}
             SELECT uid FROM waiting
             WHERE uid IS NOT NULL AND NOT EXISTS (SELECT 1 FROM subscriptions WHERE subscriptions.uid = waiting.uid)
             LIMIT 1",
            queue::waiting("$1", "$2")
        );
        let all = [Uuid::nil().into(), Uuid::max().into()];
        let find = Statement::from_sql_and_values(self.connections.backend(), find, all);
        let Some(orphaned) = self.connections.keeper.query_one_raw(find).await? else {
            return Ok(0);
        };
        let waiting = self.waiting_for(orphaned.try_get("", "uid")?).await?;
        Ok(self.end(waiting, ORPHANED, now).await?)
    }

    /// Up to a batch of what waits for a subscription.
    async fn waiting_for(&self, subscription: Uuid) -> Result<Vec<Waiting>, DbErr> {
        let find = Statement::from_sql_and_values(
            self.connections.backend(),
            format!(
                "SELECT {WAITING} FROM pending_deliveries WHERE subscription_uid = $1
                 ORDER BY priority, due_at LIMIT {BATCH}"
            ),
            [subscription.into()],
        );
        Waiting::find_by_statement(find).all(&self.connections.keeper).await
    }
}
