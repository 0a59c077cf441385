//! Events without their payload. Ids are UUIDv7, so that the primary key is also the order of time.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let events = Table::create()
            .table("events")
            .col(ColumnDef::new("id").uuid().not_null().primary_key())
            .col(ColumnDef::new("tenant_id").text().not_null())
            .col(ColumnDef::new("type").text().not_null())
            .col(ColumnDef::new("source").text().not_null())
            .col(ColumnDef::new("subject").text().not_null())
            // When it happened, if the producer said so.
            .col(ColumnDef::new("occurred_at").big_integer())
            .col(ColumnDef::new("content_type").text().not_null())
            // A JSON object of strings; none if empty.
            .col(ColumnDef::new("attributes").text())
            .col(ColumnDef::new("request_id").text())
            // SHA-256 over the content: tells whether a request id is repeated or reused.
            .col(ColumnDef::new("fingerprint").blob())
            .col(ColumnDef::new("traceparent").text())
            .col(ColumnDef::new("tracestate").text())
            .col(ColumnDef::new("ordering_key").text())
            .col(ColumnDef::new("deliver_at").big_integer())
            .col(ColumnDef::new("expire_at").big_integer())
            .col(ColumnDef::new("priority").small_integer().not_null().default(0))
            .col(ColumnDef::new("delivery_count").integer().not_null())
            .col(ColumnDef::new("created_at").big_integer().not_null())
            .check(Expr::cust("(request_id IS NULL) = (fingerprint IS NULL)"))
            .to_owned();
        manager.create_table(events).await?;
        let request_ids = Index::create()
            .name("events_tenant_id_request_id")
            .table("events")
            .col("tenant_id")
            .col("request_id")
            .unique()
            .and_where(Expr::col("request_id").is_not_null())
            .to_owned();
        manager.create_index(request_ids).await?;
        let listing =
            Index::create().name("events_tenant_id_id").table("events").col("tenant_id").col("id").to_owned();
        manager.create_index(listing).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("events").to_owned()).await
    }
}
