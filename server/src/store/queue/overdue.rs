//! Looks for what this node should have claimed.

use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};

use super::{
    bound::{LEASED_UNTIL, NOW, ROOM},
    open::{Open, Specials},
    stretch::Stretch,
};
use crate::{
    dispatch::{Ask, Overdue},
    domain::{
        id::{DeliveryId, SubscriptionUid},
        timestamp::Timestamp,
    },
    store::{Error, Store},
};

impl Store {
    /// The delivery that has been due for longest of those that this node could claim now, by the order of claims: a low priority counts as
    /// due later. Finds subscriptions as the claim does: one step through the index for each that has anything pending, whatever their
    /// backlogs.
    pub(super) async fn most_overdue(&self, ask: &Ask) -> Result<Option<Overdue>, Error> {
        let backend = self.connections.backend();
        // The parameters are the claim's; these make PostgreSQL know the types of those that are not used here.
        let (Open { with, values }, unused) = match backend {
            DbBackend::Sqlite => (Open::sqlite(ask, Stretch::ALL, Specials::Admissible), String::new()),
            _ => (
                Open::postgres(ask, Stretch::ALL, Specials::Admissible),
                format!("WHERE {LEASED_UNTIL}::bigint IS NOT NULL AND {ROOM}::int IS NOT NULL"),
            ),
        };
        let sql = format!(
            "WITH RECURSIVE {with}
             SELECT p.id, p.subscription_uid, p.due_at
             FROM (
                 SELECT handicap, (
                     SELECT id FROM pending_deliveries
                     WHERE subscription_uid = open.uid AND priority = levels.priority AND due_at <= {NOW}
                     ORDER BY due_at LIMIT 1
                 ) AS id
                 FROM open CROSS JOIN levels {unused}
             ) AS heads
             JOIN pending_deliveries AS p ON p.id = heads.id
             ORDER BY p.due_at + heads.handicap LIMIT 1"
        );
        let (keeper, look) = (&self.connections.keeper, Statement::from_sql_and_values(backend, sql, values));
        let found = if backend == DbBackend::Sqlite || ask.held.is_empty() {
            keeper.query_one_raw(look).await?
        } else {
            // Lists of ours are put side by side, as in a claim.
            let transaction = keeper.begin().await?;
            transaction.execute_unprepared("SET LOCAL enable_hashjoin = on").await?;
            let found = transaction.query_one_raw(look).await?;
            transaction.commit().await?;
            found
        };
        let read = |row: sea_orm::QueryResult| {
            Ok(Overdue {
                delivery: DeliveryId::from_uuid(row.try_get("", "id")?),
                subscription: SubscriptionUid::from_uuid(row.try_get("", "subscription_uid")?),
                since: Timestamp::from_micros(row.try_get("", "due_at")?),
            })
        };
        found.map(read).transpose()
    }
}
