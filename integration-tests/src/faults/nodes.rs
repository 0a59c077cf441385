//! The nodes: real processes, each with its own way to PostgreSQL and a clock that is wrong.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::Bytes;
use postrider_sdk::{Client, RetryPolicy};
use tokio::process::Child;

use super::{
    Error, LEASE, TIMEOUT,
    chance::Chance,
    postgres::{Postgres, free_port},
    proxy::Proxy,
};
use crate::{ProcessBuilder, send_http1};

/// What all nodes of one database must be told.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Enough for chance never to use them up, short enough for a dead receiver to do so soon.
const SCHEDULE: &str = "300ms,500ms,500ms,700ms,700ms,1s,1s,1s,1s,1s,1s,1s";
/// How far the clocks of nodes are off, in seconds: some by more than a lease.
const SKEWS: [i64; 6] = [0, 3, -3, 9, -9, 20];
/// How long a node may take to take calls. It has PostgreSQL then.
const STARTING: Duration = Duration::from_mins(1);

pub(super) struct Nodes(Vec<Node>);

struct Node {
    number: usize,
    grpc: u16,
    http: u16,
    folder: PathBuf,
    proxy: Proxy,
    skew: i64,
    process: Option<Child>,
    /// Whether it was told to stop.
    stopping: bool,
}

impl Nodes {
    pub(super) async fn start(
        count: usize,
        folder: &Path,
        postgres: &Postgres,
        chance: &mut Chance,
    ) -> Result<Self, Error> {
        let mut skews = SKEWS;
        chance.shuffle(&mut skews);
        let mut nodes = Self(Vec::new());
        for number in 0..count {
            let folder = folder.join(format!("node-{number}"));
            std::fs::create_dir_all(&folder)?;
            let proxy = Proxy::start(postgres.address()).await?;
            let skew = skews[number % skews.len()];
            let (grpc, http) = (free_port()?, 0);
            let mut node = Node { number, grpc, http, folder, proxy, skew, process: None, stopping: false };
            // One after another, as a port is taken only when the node listens on it.
            node.start().await?;
            nodes.0.push(node);
        }
        Ok(nodes)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// A client of each node, which connects when it has to and repeats nothing by itself.
    pub(super) fn clients(&self) -> Result<Vec<Client>, Error> {
        let client = |node: &Node| {
            Client::builder(format!("http://127.0.0.1:{}", node.grpc))
                .with_timeout(Duration::from_secs(8))
                .with_connect_timeout(Duration::from_secs(2))
                .with_retry(RetryPolicy::never())
                .connect_lazy()
                .map_err(|error| Error(error.to_string()))
        };
        self.0.iter().map(client).collect()
    }

    pub(super) fn proxy(&self, node: usize) -> &Proxy {
        &self.0[node].proxy
    }

    pub(super) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.0.iter().map(|node| &node.proxy)
    }

    pub(super) fn is_down(&mut self, node: usize) -> bool {
        self.0[node].is_down()
    }

    pub(super) async fn kill(&mut self, node: usize) {
        if let Some(mut process) = self.0[node].process.take() {
            // It may have ended by itself.
            let _ = process.kill().await;
        }
    }

    pub(super) fn signal(&mut self, node: usize, name: &str) -> Result<(), Error> {
        self.0[node].stopping |= name == "TERM";
        let pid = self.0[node].process.as_ref().and_then(Child::id);
        let pid = pid.ok_or_else(|| Error(format!("node {node} is not there")))?.to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status()?;
        if sent.success() { Ok(()) } else { Err(Error(format!("SIG{name} was not sent to node {node}"))) }
    }

    /// Starts one that was killed or told to stop.
    pub(super) async fn start_again(&mut self, node: usize) -> Result<(), Error> {
        let node = &mut self.0[node];
        // Two faults may have struck it.
        if std::mem::take(&mut node.stopping)
            && let Some(mut process) = node.process.take()
            && tokio::time::timeout(Duration::from_secs(45), process.wait()).await.is_err()
        {
            return Err(Error(format!("node {} does not stop", node.number)));
        }
        node.start().await
    }

    /// Starts those that are down.
    pub(super) async fn start_missing(&mut self) -> Result<(), Error> {
        for node in &mut self.0 {
            if node.is_down() {
                node.start().await?;
            }
        }
        Ok(())
    }

    /// Waits until all are ready; else tells which are not.
    pub(super) async fn all_ready(&self, patience: Duration) -> Result<(), Vec<String>> {
        let begun = Instant::now();
        loop {
            let mut not_ready = Vec::new();
            for node in &self.0 {
                match node.get("/readyz").await {
                    Some((200, _)) => {}
                    Some((_, why)) => not_ready.push(format!("node {}: {}", node.number, why.trim())),
                    None => not_ready.push(format!("node {} does not answer", node.number)),
                }
            }
            if not_ready.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > patience {
                return Err(not_ready);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What each says at `/metrics`.
    pub(super) async fn metrics(&self) -> Vec<String> {
        let mut metrics = Vec::new();
        for node in &self.0 {
            metrics.extend(node.get("/metrics").await.map(|(_, text)| text));
        }
        metrics
    }
}

impl Node {
    fn is_down(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)))
    }

    /// Starts the process until one stays, and waits until it takes calls.
    async fn start(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        if self.http == 0 {
            self.http = free_port_after(self.grpc)?;
        }
        while begun.elapsed() < STARTING {
            if self.is_down() {
                self.process = Some(self.spawn()?);
            }
            if self.get("/healthz").await.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Error(format!("node {} does not start; its log is {}", self.number, self.log().display())))
    }

    fn spawn(&self) -> Result<Child, Error> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let url = Postgres::url_at(self.proxy.address);
        let builder = ProcessBuilder::serve_on(&url, &self.folder)
            .with("POSTRIDER_GRPC_LISTEN", &format!("127.0.0.1:{}", self.grpc))
            .with("POSTRIDER_HTTP_LISTEN", &format!("127.0.0.1:{}", self.http))
            .with("POSTRIDER_SECRETS_KEYS", KEY)
            .with("POSTRIDER_SENDER_TIMEOUT", &seconds(TIMEOUT))
            .with("POSTRIDER_SENDER_CONNECT_TIMEOUT", &seconds(TIMEOUT))
            .with("POSTRIDER_DISPATCH_LEASE", &seconds(LEASE))
            .with("POSTRIDER_RETRY_SCHEDULE", SCHEDULE)
            .with("POSTRIDER_SHUTDOWN_GRACE", "10s")
            .with("POSTRIDER_LOG_FORMAT", "text")
            .with("POSTRIDER_TEST_CLOCK_OFFSET", &format!("{}", self.skew));
        builder.spawn(Stdio::from(log)).map_err(Error::from)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The status and the body of the answer, if there is one soon.
    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.http));
        // The helper takes it for granted that somebody listens.
        tokio::net::TcpStream::connect(address).await.ok()?;
        let request = http::Request::get(path).body(Bytes::new()).ok()?;
        let answer = tokio_util::task::TaskTracker::new().spawn(send_http1(address, request));
        let answer = tokio::time::timeout(Duration::from_secs(3), answer).await.ok()?.ok()?;
        Some((answer.status().as_u16(), String::from_utf8_lossy(answer.body()).into_owned()))
    }
}

fn seconds(span: Duration) -> String {
    format!("{}s", span.as_secs())
}

/// A port that is not the one before.
fn free_port_after(taken: u16) -> Result<u16, Error> {
    let _holding = std::net::TcpListener::bind(("127.0.0.1", taken));
    free_port()
}
