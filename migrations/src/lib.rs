//! The database schema of Postrider, the same for SQLite and PostgreSQL.
//!
//! - Times are microseconds since 1970-01-01T00:00:00Z in a `bigint` named `…_at`; in PostgreSQL,
//!   `to_timestamp(due_at / 1e6)` shows one.
//! - Enumerations are `smallint`s whose values `server/src/store/codes.rs` lists; CHECK constraints hold
//!   what must be true of a row whoever writes it.
//! - Each migration is one transaction on both databases: one that fails halfway leaves nothing behind.
//! - A new migration has one idea, is added at the end, and keeps to expand, deploy, contract: nodes of the previous
//!   version go on working while it runs. The README names the exception.

use sea_orm_migration::prelude::*;

mod m20261121_000001_create_tenants;
mod m20261121_000002_create_subscriptions;
mod m20261121_000003_create_subscription_secrets;
mod m20261121_000004_create_secret_keys;
mod m20261121_000005_create_events;
mod m20261121_000006_create_payloads;
mod m20261121_000007_create_deliveries;
mod m20261121_000008_create_attempts;
mod m20261121_000009_add_subscription_pace_and_health;
mod m20261121_000020_create_ordering_lanes;
mod m20261121_000021_order_pending_by_priority;
mod m20261121_000022_index_expiring_deliveries;
mod m20261121_000023_create_fan_outs;
mod m20261121_000030_add_subscription_settings;
mod m20261121_000031_add_subscription_secret_kinds;
mod m20261121_000032_create_event_types;
mod m20261121_000040_add_subscription_failing;
mod m20261121_000041_create_operational_events;
mod m20261121_000050_add_subscription_handshake;
mod m20261121_000060_compress_with_lz4;
mod m20261121_000070_queue_pending_deliveries;
mod m20261121_000080_add_lane_busy_until;
mod m20261121_000090_date_concurrency_windows;
mod m20261121_000100_sort_texts_by_bytes;
mod m20261121_000110_keep_fan_outs_in_order;

/// The list of migrations, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_create_tenants::Migration),
            Box::new(m20261121_000002_create_subscriptions::Migration),
            Box::new(m20261121_000003_create_subscription_secrets::Migration),
            Box::new(m20261121_000004_create_secret_keys::Migration),
            Box::new(m20261121_000005_create_events::Migration),
            Box::new(m20261121_000006_create_payloads::Migration),
            Box::new(m20261121_000007_create_deliveries::Migration),
            Box::new(m20261121_000008_create_attempts::Migration),
            Box::new(m20261121_000009_add_subscription_pace_and_health::Migration),
            Box::new(m20261121_000020_create_ordering_lanes::Migration),
            Box::new(m20261121_000021_order_pending_by_priority::Migration),
            Box::new(m20261121_000022_index_expiring_deliveries::Migration),
            Box::new(m20261121_000023_create_fan_outs::Migration),
            Box::new(m20261121_000030_add_subscription_settings::Migration),
            Box::new(m20261121_000031_add_subscription_secret_kinds::Migration),
            Box::new(m20261121_000032_create_event_types::Migration),
            Box::new(m20261121_000040_add_subscription_failing::Migration),
            Box::new(m20261121_000041_create_operational_events::Migration),
            Box::new(m20261121_000050_add_subscription_handshake::Migration),
            Box::new(m20261121_000060_compress_with_lz4::Migration),
            Box::new(m20261121_000070_queue_pending_deliveries::Migration),
            Box::new(m20261121_000080_add_lane_busy_until::Migration),
            Box::new(m20261121_000090_date_concurrency_windows::Migration),
            Box::new(m20261121_000100_sort_texts_by_bytes::Migration),
            Box::new(m20261121_000110_keep_fan_outs_in_order::Migration),
        ]
    }
}
