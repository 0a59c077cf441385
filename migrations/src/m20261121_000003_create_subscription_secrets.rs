//! Signing secrets, encrypted.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let secrets = Table::create()
            .table("subscription_secrets")
            .col(ColumnDef::new("id").uuid().not_null().primary_key())
            .col(ColumnDef::new("subscription_uid").uuid().not_null())
            .col(ColumnDef::new("created_at").big_integer().not_null())
            // None for the current one.
            .col(ColumnDef::new("expires_at").big_integer())
            // Which of the configured keys it is encrypted with.
            .col(ColumnDef::new("key_id").text().not_null())
            .col(ColumnDef::new("ciphertext").blob().not_null())
            .foreign_key(
                ForeignKey::create()
                    .from("subscription_secrets", "subscription_uid")
                    .to("subscriptions", "uid")
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .to_owned();
        manager.create_table(secrets).await?;
        let current = Index::create()
            .name("subscription_secrets_current")
            .table("subscription_secrets")
            .col("subscription_uid")
            .unique()
            .and_where(Expr::col("expires_at").is_null())
            .to_owned();
        manager.create_index(current).await?;
        let of_subscription = Index::create()
            .name("subscription_secrets_subscription_uid")
            .table("subscription_secrets")
            .col("subscription_uid")
            .to_owned();
        manager.create_index(of_subscription).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("subscription_secrets").to_owned()).await
    }
}
