//! The server that is measured: the real binary, as a process of its own.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    task::JoinSet,
};

use crate::{Failure, client};

const PATIENCE: Duration = Duration::from_mins(2);
/// How many warnings are kept, to be shown.
const KEPT: usize = 5;

/// `postrider serve`; killed when dropped.
pub(crate) struct Server {
    child: Child,
    warnings: Arc<Mutex<Warnings>>,
    _reading: JoinSet<()>,
    /// Where gRPC calls go.
    pub(crate) grpc: String,
    /// Where HTTP requests go.
    pub(crate) http: String,
}

/// Lines of the log above `INFO`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warnings {
    /// How many there were.
    pub(crate) count: u64,
    /// The last of them.
    pub(crate) last: VecDeque<String>,
}

impl Server {
    /// Starts it on a database and waits until it takes calls. Receivers may be on loopback; `settings` are further variables.
    pub(crate) async fn start(
        binary: &Path,
        data: &Path,
        url: &str,
        settings: &[(String, String)],
    ) -> Result<Self, Failure> {
        let mut command = Command::new(binary);
        command.env_clear().arg("serve").arg("--data-dir").arg(data).kill_on_drop(true);
        for (name, value) in [
            ("POSTRIDER_DATABASE_URL", url),
            ("POSTRIDER_GRPC_LISTEN", "127.0.0.1:0"),
            ("POSTRIDER_HTTP_LISTEN", "127.0.0.1:0"),
            ("POSTRIDER_SENDER_ALLOW_HTTP", "true"),
            ("POSTRIDER_SENDER_ALLOWED_NETWORKS", "127.0.0.0/8"),
            ("POSTRIDER_LOG_FORMAT", "json"),
        ] {
            command.env(name, value);
        }
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|cause| format!("{} cannot be started: {cause}", binary.display()))?;
        let stderr = child.stderr.take().ok_or("a server without standard error")?;
        let mut log = BufReader::new(stderr).lines();
        let (grpc, http) = tokio::time::timeout(PATIENCE, takes_calls(&mut log))
            .await
            .map_err(|_| format!("the server did not take calls within {PATIENCE:?}"))??;
        let warnings = Arc::default();
        let mut reading = JoinSet::new();
        reading.spawn(read(log, Arc::clone(&warnings)));
        Ok(Self { child, warnings, _reading: reading, grpc, http })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// What it has complained of.
    pub(crate) fn warnings(&self) -> Warnings {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has counted itself, by the names under which it tells: every metric that ends in `_total`, with its labels.
    pub(crate) async fn counters(&self) -> Result<BTreeMap<String, f64>, Failure> {
        let text = client::new()?.get(format!("{}/metrics", self.http)).send().await?.text().await?;
        let counter = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            let is_counter = name.split('{').next()?.ends_with("_total") && !name.starts_with('#');
            Some((name.to_owned(), value.parse().ok()?)).filter(|_| is_counter)
        };
        Ok(text.lines().filter_map(counter).collect())
    }

    /// Asks it to stop and waits for its end, but not for ever.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        let pid = self.pid().to_string();
        Command::new("kill").args(["-s", "TERM", &pid]).status().await?;
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

async fn takes_calls(log: &mut Lines<BufReader<ChildStderr>>) -> Result<(String, String), Failure> {
    let mut seen = String::new();
    loop {
        let Some(line) = log.next_line().await? else {
            return Err(format!("the server ended before it took calls:\n{seen}").into());
        };
        let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if let (Some(grpc), Some(http)) = (entry["grpc.address"].as_str(), entry["http.address"].as_str()) {
            return Ok((format!("http://{grpc}"), format!("http://{http}")));
        }
        seen.push_str(&line);
        seen.push('\n');
    }
}

async fn read(mut log: Lines<BufReader<ChildStderr>>, warnings: Arc<Mutex<Warnings>>) {
    while let Ok(Some(line)) = log.next_line().await {
        let info = [r#""level":"INFO""#, r#""level":"DEBUG""#, r#""level":"TRACE""#];
        if info.iter().any(|level| line.contains(level)) {
            continue;
        }
        let mut warnings = warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.count += 1;
        warnings.last.push_back(line);
        if warnings.last.len() > KEPT {
            warnings.last.pop_front();
        }
    }
}
