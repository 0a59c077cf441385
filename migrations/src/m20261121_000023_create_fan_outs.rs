//! Deliveries that an event is owed and that are still to be inserted: those of an event that very many subscriptions want.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // A row is one part of a fan-out: some hundred deliveries, which one transaction inserts while it deletes the row. So nothing
        // has to be counted, and nobody can do a part twice.
        let fan_outs = Table::create()
            .table("fan_outs")
            .col(ColumnDef::new("event_id").uuid().not_null())
            .col(ColumnDef::new("number").integer().not_null())
            .col(ColumnDef::new("tenant_id").text().not_null())
            // When anybody may take it over: now, or when the lease of whoever has it runs out.
            .col(ColumnDef::new("due_at").big_integer().not_null())
            // Their uids, 16 bytes each.
            .col(ColumnDef::new("subscriptions").blob().not_null())
            .primary_key(Index::create().col("event_id").col("number"))
            .check(Expr::cust("length(subscriptions) > 0 AND length(subscriptions) % 16 = 0"))
            .to_owned();
        manager.create_table(fan_outs).await?;
        // Finds a tenant's next part, and the next tenant.
        let due = Index::create()
            .name("fan_outs_due")
            .table("fan_outs")
            .col("tenant_id")
            .col("due_at")
            .col("event_id")
            .col("number")
            .to_owned();
        manager.create_index(due).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("fan_outs").to_owned()).await
    }
}
