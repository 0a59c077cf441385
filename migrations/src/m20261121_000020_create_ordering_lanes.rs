//! Lanes: deliveries to one subscription with one ordering key, which go out one after another.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // There is a row as long as something is pending in the lane. Whoever adds to a lane or ends what is in it locks this row first.
        let lanes = Table::create()
            .table("ordering_lanes")
            .col(ColumnDef::new("subscription_uid").uuid().not_null())
            .col(ColumnDef::new("ordering_key").text().not_null())
            // Counted up under the lock, so that the order of publishing rests on no clock.
            .col(ColumnDef::new("last_position").big_integer().not_null())
            .primary_key(Index::create().col("subscription_uid").col("ordering_key"))
            .to_owned();
        manager.create_table(lanes).await?;
        // None: in no lane.
        let position = Table::alter()
            .table("deliveries")
            .add_column(
                ColumnDef::new("position")
                    .big_integer()
                    .check(Expr::cust("position IS NULL OR ordering_key IS NOT NULL")),
            )
            .to_owned();
        manager.alter_table(position).await?;
        // Finds the next one of a lane.
        let heads = Index::create()
            .name("deliveries_lanes")
            .table("deliveries")
            .col("subscription_uid")
            .col("ordering_key")
            .col("position")
            .and_where(Expr::cust("state = 0 AND position IS NOT NULL"))
            .to_owned();
        manager.create_index(heads).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("deliveries_lanes").table("deliveries").to_owned()).await?;
        manager.alter_table(Table::alter().table("deliveries").drop_column("position").to_owned()).await?;
        manager.drop_table(Table::drop().table("ordering_lanes").to_owned()).await
    }
}
