//! What tenants are to be told, on its way to being published: written in the transaction that it tells of, so that nothing is lost,
//! and deleted once it is published or nobody asks for it.

use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::{
    Error, Store,
    bulk::{Column, Inserted},
    entity::{operational_events, subscriptions},
    rows,
};
use crate::domain::{
    event::{NewEvent, RequestId},
    event_type::RESERVED_PREFIX,
    id::{OperationalEventId, TenantId},
    operational::Notice,
    subscription::Filter,
    timestamp::Timestamp,
};

static OPERATIONAL_EVENTS: Inserted<6> = Inserted::new(
    "operational_events",
    [
        Column::uuid("id"),
        Column::text("tenant_id"),
        Column::text("event_type"),
        Column::text("subject"),
        Column::text("data"),
        Column::big_int("occurred_at"),
    ],
    "",
);

/// Puts notices where they wait to be published.
pub(super) async fn put(
    transaction: &DatabaseTransaction,
    notices: Vec<Notice>,
    now: Timestamp,
) -> Result<(), DbErr> {
    let rows = notices.iter().enumerate().map(|(nth, notice)| {
        [
            OperationalEventId::nth(now, nth).uuid().into(),
            notice.tenant.as_str().into(),
            notice.event_type.into(),
            notice.subject.as_str().into(),
            notice.data.as_str().into(),
            notice.at.as_micros().into(),
        ]
    });
    OPERATIONAL_EVENTS.insert(transaction, rows.collect()).await.map(drop)
}

impl Store {
    /// The operational events that have waited for longest, up to a number, of those `after` one, as they are to be published: what is
    /// published twice is one event.
    pub async fn operational_events(
        &self,
        after: Option<OperationalEventId>,
        most: u64,
    ) -> Result<Vec<(OperationalEventId, NewEvent)>, Error> {
        let after = after.map(|after| operational_events::Column::Id.gt(after.uuid()));
        let rows = operational_events::Entity::find()
            .filter(Condition::all().add_option(after))
            .order_by_asc(operational_events::Column::Id)
            .limit(most)
            .all(&self.connections.keeper)
            .await?;
        let read = |row: operational_events::Model| {
            let id = OperationalEventId::from_uuid(row.id);
            let at = Timestamp::from_micros(row.occurred_at);
            let content = Notice::content(&row.event_type, row.subject, row.data, at);
            let request_id = Some(RequestId::from_stored(id.to_string()));
            let tenant = TenantId::from_stored(&row.tenant_id);
            (id, NewEvent { tenant, request_id, content, trace: None })
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// What those of a tenant's subscriptions want that ask for operational events.
    pub async fn operational_interests(&self, tenant: &TenantId) -> Result<Vec<Filter>, Error> {
        // A JSON array of patterns: one of them begins so.
        let named = format!("%\"{RESERVED_PREFIX}%");
        let rows = subscriptions::Entity::find()
            .filter(subscriptions::Column::TenantId.eq(tenant.as_str()))
            .filter(subscriptions::Column::DeletedAt.is_null())
            .filter(subscriptions::Column::DisabledAt.is_null())
            .filter(subscriptions::Column::EventTypes.like(named))
            .all(&self.connections.keeper)
            .await?;
        // One whose row is damaged gets no events at all.
        Ok(rows.iter().filter_map(|row| rows::wanted(row).ok()).collect())
    }

    /// Deletes operational events that are published, or that nobody asks for.
    pub async fn delete_operational_events(&self, ids: &[OperationalEventId]) -> Result<(), Error> {
        let ids = ids.iter().map(|id| id.uuid());
        operational_events::Entity::delete_many()
            .filter(operational_events::Column::Id.is_in(ids))
            .exec(&self.connections.writer)
            .await?;
        Ok(())
    }
}
