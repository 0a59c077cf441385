//! Subscriptions, with their health in the row: what a node must know before it claims is never in a cache.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let subscriptions = Table::create()
            .table("subscriptions")
            .col(ColumnDef::new("uid").uuid().not_null().primary_key())
            .col(ColumnDef::new("tenant_id").text().not_null())
            .col(ColumnDef::new("id").text().not_null())
            .col(ColumnDef::new("description").text().not_null())
            .col(ColumnDef::new("target_url").text().not_null())
            // A JSON array of patterns.
            .col(ColumnDef::new("event_types").text().not_null())
            .col(ColumnDef::new("revision").big_integer().not_null())
            .col(ColumnDef::new("created_at").big_integer().not_null())
            .col(ColumnDef::new("updated_at").big_integer().not_null())
            .col(ColumnDef::new("paused_at").big_integer())
            .col(ColumnDef::new("disabled_at").big_integer())
            .col(ColumnDef::new("disabled_reason").small_integer())
            // The row stays for the deliveries that refer to it.
            .col(ColumnDef::new("deleted_at").big_integer())
            // For the circuit breaker and the failing policy.
            .col(ColumnDef::new("failing_since").big_integer())
            .col(ColumnDef::new("blocked_until").big_integer())
            .col(ColumnDef::new("concurrency_window").integer())
            .foreign_key(ForeignKey::create().from("subscriptions", "tenant_id").to("tenants", "id"))
            .check(Expr::cust("(disabled_at IS NULL) = (disabled_reason IS NULL)"))
            .to_owned();
        manager.create_table(subscriptions).await?;
        let names = Index::create()
            .name("subscriptions_tenant_id_id")
            .table("subscriptions")
            .col("tenant_id")
            .col("id")
            .unique()
            .and_where(Expr::col("deleted_at").is_null())
            .to_owned();
        manager.create_index(names).await?;
        let listing = Index::create()
            .name("subscriptions_tenant_id_uid")
            .table("subscriptions")
            .col("tenant_id")
            .col("uid")
            .to_owned();
        manager.create_index(listing).await?;
        let ended = Index::create()
            .name("subscriptions_ended")
            .table("subscriptions")
            .col("uid")
            .and_where(Expr::cust("deleted_at IS NOT NULL OR disabled_at IS NOT NULL"))
            .to_owned();
        manager.create_index(ended).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("subscriptions").to_owned()).await
    }
}
