//! Brings SQLite's log into the database beside whoever writes.
//!
//! Left to itself SQLite does that within the commit by which the log has become too long, while all others wait for it. Done early and by
//! another connection, next to nothing is left for that commit. PostgreSQL does the same by itself.

use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{Error, Store};

/// From how many pages of 4 KiB on it is worth it. Far fewer than the commit waits for.
const ENOUGH: i64 = 1_024;

impl Store {
    /// Whether the log is ours to look after.
    #[must_use]
    pub fn has_log(&self) -> bool {
        self.connections.backend() == DbBackend::Sqlite
    }

    /// Brings the log into the database if it is long. Returns whether it was.
    pub async fn checkpoint(&self) -> Result<bool, Error> {
        let is_long = self.log_left("NOOP").await? > ENOUGH;
        if is_long {
            self.log_left("PASSIVE").await?;
        }
        Ok(is_long)
    }

    /// Checkpoints in a mode of SQLite: `NOOP` only looks, `PASSIVE` waits for nobody and keeps nobody waiting. Returns how many pages of the
    /// log are not in the database.
    async fn log_left(&self, mode: &str) -> Result<i64, Error> {
        let pragma = Statement::from_string(DbBackend::Sqlite, format!("PRAGMA wal_checkpoint({mode})"));
        let Some(row) = self.connections.keeper.query_one_raw(pragma).await? else { return Ok(0) };
        // Both are -1 if somebody else is at it.
        let (pages, done): (i64, i64) = (row.try_get("", "log")?, row.try_get("", "checkpointed")?);
        Ok(pages - done)
    }
}
