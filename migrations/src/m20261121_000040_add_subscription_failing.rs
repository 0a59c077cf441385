//! What the failing policy knows of a subscription. (`failing_since` is the breaker's, which is about minutes.)

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
        // What is to be announced, disabled or probed.
        let look = Index::create()
            .name("subscriptions_failing_look")
            .table("subscriptions")
            .col("failing_look_at")
            .and_where(Expr::col("failing_look_at").is_not_null())
            .to_owned();
        manager.create_index(look).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let look = Index::drop().name("subscriptions_failing_look").table("subscriptions").to_owned();
        manager.drop_index(look).await?;
        for column in columns() {
            let name = column.get_column_name();
            let drop = Table::alter().table("subscriptions").drop_column(name).to_owned();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}

fn columns() -> [ColumnDef; 7] {
    let time = |name: &'static str| ColumnDef::new(name).big_integer().to_owned();
    [
        // When the first failure was noted; the others are set only while this is.
        time("failing_suspected_at"),
        // Since when there is nothing but failure, once that is certain.
        time("unacknowledged_since"),
        time("last_failed_at"),
        ColumnDef::new("last_failure").text().to_owned(),
        // When the tenant was told, and when the subscription is to be disabled.
        time("failing_announced_at"),
        time("disable_at"),
        // When somebody has to look. While it is disabled: when it is to be probed.
        time("failing_look_at"),
    ]
}
