//! Records attempts and what follows from them.

use std::{
    collections::{BTreeSet, HashSet},
    sync::LazyLock,
};

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter, Statement,
    Value,
    prelude::Uuid,
    sea_query::{Expr, ExprTrait},
};

use super::health;
use crate::{
    dispatch::{Settled, Settling},
    domain::{
        claim::Target, delivery::Settlement, id::DeliveryId, subscription::DisabledReason,
        timestamp::Timestamp,
    },
    store::{
        Error, Store,
        bulk::{Bulk, Column, Inserted},
        codes,
        entity::subscriptions,
        rows, tenants,
    },
};

static ATTEMPTS: Inserted<16> = Inserted::new(
    "attempts",
    [
        Column::uuid("delivery_id"),
        Column::int("number"),
        Column::big_int("started_at"),
        Column::text("target_url"),
        Column::small_int("outcome"),
        Column::small_int("failure").or_null(),
        Column::text("failure_message").or_null(),
        Column::small_int("status").or_null(),
        Column::text("response_headers").or_null(),
        Column::bytes("response_body").or_null(),
        Column::bool("response_truncated").or_null(),
        Column::big_int("total_duration"),
        Column::big_int("dns_duration").or_null(),
        Column::big_int("connect_duration").or_null(),
        Column::big_int("tls_duration").or_null(),
        Column::big_int("first_byte_duration").or_null(),
    ],
    // One that is recorded already (we did not hear of the commit and repeat it) stays as it is.
    "ON CONFLICT DO NOTHING",
);

/// What deliveries become.
static SETTLED: Bulk<7> = Bulk::new([
    Column::uuid("settled_id"),
    Column::int("number"),
    Column::small_int("new_state"),
    Column::small_int("new_end_reason").or_null(),
    Column::big_int("new_due_at"),
    Column::big_int("new_ended_at").or_null(),
    Column::text("new_traceparent").or_null(),
]);

/// Moves on the deliveries that are still ours. SQLite calls the columns of a list of rows `column1` and so on.
fn sqlite(rows: &str) -> String {
    let columns = SETTLED.each_name(|number, name| format!("column{number} AS {name}"));
    format!(
        "UPDATE deliveries SET state = new_state, end_reason = new_end_reason, due_at = new_due_at,
             ended_at = new_ended_at, last_traceparent = new_traceparent
         FROM (SELECT {columns} FROM (VALUES {rows})) AS settled
         WHERE deliveries.id = settled_id AND deliveries.attempt_count = number AND deliveries.state = 0
         RETURNING deliveries.id"
    )
}

/// Records the attempts and moves the deliveries on.
///
/// The arrays are in the order of the ids, so that a row finds its place in them by halving. Joining them as rows reads better, but
/// then the planner may go through all that is pending for each of them: it has no idea how few they are. For the same reason `state` is
/// hidden from it, or it would take the index of what is pending.
static POSTGRES: LazyLock<String> = LazyLock::new(|| {
    let attempts = ATTEMPTS.into_table(1);
    let [ids, numbers, values @ ..] = SETTLED.array_names(1 + 16);
    let values = values.map(|array| array.at("place")).join(", ");
    format!(
        "WITH recorded AS ({attempts})
         UPDATE deliveries SET (state, end_reason, due_at, ended_at, last_traceparent) = (
             SELECT {values} FROM (SELECT width_bucket(id, {ids})) AS found (place)
         )
         WHERE id = ANY ({ids}) AND attempt_count = ({numbers})[width_bucket(id, {ids})] AND (state + 0) = 0
         RETURNING id"
    )
});

impl Store {
    pub(super) async fn settle_batch(&self, batch: &[Settled]) -> Result<Settling, Error> {
        let concerns_deliveries_alone =
            |settled: &Settled| settled.health.is_none() && settled.settlement.disables().is_none();
        if self.connections.backend() == DbBackend::Postgres && batch.iter().all(concerns_deliveries_alone) {
            // One statement: one round trip, and a transaction by itself.
            let lost = record_and_update(&self.connections.writer, batch).await?;
            return Ok(Settling { lost, ..Settling::default() });
        }
        let transaction = self.connections.begin().await?;
        let lost = record_and_update(&transaction, batch).await?;
        let turned = health::turn(&transaction, batch).await?;
        let disabled = disable_gone(&transaction, batch).await?;
        transaction.commit().await?;
        Ok(Settling { lost, turned, disabled })
    }
}

/// Records the attempts and moves the deliveries on; returns those that were no longer ours: taken over by somebody else or called
/// off. The log is true also of attempts from which nothing follows any more.
async fn record_and_update(
    connection: &impl ConnectionTrait,
    batch: &[Settled],
) -> Result<Vec<DeliveryId>, DbErr> {
    let attempts = batch.iter().map(|settled| rows::attempt_values(settled.delivery, &settled.attempt));
    let updates = match connection.get_database_backend() {
        DbBackend::Sqlite => {
            ATTEMPTS.insert(connection, attempts.collect()).await?;
            SETTLED.runs(batch.iter().map(settlement_values).collect(), sqlite)
        }
        backend => {
            let mut values = Vec::from(ATTEMPTS.rows.arrays(attempts));
            let mut by_id: Vec<_> = batch.iter().collect();
            by_id.sort_unstable_by_key(|settled| settled.delivery.uuid());
            values.extend(SETTLED.arrays(by_id.into_iter().map(settlement_values)));
            vec![Statement::from_sql_and_values(backend, POSTGRES.as_str(), values)]
        }
    };
    let mut ours = HashSet::with_capacity(batch.len());
    for update in updates {
        for row in connection.query_all_raw(update).await? {
            ours.insert(row.try_get_by_index::<Uuid>(0)?);
        }
    }
    let deliveries = batch.iter().map(|settled| settled.delivery);
    Ok(deliveries.filter(|delivery| !ours.contains(&delivery.uuid())).collect())
}

fn settlement_values(settled: &Settled) -> [Value; 7] {
    let (state, end_reason, due_at, ended_at) = match settled.settlement {
        Settlement::RetryAt(due_at) => (codes::PENDING, None, due_at, None),
        Settlement::End(reason) => (
            codes::status_code(reason.status()),
            Some(codes::end_reason_code(reason)),
            settled.at,
            Some(settled.at),
        ),
    };
    [
        settled.delivery.uuid().into(),
        i32::try_from(settled.attempt.number.get()).unwrap_or(i32::MAX).into(),
        state.into(),
        end_reason.into(),
        due_at.as_micros().into(),
        ended_at.map(Timestamp::as_micros).into(),
        settled.attempt.span.as_ref().map(|span| span.traceparent()).into(),
    ]
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
