//! What is kept of the windows of subscriptions ([`domain::kept_window`](crate::domain::kept_window)).

use std::collections::BTreeMap;

use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};

use crate::{dispatch::Settled, domain::kept_window::KeptWindow, store::entity::subscriptions};

/// Keeps the smallest of each subscription's, whose rows are locked, unless what stands there is smaller and still good.
pub(super) async fn keep(transaction: &DatabaseTransaction, batch: &[Settled]) -> Result<(), DbErr> {
    use subscriptions::Column;
    let mut smallest: BTreeMap<_, (&Settled, KeptWindow)> = BTreeMap::new();
    for settled in batch {
        let Some(window) = settled.window else { continue };
        let smallest = smallest.entry(settled.target.uid.uuid()).or_insert((settled, window));
        if window.size < smallest.1.size {
            *smallest = (settled, window);
        }
    }
    for (uid, (settled, window)) in smallest {
        let size = i32::try_from(window.size).unwrap_or(i32::MAX);
        let is_larger = Column::ConcurrencyWindow.gt(size);
        let is_over = Column::ConcurrencyWindowUntil.lte(settled.at.as_micros());
        subscriptions::Entity::update_many()
            .col_expr(Column::ConcurrencyWindow, Expr::value(Some(size)))
            .col_expr(Column::ConcurrencyWindowUntil, Expr::value(Some(window.until.as_micros())))
            .filter(Column::Uid.eq(uid))
            // What another target could bear says nothing of this one.
            .filter(Column::TargetUrl.eq(settled.target.url.as_str()))
            .filter(Column::ConcurrencyWindowUntil.is_null().or(is_over).or(is_larger))
            .exec(transaction)
            .await?;
    }
    Ok(())
}
