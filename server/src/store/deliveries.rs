//! Shows deliveries and their attempts.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QueryOrder,
    QuerySelect, Select, prelude::Uuid,
};

use super::{
    Error, Store, codes,
    entity::{attempts, deliveries, events, pending_deliveries, subscriptions},
    page, rows,
};
use crate::domain::{
    attempt::Attempt,
    delivery::{Delivery, DeliveryState, DeliveryStatus},
    event_type::EventType,
    id::{DeliveryId, EventId, SubscriptionId, SubscriptionUid, TenantId},
    page::{Page, PageRequest},
    timestamp::Timestamp,
};

/// Which deliveries to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// Of this event.
    pub event: Option<EventId>,
    /// To this subscription.
    pub subscription: Option<(TenantId, SubscriptionId)>,
    /// That stand like this.
    pub status: Option<DeliveryStatus>,
    /// Created at this time or later.
    pub from: Option<Timestamp>,
    /// Created before this time.
    pub until: Option<Timestamp>,
}

/// A delivery with the names of what it connects.
#[derive(Debug, FromQueryResult)]
struct Row {
    id: Uuid,
    tenant_id: String,
    event_id: Uuid,
    event_type: Option<String>,
    subscription_uid: Uuid,
    subscription_id: Option<String>,
    state: i16,
    end_reason: Option<i16>,
    /// Of one that has ended.
    attempt_count: Option<i32>,
    ended_at: Option<i64>,
    /// Of one that is pending.
    begun: Option<i32>,
    due_at: Option<i64>,
    created_at: i64,
}

impl Store {
    /// Reads a delivery.
    pub async fn delivery(&self, tenant: &TenantId, id: DeliveryId) -> Result<Option<Delivery>, Error> {
        read(&self.connections.reader, tenant, id).await
    }

    /// Lists deliveries, newest first.
    pub async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        request: PageRequest,
    ) -> Result<Page<Delivery>, Error> {
        let mut query = named();
        if let Some(tenant) = &filter.tenant {
            query = query.filter(deliveries::Column::TenantId.eq(tenant.as_str()));
        }
        if let Some(event) = filter.event {
            query = query.filter(deliveries::Column::EventId.eq(event.uuid()));
        }
        if let Some((tenant, id)) = &filter.subscription {
            // All that ever had the name, also those that were deleted.
            let named = sea_orm::sea_query::Query::select()
                .column(subscriptions::Column::Uid)
                .from(subscriptions::Entity)
                .and_where(subscriptions::Column::TenantId.eq(tenant.as_str()))
                .and_where(subscriptions::Column::Id.eq(id.as_str()))
                .to_owned();
            query = query.filter(deliveries::Column::SubscriptionUid.in_subquery(named));
        }
        if let Some(status) = filter.status {
            query = query.filter(deliveries::Column::State.eq(codes::status_code(status)));
        }
        if filter.status == Some(DeliveryStatus::Pending) {
            // Few of many, as a rule: they can be found by the queue.
            query = query.filter(pending_deliveries::Column::Id.is_not_null());
        }
        // Bounds on the id as well, which is in the order of time and has an index.
        if let Some(from) = filter.from {
            query = query
                .filter(deliveries::Column::Id.gte(DeliveryId::floor(from).uuid()))
                .filter(deliveries::Column::CreatedAt.gte(from.as_micros()));
        }
        if let Some(until) = filter.until {
            let next_millisecond = DeliveryId::floor(until + std::time::Duration::from_millis(1));
            query = query
                .filter(deliveries::Column::Id.lt(next_millisecond.uuid()))
                .filter(deliveries::Column::CreatedAt.lt(until.as_micros()));
        }
        if let Some(after) = request.after {
            query = query.filter(deliveries::Column::Id.lt(after.0));
        }
        let rows = query
            .order_by_desc(deliveries::Column::Id)
            .limit(page::limit(request))
            .into_model::<Row>()
            .all(&self.connections.reader)
            .await?;
        page::cut(rows, request, |row| row.id, |row| delivery(&row))
    }

    /// Lists a delivery's attempts whose number is greater than `after`, oldest first; `None` if there is no such
    /// delivery. At most `limit` of them.
    pub async fn attempts(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
        after: u32,
        limit: u64,
    ) -> Result<Option<Vec<Attempt>>, Error> {
        let reader = &self.connections.reader;
        if read(reader, tenant, id).await?.is_none() {
            return Ok(None);
        }
        let rows = attempts::Entity::find()
            .filter(attempts::Column::DeliveryId.eq(id.uuid()))
            .filter(attempts::Column::Number.gt(i32::try_from(after).unwrap_or(i32::MAX)))
            .order_by_asc(attempts::Column::Number)
            .limit(limit)
            .all(reader)
            .await?;
        rows.into_iter().map(rows::attempt).collect::<Result<_, _>>().map(Some)
    }
}

/// Deliveries with the names of what they connect. Also those whose event or subscription is missing: they end for that reason,
/// which somebody has to see.
fn named() -> Select<deliveries::Entity> {
    deliveries::Entity::find()
        .join(JoinType::LeftJoin, belongs_to(deliveries::Column::EventId, events::Entity, events::Column::Id))
        .join(
            JoinType::LeftJoin,
            belongs_to(
                deliveries::Column::SubscriptionUid,
                subscriptions::Entity,
                subscriptions::Column::Uid,
            ),
        )
        .join(
            JoinType::LeftJoin,
            belongs_to(deliveries::Column::Id, pending_deliveries::Entity, pending_deliveries::Column::Id),
        )
        .column_as(pending_deliveries::Column::AttemptCount, "begun")
        .column_as(pending_deliveries::Column::DueAt, "due_at")
        .column_as(events::Column::EventType, "event_type")
        .column_as(subscriptions::Column::Id, "subscription_id")
}

fn belongs_to<T: EntityTrait>(from: deliveries::Column, table: T, to: T::Column) -> sea_orm::RelationDef {
    deliveries::Entity::belongs_to(table).from(from).to(to).into()
}

pub(super) async fn read(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    id: DeliveryId,
) -> Result<Option<Delivery>, Error> {
    let row = named()
        .filter(deliveries::Column::Id.eq(id.uuid()))
        .filter(deliveries::Column::TenantId.eq(tenant.as_str()))
        .into_model::<Row>()
        .one(connection)
        .await?;
    row.as_ref().map(delivery).transpose()
}

fn delivery(row: &Row) -> Result<Delivery, Error> {
    let (state, attempt_count, due_at) = match (row.end_reason, row.ended_at, row.due_at) {
        (Some(reason), Some(at), None) => {
            let at = Timestamp::from_micros(at);
            (DeliveryState::Ended { at, reason: codes::end_reason_of(reason)? }, row.attempt_count, at)
        }
        (None, None, Some(due_at)) => (DeliveryState::Pending, row.begun, Timestamp::from_micros(due_at)),
        _ => return Err(makes_no_sense(row)),
    };
    if codes::status_code(state.status()) != row.state {
        return Err(makes_no_sense(row));
    }
    let subscription_uid = SubscriptionUid::from_uuid(row.subscription_uid);
    Ok(Delivery {
        id: DeliveryId::from_uuid(row.id),
        tenant: TenantId::from_stored(&row.tenant_id),
        event: EventId::from_uuid(row.event_id),
        event_type: EventType::from_stored(row.event_type.as_deref().unwrap_or_default()),
        subscription: match &row.subscription_id {
            Some(id) => SubscriptionId::from_stored(id),
            None => SubscriptionId::from_stored(&subscription_uid.to_string()),
        },
        subscription_uid,
        state,
        attempt_count: attempt_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        due_at,
        created_at: Timestamp::from_micros(row.created_at),
    })
}

fn makes_no_sense(row: &Row) -> Error {
    let queued = if row.due_at.is_some() { "in" } else { "not in" };
    let cause = format!(
        "{} has state {} and end reason {:?}, and is {queued} the queue",
        row.id, row.state, row.end_reason
    );
    Error::Corrupt { table: "deliveries", cause }
}
