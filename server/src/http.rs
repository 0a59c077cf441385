//! The plain HTTP port: health for orchestrators, metrics for Prometheus, public keys for receivers. Nothing here tells of events or
//! needs a token.

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{Acceptor, Connection, Patience},
    readiness::NotReady,
    telemetry::metrics::Metrics,
};

mod jwks;

pub use jwks::{NoKeys, PublicKeys};

/// The most connections at a time: some probes and scrapers.
const MAX_CONNECTIONS: usize = 256;
/// How long each may last. An answer takes no time, and whoever keeps a connection can make another.
const LIFETIME: Duration = Duration::from_mins(1);

/// Where the port is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address to listen on. Without keys (`auth.key_hashes`) it must be a loopback address.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 50052)) }
    }
}

/// Answers until `stop`:
///
/// - `GET /healthz`: 200 while the process runs.
/// - `GET /readyz`: 200 while it does its work, 503 and the reason otherwise.
/// - `GET /metrics`: everything in the OpenMetrics text format.
/// - `GET /.well-known/postrider/{tenant}/{subscription}/jwks.json`: the public keys that callbacks can be verified with.
pub async fn serve(
    listener: TcpListener,
    readiness: watch::Receiver<Result<(), NotReady>>,
    metrics: Metrics,
    keys: impl PublicKeys,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let readyz = move || async move {
        match *readiness.borrow() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", why.as_str())),
        }
    };
    let limited = metrics.clone();
    let scrape = move || async move {
        let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(CONTENT_TYPE, format)], metrics.encode()).into_response()
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .merge(jwks::router(keys));
    let acceptor = Acceptor::new(listener, MAX_CONNECTIONS, Patience::InAll(LIFETIME), limited);
    axum::serve(acceptor, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

impl axum::serve::Listener for Acceptor {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (accepted, peer) = Self::accept(self).await;
            match accepted.open() {
                Ok(connection) => return (connection, peer),
                Err(cause) => {
                    tracing::warn!(
                        cause = &cause as &dyn std::error::Error,
                        "a connection could not be opened"
                    );
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}
