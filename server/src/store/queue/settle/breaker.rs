//! What attempts change about the breakers of their subscriptions.

use std::collections::HashSet;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
    prelude::Uuid,
    sea_query::{Expr, ExprTrait},
};

use crate::{
    dispatch::Settled,
    domain::{breaker::HealthChange, id::SubscriptionUid, timestamp::Timestamp},
    store::entity::subscriptions,
};

/// Writes what attempts change about the breakers of their subscriptions, whose rows are locked. Returns those that it changed; the others
/// had been changed by somebody else in the meantime.
pub(super) async fn change(
    transaction: &DatabaseTransaction,
    batch: &[Settled],
) -> Result<HashSet<SubscriptionUid>, DbErr> {
    let mut changed = HashSet::new();
    for settled in batch {
        if let Some(change) = &settled.health
            && write(transaction, settled, change).await?
        {
            changed.insert(settled.target.uid);
        }
    }
    Ok(changed)
}

/// Locks the rows of the subscriptions that a batch changes: in the order of their uids, like everybody.
pub(super) async fn lock_all(transaction: &DatabaseTransaction, batch: &[Settled]) -> Result<(), DbErr> {
    if transaction.get_database_backend() == DbBackend::Sqlite {
        // A transaction that writes is alone anyway.
        return Ok(());
    }
    let changes = batch.iter().filter(|settled| settled.concerns_its_subscription());
    let uids: HashSet<_> = changes.map(|settled| settled.target.uid.uuid()).collect();
    if uids.is_empty() {
        return Ok(());
    }
    let _: Vec<Uuid> = subscriptions::Entity::find()
        .select_only()
        .column(subscriptions::Column::Uid)
        .filter(subscriptions::Column::Uid.is_in(uids))
        .order_by_asc(subscriptions::Column::Uid)
        .lock_exclusive()
        .into_tuple()
        .all(transaction)
        .await?;
    Ok(())
}

async fn write(
    transaction: &DatabaseTransaction,
    settled: &Settled,
    change: &HealthChange,
) -> Result<bool, DbErr> {
    use subscriptions::Column;
    let micros = |at: &Timestamp| Expr::value(Some(at.as_micros()));
    let update = subscriptions::Entity::update_many().filter(Column::Uid.eq(settled.target.uid.uuid()));
    let update = match change {
        HealthChange::Open { until, failing_since, reason } => update
            .col_expr(Column::BlockedUntil, micros(until))
            .col_expr(Column::BlockedReason, Expr::value(Some(reason.as_str())))
            .col_expr(Column::BlockPauses, Expr::value(1))
            .col_expr(Column::FailingSince, micros(failing_since))
            .filter(Column::BlockedUntil.is_null())
            // What failed at another target, or before it was said to be mended, says nothing of it now.
            .filter(Column::TargetUrl.eq(settled.target.url.as_str()))
            .filter(Column::RecoveredAt.is_null().or(Column::RecoveredAt.lte(failing_since.as_micros()))),
        HealthChange::Reopen { held_until, until, pauses, reason } => update
            .col_expr(Column::BlockedUntil, micros(until))
            .col_expr(Column::BlockedReason, Expr::value(Some(reason.as_str())))
            .col_expr(Column::BlockPauses, Expr::value(i32::try_from(*pauses).unwrap_or(i32::MAX)))
            .filter(Column::BlockedUntil.eq(held_until.as_micros())),
        HealthChange::Release { held_until } => update
            .col_expr(Column::BlockedUntil, micros(&settled.at))
            .filter(Column::BlockedUntil.eq(held_until.as_micros())),
        HealthChange::Close { held_until } => update
            .col_expr(Column::BlockedUntil, Expr::value(None::<i64>))
            .col_expr(Column::BlockedReason, Expr::value(None::<String>))
            .col_expr(Column::BlockPauses, Expr::value(0))
            .col_expr(Column::FailingSince, Expr::value(None::<i64>))
            .col_expr(Column::RecoveredAt, micros(&settled.at))
            // It begins with one, wherever that is.
            .col_expr(Column::ConcurrencyWindow, Expr::value(None::<i32>))
            .col_expr(Column::ConcurrencyWindowUntil, Expr::value(None::<i64>))
            .filter(Column::BlockedUntil.eq(held_until.as_micros())),
    };
    Ok(update.exec(transaction).await?.rows_affected > 0)
}
