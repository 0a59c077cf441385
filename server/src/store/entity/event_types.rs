//! Rows of `event_types`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event_types")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) uid: Uuid,
    pub(in crate::store) event_type: String,
    pub(in crate::store) description: String,
    pub(in crate::store) group_name: String,
    pub(in crate::store) schemas: String,
    pub(in crate::store) current_version: Option<i32>,
    pub(in crate::store) enforce: bool,
    pub(in crate::store) deprecated: bool,
    pub(in crate::store) archived_at: Option<i64>,
    pub(in crate::store) revision: i64,
    pub(in crate::store) created_at: i64,
    pub(in crate::store) updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
