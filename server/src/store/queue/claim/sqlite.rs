//! The claim as SQLite takes it: it has no `LATERAL`, no arrays, and no `LIMIT` that differs from row to row.
//!
//! And it has one writer. Looking for what is due can take long where many subscriptions wait, so a claim looks without being that, and
//! then only takes what it has found, if it still can.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value, prelude::Uuid};

use super::Sorted;
use crate::{
    dispatch::Ask,
    store::{
        Error, Store,
        queue::{
            bound::{LEASED_UNTIL, MAX_CLAIMED, NOW, PER_TENANT, ROOM},
            open::{Open, Specials, shares},
            special::{self, Admitted},
            stretch::Stretch,
        },
        sendable::SENDABLE,
    },
};

impl Store {
    /// Looks before it takes the right to write, which is then needed for a short time, or not at all.
    pub(super) async fn take_due_on_sqlite(&self, ask: &Ask, stretch: Stretch) -> Result<Sorted, Error> {
        let Found { deliveries, admitted } = look(&self.connections.looker, ask, stretch).await?;
        if deliveries.is_empty() {
            return Ok(Sorted::nothing(admitted));
        }
        let transaction = self.connections.begin_engine().await?;
        if admitted.is_nobody() {
            return self.take_over(transaction, take(ask, deliveries), admitted, ask, stretch).await;
        }
        // Who is special is decided on where nobody else can do so at this moment.
        let admitted = special::admit(&transaction, ask, stretch).await?;
        let statement = find_and_take(ask, stretch, &admitted);
        self.take_over(transaction, statement, admitted, ask, stretch).await
    }
}

/// What a claim could take over.
struct Found {
    deliveries: Vec<Uuid>,
    admitted: Admitted,
}

/// Finds what is due.
async fn look(looker: &impl ConnectionTrait, ask: &Ask, stretch: Stretch) -> Result<Found, DbErr> {
    let admitted = special::admit(looker, ask, stretch).await?;
    let (with, values) = candidates(ask, stretch, &admitted);
    let sql = format!("{with} {}", first());
    let rows = looker.query_all_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)).await?;
    let deliveries = rows.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>()?;
    Ok(Found { deliveries, admitted })
}

/// Takes over what was found, as far as it is still due and its subscription open.
fn take(ask: &Ask, found: Vec<Uuid>) -> Statement {
    let mut values: Vec<Value> = vec![ask.now.as_micros().into(), ask.leased_until.as_micros().into()];
    let ids: Vec<_> = (1..=found.len()).map(|nth| format!("${}", values.len() + nth)).collect();
    values.extend(found.into_iter().map(Value::from));
    let sql = format!(
        "UPDATE pending_deliveries SET attempt_count = attempt_count + 1, due_at = {LEASED_UNTIL}
         WHERE id IN ({}) AND due_at <= {NOW}
             AND EXISTS (
                 SELECT 1 FROM subscriptions
                 WHERE uid = subscription_uid AND {SENDABLE}
                     AND blocked_until IS NULL AND rate_per_second IS NULL
             )
         RETURNING {TAKEN}",
        ids.join(", ")
    );
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

/// Both at once.
fn find_and_take(ask: &Ask, stretch: Stretch, admitted: &Admitted) -> Statement {
    let (with, values) = candidates(ask, stretch, admitted);
    let sql = format!(
        "{with} UPDATE pending_deliveries SET attempt_count = attempt_count + 1, due_at = {LEASED_UNTIL} WHERE id IN ({}) RETURNING {TAKEN}",
        first()
    );
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

/// What is read of a delivery that is taken over.
const TAKEN: &str = "id, event_id, subscription_uid, attempt_count, last_traceparent";

/// Those of the candidates whose turn it is. Their number is a sum because SQLite prepares a statement again whenever it is told the
/// parameter of a `LIMIT`.
fn first() -> String {
    format!(
        "SELECT id FROM candidates WHERE turn + tenant_places <= {PER_TENANT}
         ORDER BY turn + tenant_places, round, turn_at LIMIT {ROOM} + 0"
    )
}

/// The limits of the looks at what is due, of which each subscription's is the least that is enough for its share.
const LOOKS: [usize; 4] = [4, 32, 128, MAX_CLAIMED];

/// The most overdue of those subscriptions whose shares are in a range, level by level.
fn most_overdue(more_than: usize, limit: usize) -> String {
    format!(
        "SELECT p.id, p.due_at + handicap AS turn_at, shares.*
         FROM shares CROSS JOIN levels CROSS JOIN pending_deliveries AS p
         WHERE share > {more_than} AND share <= {limit} AND p.id IN (
             SELECT id FROM pending_deliveries
             WHERE subscription_uid = shares.uid AND priority = levels.priority AND due_at <= {NOW}
             ORDER BY due_at LIMIT {limit}
         )"
    )
}

/// The table `candidates`, and its parameters.
fn candidates(ask: &Ask, stretch: Stretch, admitted: &Admitted) -> (String, Vec<Value>) {
    let Open { with, values } = Open::sqlite(ask, stretch, Specials::Admitted(admitted));
    let shares = shares("min");
    let mut more_than = 0;
    let most_overdue = LOOKS.map(|limit| most_overdue(std::mem::replace(&mut more_than, limit), limit));
    let with = format!(
        "WITH RECURSIVE {with}, {shares},
         most_overdue AS ({}),
         ranked AS (
             SELECT id, turn_at, tenant_id, tenant_places, held + share AS last_round,
                 row_number() OVER (PARTITION BY uid ORDER BY turn_at) + held AS round
             FROM most_overdue
         ),
         candidates AS (
             SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY round, turn_at) AS turn
             FROM ranked WHERE round <= last_round
         )",
        most_overdue.join(" UNION ALL ")
    );
    (with, values)
}
