//! The catalogue of event types, with the version by which a node knows that its copy is current.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let event_types = Table::create()
            .table("event_types")
            .col(ColumnDef::new("uid").uuid().not_null().primary_key())
            .col(ColumnDef::new("event_type").text().not_null().unique_key())
            .col(ColumnDef::new("description").text().not_null())
            .col(ColumnDef::new("group_name").text().not_null())
            // JSON: texts of schemas by version.
            .col(ColumnDef::new("schemas").text().not_null())
            .col(ColumnDef::new("current_version").integer())
            .col(ColumnDef::new("enforce").boolean().not_null())
            .col(ColumnDef::new("deprecated").boolean().not_null())
            .col(ColumnDef::new("archived_at").big_integer())
            .col(ColumnDef::new("revision").big_integer().not_null())
            .col(ColumnDef::new("created_at").big_integer().not_null())
            .col(ColumnDef::new("updated_at").big_integer().not_null())
            .to_owned();
        manager.create_table(event_types).await?;
        let catalogue = Table::create()
            .table("catalogue")
            // There is one row.
            .col(ColumnDef::new("id").small_integer().not_null().primary_key())
            // Changes with every change of an event type, in the same transaction, and so do the versions of all tenants.
            .col(ColumnDef::new("version").big_integer().not_null())
            .check(Expr::col("id").eq(1))
            .to_owned();
        manager.create_table(catalogue).await?;
        let row = Query::insert()
            .into_table("catalogue")
            .columns(["id", "version"])
            .values_panic([1.into(), 0.into()])
            .to_owned();
        manager.execute(row).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("catalogue").to_owned()).await?;
        manager.drop_table(Table::drop().table("event_types").to_owned()).await
    }
}
