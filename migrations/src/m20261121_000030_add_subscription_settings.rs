//! What a subscription's owner has set beyond where, what and how fast, as one document.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in columns() {
            // SQLite adds one column at a time.
            let add = Table::alter().table("subscriptions").add_column(column).to_owned();
            manager.alter_table(add).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in columns() {
            let name = column.get_column_name();
            let drop = Table::alter().table("subscriptions").drop_column(name).to_owned();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}

fn columns() -> [ColumnDef; 2] {
    [
        // JSON, encrypted, as there may be passwords in it; absent where nothing is set.
        ColumnDef::new("settings").binary().to_owned(),
        // The key that it is encrypted with.
        ColumnDef::new("settings_key_id").text().to_owned(),
    ]
}
