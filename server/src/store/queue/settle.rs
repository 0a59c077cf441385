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
    domain::{
        claim::Target, delivery::Settlement, id::DeliveryId, operational::About, trace_context::TraceContext,
    },
    store::{
        self, Error, Store,
        bulk::{Array, Arrays, Bulk, Cell, Column, Inserted, LISTED},
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

/// What leaves the queue, if it is still ours.
static REMOVED: Bulk<4> = Bulk::new(HOLD);

/// What becomes of what has left it.
static ENDED: Bulk<6> = Bulk::new([
    Column::uuid("settled_id"),
    Column::small_int("new_state"),
    Column::small_int("new_end_reason"),
    Column::big_int("new_ended_at"),
    Column::int("new_attempt_count"),
    Column::text("new_traceparent").or_null(),
]);

/// What stays in the queue, if it is still ours, and is put off.
static PUT_OFF: Bulk<6> = {
    let [id, number, held_until, attempt_count] = HOLD;
    let traceparent = Column::text("new_traceparent").or_null();
    Bulk::new([id, number, held_until, attempt_count, Column::big_int("new_due_at"), traceparent])
};

/// How a delivery is known to be still ours.
///
/// The number of an attempt is given once; that of a claim that was given back is given again to the next one. So where nothing was
/// attempted the lease must be ours as well: we may not have heard that the claim was given back, and repeat it.
const HOLD: [Column; 4] = [
    Column::uuid("settled_id"),
    Column::int("number"),
    Column::big_int("held_until"),
    Column::int("new_attempt_count"),
];

/// What is asked of those that were still ours.
const MOVED: &str = "id, subscription_uid, ordering_key, position";

/// SQLite's list of rows, whose columns it calls `column1` and so on.
fn sqlite_list<const N: usize>(bulk: &Bulk<N>, rows: &str) -> String {
    let columns = bulk.each_name(|number, name| format!("column{number} AS {name}"));
    format!("(SELECT {columns} FROM (VALUES {rows}) WHERE {LISTED}) AS settled")
}

/// [`HOLD`] in SQLite.
const SQLITE_HOLD: &str = "pending_deliveries.id = settled_id AND pending_deliveries.attempt_count = number
    AND (new_attempt_count = number OR pending_deliveries.due_at = held_until)";

fn sqlite_remove(rows: &str) -> String {
    let list = sqlite_list(&REMOVED, rows);
    format!(
        "DELETE FROM pending_deliveries WHERE id IN (
             SELECT id FROM {list} CROSS JOIN pending_deliveries ON {SQLITE_HOLD}
         )
         RETURNING {MOVED}, attempt_count"
    )
}

fn sqlite_end(rows: &str) -> String {
    let list = sqlite_list(&ENDED, rows);
    format!(
        "UPDATE deliveries SET state = new_state, end_reason = new_end_reason, ended_at = new_ended_at,
             attempt_count = new_attempt_count, last_traceparent = new_traceparent
         FROM {list} WHERE deliveries.id = settled_id"
    )
}

fn sqlite_put_off(rows: &str) -> String {
    let list = sqlite_list(&PUT_OFF, rows);
    format!(
        "UPDATE pending_deliveries SET due_at = new_due_at, last_traceparent = new_traceparent, attempt_count = new_attempt_count
         FROM {list} WHERE {SQLITE_HOLD}
         RETURNING {MOVED}"
    )
}

/// [`HOLD`] in PostgreSQL, of arrays.
///
/// They are in the order of the ids, so that a row finds its place in them by halving. Joining them as rows reads better, but
/// then the planner may go through all that is pending for each of them: it has no idea how few they are.
fn postgres_hold([ids, numbers, held, counts]: [Array; 4]) -> String {
    let place = format!("width_bucket(id, {ids})");
    format!(
        "id = ANY ({ids}) AND attempt_count = ({numbers})[{place}]
             AND (({counts})[{place}] = attempt_count OR due_at = ({held})[{place}])"
    )
}

/// Records the attempts and moves the deliveries on.
fn postgres() -> String {
    let attempts = ATTEMPTS.insertion(1);
    let removed = REMOVED.array_names(1 + 16);
    let [ended_ids, ended @ ..] = ENDED.array_names(1 + 16 + 4);
    let [id, number, held, count, due_at, traceparent] = PUT_OFF.array_names(1 + 16 + 4 + 6);
    let ended = ended.map(|array| array.at("place")).join(", ");
    let put_off = [due_at, traceparent, count].map(|array| array.at("place")).join(", ");
    format!(
        "WITH recorded AS ({attempts}),
         removed AS (DELETE FROM pending_deliveries WHERE {} RETURNING {MOVED}),
         ended AS (
             UPDATE deliveries SET (state, end_reason, ended_at, attempt_count, last_traceparent) = (
                 SELECT {ended} FROM (SELECT width_bucket(id, {ended_ids})) AS found (place)
             )
             WHERE id = ANY (ARRAY(SELECT id FROM removed))
         ),
         put_off AS (
             UPDATE pending_deliveries SET (due_at, last_traceparent, attempt_count) = (
                 SELECT {put_off} FROM (SELECT width_bucket(id, {id})) AS found (place)
             )
             WHERE {}
             RETURNING {MOVED}
         )",
        postgres_hold(removed),
        postgres_hold([id, number, held, count])
    )
}

/// Within a transaction that has more to do: with all that lanes need.
static TOGETHER: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} SELECT {MOVED}, TRUE AS ended FROM removed UNION ALL SELECT {MOVED}, FALSE FROM put_off",
        postgres()
    )
});

/// By itself: those that were still ours come back as one list.
static ALONE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} SELECT array_cat((SELECT array_agg(id) FROM removed), (SELECT array_agg(id) FROM put_off)) AS ids",
        postgres()
    )
});

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
        let Moved { ours, left } = record_and_move(&transaction, batch).await?;
        let lost = lost(batch, &ours);
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
#[derive(Default)]
struct Moved {
    /// Those that were still ours: not taken over by somebody else, nor called off.
    ours: HashSet<Uuid>,
    /// The lanes of those that ended.
    left: BTreeSet<Lane>,
}

impl Moved {
    fn add(
        &mut self,
        rows: Vec<QueryResult>,
        ended: impl Fn(&QueryResult) -> Result<bool, DbErr>,
    ) -> Result<(), DbErr> {
        for row in rows {
            self.ours.insert(row.try_get("", "id")?);
            if ended(&row)? {
                let subscription = row.try_get("", "subscription_uid")?;
                let (key, position) = (row.try_get("", "ordering_key")?, row.try_get("", "position")?);
                self.left.extend(Lane::of_row(subscription, key, position));
            }
        }
        Ok(())
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

/// Records the attempts and moves the deliveries on. The log is true also of attempts from which nothing follows any more.
async fn record_and_move(connection: &DatabaseTransaction, batch: &[Settled]) -> Result<Moved, DbErr> {
    let mut moved = Moved::default();
    let settlements = Settlements::of(batch);
    let backend = connection.get_database_backend();
    if backend == DbBackend::Sqlite {
        ATTEMPTS.insert(connection, attempts(batch)).await?;
        let mut removed = HashSet::new();
        for remove in REMOVED.lists(settlements.removed, sqlite_remove) {
            let rows = connection.query_all_raw(remove).await?;
            for row in &rows {
                removed.insert((row.try_get::<Uuid>("", "id")?, row.try_get::<i32>("", "attempt_count")?));
            }
            moved.add(rows, |_| Ok(true))?;
        }
        // Two attempts at one delivery may be in one batch, and one of them at most has ended it.
        let ended = settlements.ended.into_iter().zip(settlements.ends);
        let ended = ended.filter(|(_, end)| removed.contains(end)).map(|(row, _)| row).collect();
        for end in ENDED.lists(ended, sqlite_end) {
            connection.execute_raw(end).await?;
        }
        for put_off in PUT_OFF.lists(settlements.put_off, sqlite_put_off) {
            moved.add(connection.query_all_raw(put_off).await?, |_| Ok(false))?;
        }
    } else {
        let mut values = Vec::from(ATTEMPTS.rows.arrays(attempts(batch)));
        values.extend(REMOVED.arrays(settlements.removed));
        values.extend(ENDED.arrays(settlements.ended));
        values.extend(PUT_OFF.arrays(settlements.put_off));
        let statement = Statement::from_sql_and_values(backend, TOGETHER.as_str(), values);
        moved.add(connection.query_all_raw(statement).await?, |row| row.try_get("", "ended"))?;
    }
    Ok(moved)
}

/// The same for deliveries that stand in no lane, on PostgreSQL. Returns those that were no longer ours.
async fn record_and_move_alone(
    connection: &DatabaseConnection,
    batch: &[Settled],
) -> Result<Vec<DeliveryId>, DbErr> {
    let settlements = Settlements::of(batch);
    let statement = Arrays::of(&ALONE)
        .with(&ATTEMPTS.rows, &attempts(batch))?
        .with(&REMOVED, &settlements.removed)?
        .with(&ENDED, &settlements.ended)?
        .with(&PUT_OFF, &settlements.put_off)?;
    let mut ours = Vec::new();
    for row in statement.run(connection).await? {
        ours = QueryResult::from(row).try_get::<Option<Vec<Uuid>>>("", "ids")?.unwrap_or_default();
    }
    if ours.len() == batch.len() {
        return Ok(Vec::new());
    }
    Ok(lost(batch, &ours.into_iter().collect()))
}

/// Those of a batch that are not among `ours`.
fn lost(batch: &[Settled], ours: &HashSet<Uuid>) -> Vec<DeliveryId> {
    let deliveries = batch.iter().map(|settled| settled.delivery);
    deliveries.filter(|delivery| !ours.contains(&delivery.uuid())).collect()
}

fn attempts(batch: &[Settled]) -> Vec<[Cell<'_>; 16]> {
    let made = batch.iter().filter_map(|settled| Some((settled.delivery, settled.attempt.as_ref()?)));
    let mut rows = Vec::with_capacity(batch.len());
    rows.extend(made.map(|(delivery, attempt)| rows::attempt_values(delivery, attempt)));
    rows
}

/// The rows of a batch. Of two attempts at one delivery the later one counts, and of two equal ids the last place is found.
struct Settlements<'a> {
    removed: Vec<[Cell<'a>; 4]>,
    ended: Vec<[Cell<'a>; 6]>,
    /// Which attempt at which delivery each of these is for.
    ends: Vec<(Uuid, i32)>,
    put_off: Vec<[Cell<'a>; 6]>,
}

impl<'a> Settlements<'a> {
    fn of(batch: &'a [Settled]) -> Self {
        let mut by_id: Vec<_> = batch.iter().collect();
        by_id.sort_unstable_by_key(|settled| (settled.delivery.uuid(), settled.number));
        // Most of them end.
        let mut settlements = Self {
            removed: Vec::with_capacity(batch.len()),
            ended: Vec::with_capacity(batch.len()),
            ends: Vec::with_capacity(batch.len()),
            put_off: Vec::new(),
        };
        for settled in by_id {
            settlements.add(settled);
        }
        settlements
    }

    fn add(&mut self, settled: &'a Settled) {
        let id = || Cell::from(settled.delivery.uuid());
        let number = i32::try_from(settled.number.get()).unwrap_or(i32::MAX);
        // What was not attempted does not count as an attempt.
        let count = number - i32::from(settled.attempt.is_none());
        let span = match &settled.attempt {
            Some(attempt) => attempt.span.as_ref(),
            None => settled.previous_span.as_ref(),
        };
        let traceparent = span.map(TraceContext::traceparent).into();
        let held_until = settled.leased_until.as_micros().into();
        match settled.settlement {
            Settlement::RetryAt(due_at) => self.put_off.push([
                id(),
                number.into(),
                held_until,
                count.into(),
                due_at.as_micros().into(),
                traceparent,
            ]),
            Settlement::End(reason) => {
                self.removed.push([id(), number.into(), held_until, count.into()]);
                self.ends.push((settled.delivery.uuid(), number));
                self.ended.push([
                    id(),
                    codes::status_code(reason.status()).into(),
                    codes::end_reason_code(reason).into(),
                    settled.at.as_micros().into(),
                    count.into(),
                    traceparent,
                ]);
            }
        }
    }
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
