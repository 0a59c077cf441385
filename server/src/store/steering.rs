//! Changes the course of deliveries when an operator says so.

use std::collections::BTreeSet;

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr,
    EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Select, prelude::Uuid,
};

use super::{
    Error, Store, codes,
    deliveries::read,
    ending,
    entity::{attempts, deliveries, events, payloads, pending_deliveries, subscriptions},
    lanes::{self, Lane},
};
use crate::domain::{
    delivery::{Delivery, DeliveryStatus, EndReason},
    id::{DeliveryId, TenantId},
    timestamp::Timestamp,
};

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
    /// An earlier delivery with the same ordering key has not ended, or an attempt of one that has.
    #[error("an earlier delivery with the same ordering key, or an attempt of it, has not ended")]
    Parked,
    /// It is too late to send the event.
    #[error("the event has expired")]
    Expired,
}

impl Store {
    /// Makes a delivery due now, whether it waits or has ended. One that has ended takes no part in its order any more.
    pub async fn redeliver(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Steered, Error> {
        let Some(Locked { transaction, kept, pending }) = self.lock(tenant, id, false).await? else {
            return Ok(Steered::NotFound);
        };
        let event = events::Entity::find_by_id(kept.event_id).one(&transaction).await?;
        if let Some(refusal) =
            why_not_redeliver(&transaction, &kept, pending.as_ref(), event.as_ref(), now).await?
        {
            return Ok(Steered::Refused(refusal));
        }
        match (pending, event) {
            (Some(pending), _) => {
                let mut pending = pending.into_active_model();
                pending.due_at = Set(now.as_micros());
                pending.update(&transaction).await?;
            }
            (None, Some(event)) => revive(&transaction, kept, event, now).await?,
            // Without its event it would have been refused.
            (None, None) => return Ok(Steered::Refused(Refusal::DataExpired)),
        }
        let after = read(&transaction, tenant, id).await?;
        transaction.commit().await?;
        Ok(found(after))
    }

    /// Cancels a pending delivery.
    pub async fn cancel(&self, tenant: &TenantId, id: DeliveryId, now: Timestamp) -> Result<Steered, Error> {
        let Some(Locked { transaction, kept, pending }) = self.lock(tenant, id, true).await? else {
            return Ok(Steered::NotFound);
        };
        match codes::status_of(kept.state)? {
            DeliveryStatus::Pending => {}
            DeliveryStatus::Cancelled => return Ok(found(read(&transaction, tenant, id).await?)),
            DeliveryStatus::Succeeded | DeliveryStatus::Failed => {
                return Ok(Steered::Refused(Refusal::Ended));
            }
        }
        ending::close(&transaction, std::iter::once(kept.id), EndReason::Cancelled, 0, now).await?;
        lanes::release(&transaction, &lane_of(pending.as_ref()), now).await?;
        let after = read(&transaction, tenant, id).await?;
        transaction.commit().await?;
        Ok(found(after))
    }

    /// Locks a delivery: its place in the queue before what is kept of it, like everybody, and before both its lane, if it is to end.
    /// None if there is no such delivery.
    async fn lock(&self, tenant: &TenantId, id: DeliveryId, to_end: bool) -> Result<Option<Locked>, Error> {
        for _ in 0..LOOKS {
            let transaction = self.connections.begin().await?;
            let place = || pending_deliveries::Entity::find_by_id(id.uuid());
            let mut lane = BTreeSet::new();
            if to_end {
                lane = lane_of(place().one(&transaction).await?.as_ref());
                lanes::lock(&transaction, &lane).await?;
            }
            let pending = for_update(&transaction, place()).await?;
            let kept = deliveries::Entity::find_by_id(id.uuid())
                .filter(deliveries::Column::TenantId.eq(tenant.as_str()));
            let Some(kept) = for_update(&transaction, kept).await? else { return Ok(None) };
            let is_one = pending.is_some() == (kept.state == codes::PENDING);
            if is_one && (!to_end || lane.is_superset(&lane_of(pending.as_ref()))) {
                return Ok(Some(Locked { transaction, kept, pending }));
            }
            // Somebody has published or redelivered it between two looks.
            transaction.rollback().await?;
        }
        let cause = format!("{} is pending and not in the queue, or the other way round", id.uuid());
        Err(Error::Corrupt { table: "deliveries", cause })
    }
}

/// The lane that a delivery stands in.
fn lane_of(pending: Option<&pending_deliveries::Model>) -> BTreeSet<Lane> {
    let lane = |row: &pending_deliveries::Model| {
        Lane::of_row(row.subscription_uid, row.ordering_key.clone(), row.position)
    };
    pending.and_then(lane).into_iter().collect()
}

/// How often to look at a delivery that is redelivered and ends all the time.
const LOOKS: usize = 3;

/// A delivery whose rows are locked to the end of the transaction.
struct Locked {
    transaction: DatabaseTransaction,
    kept: deliveries::Model,
    /// Its place in the queue.
    pending: Option<pending_deliveries::Model>,
}

/// Reads a row so that nobody else changes it before the transaction ends.
async fn for_update<E: EntityTrait>(
    transaction: &DatabaseTransaction,
    query: Select<E>,
) -> Result<Option<E::Model>, DbErr> {
    match transaction.get_database_backend() {
        DbBackend::Sqlite => query.one(transaction).await,
        _ => query.lock_exclusive().one(transaction).await,
    }
}

/// Whether something stands in the way of another attempt.
async fn why_not_redeliver(
    transaction: &DatabaseTransaction,
    kept: &deliveries::Model,
    pending: Option<&pending_deliveries::Model>,
    event: Option<&events::Model>,
    now: Timestamp,
) -> Result<Option<Refusal>, Error> {
    let is_over = |expire_at: Option<i64>| expire_at.is_some_and(|expire_at| expire_at <= now.as_micros());
    if event.is_some_and(|event| is_over(event.expire_at)) {
        return Ok(Some(Refusal::Expired));
    }
    if pending.is_some_and(|pending| pending.due_at == Timestamp::NEVER.as_micros()) {
        return Ok(Some(Refusal::Parked));
    }
    let lane = lane_of(pending);
    if lanes::busy(transaction, lane.iter().collect()).await?.values().any(|until| now < *until) {
        return Ok(Some(Refusal::Parked));
    }
    let subscription = subscriptions::Entity::find_by_id(kept.subscription_uid).one(transaction).await?;
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
    let data = payloads::Entity::find_by_id(kept.event_id).select_only().column(payloads::Column::EventId);
    if data.into_tuple::<Uuid>().one(transaction).await?.is_none() {
        return Ok(Some(Refusal::DataExpired));
    }
    // An attempt that was begun and has no record yet: making the delivery due now would send it twice at once.
    // Also of one that was cancelled while its attempt was under way; until its lease is over, that may still come to an end.
    let (number, leased_until) = match pending {
        Some(pending) => (pending.attempt_count, Some(pending.due_at)),
        None => (kept.attempt_count.unwrap_or(0), kept.leased_until),
    };
    let begun = number > 0 && leased_until.is_some_and(|until| until > now.as_micros());
    let recorded = attempts::Entity::find_by_id((kept.id, number)).one(transaction).await?.is_some();
    Ok((begun && !recorded).then_some(Refusal::AttemptUnderWay))
}

/// Puts a delivery that has ended into the queue again.
async fn revive(
    transaction: &DatabaseTransaction,
    kept: deliveries::Model,
    event: events::Model,
    now: Timestamp,
) -> Result<(), DbErr> {
    let pending = pending_deliveries::ActiveModel {
        id: Set(kept.id),
        event_id: Set(kept.event_id),
        subscription_uid: Set(kept.subscription_uid),
        attempt_count: Set(kept.attempt_count.unwrap_or(0)),
        due_at: Set(now.as_micros()),
        priority: Set(event.priority),
        ordering_key: Set(event.ordering_key),
        position: Set(None),
        expire_at: Set(event.expire_at),
        last_traceparent: Set(kept.last_traceparent.clone()),
    };
    pending.insert(transaction).await?;
    let mut kept = kept.into_active_model();
    kept.state = Set(codes::PENDING);
    kept.end_reason = Set(None);
    kept.ended_at = Set(None);
    kept.attempt_count = Set(None);
    kept.leased_until = Set(None);
    kept.last_traceparent = Set(None);
    kept.update(transaction).await?;
    Ok(())
}

fn found(delivery: Option<Delivery>) -> Steered {
    delivery.map_or(Steered::NotFound, Steered::Done)
}
