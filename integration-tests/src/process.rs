//! The real binary, as a process of its own.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use postrider_sdk::Client;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::TestDatabase;

/// `postrider serve`, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    seen: Vec<String>,
    /// Where gRPC calls go.
    pub grpc: String,
    /// Where HTTP requests go.
    pub http: String,
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// How the binary is to be run.
#[derive(Debug)]
pub struct ProcessBuilder(Command);

impl ProcessBuilder {
    /// The binary with these arguments, and nothing of this process's environment that it would read.
    #[must_use]
    pub fn new(arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.env_clear().args(arguments).kill_on_drop(true);
        Self(command)
    }

    /// `serve` on a database, with any free ports and receivers on loopback.
    #[must_use]
    pub fn serve(database: &TestDatabase) -> Self {
        Self::serve_on(database.url(), &database.folder())
    }

    /// The same, on a database that somebody else made.
    #[must_use]
    pub fn serve_on(database_url: &str, folder: &Path) -> Self {
        Self::new(&["serve", "--data-dir", folder.to_str().unwrap()])
            .with("POSTRIDER_DATABASE_URL", database_url)
            .with("POSTRIDER_GRPC_LISTEN", "127.0.0.1:0")
            .with("POSTRIDER_HTTP_LISTEN", "127.0.0.1:0")
            .with("POSTRIDER_SENDER_ALLOW_HTTP", "true")
            .with("POSTRIDER_SENDER_ALLOWED_NETWORKS", "127.0.0.0/8")
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Starts it and waits for nothing. The log goes to `log`.
    pub fn spawn(mut self, log: Stdio) -> std::io::Result<Child> {
        self.0.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
    }

    /// Starts it and waits until it takes calls.
    pub async fn start(mut self) -> Process {
        let mut child = self.0.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        loop {
            let line = log.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended before it took calls: {seen:#?}"));
            seen.push(line.clone());
            let Ok(entry) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            if entry["message"] == "Postrider takes calls" {
                let address = |name: &str| format!("http://{}", entry[name].as_str().unwrap());
                let (grpc, http) = (address("grpc.address"), address("http.address"));
                return Process { child, log, seen, grpc, http };
            }
        }
    }

    /// Runs it to its end.
    pub async fn run(mut self) -> Exit {
        let output = self.0.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Exit { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Process {
    /// A client that calls it.
    pub async fn client(&self) -> Client {
        Client::connect(&self.grpc).await.unwrap()
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.id().to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it on the spot, and returns when it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for a line of the log whose message is this one.
    pub async fn logged(&mut self, message: &str) -> serde_json::Value {
        loop {
            let line = self.log.next_line().await.unwrap();
            let line =
                line.unwrap_or_else(|| panic!("it ended before it logged `{message}`: {:#?}", self.seen));
            self.seen.push(line.clone());
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
            if entry["message"] == message {
                return entry;
            }
        }
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> Exit {
        let mut rest = String::new();
        self.log.into_inner().read_to_string(&mut rest).await.unwrap();
        let status = self.child.wait().await.unwrap();
        let stderr = self.seen.join("\n") + "\n" + &rest;
        Exit { code: status.code(), stdout: String::new(), stderr }
    }

    /// Asks it to stop and waits for its end.
    pub async fn stop(self) -> Exit {
        self.signal("TERM");
        self.ended().await
    }
}

/// Where cargo puts the binary when it builds the tests of the workspace.
fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    // Tests are in a folder below it, other binaries beside it.
    let mut found = own.ancestors().skip(1).take(2).map(|folder| folder.join("postrider"));
    found.find(|binary| binary.is_file()).unwrap_or_else(|| {
        panic!("there is no `postrider` near {}: build the whole workspace", own.display())
    })
}
