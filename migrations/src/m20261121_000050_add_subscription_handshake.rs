//! How a subscription's handshake stands, and what rate the receiver has allowed by it.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const INDEX: &str = "subscriptions_awaiting_handshake";

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
        // Whose handshake is to be tried next.
        let awaiting = Index::create()
            .name(INDEX)
            .table("subscriptions")
            .col("handshake_due_at")
            .and_where(Expr::cust(
                "handshake_due_at IS NOT NULL AND disabled_at IS NULL AND deleted_at IS NULL",
            ))
            .to_owned();
        manager.create_index(awaiting).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name(INDEX).table("subscriptions").to_owned()).await?;
        for column in columns() {
            let name = column.get_column_name();
            let drop = Table::alter().table("subscriptions").drop_column(name).to_owned();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}

fn columns() -> [ColumnDef; 9] {
    [
        // While it is awaited, and nothing may be sent: when it is tried again; in the future while it is under way.
        ColumnDef::new("handshake_due_at").big_integer().to_owned(),
        // Changes with each beginning and each attempt, so that what came of one is told from what came of a later one.
        ColumnDef::new("handshake_fence").big_integer().not_null().default(0).to_owned(),
        // How many attempts there were since it was begun, and how many steps of the schedule are behind it.
        ColumnDef::new("handshake_attempts").integer().not_null().default(0).to_owned(),
        ColumnDef::new("handshake_step").small_integer().not_null().default(0).to_owned(),
        ColumnDef::new("handshake_failure").text().to_owned(),
        ColumnDef::new("handshake_done_at").big_integer().to_owned(),
        // How many callbacks a minute the receiver has allowed. Then `rate_per_second` and `rate_burst`, which claims go by, are the lower
        // one of that and of the owner's limit, and the owner's is kept here; otherwise they are the owner's.
        ColumnDef::new("allowed_rate").integer().to_owned(),
        ColumnDef::new("own_rate_per_second").double().to_owned(),
        ColumnDef::new("own_rate_burst").integer().to_owned(),
    ]
}
