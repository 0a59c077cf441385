//! What tenants are to be told of their subscriptions and deliveries: written together with what it tells of, and deleted when it is
//! published.

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
            .table("operational_events")
            // UUIDv7. Also the request id that it is published with, so that twice is once.
            .col(ColumnDef::new("id").uuid().not_null().primary_key())
            .col(ColumnDef::new("tenant_id").text().not_null())
            .col(ColumnDef::new("event_type").text().not_null())
            .col(ColumnDef::new("subject").text().not_null())
            // JSON.
            .col(ColumnDef::new("data").text().not_null())
            .col(ColumnDef::new("occurred_at").big_integer().not_null())
            .to_owned();
        manager.create_table(events).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("operational_events").to_owned()).await
    }
}
