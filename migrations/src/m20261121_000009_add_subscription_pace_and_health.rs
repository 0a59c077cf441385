//! What a subscription's breaker and its limits need beside the columns that it was created with.

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
        // The claim asks for these: which subscriptions need more than a look at their deliveries. There are few of them.
        for (name, column) in
            [("subscriptions_blocked", "blocked_until"), ("subscriptions_rate_limited", "rate_per_second")]
        {
            let special = Index::create()
                .name(name)
                .table("subscriptions")
                .col(column)
                .and_where(Expr::col(column).is_not_null())
                .to_owned();
            manager.create_index(special).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in ["subscriptions_blocked", "subscriptions_rate_limited"] {
            manager.drop_index(Index::drop().name(name).table("subscriptions").to_owned()).await?;
        }
        for column in columns() {
            let name = column.get_column_name();
            let drop = Table::alter().table("subscriptions").drop_column(name).to_owned();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}

fn columns() -> [ColumnDef; 8] {
    [
        // The owner's limits; absent: those of the server.
        ColumnDef::new("max_in_flight").integer().to_owned(),
        ColumnDef::new("rate_per_second").double().to_owned(),
        ColumnDef::new("rate_burst").integer().to_owned(),
        // How far the rate limit is used up (GCRA's theoretical arrival time), and until when a claim need not look.
        ColumnDef::new("rate_used_until").big_integer().to_owned(),
        ColumnDef::new("throttled_until").big_integer().to_owned(),
        // While `blocked_until` is set: why, and how many pauses there have been, the present one included.
        ColumnDef::new("blocked_reason").text().to_owned(),
        ColumnDef::new("block_pauses").integer().not_null().default(0).to_owned(),
        // When it was last unblocked.
        ColumnDef::new("recovered_at").big_integer().to_owned(),
    ]
}
