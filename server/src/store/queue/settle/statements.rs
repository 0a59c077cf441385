//! The statements that record attempts and move their deliveries on, if they are still ours, and what they carry.

use std::sync::LazyLock;

use sea_orm::{DbBackend, DbErr, Statement};

use crate::{
    dispatch::Settled,
    domain::{delivery::Settlement, trace_context::TraceContext},
    store::{
        bulk::{Array, Arrays, Bulk, Cell, Column, Inserted, List, Parameters},
        codes, rows,
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

/// What stays in the queue, if it is still ours, for another attempt.
static RETRIED: Bulk<6> = {
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

fn sqlite_retry(rows: &str) -> String {
    format!(
        "UPDATE pending_deliveries SET due_at = new_due_at, last_traceparent = new_traceparent, attempt_count = new_attempt_count
         FROM {} WHERE pending_deliveries.id = settled_id
         RETURNING {MOVED}, FALSE AS ended",
        sqlite_held(&RETRIED, rows)
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
    let [id, number, held, count, due_at, traceparent] = RETRIED.array_names(&mut bound);
    let ended =
        [state, reason, ended_at, ended_count, ended_traceparent].map(|array| array.at("place")).join(", ");
    let retried = [due_at, traceparent, count].map(|array| array.at("place")).join(", ");
    format!(
        "WITH recorded AS ({attempts}),
         removed AS (DELETE FROM pending_deliveries WHERE {} RETURNING {MOVED}),
         ended AS (
             UPDATE deliveries SET (state, end_reason, ended_at, attempt_count, last_traceparent) = (
                 SELECT {ended} FROM (SELECT width_bucket(id, {ended_id})) AS found (place)
             )
             WHERE id = ANY (ARRAY(SELECT id FROM removed))
         ),
         retried AS (
             UPDATE pending_deliveries SET (due_at, last_traceparent, attempt_count) = (
                 SELECT {retried} FROM (SELECT width_bucket(id, {id})) AS found (place)
             )
             WHERE {}
             RETURNING {MOVED}
         )",
        postgres_hold([ended_id, ended_number, ended_held, ended_count]),
        postgres_hold([id, number, held, count])
    )
}

/// Within a transaction that has more to do: with all that lanes need.
static WITHIN_TRANSACTION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} SELECT {MOVED}, TRUE AS ended FROM removed UNION ALL SELECT {MOVED}, FALSE FROM retried",
        postgres()
    )
});

/// By itself: those that were still ours come back as one list.
static AT_ONCE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} SELECT array_cat((SELECT array_agg(id) FROM removed), (SELECT array_agg(id) FROM retried)) AS ids",
        postgres()
    )
});

/// SQLite's statements.
pub(super) fn lists(batch: &[Settled]) -> Vec<List<'_>> {
    let Settlements { ended, retried } = Settlements::of(batch);
    let removed = ended.iter().map(|[id, number, held_until, count, ..]| {
        [id.clone(), number.clone(), held_until.clone(), count.clone()]
    });
    let removed = removed.collect();
    let lists = [
        ATTEMPTS.lists(attempts(batch)),
        // What has ended is known by what is still in the queue.
        ENDED.lists(ended, 1, sqlite_end),
        REMOVED.lists(removed, 1, sqlite_remove),
        RETRIED.lists(retried, 1, sqlite_retry),
    ];
    lists.into_iter().flatten().collect()
}

/// PostgreSQL's statement within a transaction.
pub(super) fn within_transaction(batch: &[Settled]) -> Statement {
    let settlements = Settlements::of(batch);
    let mut values = Vec::from(ATTEMPTS.rows.arrays(attempts(batch)));
    values.extend(ENDED.arrays(settlements.ended));
    values.extend(RETRIED.arrays(settlements.retried));
    Statement::from_sql_and_values(DbBackend::Postgres, WITHIN_TRANSACTION.as_str(), values)
}

/// PostgreSQL's statement that is a transaction by itself.
pub(super) fn at_once(batch: &[Settled]) -> Result<Arrays, DbErr> {
    let settlements = Settlements::of(batch);
    Arrays::of(&AT_ONCE)
        .with(&ATTEMPTS.rows, &attempts(batch))?
        .with(&ENDED, &settlements.ended)?
        .with(&RETRIED, &settlements.retried)
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
    retried: Vec<[Cell<'a>; 6]>,
}

impl<'a> Settlements<'a> {
    fn of(batch: &'a [Settled]) -> Self {
        let mut by_id: Vec<_> = batch.iter().collect();
        by_id.sort_unstable_by_key(|settled| (settled.delivery.uuid(), settled.number));
        // Most of them end.
        let mut settlements = Self { ended: Vec::with_capacity(batch.len()), retried: Vec::new() };
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
                self.retried.push([id, number, held_until, count, due_at.as_micros().into(), traceparent]);
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
