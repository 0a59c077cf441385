//! A server in this process, with a clock and loops that the test moves.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use postrider_sdk::{Client, RetryPolicy, Subscription, model::CreatedSubscription};
use postrider_server::{
    app::{App, Dispatcher, FanOut, Running, World},
    clock::{Clock, ManualClock},
    config::Config,
    domain::timestamp::Timestamp,
    handshakes::Handshakes,
    maintenance::{Maintenance, announce::Announcer, failing::Failing},
    readiness::Readiness,
    sender::HttpSender,
    store::failing::Looked,
};

use crate::{Kind, Receiver, TestDatabase};

/// 2026-01-01T00:00:00Z: when every test begins.
const BEGIN: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// A server that has been started.
pub struct TestApp {
    /// The time. Stands still until it is put forward.
    pub clock: Arc<ManualClock>,
    /// Calls the server as the tenant `default`; repeats nothing by itself.
    pub client: Client,
    /// Where gRPC calls go.
    pub grpc: SocketAddr,
    /// Where HTTP requests go.
    pub http: SocketAddr,
    /// What it keeps its data in.
    pub database: Arc<TestDatabase>,
    dispatcher: Dispatcher,
    fan_out: FanOut,
    handshakes: Handshakes,
    maintenance: Maintenance,
    failing: Failing<HttpSender>,
    announcer: Announcer,
    readiness: Readiness,
    running: Running,
}

/// How a server is to be.
pub struct Builder {
    database: Arc<TestDatabase>,
    clock: Arc<ManualClock>,
    config: Config,
    telling_time: bool,
    threads: usize,
}

impl Builder {
    /// A server on a database that exists, like the one of another server.
    #[must_use]
    pub fn on(database: Arc<TestDatabase>, clock: Arc<ManualClock>) -> Self {
        let mut config = Config::default();
        config.database = database.config();
        config.data.dir = database.folder();
        config.grpc.listen.set_port(0);
        config.http.listen.set_port(0);
        config.sender.allow_http = true;
        config.sender.allowed_networks = vec!["127.0.0.0/8".parse().unwrap()];
        config.retry.jitter = 0.0;
        config.breaker.jitter = 0.0;
        // What is claimed is sent, so that limits can be seen at the receiver.
        config.dispatch.max_queued = 0;
        config.dispatch.max_queued_per_subscription = 0;
        // Whatever the machine: few, and one is not the only one.
        Self { database, clock, config, telling_time: false, threads: 2 }
    }

    /// Changes the configuration.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Sets its clock by the database's, if that has one, as servers do that are not under test.
    #[must_use]
    pub fn telling_time(mut self) -> Self {
        self.telling_time = true;
        self
    }

    /// Has one thread take all calls, one after another.
    #[must_use]
    pub fn on_one_thread(mut self) -> Self {
        self.threads = 1;
        self
    }

    /// Starts it.
    pub async fn start(self) -> TestApp {
        self.config.validate().unwrap();
        let world = World::bind(&self.config, Arc::clone(&self.clock) as _).await.unwrap();
        let world = World { threads: self.threads, ..world };
        let (grpc, http) = (world.grpc.local_addr().unwrap(), world.http.local_addr().unwrap());
        let app = App::build(self.config, world).await.unwrap();
        if self.telling_time {
            app.tell_time().await.unwrap();
        }
        let (dispatcher, maintenance, readiness) = (app.dispatcher(), app.maintenance(), app.readiness());
        let (fan_out, handshakes) = (app.fan_out(), app.handshakes());
        let (failing, announcer) = (app.failing(), app.announcer());
        let running = app.start_without_loops();
        let client = Client::builder(format!("http://{grpc}")).with_retry(RetryPolicy::never());
        TestApp {
            clock: self.clock,
            client: client.connect_lazy().unwrap(),
            grpc,
            http,
            database: self.database,
            dispatcher,
            fan_out,
            handshakes,
            maintenance,
            failing,
            announcer,
            readiness,
            running,
        }
    }
}

impl TestApp {
    /// A server with the defaults, on a new database.
    pub async fn start(kind: Kind) -> Self {
        Self::builder(kind).await.start().await
    }

    /// A server on a new database, to be changed before it starts.
    pub async fn builder(kind: Kind) -> Builder {
        Builder::on(Arc::new(TestDatabase::new(kind).await), Arc::new(ManualClock::at(BEGIN)))
    }

    /// Another server on the same database and the same clock.
    #[must_use]
    pub fn another(&self) -> Builder {
        Builder::on(Arc::clone(&self.database), Arc::clone(&self.clock))
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Puts the clock forward. Nothing happens by itself.
    pub fn advance(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// Takes over what is due once, and does not wait for it.
    pub async fn tick(&self) -> usize {
        self.dispatcher.tick().await.unwrap()
    }

    /// Takes over what is due once, if the database lets it.
    pub async fn try_tick(&self) -> Result<usize, postrider_server::dispatch::QueueError> {
        self.dispatcher.tick().await
    }

    /// Waits until nothing is under way, and takes nothing over.
    pub async fn drain(&self) {
        self.dispatcher.drain().await;
    }

    /// Takes over whatever is due and waits until nothing is under way.
    pub async fn run_until_idle(&self) {
        loop {
            self.dispatcher.drain().await;
            if self.tick().await == 0 {
                return;
            }
        }
    }

    /// Begins the handshakes that are due, and does not wait for them. Returns how many.
    pub async fn begin_handshakes(&self) -> usize {
        self.handshakes.tick().await.unwrap()
    }

    /// Makes the handshakes that are due. Returns how many.
    pub async fn shake_hands(&self) -> usize {
        let begun = self.begin_handshakes().await;
        self.handshakes.drain().await;
        begun
    }

    /// What makes handshakes.
    #[must_use]
    pub fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    /// Makes the deliveries of the next part of a fan-out; returns how many, or `None` if no part is due.
    pub async fn fan_out(&self) -> Option<usize> {
        self.fan_out.tick().await.unwrap()
    }

    /// Cancels what waits for subscriptions that have ended. Returns how many deliveries.
    pub async fn sweep(&self) -> u64 {
        self.maintenance.sweep().await.unwrap()
    }

    /// Announces and disables the failing subscriptions whose time has come.
    pub async fn look_after_failing(&self) -> Looked {
        self.failing.look().await.unwrap()
    }

    /// Probes the subscriptions that were disabled for failing and whose time has come. Returns how many.
    pub async fn probe(&self) -> usize {
        self.failing.probe().await.unwrap()
    }

    /// Publishes the operational events that wait. Returns how many somebody asked for.
    pub async fn announce(&self) -> usize {
        self.announcer.tick().await.unwrap()
    }

    /// Ends what has expired and is not under way. Returns how many deliveries.
    pub async fn expire(&self) -> u64 {
        self.maintenance.expire().await.unwrap()
    }

    /// Ends what waits for subscriptions that are missing. Returns how many deliveries.
    pub async fn end_orphans(&self) -> u64 {
        self.maintenance.end_orphans().await.unwrap()
    }

    /// Deletes what has passed its retention. Returns how many rows.
    pub async fn prune(&self) -> u64 {
        self.maintenance.prune().await.unwrap()
    }

    /// Looks whether the server is ready.
    pub async fn look(&self) -> Result<(), postrider_server::readiness::NotReady> {
        self.readiness.tick(&self.dispatcher.standing()).await;
        *self.readiness.watch().borrow()
    }

    /// The value of a metric without labels, as `/metrics` tells it.
    pub async fn metric(&self, name: &str) -> String {
        let request = http::Request::get("/metrics").body(bytes::Bytes::new()).unwrap();
        let answer = crate::send_http1(self.http, request).await;
        let text = std::str::from_utf8(answer.body()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no metric {name}")).to_owned()
    }

    /// Subscribes a receiver to everything.
    pub async fn subscribe(&self, receiver: &Receiver) -> CreatedSubscription {
        let everything = Subscription::to(receiver.url()).event_types(["**"]);
        self.client.subscriptions().create(everything).await.unwrap()
    }

    /// Stops it as SIGTERM would: finishes what is under way.
    pub async fn stop(self) {
        self.running.drain().await;
    }
}
