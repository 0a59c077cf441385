//! What is kept of the windows of subscriptions ([`domain::kept_window`](crate::domain::kept_window)).

use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};

use crate::{dispatch::Settled, store::entity::subscriptions};

/// Keeps what windows were cut to, in rows that are locked, unless what stands there is as small and still good.
pub(super) async fn keep(transaction: &DatabaseTransaction, batch: &[Settled]) -> Result<(), DbErr> {
    use subscriptions::Column;
    for settled in batch {
        let Some(window) = settled.window else { continue };
        let size = i32::try_from(window.size).unwrap_or(i32::MAX);
        let is_larger = Column::ConcurrencyWindow.gt(size);
        let is_over = Column::ConcurrencyWindowUntil.lte(settled.at.as_micros());
        subscriptions::Entity::update_many()
            .col_expr(Column::ConcurrencyWindow, Expr::value(Some(size)))
            .col_expr(Column::ConcurrencyWindowUntil, Expr::value(Some(window.until.as_micros())))
            .filter(Column::Uid.eq(settled.target.uid.uuid()))
            // What another target could bear says nothing of this one.
            .filter(Column::TargetUrl.eq(settled.target.url.as_str()))
            .filter(Column::ConcurrencyWindowUntil.is_null().or(is_over).or(is_larger))
            .exec(transaction)
            .await?;
    }
    Ok(())
}
