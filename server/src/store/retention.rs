//! Deletes what is old, in batches. What is pending is spared, however old, and so is an event that is still being fanned out.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement, Value, prelude::Uuid};
use serde::{Deserialize, Serialize};

use super::{Error, Store, lanes::rows_of};
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

/// What is deleted of a table: rows by age, sparing those that a pending delivery needs, or one that is still to be made.
struct Deletion {
    table: &'static str,
    /// What a row is known by: an id, and for some a number.
    id: &'static str,
    number: Option<&'static str>,
    /// What its age is told by.
    age: &'static str,
    border: Border,
    /// What must be true of it, in SQL.
    condition: &'static str,
}

const DELETIONS: [Deletion; 4] = [
    Deletion {
        table: "payloads",
        id: "event_id",
        number: None,
        age: "event_id",
        border: Border::Payloads,
        condition:
            "NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.event_id = payloads.event_id AND d.state = 0)
            AND NOT EXISTS (SELECT 1 FROM fan_outs AS f WHERE f.event_id = payloads.event_id)",
    },
    Deletion {
        table: "attempts",
        id: "delivery_id",
        number: Some("number"),
        age: "started_at",
        border: Border::Attempts,
        condition: "NOT EXISTS (SELECT 1 FROM pending_deliveries AS p WHERE p.id = attempts.delivery_id)",
    },
    Deletion {
        table: "deliveries",
        id: "id",
        number: None,
        age: "event_id",
        border: Border::Events,
        condition: "state <> 0",
    },
    Deletion {
        table: "events",
        id: "id",
        number: None,
        age: "id",
        border: Border::Events,
        condition: "NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.event_id = events.id)
            AND NOT EXISTS (SELECT 1 FROM fan_outs AS f WHERE f.event_id = events.id)",
    },
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
        for deletion in &DELETIONS {
            // Ids are in the order of time, so the age of an event is a range of the primary key.
            let border: Value = match deletion.border {
                Border::Payloads => EventId::floor(now.before(retention.payloads)).uuid().into(),
                Border::Attempts => now.before(retention.attempts).as_micros().into(),
                Border::Events => EventId::floor(now.before(retention.events)).uuid().into(),
            };
            pruned += self.delete_old(deletion, border).await?;
        }
        Ok(pruned)
    }

    async fn delete_old(&self, deletion: &Deletion, border: Value) -> Result<u64, Error> {
        let Deletion { table, id, number, age, condition, .. } = deletion;
        let backend = self.connections.backend();
        let key: Vec<_> = std::iter::once(*id).chain(*number).collect();
        let columns = key.join(", ");
        // By those who only look: there may be much to be spared before the first that is not, and who writes to SQLite keeps others from that.
        let find = format!(
            "SELECT {columns} FROM {table} WHERE {age} < $1 AND {condition} ORDER BY {age} LIMIT {BATCH}"
        );
        let find = Statement::from_sql_and_values(backend, find, [border]);
        let found = self.connections.keeper.query_all_raw(find).await?;
        if found.is_empty() {
            return Ok(0);
        }
        let mut values: Vec<Value> = Vec::with_capacity(found.len() * key.len());
        for row in &found {
            values.push(row.try_get::<Uuid>("", id)?.into());
            if let Some(number) = number {
                values.push(row.try_get::<i32>("", number)?.into());
            }
        }
        let (named, rows) = (["column1", "column2"][..key.len()].join(", "), rows_of(key.len(), found.len()));
        let delete = format!(
            "DELETE FROM {table} WHERE ({columns}) IN (SELECT {named} FROM ({rows}) AS v) AND {condition}"
        );
        let transaction = self.connections.begin().await?;
        let delete = Statement::from_sql_and_values(backend, delete, values);
        let deleted = transaction.execute_raw(delete).await?.rows_affected();
        transaction.commit().await?;
        Ok(deleted)
    }
}
