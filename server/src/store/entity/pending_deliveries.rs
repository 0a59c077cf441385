//! Rows of `pending_deliveries`: the queue.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "pending_deliveries")]
pub(in crate::store) struct Model {
    /// The delivery's.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: Uuid,
    pub(in crate::store) event_id: Uuid,
    pub(in crate::store) subscription_uid: Uuid,
    pub(in crate::store) attempt_count: i32,
    pub(in crate::store) due_at: i64,
    pub(in crate::store) priority: i16,
    pub(in crate::store) ordering_key: Option<String>,
    pub(in crate::store) position: Option<i64>,
    pub(in crate::store) expire_at: Option<i64>,
    pub(in crate::store) last_traceparent: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
