//! Deletes what is old, in batches. What is pending is spared, however old, and so is an event that is still being fanned out.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement, Value};
use serde::{Deserialize, Serialize};

use super::{Error, Store};
use crate::domain::{id::EventId, invalid::Invalid, timestamp::Timestamp};

/// How many rows one transaction deletes of each kind.
const BATCH: i64 = 1_000;

/// How long things are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The data of events.
    #[serde(with = "humantime_serde")]
    pub payloads: Duration,
    /// The attempts.
    #[serde(with = "humantime_serde")]
    pub attempts: Duration,
    /// Events and deliveries, and with them the request ids that make a publish repeatable.
    #[serde(with = "humantime_serde")]
    pub events: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_hours(24 * days);
        Self { payloads: days(30), attempts: days(30), events: days(90) }
    }
}

impl Retention {
    /// Events live longest: data and attempts without their event would be found by nobody.
    pub fn validate(&self) -> Result<(), Invalid> {
        for (field, span) in [("retention.payloads", self.payloads), ("retention.attempts", self.attempts)] {
            if span < Duration::from_mins(1) {
                return Err(Invalid::new(field, "must be at least 1m"));
            }
            if span > self.events {
                return Err(Invalid::new(field, "must not be longer than `retention.events`"));
            }
        }
        Ok(())
    }
}

/// What a deletion removes: rows by age, sparing those that a pending delivery needs, or one that is still to be made. `$1` is the border, `$2` the batch.
const DELETIONS: [(&str, Border); 4] = [
    (
        "DELETE FROM payloads WHERE event_id IN (
            SELECT event_id FROM payloads AS p WHERE event_id < $1
                AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.event_id = p.event_id AND d.state = 0)
                AND NOT EXISTS (SELECT 1 FROM fan_outs AS f WHERE f.event_id = p.event_id)
            ORDER BY event_id LIMIT $2)",
        Border::Payloads,
    ),
    (
        "DELETE FROM attempts WHERE (delivery_id, number) IN (
            SELECT delivery_id, number FROM attempts AS a WHERE started_at < $1
                AND NOT EXISTS (SELECT 1 FROM pending_deliveries AS p WHERE p.id = a.delivery_id)
            ORDER BY started_at LIMIT $2)",
        Border::Attempts,
    ),
    (
        "DELETE FROM deliveries WHERE state <> 0 AND id IN (
            SELECT id FROM deliveries WHERE event_id < $1 AND state <> 0 ORDER BY event_id, id LIMIT $2)",
        Border::Events,
    ),
    (
        "DELETE FROM events WHERE id IN (
            SELECT id FROM events AS e WHERE id < $1
                AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.event_id = e.id)
                AND NOT EXISTS (SELECT 1 FROM fan_outs AS f WHERE f.event_id = e.id)
            ORDER BY id LIMIT $2)",
        Border::Events,
    ),
];

/// Which age counts.
#[derive(Clone, Copy)]
enum Border {
    Payloads,
    Attempts,
    Events,
}

impl Store {
    /// Deletes up to a batch of everything that has passed its retention at `now`. Returns how many rows.
    pub async fn prune(&self, retention: &Retention, now: Timestamp) -> Result<u64, Error> {
        let mut pruned = 0;
        for (sql, border) in DELETIONS {
            // Ids are in the order of time, so the age of an event is a range of the primary key.
            let border: Value = match border {
                Border::Payloads => EventId::floor(now.before(retention.payloads)).uuid().into(),
                Border::Attempts => now.before(retention.attempts).as_micros().into(),
                Border::Events => EventId::floor(now.before(retention.events)).uuid().into(),
            };
            let statement =
                Statement::from_sql_and_values(self.connections.backend(), sql, [border, BATCH.into()]);
            let transaction = self.connections.begin().await?;
            pruned += transaction.execute_raw(statement).await?.rows_affected();
            transaction.commit().await?;
        }
        Ok(pruned)
    }
}
