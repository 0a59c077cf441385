//! Rows of `deliveries`: what is kept of each. What changes while one is pending is in `pending_deliveries`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "deliveries")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: Uuid,
    pub(in crate::store) event_id: Uuid,
    pub(in crate::store) subscription_uid: Uuid,
    pub(in crate::store) tenant_id: String,
    pub(in crate::store) state: i16,
    pub(in crate::store) created_at: i64,
    // Of one that has ended.
    pub(in crate::store) end_reason: Option<i16>,
    pub(in crate::store) ended_at: Option<i64>,
    pub(in crate::store) attempt_count: Option<i32>,
    /// If an attempt may have been under way when it was ended: until when that may go on.
    pub(in crate::store) leased_until: Option<i64>,
    pub(in crate::store) last_traceparent: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
