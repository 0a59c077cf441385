//! Has PostgreSQL compress large values with lz4. Its own method takes several times as long as all else that it does with an event of
//! some KiB: with data of 12 KiB on average, publishes per second rose by two thirds.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// What may be larger than the 2 KiB from which PostgreSQL compresses.
const LARGE: [(&str, &str); 3] =
    [("payloads", "data"), ("attempts", "response_headers"), ("attempts", "response_body")];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        compress(manager, "lz4").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        compress(manager, "default").await
    }
}

/// For values that are written from now on. Changes nothing on a server that is too old to know methods (before 14) or was built
/// without this one.
async fn compress(manager: &SchemaManager<'_>, method: &str) -> Result<(), DbErr> {
    if manager.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    for (table, column) in LARGE {
        let sql = format!(
            "DO $$ BEGIN
                 EXECUTE 'ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION {method}';
             EXCEPTION WHEN feature_not_supported OR syntax_error THEN NULL;
             END $$"
        );
        manager.get_connection().execute_unprepared(&sql).await?;
    }
    Ok(())
}
