//! What the machine can do at best: the same requests to the same receiver, by a plain client in a process of its own, without
//! a database, signatures, retries or anything else that a delivery is made of.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::{
    Failure, client, clock,
    helper::{self, Helper},
    receiver::Numbered,
    usage,
};

/// As many requests at once as Postrider has to one subscription.
const CONCURRENCY: usize = 128;
/// An envelope's part that is not data.
const ENVELOPE: &str = r#"{"type":"bench.event","timestamp":"2025-01-01T00:00:00.000000Z","data":"#;

/// What to send.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Where to.
    pub(crate) url: String,
    /// How much data.
    pub(crate) bytes: usize,
    /// How long.
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ceiling {
    /// Requests that were answered with a success.
    pub(crate) requests: u64,
    /// In how many seconds.
    pub(crate) seconds: f64,
    /// CPU time of the client, in microseconds.
    pub(crate) cpu: u64,
}

/// Measures it.
pub(crate) async fn measure(task: &Task) -> Result<Ceiling, Failure> {
    Helper::start("ceiling", task)?.says(task.time + Duration::from_mins(1)).await
}

/// The process of the client.
pub(crate) async fn run(task: Task) -> Result<(), Failure> {
    helper::end_with_parent();
    let client = client::new()?;
    let task = Arc::new(task);
    let (begun, begun_at, cpu) = (tokio::time::Instant::now(), clock::now(), usage::own_cpu());
    let mut senders = JoinSet::new();
    for sender in 0..CONCURRENCY as u64 {
        senders.spawn(send(Arc::clone(&task), client.clone(), sender, begun + task.time));
    }
    let sent: Result<Vec<_>, _> = senders.join_all().await.into_iter().collect();
    let requests = sent?.into_iter().sum();
    let (seconds, cpu) = (clock::seconds(begun_at, clock::now()), usage::own_cpu() - cpu);
    helper::say(&Ceiling { requests, seconds, cpu })
}

/// Fails with the first request that does: what is compared with must not be slowed down by that.
async fn send(
    task: Arc<Task>,
    client: reqwest::Client,
    sender: u64,
    until: tokio::time::Instant,
) -> Result<u64, reqwest::Error> {
    let padding = "x".repeat(task.bytes.saturating_sub(46));
    let mut sent = 0;
    while tokio::time::Instant::now() < until {
        let mut body = String::with_capacity(task.bytes + ENVELOPE.len() + 16);
        body.push_str(ENVELOPE);
        Numbered { number: sent * CONCURRENCY as u64 + sender, intended: clock::now() }.write(&mut body);
        body.push_str(r#","pad":""#);
        body.push_str(&padding);
        body.push_str(r#""}}"#);
        let request = client
            .post(&task.url)
            .header("content-type", "application/json")
            .header("user-agent", "Postrider/0.1.0")
            .header("webhook-id", "evt_01jdq9m4w5f7k8e6r3t2y1u0pz")
            .header("webhook-timestamp", "1732186800")
            .header("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=");
        request.body(body).send().await?.error_for_status()?;
        sent += 1;
    }
    Ok(sent)
}
