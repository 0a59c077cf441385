//! Shows deliveries and their attempts, and changes their course when an operator says so.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, FromQueryResult, JoinType,
    QueryFilter, QueryOrder, QuerySelect, Select, prelude::Uuid, sea_query::Expr,
};

use super::{
    Error, Store, codes,
    entity::{attempts, deliveries, events, payloads, subscriptions},
    lanes::{self, Lane},
    page, rows,
};
use crate::domain::{
    attempt::Attempt,
    delivery::{Delivery, DeliveryState, DeliveryStatus, EndReason},
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

/// What became of an operator's wish.
#[derive(Debug)]
pub enum Steered {
    /// It was done, or there was nothing to do.
    Done(Delivery),
    /// There is no such delivery.
    NotFound,
    /// The delivery, or what belongs to it, stands in the way.
    Refused(Refusal),
}

/// Why an operator's wish cannot be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An attempt is being made at this moment.
    #[error("an attempt is under way; its outcome decides what is next")]
    AttemptUnderWay,
    /// The subscription is gone.
    #[error("the subscription was deleted")]
    SubscriptionDeleted,
    /// The subscription is disabled.
    #[error("the subscription is disabled; enable it first")]
    SubscriptionDisabled,
    /// The event's data has passed its retention.
    #[error("the event's data is no longer kept")]
    DataExpired,
    /// The delivery has succeeded or failed.
    #[error("the delivery has ended")]
    Ended,
    /// An earlier delivery with the same ordering key has not ended.
    #[error("an earlier delivery with the same ordering key has not ended")]
    Parked,
    /// It is too late to send the event.
    #[error("the event has expired")]
    Expired,
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
    attempt_count: i32,
    due_at: i64,
    created_at: i64,
    ended_at: Option<i64>,
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

    /// Makes a delivery due now, whether it waits or has ended. One that has ended takes no part in its order any more.
    pub async fn redeliver(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Steered, Error> {
        let transaction = self.connections.begin().await?;
        let Some(row) = locked(&transaction, tenant, id).await? else { return Ok(Steered::NotFound) };
        if let Some(refusal) = why_not_redeliver(&transaction, &row, now).await? {
            return Ok(Steered::Refused(refusal));
        }
        let update = deliveries::Entity::update_many()
            .col_expr(deliveries::Column::State, Expr::value(codes::PENDING))
            .col_expr(deliveries::Column::EndReason, Expr::value(None::<i16>))
            .col_expr(deliveries::Column::EndedAt, Expr::value(None::<i64>))
            .col_expr(deliveries::Column::DueAt, Expr::value(now.as_micros()));
        let update = match codes::status_of(row.state)? {
            DeliveryStatus::Pending => update,
            DeliveryStatus::Succeeded | DeliveryStatus::Failed | DeliveryStatus::Cancelled => {
                update.col_expr(deliveries::Column::Position, Expr::value(None::<i64>))
            }
        };
        let after = steer(&transaction, tenant, &row, update).await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Calls a pending delivery off.
    pub async fn cancel(&self, tenant: &TenantId, id: DeliveryId, now: Timestamp) -> Result<Steered, Error> {
        let transaction = self.connections.begin().await?;
        // The lane before the delivery, like everybody.
        let before = deliveries::Entity::find_by_id(id.uuid()).one(&transaction).await?;
        let lane: BTreeSet<_> = before.and_then(lane).into_iter().collect();
        lanes::lock(&transaction, &lane).await?;
        let Some(row) = locked(&transaction, tenant, id).await? else { return Ok(Steered::NotFound) };
        match codes::status_of(row.state)? {
            DeliveryStatus::Pending => {}
            DeliveryStatus::Cancelled => return Ok(found(read(&transaction, tenant, id).await?)),
            DeliveryStatus::Succeeded | DeliveryStatus::Failed => {
                return Ok(Steered::Refused(Refusal::Ended));
            }
        }
        let reason = EndReason::Cancelled;
        let update = deliveries::Entity::update_many()
            .col_expr(deliveries::Column::State, Expr::value(codes::status_code(reason.status())))
            .col_expr(deliveries::Column::EndReason, Expr::value(codes::end_reason_code(reason)))
            .col_expr(deliveries::Column::EndedAt, Expr::value(now.as_micros()));
        let after = steer(&transaction, tenant, &row, update).await?;
        if row.position.is_some() {
            lanes::release(&transaction, &lane, now).await?;
        }
        transaction.commit().await?;
        Ok(after)
    }
}

/// Where a delivery stands in order.
fn lane(row: deliveries::Model) -> Option<Lane> {
    Lane::of_row(row.subscription_uid, row.ordering_key, row.position)
}

/// Whether something stands in the way of another attempt.
async fn why_not_redeliver(
    transaction: &DatabaseTransaction,
    row: &deliveries::Model,
    now: Timestamp,
) -> Result<Option<Refusal>, Error> {
    if row.expire_at.is_some_and(|expire_at| expire_at <= now.as_micros()) {
        return Ok(Some(Refusal::Expired));
    }
    if row.state == codes::PENDING && row.due_at == Timestamp::NEVER.as_micros() {
        return Ok(Some(Refusal::Parked));
    }
    let subscription = subscriptions::Entity::find_by_id(row.subscription_uid).one(transaction).await?;
    match subscription {
        None => return Ok(Some(Refusal::SubscriptionDeleted)),
        Some(subscription) if subscription.deleted_at.is_some() => {
            return Ok(Some(Refusal::SubscriptionDeleted));
        }
        Some(subscription) if subscription.disabled_at.is_some() => {
            return Ok(Some(Refusal::SubscriptionDisabled));
        }
        Some(_) => {}
    }
    let data = payloads::Entity::find_by_id(row.event_id).select_only().column(payloads::Column::EventId);
    if data.into_tuple::<Uuid>().one(transaction).await?.is_none() {
        return Ok(Some(Refusal::DataExpired));
    }
    // An attempt that was begun and has no record yet: making the delivery due now would send it twice at once.
    // Also of one that was cancelled while its attempt was under way; until its lease is over, that may still come to an end.
    let begun = row.attempt_count > 0 && row.due_at > now.as_micros();
    let recorded =
        attempts::Entity::find_by_id((row.id, row.attempt_count)).one(transaction).await?.is_some();
    Ok((begun && !recorded).then_some(Refusal::AttemptUnderWay))
}

/// Updates a delivery that is as `before` says, and shows it.
async fn steer(
    transaction: &DatabaseTransaction,
    tenant: &TenantId,
    before: &deliveries::Model,
    update: sea_orm::UpdateMany<deliveries::Entity>,
) -> Result<Steered, Error> {
    let updated = update
        .filter(deliveries::Column::Id.eq(before.id))
        .filter(deliveries::Column::AttemptCount.eq(before.attempt_count))
        .filter(deliveries::Column::State.eq(before.state))
        .exec(transaction)
        .await?;
    if updated.rows_affected != 1 {
        // The row is locked, so nobody can have changed it.
        let cause = format!("{} changed although it was locked", before.id);
        return Err(Error::Corrupt { table: "deliveries", cause });
    }
    read(transaction, tenant, DeliveryId::from_uuid(before.id)).await.map(found)
}

fn found(delivery: Option<Delivery>) -> Steered {
    delivery.map_or(Steered::NotFound, Steered::Done)
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
        .column_as(events::Column::EventType, "event_type")
        .column_as(subscriptions::Column::Id, "subscription_id")
}

fn belongs_to<T: EntityTrait>(from: deliveries::Column, table: T, to: T::Column) -> sea_orm::RelationDef {
    deliveries::Entity::belongs_to(table).from(from).to(to).into()
}

async fn read(
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

/// Reads a delivery's row so that nobody else changes it before the transaction ends.
async fn locked(
    transaction: &DatabaseTransaction,
    tenant: &TenantId,
    id: DeliveryId,
) -> Result<Option<deliveries::Model>, Error> {
    let query =
        deliveries::Entity::find_by_id(id.uuid()).filter(deliveries::Column::TenantId.eq(tenant.as_str()));
    let query = match transaction.get_database_backend() {
        DbBackend::Sqlite => query,
        _ => query.lock_exclusive(),
    };
    Ok(query.one(transaction).await?)
}

fn delivery(row: &Row) -> Result<Delivery, Error> {
    let state = match (row.end_reason, row.ended_at) {
        (Some(reason), Some(at)) => {
            DeliveryState::Ended { at: Timestamp::from_micros(at), reason: codes::end_reason_of(reason)? }
        }
        _ => DeliveryState::Pending,
    };
    if codes::status_code(state.status()) != row.state {
        let cause = format!("{} has state {} and end reason {:?}", row.id, row.state, row.end_reason);
        return Err(Error::Corrupt { table: "deliveries", cause });
    }
    Ok(Delivery {
        id: DeliveryId::from_uuid(row.id),
        tenant: TenantId::from_stored(&row.tenant_id),
        event: EventId::from_uuid(row.event_id),
        event_type: EventType::from_stored(row.event_type.as_deref().unwrap_or_default()),
        subscription: match &row.subscription_id {
            Some(id) => SubscriptionId::from_stored(id),
            None => {
                SubscriptionId::from_stored(&SubscriptionUid::from_uuid(row.subscription_uid).to_string())
            }
        },
        state,
        attempt_count: u32::try_from(row.attempt_count).unwrap_or(0),
        due_at: Timestamp::from_micros(row.due_at),
        created_at: Timestamp::from_micros(row.created_at),
    })
}
