//! Lanes that an attempt keeps busy whose delivery has ended: nobody of the lane goes before its lease is over.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // None: there is no such attempt.
        let busy_until = Table::alter()
            .table("ordering_lanes")
            .add_column(ColumnDef::new("busy_until").big_integer())
            .to_owned();
        manager.alter_table(busy_until).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let busy_until = Table::alter().table("ordering_lanes").drop_column("busy_until").to_owned();
        manager.alter_table(busy_until).await
    }
}
