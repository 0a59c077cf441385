//! A batch in one statement of PostgreSQL: one round trip, and a transaction by itself.
//!
//! The versions of the match tables are compared within the statement. It sees what was committed before it began, and with that
//! every subscription whose creation was answered before the publish was called.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use sea_orm::{DatabaseConnection, DbErr, QueryResult, SqlErr, sqlx::postgres::PgRow};

use super::insert::{self, DELIVERIES, EVENTS, NewDeliveries, PAYLOADS, PENDING_DELIVERIES};
use crate::{
    domain::id::TenantId,
    publish::{Batch, Commit, Fate},
    store::bulk::{Arrays, Bulk, Column},
};

/// The match tables that a batch was made with.
static TABLES: Bulk<2> = Bulk::new([Column::text("tenant_id"), Column::big_int("version")]);

static STATEMENT: LazyLock<String> = LazyLock::new(|| {
    // Rows come in only if no match table is out of date.
    let select = |select: String| format!("{select} WHERE NOT EXISTS (SELECT FROM stale)");
    let known = TABLES.select(1);
    let events = EVENTS.insertion_to_the_last(&select(EVENTS.rows.select(3)));
    let payloads = PAYLOADS.insertion_to_the_last(&select(PAYLOADS.rows.select(3 + 18)));
    let deliveries = DELIVERIES.insertion_to_the_last(&select(DELIVERIES.rows.select(3 + 18 + 2)));
    let pending =
        PENDING_DELIVERIES.insertion_to_the_last(&select(PENDING_DELIVERIES.rows.select(3 + 18 + 2 + 6)));
    format!(
        "WITH stale AS MATERIALIZED (
             SELECT known.tenant_id FROM ({known}) AS known
             WHERE (SELECT subscriptions_version FROM tenants WHERE id = known.tenant_id) IS DISTINCT FROM known.version
         ),
         new_events AS ({events}), new_payloads AS ({payloads}), new_deliveries AS ({deliveries}),
             newly_pending AS ({pending})
         SELECT tenant_id FROM stale"
    )
});

/// Commits the batch; `None` if there is something unusual about it, and nothing was stored.
pub(super) async fn commit(writer: &DatabaseConnection, batch: &Batch) -> Result<Option<Commit>, DbErr> {
    let tables =
        batch.versions.iter().map(|(tenant, version)| Some([tenant.as_str().into(), (*version)?.into()]));
    let Some(tables) = tables.collect::<Option<Vec<_>>>() else {
        // A tenant comes into being.
        return Ok(None);
    };
    if batch.entries.iter().any(|entry| entry.event.content.handling.ordering_key.is_some()) {
        // Lanes are locked first.
        return Ok(None);
    }
    if batch.entries.iter().any(|entry| !entry.later.is_empty()) {
        // Rare, and in another table.
        return Ok(None);
    }
    let entries: Vec<_> = batch.entries.iter().collect();
    let deliveries = NewDeliveries::of(&entries, &HashMap::new(), batch.due_at, batch.leased_until);
    let statement = Arrays::of(&STATEMENT)
        .with(&TABLES, &tables)?
        .with(&EVENTS.rows, &insert::events(&batch.entries))?
        .with(&PAYLOADS.rows, &insert::payloads(&entries))?
        .with(&DELIVERIES.rows, &deliveries.kept)?
        .with(&PENDING_DELIVERIES.rows, &deliveries.pending)?;
    match statement.run(writer).await {
        Ok(stale) if stale.is_empty() => {
            let fates = vec![Fate::Stored; batch.entries.len()];
            Ok(Some(Commit::Done { fates, parked: HashSet::new() }))
        }
        Ok(stale) => {
            let tenant = |row: PgRow| QueryResult::from(row).try_get::<String>("", "tenant_id");
            let stale = stale.into_iter().map(tenant).collect::<Result<Vec<_>, _>>()?;
            Ok(Some(Commit::Stale(stale.iter().map(|id| TenantId::from_stored(id)).collect())))
        }
        // A request id is known already, or comes twice.
        Err(cause) if matches!(cause.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Ok(None),
        Err(cause) => Err(cause),
    }
}
