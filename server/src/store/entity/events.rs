//! Rows of `events`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "events")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: Uuid,
    pub(in crate::store) tenant_id: String,
    #[sea_orm(column_name = "type")]
    pub(in crate::store) event_type: String,
    pub(in crate::store) source: String,
    pub(in crate::store) subject: String,
    pub(in crate::store) occurred_at: Option<i64>,
    pub(in crate::store) content_type: String,
    pub(in crate::store) attributes: Option<String>,
    pub(in crate::store) request_id: Option<String>,
    pub(in crate::store) fingerprint: Option<Vec<u8>>,
    pub(in crate::store) traceparent: Option<String>,
    pub(in crate::store) tracestate: Option<String>,
    pub(in crate::store) ordering_key: Option<String>,
    pub(in crate::store) deliver_at: Option<i64>,
    pub(in crate::store) expire_at: Option<i64>,
    pub(in crate::store) priority: i16,
    pub(in crate::store) delivery_count: i32,
    pub(in crate::store) created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
