//! The gRPC face: reads requests into the domain, makes one call, and shows what came of it.
//!
//! [`convert`] is the only place that names both a message and a domain type, [`failure`] the only one that turns errors into statuses,
//! [`name`] and [`page_token`] the only ones that read and write those texts. A handler is *decode, one call, encode*.
//!
//! Around all services, from the outside in: CORS and gRPC-Web for who needs them, authentication, a bound on what arrives ([`budget`]), and a span for each call that continues
//! its caller's trace.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use postrider_proto::v1::{
    delivery_service_server::DeliveryServiceServer, event_service_server::EventServiceServer,
    event_type_service_server::EventTypeServiceServer,
    subscription_service_server::SubscriptionServiceServer,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::sync::CancellationToken;
use tonic::{
    codec::CompressionEncoding,
    service::Routes,
    transport::{Identity, Server, ServerTlsConfig},
};
use tonic_reflection::server::{
    v1::{ServerReflection, ServerReflectionServer},
    v1alpha,
};

pub use budget::Budget;
pub use check_target::Check;
pub use convert::subscription::Limits;
use elsewhere::Elsewhere;
pub use preview::{Preview, Refusal, Request};
use spread::Spread;
use straight::Straight;
pub use test_event::Settlements;
pub use verify::Handshakes;

use crate::{
    accept::{Acceptor, Patience},
    clock::SharedClock,
    domain::{
        id::{DeliveryId, SubscriptionUid},
        invalid::Invalid,
    },
    publish::Publisher,
    store::Store,
    telemetry::metrics::Metrics,
    threads::Threads,
};

mod arriving;
pub mod auth;
mod budget;
mod check_target;
mod connection;
mod convert;
mod deadline;
mod delivery_service;
mod elsewhere;
mod event_service;
mod event_type_service;
mod explain;
mod explain_event;
mod failure;
mod gathered;
mod intake;
mod name;
mod page_token;
mod preview;
mod publish_stream;
mod spread;
mod straight;
mod subscription_service;
mod test_event;
mod trace;
mod tried_target;
mod verify;
mod web;

/// How many calls one connection may have under way.
const MAX_CONCURRENT_STREAMS: u32 = 1_024;
/// How often a silent connection is asked whether its caller is still there, and how long that may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The most bytes of a call's metadata.
const MAX_METADATA_BYTES: u32 = 16 * 1024;

/// How calls are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address to listen on. Without keys (`auth.key_hashes`) it must be a loopback address.
    pub listen: SocketAddr,
    /// The most connections at a time; more are closed at once.
    pub max_connections: usize,
    /// How long a connection may take to begin: for its first bytes, and for its TLS handshake.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// The most bytes of requests in memory: half of them for what arrives, half for events that wait for their commit, of which one
    /// tenant gets at most half. Calls that there is no room for are refused with `RESOURCE_EXHAUSTED`.
    pub max_pending_bytes: usize,
    /// The largest request, in bytes: bounds what one call of `PublishEvents` can carry.
    pub max_request_bytes: usize,
    /// The largest data of one event, in bytes.
    pub max_data_bytes: usize,
    /// PEM file of the certificate chain; with `tls_key`, calls are taken over TLS only. Empty: plain text.
    pub tls_certificate: PathBuf,
    /// PEM file of the certificate's private key.
    pub tls_key: PathBuf,
    /// Origins of web pages that may call by gRPC-Web, like `https://console.example.com`.
    pub web_origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 50051)),
            max_connections: 4_096,
            handshake_timeout: Duration::from_secs(10),
            max_pending_bytes: 256 << 20,
            max_request_bytes: 32 << 20,
            max_data_bytes: 1 << 20,
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            web_origins: Vec::new(),
        }
    }
}

impl Config {
    /// Checks the limits, and that TLS has both of its files.
    pub fn validate(&self) -> Result<(), Invalid> {
        /// For everything of a request that is not data.
        const ENVELOPE: usize = 64 << 10;
        /// PostgreSQL takes values of up to 1 GiB, and all of them must fit into memory several times.
        const MOST: usize = 256 << 20;
        if !(1..=MOST - ENVELOPE).contains(&self.max_data_bytes) {
            return Err(Invalid::new(
                "grpc.max_data_bytes",
                format!("must be from 1 to {}", MOST - ENVELOPE),
            ));
        }
        if !(self.max_data_bytes + ENVELOPE..=MOST).contains(&self.max_request_bytes) {
            let reason = format!("must be from `grpc.max_data_bytes` + {ENVELOPE} to {MOST}");
            return Err(Invalid::new("grpc.max_request_bytes", reason));
        }
        if self.max_connections == 0 || self.max_connections > 1_000_000 {
            return Err(Invalid::new("grpc.max_connections", "must be from 1 to 1000000"));
        }
        if self.handshake_timeout.is_zero() || self.handshake_timeout > Duration::from_mins(1) {
            return Err(Invalid::new("grpc.handshake_timeout", "must be more than 0s and at most 1m"));
        }
        if !(4 * self.max_request_bytes..=1 << 40).contains(&self.max_pending_bytes) {
            let reason = format!("must be from 4 times `grpc.max_request_bytes` to {}", 1_u64 << 40);
            return Err(Invalid::new("grpc.max_pending_bytes", reason));
        }
        match (self.tls_certificate.as_os_str().is_empty(), self.tls_key.as_os_str().is_empty()) {
            (false, true) => {
                return Err(Invalid::new("grpc.tls_key", "is missing: `grpc.tls_certificate` is set"));
            }
            (true, false) => {
                return Err(Invalid::new("grpc.tls_certificate", "is missing: `grpc.tls_key` is set"));
            }
            _ => {}
        }
        web::check_origins(&self.web_origins)
    }
}

/// Why the server cannot take calls.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A TLS file cannot be read.
    #[error("{path} cannot be read")]
    TlsFile {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// The certificate and the key are of no use, or the listener is.
    #[error("the gRPC port cannot be served")]
    Serve(#[source] tonic::transport::Error),
    /// A thread that took calls has ended.
    #[error("a thread that took calls has ended")]
    Thread(#[source] tokio::task::JoinError),
    /// The descriptors that reflection shows are broken.
    #[error("server reflection cannot be set up")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// What the handlers work with.
#[derive(Clone)]
pub struct Parts {
    /// Where everything is kept.
    pub store: Store,
    /// Where events go in.
    pub publisher: Publisher,
    /// The time.
    pub clock: SharedClock,
    /// The instruments.
    pub metrics: Metrics,
    /// What subscriptions may say.
    pub limits: Limits,
    /// How long a replaced secret goes on signing.
    pub secret_overlap: Duration,
    /// The largest data of one event, in bytes.
    pub max_data_bytes: usize,
    /// How much memory calls may take.
    pub budget: Budget,
    /// Shows requests that are not sent.
    pub preview: Arc<dyn Preview>,
    /// Makes the handshakes that subscriptions wait for.
    pub handshakes: Arc<dyn Handshakes>,
    /// Sees whether targets can be reached.
    pub check: Arc<dyn Check>,
    /// Tells callers who wait what has been settled.
    pub settlements: Arc<dyn Settlements>,
    /// Told when deliveries may have become due, or a subscription has ended.
    pub nudge: Arc<dyn Nudge>,
    /// When calls are to come to an end.
    pub stop: CancellationToken,
}

/// Who wants to hear of what a call has changed. A hint: those who are told would find out by themselves.
pub trait Nudge: Send + Sync + 'static {
    /// Deliveries may have become due.
    fn deliveries_due(&self);
    /// A subscription was deleted.
    fn subscription_ended(&self);
    /// What waits in memory for a subscription is not to be sent.
    fn send_away(&self, subscription: SubscriptionUid);
    /// Nor is one delivery to it.
    fn send_one_away(&self, subscription: SubscriptionUid, delivery: DeliveryId);
}

/// Takes calls on these threads until `parts.stop`, then finishes those that are under way.
pub async fn serve(
    config: &Config,
    keys: auth::Keys,
    health: tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
    listener: TcpListener,
    parts: Parts,
    threads: &Threads,
) -> Result<(), Error> {
    let mut server = Server::builder()
        // Browsers speak HTTP/1.1 on plain connections; gRPC itself is HTTP/2.
        .accept_http1(true)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_METADATA_BYTES)
        .trace_fn(trace::span);
    if let Some(tls) = tls(config)? {
        server = server.tls_config(tls).map_err(Error::Serve)?;
    }
    let stop = parts.stop.clone();
    let patience = Patience::ToOpen(config.handshake_timeout);
    let mut acceptor = Acceptor::new(listener, config.max_connections, patience, parts.metrics.clone());
    let counted = arriving::CountLayer(parts.budget.clone());
    let api = Arc::new(parts);
    let limit = config.max_request_bytes;
    let events = EventServiceServer::new(event_service::Events(Arc::clone(&api)))
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limit);
    let others = Routes::new(health)
        .add_service(reflection_v1()?)
        .add_service(reflection_v1alpha()?)
        .add_service(
            EventTypeServiceServer::new(event_type_service::EventTypes(Arc::clone(&api)))
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .send_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(limit),
        )
        .add_service(
            SubscriptionServiceServer::new(subscription_service::Subscriptions(Arc::clone(&api)))
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .send_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(limit),
        )
        .add_service(
            DeliveryServiceServer::new(delivery_service::Deliveries(api))
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .send_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(limit),
        )
        .prepare();
    let server = server
        .layer(web::WebLayer::new(&config.web_origins))
        .layer(keys.layer(&config.web_origins))
        .layer(explain::layer())
        .layer(counted);
    let service = Straight { events, others: Elsewhere::new(others, Handle::current()) };
    let mut spread = Spread::over(threads, |given| {
        let (server, service, stop) = (server.clone(), service.clone(), stop.clone());
        async move {
            let incoming = connection::incoming(given);
            let serving = server.serve_with_incoming_shutdown(service, incoming, stop.cancelled());
            serving.await.map_err(Error::Serve)
        }
    });
    loop {
        tokio::select! {
            (connection, _) = acceptor.accept() => spread.give(connection),
            () = stop.cancelled() => break,
            // It may hear of the stop before this does.
            ended = spread.one_ends() => break ended?,
        }
    }
    // Who comes now is to go elsewhere at once.
    drop(acceptor);
    spread.all_end().await
}

fn tls(config: &Config) -> Result<Option<ServerTlsConfig>, Error> {
    if config.tls_certificate.as_os_str().is_empty() {
        return Ok(None);
    }
    let read =
        |path: &Path| fs::read(path).map_err(|source| Error::TlsFile { path: path.to_owned(), source });
    let identity = Identity::from_pem(read(&config.tls_certificate)?, read(&config.tls_key)?);
    Ok(Some(ServerTlsConfig::new().identity(identity).timeout(config.handshake_timeout)))
}

fn reflection_v1() -> Result<ServerReflectionServer<impl ServerReflection>, Error> {
    Ok(reflection().build_v1()?)
}

fn reflection_v1alpha() -> Result<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>, Error> {
    Ok(reflection().build_v1alpha()?)
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(postrider_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
