//! Deliveries: the queue itself. There is no foreign key on the hot path (they cost about 7 % of throughput).

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let deliveries = Table::create()
            .table("deliveries")
            .col(ColumnDef::new("id").uuid().not_null().primary_key())
            .col(ColumnDef::new("event_id").uuid().not_null())
            .col(ColumnDef::new("subscription_uid").uuid().not_null())
            .col(ColumnDef::new("tenant_id").text().not_null())
            .col(ColumnDef::new("state").small_integer().not_null())
            .col(ColumnDef::new("end_reason").small_integer())
            .col(ColumnDef::new("attempt_count").integer().not_null())
            .col(ColumnDef::new("due_at").big_integer().not_null())
            .col(ColumnDef::new("created_at").big_integer().not_null())
            .col(ColumnDef::new("ended_at").big_integer())
            .col(ColumnDef::new("priority").small_integer().not_null().default(0))
            .col(ColumnDef::new("ordering_key").text())
            .col(ColumnDef::new("expire_at").big_integer())
            // The span of the latest attempt, for the next one to link to.
            .col(ColumnDef::new("last_traceparent").text())
            // State 0 is pending; every other state is an end and has a reason and a time.
            .check(Expr::cust("(state = 0) = (end_reason IS NULL)"))
            .check(Expr::cust("(state = 0) = (ended_at IS NULL)"))
            .check(Expr::cust("attempt_count >= 0"))
            .to_owned();
        manager.create_table(deliveries).await?;
        // The claim reads this one: which subscriptions have something pending, and what of each is due.
        let pending = Index::create()
            .name("deliveries_pending")
            .table("deliveries")
            .col("subscription_uid")
            .col("due_at")
            .and_where(Expr::col("state").eq(0))
            .to_owned();
        manager.create_index(pending).await?;
        for (name, column) in [
            ("deliveries_event_id_id", "event_id"),
            ("deliveries_subscription_uid_id", "subscription_uid"),
            ("deliveries_tenant_id_id", "tenant_id"),
        ] {
            let listing = Index::create().name(name).table("deliveries").col(column).col("id").to_owned();
            manager.create_index(listing).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("deliveries").to_owned()).await
    }
}
