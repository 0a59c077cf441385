//! What PostgreSQL counts. All of it is unknown for SQLite, and some where the server does not count it.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::Failure;

/// Counters that are right at every moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Prompt {
    /// Transactions that have written something: transaction ids handed out, to the whole server.
    pub(crate) writes: Option<u64>,
    /// Bytes of write-ahead log, of the whole server.
    pub(crate) wal: Option<u64>,
    /// Statements, `BEGIN` and `COMMIT` included, in our database.
    pub(crate) statements: Option<u64>,
    /// Rows that statements returned or changed, in our database.
    pub(crate) rows: Option<u64>,
}

/// Counters that connections report when they have ended, or when they have been idle for ten seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lagging {
    /// Transactions in our database, those included that only read.
    pub(crate) commits: Option<u64>,
    /// How often the write-ahead log was flushed to storage.
    pub(crate) syncs: Option<u64>,
}

impl Prompt {
    pub(super) async fn read(
        observer: &DatabaseConnection,
        database: &str,
        has_statements: bool,
    ) -> Result<Self, Failure> {
        let ours = format!(
            "FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = '{database}'"
        );
        let mut read = Self {
            writes: ask(observer, "pg_snapshot_xmax(pg_current_snapshot())::text::bigint").await?,
            wal: ask(observer, "pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").await?,
            ..Self::default()
        };
        if has_statements {
            read.statements = ask(observer, &format!("coalesce(sum(calls), 0)::bigint {ours}")).await?;
            read.rows = ask(observer, &format!("coalesce(sum(rows), 0)::bigint {ours}")).await?;
        }
        Ok(read)
    }

    /// What has been added since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            writes: difference(self.writes, before.writes),
            wal: difference(self.wal, before.wal),
            statements: difference(self.statements, before.statements),
            rows: difference(self.rows, before.rows),
        }
    }
}

impl Lagging {
    pub(super) async fn read(observer: &DatabaseConnection, database: &str) -> Result<Self, Failure> {
        let commits = format!("xact_commit FROM pg_stat_database WHERE datname = '{database}'");
        Ok(Self {
            commits: ask(observer, &commits).await?,
            // Since PostgreSQL 14; in 18 it has moved to pg_stat_io.
            syncs: ask(observer, "wal_sync FROM pg_stat_wal").await.ok().flatten(),
        })
    }

    /// What has been added since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            commits: difference(self.commits, before.commits),
            syncs: difference(self.syncs, before.syncs),
        }
    }
}

/// How many bytes a database takes.
pub(super) async fn size(observer: &DatabaseConnection, database: &str) -> Result<Option<u64>, Failure> {
    ask(observer, &format!("pg_database_size('{database}')")).await
}

fn difference(after: Option<u64>, before: Option<u64>) -> Option<u64> {
    Some(after?.saturating_sub(before?))
}

async fn ask(observer: &DatabaseConnection, what: &str) -> Result<Option<u64>, Failure> {
    let statement = Statement::from_string(DbBackend::Postgres, format!("SELECT {what}"));
    let Some(row) = observer.query_one_raw(statement).await? else { return Ok(None) };
    let value: i64 = row.try_get_by_index(0)?;
    Ok(u64::try_from(value).ok())
}
