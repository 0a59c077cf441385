//! A PostgreSQL server of our own, as durable as PostgreSQL is by default. Gone when dropped.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::Failure;

const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(50);
/// Where Debian, Red Hat, Alpine and Homebrew put the programs, if they are not on the path.
const PLACES: [&str; 6] = [
    "/usr/lib/postgresql",
    "/usr",
    "/usr/libexec",
    "/usr/local/pgsql",
    "/opt/homebrew/opt",
    "/usr/local/opt",
];

/// A server and its folder.
pub(super) struct Cluster {
    data: PathBuf,
    port: u16,
    pid: u32,
    child: std::process::Child,
}

impl Cluster {
    /// Starts one in a folder and waits until it takes connections.
    pub(super) async fn start(folder: &Path) -> Result<Self, Failure> {
        let programs = programs().ok_or("there is no PostgreSQL server on this machine: install it")?;
        let data = folder.join("postgres");
        fs::create_dir(&data)?;
        let user = User::choose(&data)?;
        let initdb = programs.join("initdb");
        let mut initdb =
            user.run(&initdb, &["-U", "postrider", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"]);
        let made = initdb.arg(&data).output()?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        // Not every installation has the extension.
        let with = ["-c", "shared_preload_libraries=pg_stat_statements"];
        match Self::serve(&programs, &data, &user, &with).await {
            Ok(cluster) => Ok(cluster),
            Err(_) => Self::serve(&programs, &data, &user, &[]).await,
        }
    }

    /// How it is reached.
    pub(super) fn url(&self) -> String {
        format!("postgres://postrider@127.0.0.1:{}/postgres", self.port)
    }

    /// The process whose children all others are.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    async fn serve(programs: &Path, data: &Path, user: &User, with: &[&str]) -> Result<Self, Failure> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = user.run(&programs.join("postgres"), &["-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories=", "-c", "max_connections=200"]);
        command.args(["-p", &port.to_string()]).args(with).arg("-D").arg(data);
        let log = fs::File::create(data.join("server.log"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let mut cluster = Self { data: data.to_owned(), port, pid: 0, child };
        let limit = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < limit {
            if let Some(pid) = ready(data) {
                cluster.pid = pid;
                return Ok(cluster);
            }
            if cluster.child.try_wait()?.is_some() {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        let log = fs::read_to_string(data.join("server.log")).unwrap_or_default();
        Err(format!("PostgreSQL does not start: {log}").into())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.pid != 0 {
            // Without a checkpoint: what it holds is thrown away.
            let _ = Command::new("kill").args(["-s", "QUIT", &self.pid.to_string()]).status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// The first line of this file is the process id, the eighth the status.
fn ready(data: &Path) -> Option<u32> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    (lines.nth(6)?.trim() == "ready").then_some(pid)
}

/// The folder of the server's programs, of the newest version that there is.
fn programs() -> Option<PathBuf> {
    let has_them = |folder: &PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
    let mut found = Vec::new();
    for place in PLACES {
        let versions = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
        found.extend(versions.flat_map(|folder| [folder.join("bin"), folder]).filter(has_them));
    }
    found.sort();
    found.pop()
}

/// Whom the server runs as: it refuses to run as root.
struct User(Option<String>);

impl User {
    fn choose(data: &Path) -> Result<Self, Failure> {
        if said_by("id", &["-u"])? != "0" {
            return Ok(Self(None));
        }
        let name = if said_by("id", &["-u", "postgres"]).is_ok() { "postgres" } else { "nobody" };
        said_by("chown", &[name, &data.display().to_string()])?;
        // The folder of the run is closed to others.
        let folder = data.parent().ok_or("a data folder without a parent")?;
        said_by("chmod", &["o+x", &folder.display().to_string()])?;
        Ok(Self(Some(name.to_owned())))
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Command {
        let Some(name) = &self.0 else {
            let mut command = Command::new(program);
            command.args(arguments);
            return command;
        };
        let mut command = if let Ok(group) = said_by("id", &["-gn", name])
            && said_by("setpriv", &["--version"]).is_ok()
        {
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={name}")).arg(format!("--regid={group}")).arg("--clear-groups");
            command.arg("--").arg(program);
            command
        } else {
            let mut command = Command::new("su");
            // The shell becomes the program, with the arguments that follow.
            command.args(["-s", "/bin/sh", name, "-c", r#"exec "$0" "$@""#, "--"]).arg(program);
            command
        };
        command.args(arguments).current_dir("/");
        command
    }
}

/// What a program prints, if it succeeds.
fn said_by(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
