//! Puts the server together: configuration and the world in, a running server out. Knows everything; nobody knows it.
//!
//! ```text
//!   App::build ── migrate, open, wire ──> App ── start ──> Running ── stop ──> drained
//! ```
//!
//! Two kinds of tasks make up a running server. Some move when something is put into them and know no time: the ports, the publish
//! writer, the settler. *Loops* look by themselves: the poll, the fan-out, handshakes, the sweep, pruning, those that
//! fail, operational events, readiness, the database's clock, hints of other nodes. Tests do without the loops and push their parts by hand.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use futures_util::TryFutureExt;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::{DatabaseClock, SharedClock},
    config::Config,
    dispatch::{self, Policy},
    grpc,
    handshakes::Handshakes,
    http,
    maintenance::{
        Maintenance,
        announce::Announcer,
        failing::{self, Failing},
    },
    publish::{Publisher, Writer, fan_out},
    readiness::Readiness,
    sender::{self, HttpSender},
    shutdown::{Shutdown, supervise},
    store::{self, Store, keyring::Keyring},
    telemetry::metrics::Metrics,
    threads::{First, Threads, half_of_processors},
};

mod health;
mod hints;
mod time;
mod wiring;

pub use wiring::Outlet;

/// What a server gets from the world.
#[derive(Debug)]
pub struct World {
    /// The time.
    pub clock: SharedClock,
    /// Where gRPC calls come in.
    pub grpc: TcpListener,
    /// Where HTTP requests come in.
    pub http: TcpListener,
    /// How many threads take calls, and how many make attempts.
    pub threads: usize,
}

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What is wrong.
        source: std::io::Error,
    },
    /// The data folder cannot be made.
    #[error("the data folder cannot be made")]
    DataFolder(#[source] std::io::Error),
    /// The key file cannot be used.
    #[error(transparent)]
    Key(#[from] store::keyring::Error),
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// There can be no more threads.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// The HTTP client cannot be made.
    #[error("requests cannot be made")]
    Sender(#[from] sender::BuildError),
    /// The database's clock cannot be seen.
    #[error("the database does not tell the time")]
    Time(#[source] store::Error),
    /// Calls cannot be taken.
    #[error(transparent)]
    Grpc(#[from] grpc::Error),
    /// Requests for health, metrics and keys cannot be taken.
    #[error("the HTTP port failed")]
    Http(#[source] std::io::Error),
}

impl World {
    /// Binds the ports that a configuration names. Half as many threads as there are processors take calls, and as many make attempts.
    pub async fn bind(config: &Config, clock: SharedClock) -> Result<Self, Error> {
        let bind = async |address| {
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
        };
        let (grpc, http) = (bind(config.grpc.listen).await?, bind(config.http.listen).await?);
        Ok(Self { clock, grpc, http, threads: half_of_processors() })
    }
}

/// The dispatcher of a real server.
pub type Dispatcher = dispatch::Dispatcher<Store, HttpSender>;

/// The fan-out of a real server.
pub type FanOut = Arc<fan_out::FanOut<Store, Outlet<Store, HttpSender>>>;

/// A server that is put together and does not run yet.
pub struct App {
    config: Config,
    world: World,
    clock: Arc<DatabaseClock>,
    store: Store,
    dispatcher: Dispatcher,
    fan_out: FanOut,
    sender: HttpSender,
    handshakes: Handshakes,
    maintenance: Maintenance,
    failing: Failing<HttpSender>,
    publisher: Publisher,
    writer: Writer<Store, Outlet<Store, HttpSender>>,
    readiness: Readiness,
    metrics: Metrics,
    ended: Arc<Notify>,
    /// The threads that take calls.
    calls_on: Arc<Threads>,
}

impl App {
    /// Migrates and opens the database and puts the parts together.
    pub async fn build(config: Config, world: World) -> Result<Self, Error> {
        let keyring = keyring(&config)?;
        store::migrate(&config.database, &config.data.dir).await?;
        let database_clock = Arc::new(DatabaseClock::beginning_with(Arc::clone(&world.clock)));
        let clock: SharedClock = Arc::clone(&database_clock) as _;
        let store = Store::open(&config.database, &config.data.dir, keyring, clock.now()).await?;
        let metrics = Metrics::default();
        let ended = Arc::new(Notify::new());
        let max_timeout = config.max_timeout();
        let calls_on = Arc::new(Threads::start("grpc", world.threads, First::Theirs).map_err(Error::Thread)?);
        let attempts_on = Threads::start("sender", world.threads, First::Own).map_err(Error::Thread)?;
        let sender = HttpSender::on(attempts_on, &sender::Config { max_timeout, ..config.sender.clone() })?;
        let dispatcher = dispatch::Dispatcher::new(
            config.dispatch.clone(),
            Policy { retry: config.retry.policy(), breaker: config.breaker.policy() },
            store.clone(),
            sender.clone(),
            Arc::clone(&clock),
            metrics.clone(),
            Arc::clone(&ended),
        );
        let fan_outs = Arc::new(Notify::new());
        let outlet = Outlet(dispatcher.clone());
        let fan_out =
            Arc::new(fan_out::FanOut::new(store.clone(), outlet, Arc::clone(&clock), Arc::clone(&fan_outs)));
        // Before anything is published: who was blocked when the server stopped is blocked still.
        if let Err(cause) = dispatcher.refresh().await {
            tracing::error!(cause = &cause as &dyn std::error::Error, "it is not known yet who is blocked");
        }
        let maintenance = Maintenance::new(
            store.clone(),
            config.retention.clone(),
            Arc::clone(&clock),
            metrics.clone(),
            Arc::clone(&ended),
        );
        let failing = Failing::new(
            store.clone(),
            sender.clone(),
            failing::Policy { disable: config.failing.policy(), lease: config.dispatch.lease },
            Arc::clone(&clock),
            Arc::clone(&ended),
        );
        let (publisher, writer) = Publisher::new(
            store.clone(),
            Outlet(dispatcher.clone()),
            Arc::clone(&clock),
            metrics.clone(),
            fan_outs,
        );
        let publisher = publisher.with_unknown_types(config.events.unknown_types);
        let nudge = wiring::Nudge { dispatcher: dispatcher.clone(), ended: Arc::clone(&ended) };
        let handshakes =
            Handshakes::new(store.clone(), sender.clone(), Arc::clone(&clock), max_timeout, nudge);
        let readiness = Readiness::new(store.clone(), clock, metrics.clone(), config.dispatch.poll_interval);
        let clock = database_clock;
        Ok(Self {
            config,
            world,
            clock,
            store,
            dispatcher,
            fan_out,
            sender,
            handshakes,
            maintenance,
            failing,
            publisher,
            writer,
            readiness,
            metrics,
            ended,
            calls_on,
        })
    }

    /// Sets the server's clock by the database's, if that has one. [`start`](Self::start) does so by itself.
    pub async fn tell_time(&self) -> Result<(), Error> {
        time::look(&self.store, &self.clock).await.map(drop).map_err(Error::Time)
    }

    /// The part that delivers.
    #[must_use]
    pub fn dispatcher(&self) -> Dispatcher {
        self.dispatcher.clone()
    }

    /// The part that fans out what was not fanned out at once.
    #[must_use]
    pub fn fan_out(&self) -> FanOut {
        Arc::clone(&self.fan_out)
    }

    /// The part that makes handshakes.
    #[must_use]
    pub fn handshakes(&self) -> Handshakes {
        self.handshakes.clone()
    }

    /// The part that keeps house.
    #[must_use]
    pub fn maintenance(&self) -> Maintenance {
        self.maintenance.clone()
    }

    /// The part that looks after subscriptions that fail.
    #[must_use]
    pub fn failing(&self) -> Failing<HttpSender> {
        self.failing.clone()
    }

    /// The part that tells tenants what they asked to be told.
    #[must_use]
    pub fn announcer(&self) -> Announcer {
        Announcer::new(self.store.clone(), self.publisher.clone())
    }

    /// The part that tells whether the server does its work.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Starts everything.
    pub async fn start(self) -> Result<Running, Error> {
        // Before anything is due or leased.
        self.tell_time().await?;
        let (dispatcher, fan_out) = (self.dispatcher(), self.fan_out());
        let (handshakes, maintenance) = (self.handshakes(), self.maintenance());
        let (failing, announcer) = (self.failing(), self.announcer());
        let time = (self.store.clone(), Arc::clone(&self.clock));
        let readiness = (self.readiness(), dispatcher.clone());
        let hints = (self.store.clone(), dispatcher.clone());
        let running = self.start_without_loops();
        running.supervise("time", &time, |(store, clock), stop| async move {
            time::follow(&store, &clock, stop).await;
        });
        running.supervise("poll", &dispatcher, |part, stop| async move { part.run(stop).await });
        running.supervise("fan-out", &fan_out, |part, stop| async move { part.run(stop).await });
        running.supervise("handshakes", &handshakes, |part, stop| async move { part.run(stop).await });
        running.supervise(
            "checkpoint",
            &maintenance,
            |part, stop| async move { part.run_checkpoint(stop).await },
        );
        running.supervise("expire", &maintenance, |part, stop| async move { part.run_expire(stop).await });
        running.supervise("mending", &maintenance, |part, stop| async move { part.run_mending(stop).await });
        running.supervise("sweep", &maintenance, |part, stop| async move { part.run_sweep(stop).await });
        running.supervise("prune", &maintenance, |part, stop| async move { part.run_prune(stop).await });
        running.supervise("failing", &failing, |part, stop| async move { part.run_look(stop).await });
        running.supervise("probes", &failing, |part, stop| async move { part.run_probe(stop).await });
        running.supervise("announce", &announcer, |part, stop| async move { part.run(stop).await });
        running.supervise("readiness", &readiness, |(readiness, dispatcher), stop| async move {
            readiness.run(|| dispatcher.standing(), stop).await;
        });
        running.supervise("hints", &hints, |(store, dispatcher), stop| async move {
            hints::follow(&store, &dispatcher, stop).await;
        });
        Ok(running)
    }

    /// Starts what moves when something is put into it, and leaves the loops to the caller.
    pub fn start_without_loops(self) -> Running {
        let stop = CancellationToken::new();
        let (settlers, loops) = (TaskTracker::new(), TaskTracker::new());

        let settling = self.dispatcher.clone();
        // Ends with the process: attempts are settled to the last.
        supervise(&settlers, "settle", CancellationToken::new(), move || {
            let dispatcher = settling.clone();
            async move { dispatcher.settle().await }
        });

        let writer = Arc::new(self.writer);
        let writing = TaskTracker::new();
        let last_call = CancellationToken::new();
        let committed = last_call.clone();
        supervise(&writing, "publish", stop.clone(), move || {
            let (writer, stop) = (Arc::clone(&writer), committed.clone());
            async move { writer.run(stop).await }
        });

        let public_keys =
            wiring::PublicKeys { store: self.store.clone(), clock: Arc::clone(&self.clock) as _ };
        let parts = grpc::Parts {
            store: self.store.clone(),
            publisher: self.publisher,
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            limits: grpc::Limits {
                clock: self.clock,
                addresses: self.config.sender.address_policy(),
                max_timeout: self.config.max_timeout(),
            },
            secret_overlap: self.config.secrets.rotation_overlap,
            max_data_bytes: self.config.grpc.max_data_bytes,
            budget: grpc::Budget::new(self.config.grpc.max_pending_bytes, self.metrics.clone()),
            preview: Arc::new(wiring::Preview(self.sender.clone())),
            handshakes: Arc::new(wiring::Asker(self.handshakes)),
            check: Arc::new(wiring::Check(self.sender)),
            settlements: Arc::new(wiring::Settlements(self.dispatcher.clone())),
            nudge: Arc::new(wiring::Nudge { dispatcher: self.dispatcher.clone(), ended: self.ended }),
            stop: stop.clone(),
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        let mut readiness = self.readiness.watch();
        let requests =
            http::serve(self.world.http, self.readiness.watch(), self.metrics, public_keys, stop.clone());
        let keys = grpc::auth::Keys::new(&self.config.auth);
        let grpc_config = self.config.grpc.clone();
        let grpc_listener = self.world.grpc;
        let (followers, following) = (loops.clone(), stop.clone());
        let (calls_on, calling) = (Arc::clone(&self.calls_on), self.calls_on);
        let calls = loops.spawn(async move {
            health::show(&reporter, &mut readiness).await;
            supervise(&followers, "health", following.clone(), move || {
                health::follow(reporter.clone(), readiness.clone(), following.clone())
            });
            let calls = grpc::serve(&grpc_config, keys, health, grpc_listener, parts, &calling);
            // Without either of its ports the process must not go on.
            tokio::try_join!(calls.map_err(Error::Grpc), requests.map_err(Error::Http)).map(drop)
        });
        let patience = self.config.shutdown.grace / 2;
        let (dispatcher, store) = (self.dispatcher, self.store);
        Running {
            stop,
            last_call,
            settlers,
            writing,
            loops,
            calls,
            patience,
            dispatcher,
            store,
            _calls_on: calls_on,
        }
    }
}

/// A server that runs.
pub struct Running {
    stop: CancellationToken,
    /// When no call can publish any more.
    last_call: CancellationToken,
    settlers: TaskTracker,
    writing: TaskTracker,
    loops: TaskTracker,
    calls: tokio::task::JoinHandle<Result<(), Error>>,
    /// How long callers may take to come to an end when the server stops.
    patience: Duration,
    dispatcher: Dispatcher,
    store: Store,
    /// Until nobody needs what calls have begun or opened on them.
    _calls_on: Arc<Threads>,
}

impl Running {
    /// Runs until `shutdown`, or until calls can no longer be taken.
    pub async fn until(mut self, shutdown: Shutdown) -> Result<(), Error> {
        let ended = tokio::select! {
            () = shutdown.soft.cancelled() => None,
            ended = &mut self.calls => Some(ended),
        };
        match ended {
            None => {
                let drained = self.drain();
                tokio::select! {
                    () = drained => tracing::info!("stopped: everything under way was finished"),
                    () = shutdown.hard.cancelled() => {
                        tracing::warn!("stopped with attempts under way; they are made again when their leases run out");
                    }
                }
                Ok(())
            }
            Some(Ok(served)) => served,
            // It does not panic by any input we know of; if it does, the process must not go on without its port.
            Some(Err(defect)) => std::panic::resume_unwind(defect.into_panic()),
        }
    }

    /// Takes nothing new and finishes what is under way: calls first, then their commits, then attempts.
    pub async fn drain(self) {
        self.stop.cancel();
        self.loops.close();
        // Half of the grace period is for callers, and the rest for attempts: one that does not hang up must not cost the others.
        if tokio::time::timeout(self.patience, self.loops.wait()).await.is_err() {
            tracing::warn!("calls, or a probe, did not come to an end, and are broken off");
            self.calls.abort();
        }
        self.last_call.cancel();
        self.writing.close();
        self.writing.wait().await;
        self.dispatcher.drain().await;
        self.store.close().await;
        drop(self.settlers);
    }

    /// Supervises a loop of a part until the server stops.
    fn supervise<T, F>(
        &self,
        name: &'static str,
        part: &T,
        looping: impl Fn(T, CancellationToken) -> F + Send + 'static,
    ) where
        T: Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (part, stop) = (part.clone(), self.stop.clone());
        supervise(&self.loops, name, self.stop.clone(), move || looping(part.clone(), stop.clone()));
    }
}

/// The configured keys, or that of the key file.
pub fn keyring(config: &Config) -> Result<Keyring, Error> {
    make_data_folder(&config.data.dir).map_err(Error::DataFolder)?;
    match config.secrets.keys.split_first() {
        Some((current, previous)) => Ok(Keyring::new(current.clone(), previous.to_vec())),
        None => Ok(Keyring::from_file(&config.data.dir.join("secret.key"))?),
    }
}

/// Makes the folder of the embedded database and the key file, for its owner only. One that is there stays as it is.
pub fn make_data_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
