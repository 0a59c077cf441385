//! Where the events of an ordering key stand among those that are being fanned out.
//!
//! A node of an earlier version would take parts without a look at that: stop them first.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let by_bytes = match manager.get_database_backend() {
            DbBackend::Postgres => r#"COLLATE "C""#,
            _ => "",
        };
        let connection = manager.get_connection();
        // Both or neither: what has no ordering key waits for nobody.
        let key = format!("ALTER TABLE fan_outs ADD COLUMN ordering_key text {by_bytes}");
        connection.execute_unprepared(&key).await?;
        let position = "ALTER TABLE fan_outs ADD COLUMN position bigint
            CHECK ((position IS NULL) = (ordering_key IS NULL))";
        connection.execute_unprepared(position).await?;
        let in_order = Index::create()
            .name("fan_outs_in_order")
            .table("fan_outs")
            .col("tenant_id")
            .col("ordering_key")
            .col("position")
            .col("event_id")
            .col("number")
            .and_where(Expr::col("ordering_key").is_not_null())
            .to_owned();
        manager.create_index(in_order).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("fan_outs_in_order").table("fan_outs").to_owned()).await?;
        for column in ["position", "ordering_key"] {
            let drop = Table::alter().table("fan_outs").drop_column(column).to_owned();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}
