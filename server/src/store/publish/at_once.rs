//! A batch at once: one way to the database and back, and a transaction by itself. On PostgreSQL it is a statement, on SQLite a script.
//!
//! The versions of the match tables are compared within. It sees what was committed before it began, and with that
//! every subscription whose creation was answered before the publish was called.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use sea_orm::{DatabaseConnection, DbBackend, DbErr, QueryResult, SqlErr, sqlx::postgres::PgRow};

use super::insert::{self, DELIVERIES, EVENTS, NEW_EVENTS, NewDeliveries, PAYLOADS, PENDING_DELIVERIES};
use crate::{
    domain::id::TenantId,
    publish::{Batch, Commit, Entry, Fate},
    store::{
        bulk::{Arrays, Bulk, Cell, Column, Parameters, Script},
        database::Connections,
    },
};

/// The match tables that a batch was made with.
static TABLES: Bulk<2> = Bulk::new([Column::text("tenant_id"), Column::big_int("version")]);

/// Whether one of them, `known`, is out of date.
const IS_STALE: &str = "(SELECT subscriptions_version FROM tenants WHERE id = known.tenant_id)
    IS DISTINCT FROM known.version";

static STATEMENT: LazyLock<String> = LazyLock::new(|| {
    // Rows come in only if no match table is out of date.
    let select = |select: String| format!("{select} WHERE NOT EXISTS (SELECT FROM stale)");
    let mut bound = Parameters::default();
    let known = TABLES.select(&mut bound);
    let events = EVENTS.insertion_to_the_last(&select(EVENTS.rows.select(&mut bound)));
    let payloads = PAYLOADS.insertion_to_the_last(&select(PAYLOADS.rows.select(&mut bound)));
    let deliveries = DELIVERIES.insertion_to_the_last(&select(DELIVERIES.rows.select(&mut bound)));
    let pending =
        PENDING_DELIVERIES.insertion_to_the_last(&select(PENDING_DELIVERIES.rows.select(&mut bound)));
    format!(
        "WITH stale AS MATERIALIZED (
             SELECT known.tenant_id FROM ({known}) AS known
             WHERE {IS_STALE}
         ),
         new_events AS ({events}), new_payloads AS ({payloads}), new_deliveries AS ({deliveries}),
             newly_pending AS ({pending})
         SELECT tenant_id FROM stale"
    )
});

/// On SQLite nothing ends a script but an error: here that of a row without an id, if any of the listed match tables is out of date.
fn assert_versions(rows: &str) -> String {
    format!(
        "INSERT INTO tenants (id) SELECT NULL FROM ({}) AS known
         WHERE {IS_STALE}",
        TABLES.list(rows)
    )
}

/// The rows of a batch.
struct Rows<'a> {
    tables: Vec<[Cell<'a>; 2]>,
    events: Vec<[Cell<'a>; 18]>,
    payloads: Vec<[Cell<'a>; 2]>,
    deliveries: NewDeliveries<'a>,
}

impl<'a> Rows<'a> {
    /// `None` if there is something unusual about the batch.
    fn of(batch: &'a Batch) -> Option<Self> {
        // Lanes are locked first, and what is to be fanned out is rare, and in another table.
        let is_usual =
            |entry: &Entry| entry.event.content.handling.ordering_key.is_none() && entry.later.is_empty();
        if !batch.entries.iter().all(is_usual) {
            return None;
        }
        // Without a version a tenant comes into being.
        let table = |(tenant, version): &'a (TenantId, Option<i64>)| {
            Some([tenant.as_str().into(), (*version)?.into()])
        };
        let entries: Vec<_> = batch.entries.iter().collect();
        Some(Self {
            tables: batch.versions.iter().map(table).collect::<Option<_>>()?,
            events: insert::events(&batch.entries),
            payloads: insert::payloads(&entries),
            deliveries: NewDeliveries::of(&entries, &HashMap::new(), batch.due_at, batch.leased_until),
        })
    }
}

/// Commits the batch; `None` if there is something unusual about it, and nothing was stored.
pub(super) async fn commit(connections: &Connections, batch: &Batch) -> Result<Option<Commit>, DbErr> {
    if connections.backend() == DbBackend::Sqlite && !is_small(batch) {
        return Ok(None);
    }
    let Some(rows) = Rows::of(batch) else { return Ok(None) };
    let stale = match connections.backend() {
        DbBackend::Sqlite => by_script(&connections.engine, rows).await?,
        _ => by_statement(&connections.engine, rows).await?,
    };
    Ok(stale.map(|stale| {
        if stale.is_empty() {
            let fates = vec![Fate::Stored; batch.entries.len()];
            Commit::Done { fates, parked: HashSet::new(), owes: false }
        } else {
            Commit::Stale(stale)
        }
    }))
}

/// Returns the tenants whose match tables are out of date; if there are any, nothing was stored.
async fn by_statement(engine: &DatabaseConnection, rows: Rows<'_>) -> Result<Option<Vec<TenantId>>, DbErr> {
    let statement = Arrays::of(&STATEMENT)
        .with(&TABLES, &rows.tables)?
        .with(&EVENTS.rows, &rows.events)?
        .with(&PAYLOADS.rows, &rows.payloads)?
        .with(&DELIVERIES.rows, &rows.deliveries.kept)?
        .with(&PENDING_DELIVERIES.rows, &rows.deliveries.pending)?;
    let tenant = |row: PgRow| {
        let id = QueryResult::from(row).try_get::<String>("", "tenant_id")?;
        Ok(TenantId::from_stored(&id))
    };
    match statement.run(engine).await {
        Ok(stale) => stale.into_iter().map(tenant).collect::<Result<_, _>>().map(Some),
        // A request id is known already, or comes twice.
        Err(cause) if matches!(cause.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Whether a script can carry it.
fn is_small(batch: &Batch) -> bool {
    let deliveries = batch.entries.iter().map(|entry| entry.deliveries.len()).sum();
    batch.entries.len().max(deliveries) <= Script::MAX_ROWS
}

/// Here it is unusual as well that a match table is out of date.
async fn by_script(engine: &DatabaseConnection, rows: Rows<'_>) -> Result<Option<Vec<TenantId>>, DbErr> {
    let Rows { tables, events, payloads, deliveries } = rows;
    let script = Script::default()
        .with(TABLES.lists(tables, events.len(), assert_versions))
        .with(NEW_EVENTS.lists(events))
        .with(PAYLOADS.lists(payloads))
        .with(DELIVERIES.lists(deliveries.kept))
        .with(PENDING_DELIVERIES.lists(deliveries.pending));
    Ok(script.commit(engine).await?.map(|_| Vec::new()))
}
