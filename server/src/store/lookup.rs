//! Finds rows: a subscription's by its name, and several by their ids.

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
    prelude::Uuid,
    sea_query::{Expr, ExprTrait, extension::postgres::PgFunc},
};

use super::{Error, entity::subscriptions};
use crate::domain::id::{SubscriptionId, TenantId};

/// That a column holds one of these. PostgreSQL is given them as one array, so that the statement is the same for any number, and is parsed
/// and planned once.
pub(super) fn is_among(connection: &impl ConnectionTrait, column: impl ColumnTrait, ids: Vec<Uuid>) -> Expr {
    match connection.get_database_backend() {
        DbBackend::Sqlite => column.is_in(ids),
        _ => Expr::col(column.as_column_ref()).eq(PgFunc::any(ids)),
    }
}

/// The query for a subscription that is not deleted.
pub(super) fn living(tenant: &TenantId, id: &SubscriptionId) -> sea_orm::Select<subscriptions::Entity> {
    subscriptions::Entity::find()
        .filter(subscriptions::Column::TenantId.eq(tenant.as_str()))
        .filter(subscriptions::Column::Id.eq(id.as_str()))
        .filter(subscriptions::Column::DeletedAt.is_null())
}

/// Reads the rows of those of these subscriptions that meet a condition so that nobody else changes them before the transaction ends, in
/// the order of their uids, in which all lock them.
pub(super) async fn locked_all(
    transaction: &DatabaseTransaction,
    uids: Vec<Uuid>,
    condition: Condition,
) -> Result<Vec<subscriptions::Model>, DbErr> {
    let query = subscriptions::Entity::find()
        .filter(subscriptions::Column::Uid.is_in(uids))
        .filter(condition)
        .order_by_asc(subscriptions::Column::Uid);
    let query = match transaction.get_database_backend() {
        DbBackend::Sqlite => query,
        _ => query.lock_exclusive(),
    };
    query.all(transaction).await
}

/// Reads a subscription's row so that nobody else changes it before the transaction ends.
pub(super) async fn locked(
    transaction: &DatabaseTransaction,
    tenant: &TenantId,
    id: &SubscriptionId,
) -> Result<Option<subscriptions::Model>, Error> {
    let query = living(tenant, id);
    // A transaction of SQLite that writes is alone anyway.
    let query = match transaction.get_database_backend() {
        DbBackend::Sqlite => query,
        _ => query.lock_exclusive(),
    };
    Ok(query.one(transaction).await?)
}
