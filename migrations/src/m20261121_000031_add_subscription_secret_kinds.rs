//! Secrets from other systems, secrets that start later, and the pair of keys that can come with a secret.

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
            let add = Table::alter().table("subscription_secrets").add_column(column).to_owned();
            manager.alter_table(add).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in columns() {
            let name = column.get_column_name();
            let drop = Table::alter().table("subscription_secrets").drop_column(name).to_owned();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}

fn columns() -> [ColumnDef; 3] {
    [
        // Bytes, or a text; nodes of the previous version write bytes.
        ColumnDef::new("kind").small_integer().not_null().default(0).to_owned(),
        // From when on it signs where one signature only can be; from the beginning if absent.
        ColumnDef::new("starts_at").big_integer().to_owned(),
        // Ed25519, encrypted with the key of the row; absent where nobody wants one.
        ColumnDef::new("key_pair").binary().to_owned(),
    ]
}
