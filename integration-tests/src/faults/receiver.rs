//! The receiver of all subscriptions: fails as the seed says and keeps what it saw.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{Response, StatusCode},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::task::TaskTracker;

use super::{
    Error, Stopwatch, TIMEOUT,
    chance::Chance,
    evidence::{Answer, Request},
};

/// A subscription whose id begins like this is never answered with success.
pub(super) const DEAD: &str = "dead";

/// Ends when dropped.
#[derive(Debug)]
pub(super) struct Receiver {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    seed: u64,
    watch: Stopwatch,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Request>,
    /// How often each event came for each subscription.
    counts: HashMap<(String, String), u64>,
}

impl Receiver {
    pub(super) async fn start(seed: u64, watch: Stopwatch) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner { seed, watch, seen: Mutex::default() });
        let router = Router::new().fallback(receive).with_state(Arc::clone(&inner));
        let serving = TaskTracker::new().spawn(async move { axum::serve(listener, router).await.unwrap() });
        Ok(Self { address, inner, serving })
    }

    /// The URL of a subscription, by its name.
    pub(super) fn url(&self, subscription: &str) -> String {
        format!("http://{}/{subscription}", self.address)
    }

    /// Everything that was seen so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.inner.seen.lock().unwrap().requests.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// How a request is answered.
enum Manner {
    With(StatusCode),
    Slowly(Duration),
    NotBeforeTheTimeout,
    ByBreakingOff,
}

fn manner(chance: &mut Chance, is_dead: bool) -> Manner {
    if is_dead {
        return Manner::With(StatusCode::INTERNAL_SERVER_ERROR);
    }
    match chance.below(100) {
        0..=2 => Manner::With(StatusCode::INTERNAL_SERVER_ERROR),
        3..=5 => Manner::With(StatusCode::SERVICE_UNAVAILABLE),
        6 => Manner::With(StatusCode::TOO_MANY_REQUESTS),
        7 => Manner::With(StatusCode::NOT_FOUND),
        8 => Manner::NotBeforeTheTimeout,
        9..=10 => Manner::ByBreakingOff,
        11..=15 => Manner::Slowly(chance.millis(50, 400)),
        _ => Manner::With(StatusCode::NO_CONTENT),
    }
}

async fn receive(State(inner): State<Arc<Inner>>, request: axum::extract::Request) -> Response<Body> {
    let at = inner.watch.elapsed();
    let (head, body) = request.into_parts();
    let event = head.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let subscription = head.uri.path().trim_start_matches('/').to_owned();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let envelope: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let named = envelope["data"]["request_id"].as_str().unwrap_or_default().to_owned();
    let (place, nth) = {
        let mut seen = inner.seen.lock().unwrap();
        let count = seen.counts.entry((subscription.clone(), event.clone())).or_default();
        *count += 1;
        let nth = *count;
        seen.requests.push(Request {
            subscription: subscription.clone(),
            event: event.clone(),
            named,
            at,
            answer: None,
        });
        (seen.requests.len() - 1, nth)
    };
    let answered = |answer| {
        let at = inner.watch.elapsed();
        inner.seen.lock().unwrap().requests[place].answer = Some((answer, at));
    };
    let is_dead = subscription.contains(DEAD);
    let mut chance = Chance::of(inner.seed, &format!("{subscription} {event}"), nth);
    let status = match manner(&mut chance, is_dead) {
        Manner::With(status) => status,
        Manner::Slowly(pause) => {
            tokio::time::sleep(pause).await;
            StatusCode::NO_CONTENT
        }
        Manner::NotBeforeTheTimeout => {
            answered(Answer::None);
            tokio::time::sleep(TIMEOUT * 3).await;
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Manner::ByBreakingOff => {
            answered(Answer::None);
            let broken = futures_util::stream::once(async { Err::<bytes::Bytes, _>("broken off") });
            return Response::builder()
                .header("content-length", "100")
                .body(Body::from_stream(broken))
                .unwrap();
        }
    };
    if status.is_success() {
        answered(Answer::Acknowledged);
    } else if status != StatusCode::INTERNAL_SERVER_ERROR || is_dead {
        answered(Answer::Rejected);
    } else {
        let mut seen = inner.seen.lock().unwrap();
        let answer = &mut seen.requests[place].answer;
        answer.get_or_insert((Answer::Rejected, inner.watch.elapsed()));
    }
    Response::builder().status(status).body(Body::empty()).unwrap()
}
