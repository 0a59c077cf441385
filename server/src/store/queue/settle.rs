//! Records attempts and what follows from them.

use std::collections::{BTreeSet, HashSet};

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
    Statement, Value,
    prelude::Uuid,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use crate::{
    dispatch::{Settled, Settling},
    domain::{
        claim::Target, delivery::Settlement, id::DeliveryId, subscription::DisabledReason,
        timestamp::Timestamp,
    },
    store::{
        Error, ROWS_PER_STATEMENT, Store, codes,
        entity::{attempts, subscriptions},
        lanes::{self, Lane},
        rows, tenants,
    },
};

impl Store {
    pub(super) async fn settle_batch(&self, batch: &[Settled]) -> Result<Settling, Error> {
        let transaction = self.connections.begin().await?;
        let mut settling = Settling::default();
        lanes::lock(&transaction, &lanes_of(batch)).await?;
        let mut left = BTreeSet::new();
        for chunk in batch.chunks(ROWS_PER_STATEMENT) {
            record_attempts(&transaction, chunk).await?;
            settling.lost.extend(update_deliveries(&transaction, chunk, &mut left).await?);
        }
        settling.released = release(&transaction, batch, &left).await?;
        settling.disabled = disable_gone(&transaction, batch).await?;
        transaction.commit().await?;
        Ok(settling)
    }
}

/// The lanes that may be left by what ends.
fn lanes_of(batch: &[Settled]) -> BTreeSet<Lane> {
    let lane = |settled: &Settled| match settled.settlement {
        Settlement::RetryAt(_) => None,
        Settlement::End(_) => Some(Lane::new(settled.target.uid, settled.ordering_key.as_ref()?)),
    };
    batch.iter().filter_map(lane).collect()
}

/// Lets the next ones of these lanes go.
async fn release(
    transaction: &DatabaseTransaction,
    batch: &[Settled],
    left: &BTreeSet<Lane>,
) -> Result<bool, DbErr> {
    let now = batch.iter().map(|settled| settled.at).max().unwrap_or_default();
    Ok(lanes::release(transaction, left, now).await? > 0)
}

/// The log is true also of attempts from which nothing follows any more. One that is recorded already (we did not hear of
/// the commit and repeat it) stays as it is.
async fn record_attempts(transaction: &DatabaseTransaction, batch: &[Settled]) -> Result<(), DbErr> {
    let row = |settled: &Settled| {
        let attempt = settled.attempt.as_ref()?;
        Some(rows::attempt_row(settled.delivery, attempt).into_active_model())
    };
    let rows: Vec<_> = batch.iter().filter_map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    attempts::Entity::insert_many(rows)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}

/// Moves the deliveries on; returns those that were no longer ours: taken over by somebody else or called off. Notes the lanes that
/// were `left` by what ended.
async fn update_deliveries(
    transaction: &DatabaseTransaction,
    batch: &[Settled],
    left: &mut BTreeSet<Lane>,
) -> Result<Vec<DeliveryId>, DbErr> {
    let backend = transaction.get_database_backend();
    let mut values: Vec<Value> = Vec::with_capacity(batch.len() * 8);
    for settled in batch {
        let (state, end_reason, due_at, ended_at) = match settled.settlement {
            Settlement::RetryAt(due_at) => (codes::PENDING, None, due_at, None),
            Settlement::End(reason) => (
                codes::status_code(reason.status()),
                Some(codes::end_reason_code(reason)),
                settled.at,
                Some(settled.at),
            ),
        };
        let number = i32::try_from(settled.number.get()).unwrap_or(i32::MAX);
        // What was not attempted does not count as an attempt.
        let attempts = number - i32::from(settled.attempt.is_none());
        let span = settled.attempt.as_ref().and_then(|attempt| attempt.span.as_ref());
        values.extend([
            settled.delivery.uuid().into(),
            number.into(),
            state.into(),
            end_reason.into(),
            due_at.as_micros().into(),
            ended_at.map(Timestamp::as_micros).into(),
            span.map(|span| span.traceparent().to_owned()).into(),
            attempts.into(),
        ]);
    }
    let rows: Vec<_> = (0..batch.len())
        .map(|row| {
            let columns: Vec<_> = (1..=8).map(|column| format!("${}", row * 8 + column)).collect();
            format!("({})", columns.join(","))
        })
        .collect();
    let sql = format!(
        "UPDATE deliveries SET state = v.column3, end_reason = v.column4, due_at = v.column5, ended_at = v.column6,
             last_traceparent = v.column7, attempt_count = v.column8
         FROM (VALUES {}) AS v
         WHERE deliveries.id = v.column1 AND deliveries.attempt_count = v.column2 AND deliveries.state = 0
         RETURNING deliveries.id, deliveries.state, subscription_uid, ordering_key, position",
        rows.join(",")
    );
    let mut ours = HashSet::with_capacity(batch.len());
    for row in transaction.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
        ours.insert(row.try_get::<Uuid>("", "id")?);
        if row.try_get::<i16>("", "state")? != codes::PENDING {
            let subscription = row.try_get("", "subscription_uid")?;
            let (key, position) = (row.try_get("", "ordering_key")?, row.try_get("", "position")?);
            left.extend(Lane::of_row(subscription, key, position));
        }
    }
    let deliveries = batch.iter().map(|settled| settled.delivery);
    Ok(deliveries.filter(|delivery| !ours.contains(&delivery.uuid())).collect())
}

/// Disables the subscriptions whose receivers are gone; returns whether there were any.
async fn disable_gone(transaction: &DatabaseTransaction, batch: &[Settled]) -> Result<bool, DbErr> {
    let reason = |settled: &Settled| settled.settlement.disables();
    let mut gone: Vec<_> = batch.iter().filter_map(|settled| Some((settled, reason(settled)?))).collect();
    // Rows are locked in one order by all: subscriptions before tenants, and each by their ids.
    gone.sort_by_key(|(settled, _)| settled.target.uid);
    let mut tenants = BTreeSet::new();
    for (settled, reason) in gone {
        if disable(transaction, &settled.target, reason, settled.at).await? {
            tenants.insert(&settled.target.tenant);
        }
    }
    for tenant in &tenants {
        tenants::raise_version(transaction, tenant.as_str()).await?;
    }
    Ok(!tenants.is_empty())
}

/// Disables a subscription, unless it has been given another target since the attempt was made.
async fn disable(
    transaction: &DatabaseTransaction,
    target: &Target,
    reason: DisabledReason,
    now: Timestamp,
) -> Result<bool, DbErr> {
    let disabled = subscriptions::Entity::update_many()
        .col_expr(subscriptions::Column::DisabledAt, Expr::value(now.as_micros()))
        .col_expr(subscriptions::Column::DisabledReason, Expr::value(codes::disabled_reason_code(reason)))
        .col_expr(subscriptions::Column::Revision, Expr::col(subscriptions::Column::Revision).add(1))
        .col_expr(subscriptions::Column::UpdatedAt, Expr::value(now.as_micros()))
        .filter(subscriptions::Column::Uid.eq(target.uid.uuid()))
        .filter(subscriptions::Column::TargetUrl.eq(target.url.as_str()))
        .filter(subscriptions::Column::DisabledAt.is_null())
        .filter(subscriptions::Column::DeletedAt.is_null())
        .exec(transaction)
        .await?;
    Ok(disabled.rows_affected > 0)
}
