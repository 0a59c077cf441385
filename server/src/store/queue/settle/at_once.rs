//! Settles in one way to the database and back, which is a transaction by itself.

use std::collections::HashSet;

use sea_orm::{DatabaseConnection, DbBackend, DbErr, QueryResult, prelude::Uuid};

use super::{lost, statements};
use crate::{dispatch::Settled, domain::id::DeliveryId, store::bulk::Script};

/// Settles a batch of which nothing but deliveries changes, that stand in no lane. Returns those that were no longer ours; `None`, and nothing
/// was done, if it cannot be done so, as there are too many of them for instance.
pub(super) async fn settle(
    engine: &DatabaseConnection,
    batch: &[Settled],
) -> Result<Option<Vec<DeliveryId>>, DbErr> {
    let ours = if engine.get_database_backend() == DbBackend::Sqlite {
        if batch.len() > Script::MAX_ROWS {
            return Ok(None);
        }
        let script = Script::default().with(statements::lists(batch));
        let Some(rows) = script.commit(engine).await? else { return Ok(None) };
        rows.iter().map(|row| row.try_get("", "id")).collect::<Result<Vec<Uuid>, _>>()?
    } else {
        let mut ours = Vec::new();
        for row in statements::at_once(batch)?.run(engine).await? {
            ours = QueryResult::from(row).try_get::<Option<Vec<Uuid>>>("", "ids")?.unwrap_or_default();
        }
        ours
    };
    if ours.len() == batch.len() {
        return Ok(Some(Vec::new()));
    }
    Ok(Some(lost(batch, &ours.into_iter().collect::<HashSet<_>>())))
}
