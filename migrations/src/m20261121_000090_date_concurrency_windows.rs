//! Until when `concurrency_window` is good, and an index of those that still are.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let until = ColumnDef::new("concurrency_window_until").big_integer().to_owned();
        manager.alter_table(Table::alter().table("subscriptions").add_column(until).to_owned()).await?;
        let good = Index::create()
            .name("subscriptions_windows")
            .table("subscriptions")
            .col("concurrency_window_until")
            .and_where(Expr::col("concurrency_window_until").is_not_null())
            .to_owned();
        manager.create_index(good).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let good = Index::drop().name("subscriptions_windows").table("subscriptions").to_owned();
        manager.drop_index(good).await?;
        let until = Table::alter().table("subscriptions").drop_column("concurrency_window_until").to_owned();
        manager.alter_table(until).await
    }
}
