//! What is kept of the windows of subscriptions ([`domain::kept_window`](crate::domain::kept_window)).

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, sea_query::Expr};

use crate::{dispatch::Settled, domain::kept_window::KeptWindow, store::entity::subscriptions};

/// Keeps the last of each subscription's, whose rows are locked.
pub(super) async fn keep(transaction: &DatabaseTransaction, batch: &[Settled]) -> Result<(), DbErr> {
    let mut last: BTreeMap<_, (&Settled, KeptWindow)> = BTreeMap::new();
    for settled in batch {
        let Some(window) = settled.window else { continue };
        let last = last.entry(settled.target.uid.uuid()).or_insert((settled, window));
        if window.is_newer_than(Some(&last.1)) {
            *last = (settled, window);
        }
    }
    for (uid, (settled, window)) in last {
        let size = i32::try_from(window.size).unwrap_or(i32::MAX);
        subscriptions::Entity::update_many()
            .col_expr(subscriptions::Column::ConcurrencyWindow, Expr::value(Some(size)))
            .col_expr(
                subscriptions::Column::ConcurrencyWindowUntil,
                Expr::value(Some(window.until.as_micros())),
            )
            .filter(subscriptions::Column::Uid.eq(uid))
            // What another target could bear says nothing of this one.
            .filter(subscriptions::Column::TargetUrl.eq(settled.target.url.as_str()))
            .exec(transaction)
            .await?;
    }
    Ok(())
}
