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
        bulk::{Array, Arrays, Bulk, Cell, Column, Inserted, List, Parameters, Script},
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

/// What ends and leaves the queue, if it is still ours.
static ENDED: Bulk<8> = {
    let [id, number, held_until, attempt_count] = HOLD;
    Bulk::new([
        id,
        number,
        held_until,
        attempt_count,
        Column::small_int("new_state"),
        Column::small_int("new_end_reason"),
        Column::big_int("new_ended_at"),
        Column::text("new_traceparent").or_null(),
    ])
};

/// The same without what becomes of it, for SQLite.
static REMOVED: Bulk<4> = Bulk::new(HOLD);

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

/// SQLite's list of rows and what they find in the queue, by [`HOLD`]. The list comes first: it is short.
fn sqlite_held<const N: usize>(bulk: &Bulk<N>, rows: &str) -> String {
    format!(
        "({}) AS settled CROSS JOIN pending_deliveries AS held ON held.id = settled_id
             AND held.attempt_count = number AND (new_attempt_count = number OR held.due_at = held_until)",
        bulk.list(rows)
    )
}

fn sqlite_end(rows: &str) -> String {
    format!(
        "UPDATE deliveries SET state = new_state, end_reason = new_end_reason, ended_at = new_ended_at,
             attempt_count = new_attempt_count, last_traceparent = new_traceparent
         FROM {} WHERE deliveries.id = settled_id",
        sqlite_held(&ENDED, rows)
    )
}

fn sqlite_remove(rows: &str) -> String {
    format!(
        "DELETE FROM pending_deliveries WHERE id IN (SELECT held.id FROM {})
         RETURNING {MOVED}, TRUE AS ended",
        sqlite_held(&REMOVED, rows)
    )
}

fn sqlite_put_off(rows: &str) -> String {
    format!(
        "UPDATE pending_deliveries SET due_at = new_due_at, last_traceparent = new_traceparent, attempt_count = new_attempt_count
         FROM {} WHERE pending_deliveries.id = settled_id
         RETURNING {MOVED}, FALSE AS ended",
        sqlite_held(&PUT_OFF, rows)
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
    let mut bound = Parameters::default();
    let attempts = ATTEMPTS.insertion(&mut bound);
    let [ended_id, ended_number, ended_held, ended_count, state, reason, ended_at, ended_traceparent] =
        ENDED.array_names(&mut bound);
    let [id, number, held, count, due_at, traceparent] = PUT_OFF.array_names(&mut bound);
    let ended =
        [state, reason, ended_at, ended_count, ended_traceparent].map(|array| array.at("place")).join(", ");
    let put_off = [due_at, traceparent, count].map(|array| array.at("place")).join(", ");
    format!(
        "WITH recorded AS ({attempts}),
         removed AS (DELETE FROM pending_deliveries WHERE {} RETURNING {MOVED}),
         ended AS (
             UPDATE deliveries SET (state, end_reason, ended_at, attempt_count, last_traceparent) = (
                 SELECT {ended} FROM (SELECT width_bucket(id, {ended_id})) AS found (place)
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
        postgres_hold([ended_id, ended_number, ended_held, ended_count]),
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
        if batch.iter().all(concerns_deliveries_alone)
            && let Some(lost) = record_and_move_alone(&self.connections.engine, batch).await?
        {
            return Ok(Settling { lost, ..Settling::default() });
        }
        let transaction = self.connections.begin_engine().await?;
        lanes::lock(&transaction, &lanes_of(batch)).await?;
        let Moved { ours, mut left } = record_and_move(&transaction, batch).await?;
        let lost = lost(batch, &ours);
        left.extend(attempts_over(&transaction, batch, &ours).await?);
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
    fn add(&mut self, rows: Vec<QueryResult>) -> Result<(), DbErr> {
        for row in rows {
            self.ours.insert(row.try_get("", "id")?);
            if row.try_get("", "ended")? {
                let subscription = row.try_get("", "subscription_uid")?;
                let (key, position) = (row.try_get("", "ordering_key")?, row.try_get("", "position")?);
                self.left.extend(Lane::of_row(subscription, key, position));
            }
        }
        Ok(())
    }
}

/// The lanes that deliveries stand in, or did before they ended.
fn lanes_of(batch: &[Settled]) -> BTreeSet<Lane> {
    batch.iter().filter_map(lane_of).collect()
}

fn lane_of(settled: &Settled) -> Option<Lane> {
    Some(Lane::new(settled.target.uid, settled.ordering_key.as_ref()?))
}

/// Frees the lanes that attempts kept busy whose deliveries had ended before them. Returns those lanes.
async fn attempts_over(
    transaction: &DatabaseTransaction,
    batch: &[Settled],
    ours: &HashSet<Uuid>,
) -> Result<Vec<Lane>, DbErr> {
    let lost = batch.iter().filter(|settled| !ours.contains(&settled.delivery.uuid()));
    let leases: Vec<_> = lost.filter_map(|settled| Some((lane_of(settled)?, settled.leased_until))).collect();
    lanes::attempts_over(transaction, leases.iter().map(|(lane, until)| (lane, *until))).await?;
    Ok(leases.into_iter().map(|(lane, _)| lane).collect())
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
    if connection.get_database_backend() == DbBackend::Sqlite {
        let lists = lists(attempts(batch), settlements);
        if batch.len() <= Script::MAX_ROWS {
            moved.add(Script::default().with(lists).run(connection).await?)?;
        } else {
            for list in lists {
                moved.add(connection.query_all_raw(list.into()).await?)?;
            }
        }
    } else {
        let mut values = Vec::from(ATTEMPTS.rows.arrays(attempts(batch)));
        values.extend(ENDED.arrays(settlements.ended));
        values.extend(PUT_OFF.arrays(settlements.put_off));
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, TOGETHER.as_str(), values);
        moved.add(connection.query_all_raw(statement).await?)?;
    }
    Ok(moved)
}

/// SQLite's statements.
fn lists<'a>(attempts: Vec<[Cell<'a>; 16]>, settlements: Settlements<'a>) -> Vec<List<'a>> {
    let Settlements { ended, put_off } = settlements;
    let removed = ended.iter().map(|[id, number, held_until, count, ..]| {
        [id.clone(), number.clone(), held_until.clone(), count.clone()]
    });
    let removed = removed.collect();
    let lists = [
        ATTEMPTS.lists(attempts),
        // What has ended is known by what is still in the queue.
        ENDED.lists(ended, 1, sqlite_end),
        REMOVED.lists(removed, 1, sqlite_remove),
        PUT_OFF.lists(put_off, 1, sqlite_put_off),
    ];
    lists.into_iter().flatten().collect()
}

/// The same for deliveries that stand in no lane, at once: one way to the database and back, and a transaction by itself. Returns those that were
/// no longer ours; `None` if it cannot be done so, as there are too many of them for instance, and nothing was.
async fn record_and_move_alone(
    engine: &DatabaseConnection,
    batch: &[Settled],
) -> Result<Option<Vec<DeliveryId>>, DbErr> {
    let is_sqlite = engine.get_database_backend() == DbBackend::Sqlite;
    if is_sqlite && batch.len() > Script::MAX_ROWS {
        return Ok(None);
    }
    let settlements = Settlements::of(batch);
    let ours = if is_sqlite {
        let script = Script::default().with(lists(attempts(batch), settlements));
        let Some(rows) = script.commit(engine).await? else { return Ok(None) };
        rows.iter().map(|row| row.try_get("", "id")).collect::<Result<Vec<Uuid>, _>>()?
    } else {
        let statement = Arrays::of(&ALONE)
            .with(&ATTEMPTS.rows, &attempts(batch))?
            .with(&ENDED, &settlements.ended)?
            .with(&PUT_OFF, &settlements.put_off)?;
        let mut ours = Vec::new();
        for row in statement.run(engine).await? {
            ours = QueryResult::from(row).try_get::<Option<Vec<Uuid>>>("", "ids")?.unwrap_or_default();
        }
        ours
    };
    if ours.len() == batch.len() {
        return Ok(Some(Vec::new()));
    }
    Ok(Some(lost(batch, &ours.into_iter().collect())))
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
    ended: Vec<[Cell<'a>; 8]>,
    put_off: Vec<[Cell<'a>; 6]>,
}

impl<'a> Settlements<'a> {
    fn of(batch: &'a [Settled]) -> Self {
        let mut by_id: Vec<_> = batch.iter().collect();
        by_id.sort_unstable_by_key(|settled| (settled.delivery.uuid(), settled.number));
        // Most of them end.
        let mut settlements = Self { ended: Vec::with_capacity(batch.len()), put_off: Vec::new() };
        for settled in by_id {
            settlements.add(settled);
        }
        settlements
    }

    fn add(&mut self, settled: &'a Settled) {
        let number = i32::try_from(settled.number.get()).unwrap_or(i32::MAX);
        // What was not attempted does not count as an attempt.
        let count = number - i32::from(settled.attempt.is_none());
        let span = match &settled.attempt {
            Some(attempt) => attempt.span.as_ref(),
            None => settled.previous_span.as_ref(),
        };
        let traceparent = span.map(TraceContext::traceparent).into();
        let (id, held_until) = (settled.delivery.uuid().into(), settled.leased_until.as_micros().into());
        let (number, count) = (number.into(), count.into());
        match settled.settlement {
            Settlement::RetryAt(due_at) => {
                self.put_off.push([id, number, held_until, count, due_at.as_micros().into(), traceparent]);
            }
            Settlement::End(reason) => self.ended.push([
                id,
                number,
                held_until,
                count,
                codes::status_code(reason.status()).into(),
                codes::end_reason_code(reason).into(),
                settled.at.as_micros().into(),
                traceparent,
            ]),
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
