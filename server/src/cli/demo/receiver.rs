//! The demo's receiver: a plain axum server, as somebody else would write it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use postrider_sdk::verify::Verifier;
use tokio::net::TcpListener;

use super::report::Arrivals;

/// How a receiver answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Behaviour {
    /// 204.
    Accept,
    /// 503 for the first two attempts at each event, then 204.
    FailTwice,
    /// 410.
    Gone,
}

/// Receives callbacks on loopback; the path says for which subscription.
#[derive(Clone)]
pub(super) struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<Received>>,
}

#[derive(Default)]
struct Received {
    expected: HashMap<String, (Behaviour, Verifier)>,
    tries: HashMap<(String, String), u32>,
    arrivals: Arrivals,
}

impl Receiver {
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let receiver = Self { address: listener.local_addr()?, state: Arc::default() };
        let router = Router::new().route("/{subscription}", post(receive)).with_state(receiver.clone());
        let serving = axum::serve(listener, router).into_future();
        // Ends with the process: whoever sends knows when it is done.
        tokio_util::task::TaskTracker::new().spawn(serving);
        Ok(receiver)
    }

    pub(super) fn url(&self, subscription: &str) -> String {
        format!("http://{}/{subscription}", self.address)
    }

    /// Says how to answer for a subscription, and what its callbacks are signed with.
    pub(super) fn expect(&self, subscription: &str, behaviour: Behaviour, verifier: Verifier) {
        self.with(|received| received.expected.insert(subscription.to_owned(), (behaviour, verifier)));
    }

    pub(super) fn arrivals(&self) -> Arrivals {
        self.with(|received| received.arrivals.clone())
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Received) -> T) -> T {
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    Path(subscription): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    receiver.with(|received| {
        let Some((behaviour, verifier)) = received.expected.get(&subscription) else {
            return StatusCode::NOT_FOUND;
        };
        let Ok(callback) = verifier.verify(&headers, &body) else {
            received.arrivals.refused += 1;
            return StatusCode::UNAUTHORIZED;
        };
        received.arrivals.verified += 1;
        let key = (callback.id, subscription);
        received.arrivals.first.entry(key.clone()).or_insert_with(Instant::now);
        let tries = received.tries.entry(key).or_default();
        *tries += 1;
        match behaviour {
            Behaviour::FailTwice if *tries <= 2 => StatusCode::SERVICE_UNAVAILABLE,
            Behaviour::Accept | Behaviour::FailTwice => StatusCode::NO_CONTENT,
            Behaviour::Gone => StatusCode::GONE,
        }
    })
}
