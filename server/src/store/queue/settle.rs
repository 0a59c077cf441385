//! Records attempts and what follows from them.

use std::{
    collections::{BTreeSet, HashSet},
    sync::LazyLock,
};

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    QueryResult, Statement, prelude::Uuid,
};

use super::{failing, health};
use crate::{
    dispatch::{Settled, Settling},
    domain::{claim::Target, delivery::Settlement, id::DeliveryId, operational::About, timestamp::Timestamp},
    store::{
        self, Error, Store,
        bulk::{Arrays, Bulk, Cell, Column, Inserted},
        codes,
        entity::subscriptions,
        lanes::{self, Lane},
        lookup, operational_events, rows, tenants,
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
static SETTLED: Bulk<9> = Bulk::new([
    Column::uuid("settled_id"),
    Column::int("number"),
    Column::big_int("held_until"),
    Column::small_int("new_state"),
    Column::small_int("new_end_reason").or_null(),
    Column::big_int("new_due_at"),
    Column::big_int("new_ended_at").or_null(),
    Column::text("new_traceparent").or_null(),
    Column::int("new_attempt_count"),
]);

/// Moves on the deliveries that are still ours.
///
/// The number of an attempt is given once; that of a claim that was given back is given again to the next one. So where nothing was
/// attempted the lease must be ours as well: we may not have heard that the claim was given back, and repeat it. SQLite calls the columns of a list of rows `column1` and so on.
fn sqlite(rows: &str) -> String {
    let columns = SETTLED.each_name(|number, name| format!("column{number} AS {name}"));
    format!(
        "UPDATE deliveries SET state = new_state, end_reason = new_end_reason, due_at = new_due_at,
             ended_at = new_ended_at, last_traceparent = new_traceparent, attempt_count = new_attempt_count
         FROM (SELECT {columns} FROM (VALUES {rows})) AS settled
         WHERE deliveries.id = settled_id AND deliveries.attempt_count = number AND deliveries.state = 0
             AND (new_attempt_count = number OR deliveries.due_at = held_until)
         RETURNING deliveries.id, deliveries.state, subscription_uid, ordering_key, position"
    )
}

/// Records the attempts and moves the deliveries on.
///
/// The arrays are in the order of the ids, so that a row finds its place in them by halving. Joining them as rows reads better, but
/// then the planner may go through all that is pending for each of them: it has no idea how few they are. For the same reason `state` is
/// hidden from it, or it would take the index of what is pending.
fn postgres() -> String {
    let attempts = ATTEMPTS.insertion(1);
    let [ids, numbers, held, values @ ..] = SETTLED.array_names(1 + 16);
    let counts = values[values.len() - 1];
    let values = values.map(|array| array.at("place")).join(", ");
    format!(
        "WITH recorded AS ({attempts}), moved AS (
             UPDATE deliveries SET (state, end_reason, due_at, ended_at, last_traceparent, attempt_count) = (
                 SELECT {values} FROM (SELECT width_bucket(id, {ids})) AS found (place)
             )
             WHERE id = ANY ({ids}) AND attempt_count = ({numbers})[width_bucket(id, {ids})] AND (state + 0) = 0
                 AND (({counts})[width_bucket(id, {ids})] = attempt_count OR due_at = ({held})[width_bucket(id, {ids})])
             RETURNING id, state, subscription_uid, ordering_key, position
         )"
    )
}

/// Within a transaction that has more to do: with all that lanes need.
static TOGETHER: LazyLock<String> = LazyLock::new(|| {
    format!("{} SELECT id, state, subscription_uid, ordering_key, position FROM moved", postgres())
});

/// By itself: those that were still ours come back as one list.
static ALONE: LazyLock<String> =
    LazyLock::new(|| format!("{} SELECT array_agg(id) AS ids FROM moved", postgres()));

impl Store {
    pub(super) async fn settle_batch(&self, batch: &[Settled]) -> Result<Settling, Error> {
        let concerns_deliveries_alone = |settled: &Settled| {
            !settled.concerns_its_subscription()
                && settled.ordering_key.is_none()
                && settled.exhausted.is_none()
        };
        if self.connections.backend() == DbBackend::Postgres && batch.iter().all(concerns_deliveries_alone) {
            // One statement: one round trip, and a transaction by itself.
            let lost = record_and_move_alone(&self.connections.engine, batch).await?;
            return Ok(Settling { lost, ..Settling::default() });
        }
        let transaction = self.connections.begin_engine().await?;
        lanes::lock(&transaction, &lanes_of(batch)).await?;
        let Moved { lost, left } = record_and_move(&transaction, batch).await?;
        let released = release(&transaction, batch, &left).await?;
        tell_of_exhausted(&transaction, batch, &lost).await?;
        health::lock_all(&transaction, batch).await?;
        let turned = health::turn(&transaction, batch).await?;
        let mut tenants = failing::note(&transaction, batch).await?;
        let disabled = disable_unwanted(&transaction, batch, &mut tenants).await?;
        for tenant in &tenants {
            tenants::raise_version(&transaction, tenant).await?;
        }
        transaction.commit().await?;
        Ok(Settling { lost, disabled, turned, released })
    }
}

/// What became of deliveries.
struct Moved {
    /// Those that were no longer ours: taken over by somebody else or called off.
    lost: Vec<DeliveryId>,
    /// The lanes of those that ended.
    left: BTreeSet<Lane>,
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

/// Records the attempts and moves the deliveries on. The log is true also of attempts from which nothing follows any more.
async fn record_and_move(connection: &DatabaseTransaction, batch: &[Settled]) -> Result<Moved, DbErr> {
    let updates = match connection.get_database_backend() {
        DbBackend::Sqlite => {
            ATTEMPTS.insert(connection, attempts(batch)).await?;
            SETTLED.runs(batch.iter().map(settlement).collect(), sqlite)
        }
        backend => {
            let mut values = Vec::from(ATTEMPTS.rows.arrays(attempts(batch)));
            values.extend(SETTLED.arrays(settlements_by_id(batch)));
            vec![Statement::from_sql_and_values(backend, TOGETHER.as_str(), values)]
        }
    };
    let mut ours = Vec::with_capacity(batch.len());
    let mut left = BTreeSet::new();
    for update in updates {
        for row in connection.query_all_raw(update).await? {
            ours.push(row.try_get::<Uuid>("", "id")?);
            let position: Option<i64> = row.try_get("", "position")?;
            if position.is_some() && row.try_get::<i16>("", "state")? != codes::PENDING {
                let subscription = row.try_get("", "subscription_uid")?;
                left.extend(Lane::of_row(subscription, row.try_get("", "ordering_key")?, position));
            }
        }
    }
    Ok(Moved { lost: lost(batch, ours), left })
}

/// The same for deliveries that stand in no lane, on PostgreSQL. Returns those that were no longer ours.
async fn record_and_move_alone(
    connection: &DatabaseConnection,
    batch: &[Settled],
) -> Result<Vec<DeliveryId>, DbErr> {
    let statement = Arrays::of(&ALONE)
        .with(&ATTEMPTS.rows, &attempts(batch))?
        .with(&SETTLED, &settlements_by_id(batch))?;
    let mut ours = Vec::new();
    for row in statement.run(connection).await? {
        ours = QueryResult::from(row).try_get::<Option<Vec<Uuid>>>("", "ids")?.unwrap_or_default();
    }
    Ok(lost(batch, ours))
}

/// Those of a batch that are not among `ours`.
fn lost(batch: &[Settled], ours: Vec<Uuid>) -> Vec<DeliveryId> {
    if ours.len() == batch.len() {
        return Vec::new();
    }
    let ours: HashSet<_> = ours.into_iter().collect();
    let deliveries = batch.iter().map(|settled| settled.delivery);
    deliveries.filter(|delivery| !ours.contains(&delivery.uuid())).collect()
}

fn attempts(batch: &[Settled]) -> Vec<[Cell<'_>; 16]> {
    let made = batch.iter().filter_map(|settled| Some((settled.delivery, settled.attempt.as_ref()?)));
    made.map(|(delivery, attempt)| rows::attempt_values(delivery, attempt)).collect()
}

/// Of two attempts at one delivery the later one counts, and of two equal ids the last place is found.
fn settlements_by_id(batch: &[Settled]) -> Vec<[Cell<'_>; 9]> {
    let mut by_id: Vec<_> = batch.iter().collect();
    by_id.sort_unstable_by_key(|settled| (settled.delivery.uuid(), settled.number));
    by_id.into_iter().map(settlement).collect()
}

fn settlement(settled: &Settled) -> [Cell<'_>; 9] {
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
    let span = match &settled.attempt {
        Some(attempt) => attempt.span.as_ref(),
        None => settled.previous_span.as_ref(),
    };
    [
        settled.delivery.uuid().into(),
        number.into(),
        settled.leased_until.as_micros().into(),
        state.into(),
        end_reason.into(),
        due_at.as_micros().into(),
        ended_at.map(Timestamp::as_micros).into(),
        span.map(crate::domain::trace_context::TraceContext::traceparent).into(),
        // What was not attempted does not count as an attempt.
        (number - i32::from(settled.attempt.is_none())).into(),
    ]
}

/// Has the tenants told whose deliveries have used up their schedules, of those that were still ours.
async fn tell_of_exhausted(
    transaction: &DatabaseTransaction,
    batch: &[Settled],
    lost: &[DeliveryId],
) -> Result<(), DbErr> {
    let notice = |settled: &Settled| {
        let exhausted = settled.exhausted.as_ref()?;
        let Target { tenant, id, uid, .. } = &*settled.target;
        let about = About { tenant, id, uid: *uid };
        let is_ours = !lost.contains(&settled.delivery);
        is_ours.then(|| about.exhausted(exhausted, settled.delivery, settled.number, settled.at))
    };
    let notices = batch.iter().filter_map(notice).collect();
    let now = batch.iter().map(|settled| settled.at).max().unwrap_or_default();
    operational_events::put(transaction, notices, now).await
}

/// Disables the subscriptions whose receivers want nothing more, unless they have been given another target since the attempt was
/// made; adds their tenants, and returns whether there were any.
async fn disable_unwanted(
    transaction: &DatabaseTransaction,
    batch: &[Settled],
    tenants: &mut BTreeSet<String>,
) -> Result<bool, DbErr> {
    let mut disabled = false;
    for settled in batch {
        let Some(reason) = settled.disables() else { continue };
        let is_open = Condition::all()
            .add(subscriptions::Column::TargetUrl.eq(settled.target.url.as_str()))
            .add(subscriptions::Column::DisabledAt.is_null())
            .add(subscriptions::Column::DeletedAt.is_null());
        let rows = lookup::locked_all(transaction, vec![settled.target.uid.uuid()], is_open).await?;
        for row in rows {
            tenants.insert(row.tenant_id.clone());
            store::failing::disable(transaction, row, reason, None, settled.at).await?;
            disabled = true;
        }
    }
    Ok(disabled)
}
