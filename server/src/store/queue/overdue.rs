//! Looks for what this node should have claimed.

use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::claim::{WAITING, busy, parameters};
use crate::{
    dispatch::{Ask, Overdue},
    domain::{
        id::{DeliveryId, SubscriptionUid},
        timestamp::Timestamp,
    },
    store::{Error, Store},
};

impl Store {
    /// The delivery that has been due for longest of those that this node could claim now. Finds subscriptions as the claim does: one step
    /// through the index for each that has anything pending, whatever their backlogs.
    pub(super) async fn most_overdue(&self, ask: &Ask) -> Result<Option<Overdue>, Error> {
        // By the readers' connections: this is not worth the wait of anybody who writes.
        let reader = &self.connections.reader;
        let backend = self.connections.backend();
        let mut values = parameters(ask);
        let busy = busy(backend, ask, &mut values);
        // The parameters are the claim's; these make PostgreSQL know the types of those that are not used here.
        let unused = match backend {
            DbBackend::Sqlite => "",
            _ => "WHERE $2::bigint IS NOT NULL AND $4::int IS NOT NULL",
        };
        let sql = format!(
            "WITH RECURSIVE busy (uid, attempts) AS ({busy}), {WAITING}
             SELECT deliveries.id, deliveries.subscription_uid, deliveries.due_at
             FROM (
                 SELECT (
                     SELECT id FROM deliveries WHERE subscription_uid = open.uid AND state = 0
                     ORDER BY due_at LIMIT 1
                 ) AS id
                 FROM open {unused}
             ) AS heads
             JOIN deliveries ON deliveries.id = heads.id
             ORDER BY deliveries.due_at LIMIT 1"
        );
        let found = reader.query_one_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
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
