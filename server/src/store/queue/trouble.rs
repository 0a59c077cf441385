//! Which subscriptions are in trouble, for nodes that would send to them.

use sea_orm::{FromQueryResult, Statement, prelude::Uuid};

use crate::{
    dispatch::Trouble,
    domain::{id::SubscriptionUid, kept_window::KeptWindow, timestamp::Timestamp},
    store::{Error, Store},
};

/// Those that are blocked, and what is kept of windows: the latest, as not everything that was ever in trouble is everybody's concern. Each is
/// found by an index of its own.
const IN_TROUBLE: &str = "
    SELECT uid, NULL AS concurrency_window, NULL AS window_until FROM subscriptions
    WHERE blocked_until IS NOT NULL AND deleted_at IS NULL AND disabled_at IS NULL
    UNION ALL
    SELECT * FROM (
        SELECT uid, concurrency_window, concurrency_window_until FROM subscriptions
        WHERE concurrency_window_until > $1 AND deleted_at IS NULL AND disabled_at IS NULL
        ORDER BY concurrency_window_until DESC LIMIT 1000
    ) AS kept";

/// A row of that.
#[derive(Debug, FromQueryResult)]
struct InTrouble {
    uid: Uuid,
    /// None: it is blocked.
    concurrency_window: Option<i32>,
    window_until: Option<i64>,
}

impl Store {
    pub(super) async fn subscriptions_in_trouble(&self, now: Timestamp) -> Result<Trouble, Error> {
        // By the claim's connections: it comes next, and must not wait for others before that.
        let connection = &self.connections.looker;
        let find = Statement::from_sql_and_values(
            connection.get_database_backend(),
            IN_TROUBLE,
            [now.as_micros().into()],
        );
        let mut trouble = Trouble::default();
        for row in InTrouble::find_by_statement(find).all(connection).await? {
            let uid = SubscriptionUid::from_uuid(row.uid);
            if let Some((size, until)) = row.concurrency_window.zip(row.window_until) {
                let (size, until) = (u32::try_from(size).unwrap_or(1), Timestamp::from_micros(until));
                trouble.windows.insert(uid, KeptWindow { size, until });
            } else {
                trouble.blocked.insert(uid);
            }
        }
        Ok(trouble)
    }
}
