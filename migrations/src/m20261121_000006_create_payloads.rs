//! The data of events, apart because it is large and lives shorter than the idempotency key in the event row.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let payloads = Table::create()
            .table("payloads")
            .col(ColumnDef::new("event_id").uuid().not_null().primary_key())
            .col(ColumnDef::new("data").blob().not_null())
            .to_owned();
        manager.create_table(payloads).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("payloads").to_owned()).await
    }
}
