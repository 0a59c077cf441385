//! Opens the database: SQLite in a file, or PostgreSQL.

use std::{fmt, path::Path, time::Duration};

use postrider_migrations::Migrator;
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction,
    DbBackend, DbErr, IsolationLevel, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
    sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous},
};
use sea_orm_migration::MigratorTrait;
use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// How long a caller waits for a connection or a lock before it is told that the database is unavailable.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long PostgreSQL waits for a node that has stopped in the midst of a transaction, before it takes its locks away: less than others wait
/// for them.
const FROZEN: Duration = Duration::from_secs(4);
/// How large SQLite's log may grow until it is brought into the database, in pages of 4 KiB: the longer, the more changes of the same
/// page are written there once.
const WAL_PAGES: &str = "8192";
/// How much of the database the connection that writes to SQLite keeps in memory, in KiB (negative by SQLite's convention). The system keeps the
/// rest. Where a commit has put pages of an index in another order, SQLite goes through all that it keeps: with 32 MiB that was an eighth
/// of the server's time under load.
const WRITER_CACHE: &str = "-4096";
/// The same for each of the others, which forget it all whenever something has been written.
const READER_CACHE: &str = "-1024";
/// How many statements each connection to SQLite keeps ready: those that carry many rows come in some ten lengths each, and scripts in combinations of
/// them.
const STATEMENTS: usize = 200;
/// How many connections read from SQLite beside the one that writes.
const SQLITE_READERS: u32 = 4;
/// Everything finds its rows by an index. Of a table that is new or has grown much since it was last analysed
/// PostgreSQL's planner does not know that, and a statement prepared at such a time would read the whole table again and again.
const INDEX_WORK_ONLY: [(&str, &str); 3] =
    [("enable_seqscan", "off"), ("enable_hashjoin", "off"), ("enable_mergejoin", "off")];
/// Of the few statements that every event costs the plans are always the same, and making one takes longer than many a run of it. Left to
/// itself PostgreSQL makes one each time, as it would save a little with a list that is shorter than it expects.
const PLANNED_ONCE: (&str, &str) = ("plan_cache_mode", "force_generic_plan");
/// No statement of ours runs for so long that compiling it pays. Of one that has to read a whole table the planner thinks so, as it is
/// made to avoid that: reading the only subscription there is, and its secret, took 0.3 s.
const NEVER_COMPILED: (&str, &str) = ("jit", "off");
/// How many batches of events are committed at a time, so that others' events need not wait for the commit of one tenant's flood.
pub(super) const PUBLISH_CONNECTIONS: u8 = 2;
/// As many connections as publishing, claiming and settling use at a time; the latter two one each.
const ENGINE_CONNECTIONS: u32 = 2 + PUBLISH_CONNECTIONS as u32;
/// Any number will do, as long as it is always this one: whoever prepares the database holds this advisory lock.
const LOCK: i64 = 0x706f_7374_7269_6465;

/// Which database.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `postgres://user:password@host/database` or `sqlite:///path/to/file`. Empty: SQLite in `data.dir`.
    pub url: String,
    /// The most connections to PostgreSQL: 4 of them for publishing, claiming and settling, the others for calls and for housekeeping.
    pub max_connections: u32,
}

/// The URL may hold a password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, max_connections } = self;
        let url = if url.is_empty() { "" } else { "[redacted]" };
        f.debug_struct("Config").field("url", &url).field("max_connections", max_connections).finish()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { url: String::new(), max_connections: 10 }
    }
}

impl Config {
    /// Checks the scheme of the URL and the number of connections.
    pub fn validate(&self) -> Result<(), Invalid> {
        let known = ["postgres://", "postgresql://", "sqlite:"];
        if !self.url.is_empty() && !known.iter().any(|scheme| self.url.starts_with(scheme)) {
            return Err(Invalid::new("database.url", "must begin with `postgres://` or `sqlite://`"));
        }
        if self.url.starts_with("sqlite:") && self.url.contains(":memory:") {
            return Err(Invalid::new(
                "database.url",
                "must be a file: what is only in memory is not durable",
            ));
        }
        // The cause names no part of the URL, which may hold a password.
        if !self.url.is_empty()
            && let Err(cause) = url::Url::parse(&self.url)
        {
            let reason =
                format!("is not a URL: {cause}; special characters of a password must be percent-encoded");
            return Err(Invalid::new("database.url", reason));
        }
        if !(3..=1_000).contains(&self.max_connections) {
            return Err(Invalid::new("database.max_connections", "must be from 3 to 1000"));
        }
        Ok(())
    }

    /// The URL, or that of a file in `data_dir`.
    fn url(&self, data_dir: &Path) -> String {
        if self.url.is_empty() {
            format!("sqlite://{}", data_dir.join("postrider.db").display())
        } else {
            self.url.clone()
        }
    }
}

/// The connections of one server.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    /// For everything that changes something. On SQLite there is one, so that our own tasks never find the
    /// database locked by one another.
    pub(super) writer: DatabaseConnection,
    /// For what every event costs: publishing, claiming, settling. On PostgreSQL apart from the writer, so that nothing else is in its way.
    pub(super) engine: DatabaseConnection,
    /// For calls that only look. Slow listings may use all of these connections for a while.
    pub(super) reader: DatabaseConnection,
    /// For claims, which look at much before they change anything. On SQLite it is none of the others: writing must not wait for it, nor it for
    /// listings.
    pub(super) looker: DatabaseConnection,
    /// For reading what a tenant's events are matched with and are owed to, which publishing and fan-outs wait for. On SQLite it is none of the
    /// others either.
    pub(super) matcher: DatabaseConnection,
    /// For what the server looks for by itself: housekeeping and readiness, which listings must not stand in the way of. Nor is it any of the others on
    /// SQLite.
    pub(super) keeper: DatabaseConnection,
}

impl Connections {
    pub(super) async fn open(config: &Config, data_dir: &Path) -> Result<Self, DbErr> {
        let url = config.url(data_dir);
        if url.starts_with("sqlite:") {
            let writer = Database::connect(sqlite(&url, 1, WRITER_CACHE)).await?;
            let reader = Database::connect(sqlite(&url, SQLITE_READERS, READER_CACHE)).await?;
            let looker = Database::connect(sqlite(&url, 1, READER_CACHE)).await?;
            let matcher = Database::connect(sqlite(&url, 1, READER_CACHE)).await?;
            let keeper = Database::connect(sqlite(&url, 1, READER_CACHE)).await?;
            Ok(Self { engine: writer.clone(), writer, reader, looker, matcher, keeper })
        } else {
            // Apart, so that slow listings cannot keep events from being taken in and delivered.
            let engines = ENGINE_CONNECTIONS.min(config.max_connections - 2);
            let readers = (config.max_connections - engines) / 2;
            let writers = config.max_connections - engines - readers;
            let steady = [INDEX_WORK_ONLY.as_slice(), &[PLANNED_ONCE]].concat();
            let engine = Database::connect(postgres(&url, engines, PATIENCE, &steady)).await?;
            let writer = Database::connect(postgres(&url, writers, PATIENCE, &INDEX_WORK_ONLY)).await?;
            let reader = Database::connect(postgres(&url, readers, PATIENCE, &INDEX_WORK_ONLY)).await?;
            let (looker, matcher, keeper) = (engine.clone(), writer.clone(), writer.clone());
            Ok(Self { writer, engine, reader, looker, matcher, keeper })
        }
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        begin(&self.writer).await
    }

    /// Begins a transaction of what every event costs.
    pub(super) async fn begin_engine(&self) -> Result<DatabaseTransaction, DbErr> {
        begin(&self.engine).await
    }

    /// Begins a transaction that reads and sees the database as it is at one moment. Not by the readers' connections: they may all be
    /// busy with listings, and publishing must not wait for those.
    pub(super) async fn begin_snapshot(&self) -> Result<DatabaseTransaction, DbErr> {
        if self.backend() == DbBackend::Sqlite {
            // Every transaction does, from its first look on.
            return self.matcher.begin().await;
        }
        let isolation = Some(IsolationLevel::RepeatableRead);
        self.matcher.begin_with_config(isolation, Some(AccessMode::ReadOnly)).await
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.writer.get_database_backend()
    }
}

/// Begins a transaction that writes.
async fn begin(connection: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    if connection.get_database_backend() != DbBackend::Sqlite {
        return connection.begin().await;
    }
    // Take the write lock at once. Taking it later can fail in a way that waiting does not mend.
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    connection.begin_with_options(options).await
}

/// Runs the migrations that are missing. Several nodes may do so at once.
pub(super) async fn migrate(config: &Config, data_dir: &Path) -> Result<(), DbErr> {
    let url = config.url(data_dir);
    if url.starts_with("sqlite:") {
        let lock = lock_folder(data_dir).await?;
        let connection = Database::connect(sqlite(&url, 1, WRITER_CACHE)).await?;
        Migrator::up(&connection, None).await?;
        drop(lock);
        return connection.close().await;
    }
    // One connection holds the lock, the other one migrates. Both wait: a migration may take its time.
    let connection = Database::connect(postgres(&url, 2, Duration::ZERO, &[])).await?;
    let lock = connection.begin().await?;
    take_lock(&lock).await?;
    Migrator::up(&connection, None).await?;
    lock.commit().await?;
    connection.close().await
}

/// Waits until nobody else migrates the embedded database: SQLite itself has no lock that outlasts a migration.
async fn lock_folder(data_dir: &Path) -> Result<std::fs::File, DbErr> {
    let path = data_dir.join("migrate.lock");
    let locked = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::create(path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    });
    let failed = |cause: String| DbErr::Custom(format!("the data folder cannot be locked: {cause}"));
    locked.await.map_err(|cause| failed(cause.to_string()))?.map_err(|cause| failed(cause.to_string()))
}

/// Takes a lock of PostgreSQL that this transaction holds to its end, and that one other at most waits to take over.
pub(super) async fn take_lock(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    if transaction.get_database_backend() == DbBackend::Sqlite {
        // A transaction that writes is alone anyway.
        return Ok(());
    }
    let sql = "SELECT pg_advisory_xact_lock($1)";
    let take = Statement::from_sql_and_values(DbBackend::Postgres, sql, [LOCK.into()]);
    transaction.execute_raw(take).await.map(drop)
}

fn options(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .connect_timeout(PATIENCE)
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    options
}

fn sqlite(url: &str, connections: u32, cache: &'static str) -> ConnectOptions {
    let mut options = options(url, connections);
    // An idle connection costs nothing, and a new one must read the schema again.
    options.min_connections(1).idle_timeout(None::<Duration>).max_lifetime(None::<Duration>);
    // Nor can it be lost, so there is no need to ask each time whether it still stands.
    options.test_before_acquire(false);
    options.map_sqlx_sqlite_opts(move |options| {
        options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // With anything less a commit may be lost when the power fails, and OK means durable.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE)
            .pragma("wal_autocheckpoint", WAL_PAGES)
            .pragma("cache_size", cache)
            .statement_cache_capacity(STATEMENTS)
    });
    options
}

/// `patience` zero: wait without an end.
fn postgres(
    url: &str,
    connections: u32,
    patience: Duration,
    planner: &[(&'static str, &'static str)],
) -> ConnectOptions {
    let mut options = options(url, connections);
    let planner = planner.to_vec();
    let lock_timeout = format!("{}ms", patience.as_millis());
    let statement_timeout = format!("{}ms", patience.as_millis() * 6);
    let idle_timeout = format!("{}ms", patience.min(FROZEN).as_millis());
    options.map_sqlx_postgres_opts(move |options| {
        let timeouts = [
            ("lock_timeout", lock_timeout.as_str()),
            ("statement_timeout", statement_timeout.as_str()),
            ("idle_in_transaction_session_timeout", idle_timeout.as_str()),
        ];
        let planner = planner.iter().copied().chain([NEVER_COMPILED]);
        options.application_name("postrider").options(timeouts).options(planner)
    });
    options
}
