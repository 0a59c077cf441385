//! Attempts: the log of what was sent and what came back, prunable by time.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let attempts = Table::create()
            .table("attempts")
            .col(ColumnDef::new("delivery_id").uuid().not_null())
            .col(ColumnDef::new("number").integer().not_null())
            .col(ColumnDef::new("started_at").big_integer().not_null())
            .col(ColumnDef::new("target_url").text().not_null())
            .col(ColumnDef::new("outcome").small_integer().not_null())
            .col(ColumnDef::new("failure").small_integer())
            .col(ColumnDef::new("failure_message").text())
            // The response; all or nothing.
            .col(ColumnDef::new("status").small_integer())
            // A JSON array of pairs of strings.
            .col(ColumnDef::new("response_headers").text())
            .col(ColumnDef::new("response_body").blob())
            .col(ColumnDef::new("response_truncated").boolean())
            // Microseconds.
            .col(ColumnDef::new("total_duration").big_integer().not_null())
            .col(ColumnDef::new("dns_duration").big_integer())
            .col(ColumnDef::new("connect_duration").big_integer())
            .col(ColumnDef::new("tls_duration").big_integer())
            .col(ColumnDef::new("first_byte_duration").big_integer())
            .primary_key(Index::create().col("delivery_id").col("number"))
            .check(Expr::cust("number > 0"))
            .check(Expr::cust("(failure IS NULL) = (failure_message IS NULL)"))
            .to_owned();
        manager.create_table(attempts).await?;
        let age = Index::create().name("attempts_started_at").table("attempts").col("started_at").to_owned();
        manager.create_index(age).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("attempts").to_owned()).await
    }
}
