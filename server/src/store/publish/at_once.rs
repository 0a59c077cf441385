//! A batch in one statement of PostgreSQL: one round trip, and a transaction by itself.
//!
//! The versions of the match tables are compared within the statement. It sees what was committed before it began, and with that
//! every subscription whose creation was answered before the publish was called.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, SqlErr, Statement, Value, sea_query::ArrayType,
};

use super::insert::{self, DELIVERIES, EVENTS, PAYLOADS};
use crate::{
    domain::id::TenantId,
    publish::{Batch, Commit, Fate},
};

static STATEMENT: LazyLock<String> = LazyLock::new(|| {
    // Rows come in only if no match table is out of date.
    let select = |select: String| format!("{select} WHERE NOT EXISTS (SELECT FROM stale)");
    // The first two parameters are the tenants and the versions.
    let events = EVENTS.insertion_to_the_last(&select(EVENTS.rows.select(3)));
    let payloads = PAYLOADS.insertion_to_the_last(&select(PAYLOADS.rows.select(3 + 18)));
    let deliveries = DELIVERIES.insertion_to_the_last(&select(DELIVERIES.rows.select(3 + 18 + 2)));
    format!(
        "WITH stale AS MATERIALIZED (
             SELECT known.tenant_id FROM unnest($1::text[], $2::bigint[]) AS known (tenant_id, version)
             WHERE (SELECT subscriptions_version FROM tenants WHERE id = known.tenant_id) IS DISTINCT FROM known.version
         ),
         new_events AS ({events}), new_payloads AS ({payloads}), new_deliveries AS ({deliveries})
         SELECT tenant_id FROM stale"
    )
});

/// Commits the batch; `None` if there is something unusual about it, and nothing was stored.
pub(super) async fn commit(writer: &DatabaseConnection, batch: &Batch) -> Result<Option<Commit>, DbErr> {
    let versions: Option<Vec<Value>> =
        batch.versions.iter().map(|(_, version)| version.map(Value::from)).collect();
    let Some(versions) = versions else {
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
    let tenants = batch.versions.iter().map(|(tenant, _)| tenant.as_str().into()).collect();
    let entries: Vec<_> = batch.entries.iter().collect();
    let mut values = vec![array(ArrayType::String, tenants), array(ArrayType::BigInt, versions)];
    values.extend(EVENTS.rows.arrays(insert::events(&batch.entries)));
    values.extend(PAYLOADS.rows.arrays(insert::payloads(&entries)));
    values.extend(DELIVERIES.rows.arrays(insert::deliveries(
        &entries,
        &HashMap::new(),
        batch.due_at,
        batch.leased_until,
    )));
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, STATEMENT.as_str(), values);
    match writer.query_all_raw(statement).await {
        Ok(stale) if stale.is_empty() => {
            let fates = vec![Fate::Stored; batch.entries.len()];
            Ok(Some(Commit::Done { fates, parked: HashSet::new() }))
        }
        Ok(stale) => {
            let tenant = |row: &sea_orm::QueryResult| row.try_get::<String>("", "tenant_id");
            let stale = stale.iter().map(tenant).collect::<Result<Vec<_>, _>>()?;
            Ok(Some(Commit::Stale(stale.iter().map(|id| TenantId::from_stored(id)).collect())))
        }
        // A request id is known already, or comes twice.
        Err(cause) if matches!(cause.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Ok(None),
        Err(cause) => Err(cause),
    }
}

fn array(of: ArrayType, values: Vec<Value>) -> Value {
    Value::Array(of, Some(Box::new(values)))
}
