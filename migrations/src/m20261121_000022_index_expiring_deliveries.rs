//! Finds what is pending and has expired, without a look at what never expires.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let expiring = Index::create()
            .name("deliveries_expiring")
            .table("deliveries")
            .col("expire_at")
            .and_where(Expr::cust("state = 0 AND expire_at IS NOT NULL"))
            .to_owned();
        manager.create_index(expiring).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("deliveries_expiring").table("deliveries").to_owned()).await
    }
}
