//! Which subscriptions have anything pending, and which of them a look is at: a *stretch* of them, from one uid to another.
//!
//! They are found by skipping through the index of the queue, from one subscription to the next, whatever their backlogs: one that is
//! paused, blocked or saturated costs one step, also with a million deliveries waiting.
//!
//! A claim looks at a stretch of some hundred of them, and the next one goes on where it ended, so that the cost of a claim has a bound
//! however many subscriptions wait.

use sea_orm::{ConnectionTrait, DbErr, Statement, prelude::Uuid};

/// How many subscriptions one claim looks at: bounds the time that it takes, and that others may have to wait for it.
const LENGTH: usize = 500;

/// The table `waiting`: subscriptions with anything pending, from `after` (exclusive) to `until`, of which each is a parameter. Each step finds
/// the next greater uid in `pending_deliveries_due`, and asks for the whole order of that index.
///
/// Name it once in a statement that wants only the first of them: SQLite makes all rows of what is named twice.
pub(in crate::store) fn waiting(after: &str, until: &str) -> String {
    format!(
        "waiting (uid) AS (
            SELECT * FROM (
                SELECT subscription_uid FROM pending_deliveries
                WHERE subscription_uid > {after} AND subscription_uid <= {until}
                ORDER BY subscription_uid, priority, due_at LIMIT 1
            ) AS first
            UNION ALL
            SELECT (
                SELECT subscription_uid FROM pending_deliveries
                WHERE subscription_uid > waiting.uid AND subscription_uid <= {until}
                ORDER BY subscription_uid, priority, due_at LIMIT 1
            )
            FROM waiting WHERE waiting.uid IS NOT NULL
        )"
    )
}

/// A range of subscriptions by their uids, without its beginning and with its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) after: Uuid,
    pub(super) until: Uuid,
    /// Whether none of them has anything pending.
    pub(super) is_empty: bool,
}

impl Stretch {
    /// All there are.
    pub(super) const ALL: Self = Self { after: Uuid::nil(), until: Uuid::max(), is_empty: false };

    /// The next ones of those that have anything pending, as many as a claim looks at.
    pub(super) async fn after(connection: &impl ConnectionTrait, after: Uuid) -> Result<Self, DbErr> {
        let sql = format!(
            "WITH RECURSIVE {}
             SELECT (SELECT uid FROM waiting WHERE uid IS NOT NULL LIMIT 1 OFFSET {}) AS last,
                 NOT EXISTS (
                     SELECT 1 FROM pending_deliveries WHERE subscription_uid > $1 AND subscription_uid <= $2
                 ) AS is_empty",
            waiting("$1", "$2"),
            LENGTH - 1
        );
        let values = [after.into(), Uuid::max().into()];
        let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
        let (mut last, mut is_empty) = (None, true);
        for row in connection.query_all_raw(statement).await? {
            (last, is_empty) = (row.try_get::<Option<Uuid>>("", "last")?, row.try_get("", "is_empty")?);
        }
        Ok(Self { after, until: last.unwrap_or(Uuid::max()), is_empty })
    }

    /// Whether it is the end of the range of all, behind which the first one comes.
    pub(super) fn is_last(self) -> bool {
        self.until == Uuid::max()
    }

    /// Whether a look that began behind `begin` is once around with it.
    pub(super) fn comes_around_to(self, begin: Uuid) -> bool {
        self.until >= begin && (self.after < begin || begin.is_nil() && self.is_last())
    }
}
