//! Tenants: they come into being when something is made under them.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use super::{Error, Store, entity::tenants};
use crate::domain::{id::TenantId, timestamp::Timestamp};

impl Store {
    /// Whether a tenant exists.
    pub async fn tenant_exists(&self, tenant: &TenantId) -> Result<bool, Error> {
        let row = tenants::Entity::find_by_id(tenant.as_str()).one(&self.connections.reader).await?;
        Ok(row.is_some())
    }
}

/// Makes a tenant unless it exists.
pub(super) async fn ensure(
    transaction: &DatabaseTransaction,
    tenant: &TenantId,
    now: Timestamp,
) -> Result<(), DbErr> {
    let row = tenants::ActiveModel {
        id: Set(tenant.as_str().to_owned()),
        subscriptions_version: Set(0),
        created_at: Set(now.as_micros()),
    };
    tenants::Entity::insert(row)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}

/// Tells every node that the tenant's subscriptions are no longer what they were.
pub(super) async fn raise_version(transaction: &DatabaseTransaction, tenant: &str) -> Result<(), DbErr> {
    tenants::Entity::update_many()
        .col_expr(
            tenants::Column::SubscriptionsVersion,
            Expr::col(tenants::Column::SubscriptionsVersion).add(1),
        )
        .filter(tenants::Column::Id.eq(tenant))
        .exec(transaction)
        .await?;
    Ok(())
}

/// The versions of those of these tenants that exist.
pub(super) async fn versions<'a>(
    connection: &impl ConnectionTrait,
    tenants: impl IntoIterator<Item = &'a TenantId>,
) -> Result<Vec<(TenantId, i64)>, DbErr> {
    let ids = tenants.into_iter().map(TenantId::as_str);
    let rows = tenants::Entity::find().filter(tenants::Column::Id.is_in(ids)).all(connection).await?;
    Ok(rows.into_iter().map(|row| (TenantId::from_stored(&row.id), row.subscriptions_version)).collect())
}
