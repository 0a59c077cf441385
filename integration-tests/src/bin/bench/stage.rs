//! All that takes part in a run, started and stopped together.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use postrider_proto::v1::{
    CreateSubscriptionRequest, PauseSubscriptionRequest, ResumeSubscriptionRequest, Subscription,
    subscription_service_client::SubscriptionServiceClient,
};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::{
    Failure, clock,
    database::{Database, Prompt},
    load::{Data, Load, Outcome, Shape, Task, Until},
    options::Common,
    receiver::Receiver,
    server::Server,
    usage,
};

/// How many subscriptions are created at once.
const CREATING: usize = 32;
/// How many numbers each producer has for its events. More than it can publish.
const NUMBERS: u64 = 1 << 28;

/// The database, the server and the receiver, and the numbers that events have had.
pub(crate) struct Stage {
    pub(crate) options: Common,
    pub(crate) server: Server,
    pub(crate) receiver: Receiver,
    pub(crate) database: Database,
    next: AtomicU64,
    binary: PathBuf,
    settings: Vec<(String, String)>,
    run: String,
    folder: TempDir,
}

/// What everybody has used, since they began or between two readings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// When it was read, in microseconds since 1970; or how long it was from one to the other.
    pub(crate) at: u64,
    /// CPU time of the server, in microseconds.
    pub(crate) server: u64,
    /// CPU time of the database, if it has processes of its own.
    pub(crate) database: Option<u64>,
    /// CPU time of the receiver.
    pub(crate) receiver: u64,
    /// CPU time of all that runs on the machine.
    pub(crate) machine: u64,
    /// Bytes that the server caused to be written to storage.
    pub(crate) written: u64,
    /// What the database has counted.
    pub(crate) counters: Prompt,
}

impl Stage {
    /// Starts all of it. `settings` are variables for the server, before those of the command line.
    pub(crate) async fn set(options: &Common, settings: &[(&str, &str)]) -> Result<Self, Failure> {
        let binary = match &options.server {
            Some(binary) => binary.clone(),
            None => std::env::current_exe()?.with_file_name("postrider"),
        };
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("postrider-bench-");
        let folder = match &options.dir {
            Some(dir) => builder.tempdir_in(dir)?,
            None => builder.tempdir()?,
        };
        let mut settings: Vec<_> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings.extend(options.set.iter().cloned());
        let database =
            Database::make(options.database, options.postgres_url.as_deref(), folder.path()).await?;
        let receiver = Receiver::start("127.0.0.1:0".parse()?).await?;
        let server = Server::start(&binary, &folder.path().join("data"), database.url(), &settings).await?;
        let (options, run) = (options.clone(), format!("bench-{}", clock::now()));
        Ok(Self {
            options,
            server,
            receiver,
            database,
            next: AtomicU64::default(),
            binary,
            settings,
            run,
            folder,
        })
    }

    /// Stops the server and starts it again.
    pub(crate) async fn restart(&mut self) -> Result<(), Failure> {
        self.server.stop().await?;
        let data = self.folder.path().join("data");
        self.server = Server::start(&self.binary, &data, self.database.url(), &self.settings).await?;
        Ok(())
    }

    /// Creates a subscription.
    pub(crate) async fn subscribe(
        &self,
        tenant: &str,
        id: &str,
        target_url: String,
        event_type: &str,
    ) -> Result<(), Failure> {
        let client = self.subscriptions().await?;
        subscribe(client, tenant.to_owned(), id.to_owned(), target_url, event_type.to_owned()).await
    }

    /// Creates many, with ids from `s0` on; `what` says where each is sent and which events it wants.
    pub(crate) async fn subscribe_many(
        &self,
        tenant: &str,
        count: u64,
        what: impl Fn(u64) -> (String, String),
    ) -> Result<(), Failure> {
        let client = self.subscriptions().await?;
        let mut creating = JoinSet::new();
        for index in 0..count {
            let (url, event_type) = what(index);
            creating.spawn(subscribe(
                client.clone(),
                tenant.to_owned(),
                format!("s{index}"),
                url,
                event_type,
            ));
            if creating.len() >= CREATING
                && let Some(created) = creating.join_next().await
            {
                created??;
            }
        }
        while let Some(created) = creating.join_next().await {
            created??;
        }
        Ok(())
    }

    /// A client for subscriptions.
    pub(crate) async fn subscriptions(&self) -> Result<SubscriptionServiceClient<Channel>, Failure> {
        let endpoint = Endpoint::from_shared(self.server.grpc.clone())?;
        Ok(SubscriptionServiceClient::new(endpoint.connect().await?))
    }

    /// Pauses a subscription: its deliveries wait.
    pub(crate) async fn pause(&self, tenant: &str, id: &str) -> Result<(), Failure> {
        let name = format!("tenants/{tenant}/subscriptions/{id}");
        self.subscriptions().await?.pause_subscription(PauseSubscriptionRequest { name }).await?;
        Ok(())
    }

    /// Resumes it, and says how many seconds the call took.
    pub(crate) async fn resume(&self, tenant: &str, id: &str) -> Result<f64, Failure> {
        let name = format!("tenants/{tenant}/subscriptions/{id}");
        let mut client = self.subscriptions().await?;
        let begun = clock::now();
        client.resume_subscription(ResumeSubscriptionRequest { name }).await?;
        Ok(clock::seconds(begun, clock::now()))
    }

    /// A producer's task: padded events of one type, on four connections, with numbers that no other task's events have.
    pub(crate) fn task(&self, tenant: &str, event_type: &str, shape: Shape, until: Until) -> Task {
        Task {
            grpc: self.server.grpc.clone(),
            connections: 4,
            shape,
            until,
            tenant: tenant.to_owned(),
            event_type: event_type.to_owned(),
            spread: 0,
            data: Data::Bytes(self.options.bytes),
            first: self.next.fetch_add(NUMBERS, Relaxed),
            request_ids: if self.options.no_request_ids { String::new() } else { self.run.clone() },
            ordering_keys: self.options.ordering_keys,
        }
    }

    /// Has the system write to its disks what it still holds. Linux does so 30 seconds after it was written, and commits wait
    /// meanwhile: what a run's preparation wrote would be felt in the middle of what is measured.
    pub(crate) async fn flush(&self) -> Result<(), Failure> {
        let status = tokio::process::Command::new("sync").status().await?;
        if status.success() { Ok(()) } else { Err(format!("sync: {status}").into()) }
    }

    /// Runs a producer to its end.
    pub(crate) async fn publish(&self, task: &Task) -> Result<Outcome, Failure> {
        Load::start(task)?.done().await
    }

    /// What everybody has used so far.
    pub(crate) async fn reading(&self) -> Result<Reading, Failure> {
        Ok(Reading {
            counters: self.database.prompt().await?,
            at: clock::now(),
            server: usage::cpu(self.server.pid()),
            database: self.database.cpu(),
            receiver: usage::cpu(self.receiver.pid()),
            machine: usage::machine_cpu(),
            written: usage::written(self.server.pid()),
        })
    }

    /// Takes all of it down.
    pub(crate) async fn strike(self) -> Result<(), Failure> {
        drop(self.server);
        drop(self.receiver);
        self.database.remove().await
    }
}

impl Reading {
    /// What has been added since.
    pub(crate) fn since(self, before: Self) -> Self {
        let database = self.database.zip(before.database);
        Self {
            at: self.at - before.at,
            server: self.server - before.server,
            // What a process used that has ended in between can be missing.
            database: database.map(|(after, before)| after.saturating_sub(before)),
            receiver: self.receiver - before.receiver,
            machine: self.machine - before.machine,
            written: self.written - before.written,
            counters: self.counters.since(before.counters),
        }
    }

    /// Seconds between the two readings.
    pub(crate) fn seconds(self) -> f64 {
        clock::seconds(0, self.at)
    }

    /// CPU time that neither the server nor the database nor the receiver nor the producer used.
    pub(crate) fn others(self, producer: u64) -> u64 {
        self.machine.saturating_sub(self.server + self.database.unwrap_or(0) + self.receiver + producer)
    }
}

async fn subscribe(
    mut client: SubscriptionServiceClient<Channel>,
    tenant: String,
    subscription_id: String,
    target_url: String,
    event_type: String,
) -> Result<(), Failure> {
    let subscription = Subscription { target_url, event_types: vec![event_type], ..Subscription::default() };
    let parent = format!("tenants/{tenant}");
    let subscription = Some(subscription);
    client
        .create_subscription(CreateSubscriptionRequest {
            parent,
            subscription,
            subscription_id,
            ..CreateSubscriptionRequest::default()
        })
        .await?;
    Ok(())
}

/// Lets time pass.
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
