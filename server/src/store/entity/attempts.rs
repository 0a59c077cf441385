//! Rows of `attempts`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "attempts")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) delivery_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) number: i32,
    pub(in crate::store) started_at: i64,
    pub(in crate::store) target_url: String,
    pub(in crate::store) outcome: i16,
    pub(in crate::store) failure: Option<i16>,
    pub(in crate::store) failure_message: Option<String>,
    pub(in crate::store) status: Option<i16>,
    pub(in crate::store) response_headers: Option<String>,
    pub(in crate::store) response_body: Option<Vec<u8>>,
    pub(in crate::store) response_truncated: Option<bool>,
    pub(in crate::store) total_duration: i64,
    pub(in crate::store) dns_duration: Option<i64>,
    pub(in crate::store) connect_duration: Option<i64>,
    pub(in crate::store) tls_duration: Option<i64>,
    pub(in crate::store) first_byte_duration: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
