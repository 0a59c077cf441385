//! The claim looks for what is due level by level: the index of what is pending has the priority before the due date.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        replace(manager, &["subscription_uid", "priority", "due_at"]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        replace(manager, &["subscription_uid", "due_at"]).await
    }
}

async fn replace(manager: &SchemaManager<'_>, columns: &[&'static str]) -> Result<(), DbErr> {
    manager.drop_index(Index::drop().name("deliveries_pending").table("deliveries").to_owned()).await?;
    let mut pending = Index::create();
    pending.name("deliveries_pending").table("deliveries").and_where(Expr::col("state").eq(0));
    for column in columns {
        pending.col(*column);
    }
    manager.create_index(pending).await
}
