//! Rows of `subscriptions`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "subscriptions")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) uid: Uuid,
    pub(in crate::store) tenant_id: String,
    pub(in crate::store) id: String,
    pub(in crate::store) description: String,
    pub(in crate::store) target_url: String,
    pub(in crate::store) event_types: String,
    pub(in crate::store) revision: i64,
    pub(in crate::store) created_at: i64,
    pub(in crate::store) updated_at: i64,
    pub(in crate::store) paused_at: Option<i64>,
    pub(in crate::store) disabled_at: Option<i64>,
    pub(in crate::store) disabled_reason: Option<i16>,
    pub(in crate::store) deleted_at: Option<i64>,
    pub(in crate::store) max_in_flight: Option<i32>,
    pub(in crate::store) rate_per_second: Option<f64>,
    pub(in crate::store) rate_burst: Option<i32>,
    pub(in crate::store) rate_used_until: Option<i64>,
    pub(in crate::store) throttled_until: Option<i64>,
    pub(in crate::store) failing_since: Option<i64>,
    pub(in crate::store) blocked_until: Option<i64>,
    pub(in crate::store) blocked_reason: Option<String>,
    pub(in crate::store) block_pauses: i32,
    pub(in crate::store) recovered_at: Option<i64>,
    pub(in crate::store) concurrency_window: Option<i32>,
    pub(in crate::store) concurrency_window_until: Option<i64>,
    pub(in crate::store) failing_suspected_at: Option<i64>,
    pub(in crate::store) unacknowledged_since: Option<i64>,
    pub(in crate::store) last_failed_at: Option<i64>,
    pub(in crate::store) last_failure: Option<String>,
    pub(in crate::store) failing_announced_at: Option<i64>,
    pub(in crate::store) disable_at: Option<i64>,
    pub(in crate::store) failing_look_at: Option<i64>,
    pub(in crate::store) settings: Option<Vec<u8>>,
    pub(in crate::store) settings_key_id: Option<String>,
    pub(in crate::store) handshake_due_at: Option<i64>,
    pub(in crate::store) handshake_fence: i64,
    pub(in crate::store) handshake_attempts: i32,
    pub(in crate::store) handshake_step: i16,
    pub(in crate::store) handshake_failure: Option<String>,
    pub(in crate::store) handshake_done_at: Option<i64>,
    pub(in crate::store) allowed_rate: Option<i32>,
    pub(in crate::store) own_rate_per_second: Option<f64>,
    pub(in crate::store) own_rate_burst: Option<i32>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
