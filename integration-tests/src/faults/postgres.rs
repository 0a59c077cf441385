//! A PostgreSQL server of the harness's own, to be restarted, killed and made to refuse connections. Durable as in production.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use sea_orm::{ConnectOptions, ConnectionTrait, Database};
use tempfile::TempDir;
use tokio::process::Command;

use super::Error;

/// The database that the nodes use.
const DATABASE: &str = "postrider";

/// A server. Gone when dropped.
#[derive(Debug)]
pub(super) struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    /// It refuses to run as root: how to become somebody else.
    become_user: Option<String>,
    port: u16,
}

impl Postgres {
    pub(super) async fn start() -> Result<Self, Error> {
        let programs = programs()?;
        // Not `TMPDIR`, which may be closed to the user that PostgreSQL runs as.
        let folder = tempfile::Builder::new().prefix("postrider-faults-pg-").tempdir_in("/tmp")?;
        let become_user = match said("id", &["-u"]).await?.as_str() {
            "0" => {
                let user = if said("id", &["-u", "postgres"]).await.is_ok() { "postgres" } else { "nobody" };
                let id = said("id", &["-u", user]).await?;
                let id = id.parse().map_err(|_| Error(format!("the user id {id} is no number")))?;
                std::os::unix::fs::chown(folder.path(), Some(id), None)?;
                Some(user.to_owned())
            }
            _ => None,
        };
        let postgres = Self { folder, programs, become_user, port: free_port()? };
        let data = postgres.data();
        let data = data.to_string_lossy();
        postgres
            .run(
                "initdb",
                &["-D", &data, "-U", "postrider", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            )
            .await?;
        postgres.come_back().await?;
        postgres.administer(&[&format!("CREATE DATABASE {DATABASE}")]).await?;
        Ok(postgres)
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// How a node is told of it that reaches it at this address.
    pub(super) fn url_at(address: SocketAddr) -> String {
        format!("postgres://postrider@{address}/{DATABASE}")
    }

    /// Ends all connections, stops, and stays away.
    pub(super) async fn stop(&self) -> Result<(), Error> {
        let data = self.data();
        self.run("pg_ctl", &["-D", &data.to_string_lossy(), "-m", "fast", "-w", "stop"]).await
    }

    /// A signal to its first process, which then stays away.
    pub(super) async fn signal(&self, name: &str) -> Result<(), Error> {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        let pid = file.lines().next().unwrap_or_default().trim().to_owned();
        said("kill", &["-s", name, &pid]).await?;
        let begun = Instant::now();
        // A zombie counts as gone.
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(Error(format!("PostgreSQL did not end by SIG{name}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Starts it, after whatever end, and waits until it has recovered.
    pub(super) async fn come_back(&self) -> Result<(), Error> {
        let data = self.data();
        let log = self.folder.path().join("server.log");
        let settings = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=150 \
             -c shared_buffers=64MB -c log_min_messages=fatal",
            self.port
        );
        let (data, log) = (data.to_string_lossy(), log.to_string_lossy());
        let arguments = ["-D", &data, "-l", &log, "-o", &settings, "-w", "start"];
        let begun = Instant::now();
        loop {
            match self.run("pg_ctl", &arguments).await {
                Ok(()) => return Ok(()),
                // After a kill its other processes may still be on their way out.
                Err(_) if begun.elapsed() < Duration::from_secs(30) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends all connections to the database and takes no new ones, or takes them again.
    pub(super) async fn allow_connections(&self, allow: bool) -> Result<(), Error> {
        let alter = format!("ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS {allow}");
        let end =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{DATABASE}'");
        if allow { self.administer(&[&alter]).await } else { self.administer(&[&alter, &end]).await }
    }

    /// Ends about this part of all connections, whatever they are doing.
    pub(super) async fn end_connections(&self, percent: usize) -> Result<(), Error> {
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = '{DATABASE}' AND random() * 100 < {percent}"
        );
        self.administer(&[&end]).await
    }

    async fn administer(&self, statements: &[&str]) -> Result<(), Error> {
        let failed = |cause: sea_orm::DbErr| Error(format!("PostgreSQL cannot be administered: {cause}"));
        let mut options = ConnectOptions::new(format!("postgres://postrider@{}/postgres", self.address()));
        options.max_connections(1).sqlx_logging(false).connect_timeout(Duration::from_secs(10));
        let admin = Database::connect(options).await.map_err(failed)?;
        for statement in statements {
            admin.execute_unprepared(statement).await.map_err(failed)?;
        }
        admin.close().await.map_err(failed)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> (OsString, Vec<OsString>) {
        let program = self.programs.join(program).into_os_string();
        match &self.become_user {
            None => (program, Vec::new()),
            Some(user) => ("runuser".into(), vec!["-u".into(), user.into(), "--".into(), program]),
        }
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Result<(), Error> {
        let (command, before) = self.command(program);
        let log = self.folder.path().join(format!("{program}.log"));
        let output = std::fs::File::create(&log)?;
        let status = Command::new(command)
            .args(before)
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .await?;
        if status.success() {
            return Ok(());
        }
        let told = std::fs::read_to_string(log).unwrap_or_default();
        Err(Error(format!("{program} failed: {told}")))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let (command, before) = self.command("pg_ctl");
        // What cannot be stopped now is only a process too many.
        let _ = std::process::Command::new(command)
            .args(before)
            .arg("-D")
            .arg(self.data())
            .args(["-m", "immediate", "stop"])
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// A port below those that the system hands out by itself, so that nobody takes it while its owner is away.
pub(super) fn free_port() -> Result<u16, Error> {
    let mut port = 20_000 + u16::try_from(std::process::id() * 31 % 10_000).unwrap_or(0);
    for _ in 0..10_000 {
        port = if port >= 29_999 { 20_000 } else { port + 1 };
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error("there is no free port".to_owned()))
}

/// The folder of the newest PostgreSQL on this machine.
fn programs() -> Result<PathBuf, Error> {
    let mut folders = Vec::new();
    for parent in ["/usr/lib/postgresql", "/usr/libexec"] {
        folders.extend(std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    folders.sort();
    folders.reverse();
    let mut candidates: Vec<_> =
        folders.iter().flat_map(|folder| [folder.join("bin"), folder.clone()]).collect();
    candidates.extend(["/usr/bin", "/usr/local/bin", "/usr/local/pgsql/bin"].map(PathBuf::from));
    let is_server = |folder: &PathBuf| {
        ["initdb", "pg_ctl", "postgres"].iter().all(|name| Path::exists(&folder.join(name)))
    };
    candidates
        .into_iter()
        .find(is_server)
        .ok_or_else(|| Error("there is no PostgreSQL server on this machine".to_owned()))
}

async fn said(program: &str, arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new(program).args(arguments).output().await?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error(format!("{program} {}: {told}", arguments.join(" "))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
