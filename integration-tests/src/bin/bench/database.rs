//! The database that the server runs on, and what it has done.

mod cluster;
mod counters;

use std::path::Path;

use sea_orm::{ConnectOptions, ConnectionTrait, Database as SeaOrm, DatabaseConnection, Statement};

use self::cluster::Cluster;
pub(crate) use self::counters::{Lagging, Prompt};
use crate::{Failure, clock, options::Kind, usage};

/// As many as PostgreSQL keeps at most by its defaults (`max_wal_size`, 1 GiB).
const LOG_FILES: u32 = 60;

/// A database that nobody else uses.
pub(crate) enum Database {
    /// A file in the folder of the run.
    Sqlite {
        /// For the server.
        url: String,
    },
    /// One on a PostgreSQL server.
    Postgres(Postgres),
}

/// A database on a PostgreSQL server.
pub(crate) struct Postgres {
    /// Connected to another database of the server, so as not to be counted.
    observer: DatabaseConnection,
    name: String,
    url: String,
    /// The server, if it is ours.
    cluster: Option<Cluster>,
    has_statements: bool,
}

impl Database {
    /// Makes an empty one.
    pub(crate) async fn make(kind: Kind, existing: Option<&str>, folder: &Path) -> Result<Self, Failure> {
        match kind {
            Kind::Sqlite => {
                Ok(Self::Sqlite { url: format!("sqlite://{}", folder.join("postrider.db").display()) })
            }
            Kind::Postgres => Postgres::make(existing, folder).await.map(Self::Postgres),
        }
    }

    /// How the server is told of it.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Sqlite { url } => url,
            Self::Postgres(postgres) => &postgres.url,
        }
    }

    /// CPU time of its processes, in microseconds; none where it has none that we know of.
    pub(crate) fn cpu(&self) -> Option<u64> {
        match self {
            Self::Sqlite { .. } => None,
            Self::Postgres(postgres) => {
                postgres.cluster.as_ref().map(|cluster| usage::cpu_of_family(cluster.pid()))
            }
        }
    }

    /// What it counts at once.
    pub(crate) async fn prompt(&self) -> Result<Prompt, Failure> {
        match self {
            Self::Sqlite { .. } => Ok(Prompt::default()),
            Self::Postgres(postgres) => {
                Prompt::read(&postgres.observer, &postgres.name, postgres.has_statements).await
            }
        }
    }

    /// What it counts when its connections have been idle for a while, or have ended.
    pub(crate) async fn lagging(&self) -> Result<Lagging, Failure> {
        match self {
            Self::Sqlite { .. } => Ok(Lagging::default()),
            Self::Postgres(postgres) => Lagging::read(&postgres.observer, &postgres.name).await,
        }
    }

    /// How many bytes it takes, as far as that can be told.
    pub(crate) async fn size(&self) -> Result<Option<u64>, Failure> {
        match self {
            Self::Sqlite { url } => {
                let file = url.trim_start_matches("sqlite://");
                let size = |suffix| std::fs::metadata(format!("{file}{suffix}")).map_or(0, |file| file.len());
                Ok(Some(size("") + size("-wal")))
            }
            Self::Postgres(postgres) => counters::size(&postgres.observer, &postgres.name).await,
        }
    }

    /// How many deliveries are pending. By a connection of its own, which is closed again.
    pub(crate) async fn pending(&self) -> Result<u64, Failure> {
        let mut options = ConnectOptions::new(self.url());
        options.max_connections(1).sqlx_logging(false);
        let connection = SeaOrm::connect(options).await?;
        let backend = connection.get_database_backend();
        let count = "SELECT COUNT(*) AS pending FROM pending_deliveries";
        let row = connection.query_one_raw(Statement::from_string(backend, count)).await?;
        let pending: i64 = row.ok_or("nothing was counted")?.try_get("", "pending")?;
        connection.close().await?;
        Ok(pending.unsigned_abs())
    }

    /// Removes it.
    pub(crate) async fn remove(self) -> Result<(), Failure> {
        let Self::Postgres(Postgres { observer, name, cluster, .. }) = self else { return Ok(()) };
        if cluster.is_none() {
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            observer.execute_unprepared(&drop).await?;
        }
        observer.close().await?;
        Ok(())
    }
}

impl Postgres {
    async fn make(existing: Option<&str>, folder: &Path) -> Result<Self, Failure> {
        let (cluster, server) = if let Some(url) = existing {
            (None, url.to_owned())
        } else {
            let cluster = Cluster::start(folder).await?;
            let url = cluster.url();
            (Some(cluster), url)
        };
        let mut options = ConnectOptions::new(server.as_str());
        options.max_connections(1).sqlx_logging(false);
        let observer = SeaOrm::connect(options).await?;
        if cluster.is_some() {
            run_in(&observer).await?;
        }
        let name = format!("postrider_bench_{}", clock::now());
        observer.execute_unprepared(&format!("CREATE DATABASE {name}")).await?;
        let statements =
            observer.execute_unprepared("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await;
        // The extension can exist without the library being loaded.
        let has_statements = statements.is_ok()
            && observer.execute_unprepared("SELECT calls FROM pg_stat_statements LIMIT 1").await.is_ok();
        let mut url = url::Url::parse(&server)?;
        url.set_path(&name);
        Ok(Self { observer, name, url: url.into(), cluster, has_statements })
    }
}

/// Gives a new server what every other one has: files of its log to write again. Otherwise it stops for each new one, to fill 16 MiB with zeros.
async fn run_in(server: &DatabaseConnection) -> Result<(), Failure> {
    for _ in 0..LOG_FILES {
        // A file that nothing was written to is not left.
        server.execute_unprepared("SELECT pg_logical_emit_message(false, '', '')").await?;
        server.execute_unprepared("SELECT pg_switch_wal()").await?;
    }
    // What is before a checkpoint may be written again.
    server.execute_unprepared("CHECKPOINT").await?;
    Ok(())
}
