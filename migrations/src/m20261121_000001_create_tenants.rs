//! Tenants, with the version by which a node knows that its compiled match table is current.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tenants = Table::create()
            .table("tenants")
            .col(ColumnDef::new("id").text().not_null().primary_key())
            // Changes with every change of a subscription of the tenant, in the same transaction.
            .col(ColumnDef::new("subscriptions_version").big_integer().not_null())
            .col(ColumnDef::new("created_at").big_integer().not_null())
            .to_owned();
        manager.create_table(tenants).await?;
        // The tenant that always exists.
        let default = Query::insert()
            .into_table("tenants")
            .columns(["id", "subscriptions_version", "created_at"])
            .values_panic(["default".into(), 0.into(), 0.into()])
            .to_owned();
        manager.execute(default).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("tenants").to_owned()).await
    }
}
