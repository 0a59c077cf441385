//! A database for each test.

use std::path::PathBuf;

use postrider_server::store;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use tempfile::TempDir;

/// Names the PostgreSQL server that tests may make databases on.
const SERVER: &str = "POSTRIDER_TEST_POSTGRES_URL";

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file in a temporary folder.
    Sqlite,
    /// A database of its own on the test server.
    Postgres,
}

/// A database that nobody else uses, and a folder for the server's files. Gone when dropped.
#[derive(Debug)]
pub struct TestDatabase {
    kind: Kind,
    folder: TempDir,
    url: String,
}

impl TestDatabase {
    /// Makes an empty database.
    pub async fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = match kind {
            Kind::Sqlite => format!("sqlite://{}", folder.path().join("postrider.db").display()),
            Kind::Postgres => {
                #[expect(clippy::disallowed_methods, reason = "any name that nobody else takes will do")]
                let name = format!("postrider_{}", uuid::Uuid::now_v7().simple());
                let server = server();
                administer(&[&format!("CREATE DATABASE {name}")]).await;
                let mut url = url::Url::parse(&server).unwrap();
                url.set_path(&name);
                url.into()
            }
        };
        Self { kind, folder, url }
    }

    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How the server is told of it.
    #[must_use]
    pub fn config(&self) -> store::Config {
        store::Config { url: self.url.clone(), ..store::Config::default() }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A folder for the server's files.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// A connection beside the server's, to look at rows or to stand in its way.
    pub async fn connect(&self) -> DatabaseConnection {
        Database::connect(self.url.as_str()).await.unwrap()
    }

    /// PostgreSQL: ends all connections and lets nobody in.
    pub async fn go_away(&self) {
        let name = self.name();
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        administer(&[&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"), &end]).await;
    }

    /// PostgreSQL: lets everybody in again.
    pub async fn come_back(&self) {
        administer(&[&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name())]).await;
    }

    fn name(&self) -> String {
        assert_eq!(self.kind, Kind::Postgres);
        let url = url::Url::parse(&self.url).unwrap();
        url.path().trim_start_matches('/').to_owned()
    }
}

/// Does something on the test server that a database cannot do to itself.
async fn administer(statements: &[&str]) {
    let admin = Database::connect(server()).await.unwrap();
    for statement in statements {
        admin.execute_unprepared(statement).await.unwrap();
    }
    admin.close().await.unwrap();
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if self.kind == Kind::Postgres {
            let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name());
            // On a thread of its own: the test's runtime cannot wait here.
            let dropped = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(administer(&[&drop]));
            });
            // A database that is left over is no reason for a test to fail.
            let _ = dropped.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "where the test server is, only the environment knows")]
fn server() -> String {
    std::env::var(SERVER).unwrap_or_else(|_| {
        panic!("{SERVER} is not set: `scripts/test` starts a PostgreSQL server and sets it")
    })
}
