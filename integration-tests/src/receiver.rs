//! An HTTP server that is sent callbacks: answers as it is told and keeps what it got.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::{net::TcpListener, sync::Semaphore, sync::watch, task::JoinHandle};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The status that it is answered with.
    pub answered: u16,
}

impl Request {
    /// The value of a header that must be there once.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().unwrap_or_else(|| panic!("no header {name}")).to_str().unwrap();
        assert!(values.next().is_none(), "more than one header {name}");
        value
    }

    /// `webhook-id`: the event's id.
    #[must_use]
    pub fn webhook_id(&self) -> &str {
        self.header("webhook-id")
    }

    /// The body, which is the JSON envelope.
    #[must_use]
    pub fn envelope(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Answers requests by what they say: with a status, headers and a body.
type Answerer = dyn Fn(&Request) -> (u16, Vec<(&'static str, String)>, String) + Send + Sync;

#[derive(Debug, Clone)]
struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

struct Inner {
    requests: Mutex<Vec<Request>>,
    answerer: Mutex<Option<Box<Answerer>>>,
    script: Mutex<VecDeque<Answer>>,
    otherwise: Mutex<Answer>,
    /// Answers wait for a permit here while the gate is shut.
    gate: Mutex<Option<Arc<Semaphore>>>,
    count: watch::Sender<usize>,
}

/// A receiver on loopback. Ends when dropped.
pub struct Receiver {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: JoinHandle<()>,
}

/// Holds answers back.
#[derive(Debug)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// Lets this many answers go.
    pub fn let_go(&self, answers: usize) {
        self.0.add_permits(answers);
    }

    /// Lets all answers go from now on.
    pub fn open(&self) {
        self.0.close();
    }
}

impl Receiver {
    /// Answers everything with 204.
    pub async fn start() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap()).await
    }

    /// The same, on a certain address: where a receiver was before.
    pub async fn on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            requests: Mutex::default(),
            answerer: Mutex::default(),
            script: Mutex::default(),
            otherwise: Mutex::new(answer(204)),
            gate: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let router = Router::new().fallback(receive).with_state(Arc::clone(&inner));
        let serving = async move { axum::serve(listener, router).await.unwrap() };
        #[expect(clippy::disallowed_methods, reason = "aborted when the receiver is dropped")]
        let serving = tokio::spawn(serving);
        Self { address, inner, serving }
    }

    /// Answers the next requests with these statuses, in order, and whatever follows with 204.
    pub async fn answering(statuses: impl IntoIterator<Item = u16>) -> Self {
        let receiver = Self::start().await;
        receiver.inner.script.lock().unwrap().extend(statuses.into_iter().map(answer));
        receiver
    }

    /// Answers everything that is not scripted with this status.
    pub fn always(&self, status: u16) {
        *self.inner.otherwise.lock().unwrap() = answer(status);
    }

    /// Answers everything from now on by what it says.
    pub fn answer_by(
        &self,
        answer: impl Fn(&Request) -> (u16, Vec<(&'static str, String)>, String) + Send + Sync + 'static,
    ) {
        *self.inner.answerer.lock().unwrap() = Some(Box::new(answer));
    }

    /// Answers the next request with this status, these headers and this body.
    pub fn then(&self, status: u16, headers: &[(&'static str, &str)], body: impl Into<Bytes>) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.inner.script.lock().unwrap().push_back(answer_with(status, headers, body));
    }

    /// Holds all answers back from now on. Requests are recorded as they arrive.
    #[must_use]
    pub fn gate(&self) -> Gate {
        let gate = Arc::new(Semaphore::new(0));
        *self.inner.gate.lock().unwrap() = Some(Arc::clone(&gate));
        Gate(gate)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL that leads to it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Everything that has arrived so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.inner.requests.lock().unwrap().clone()
    }

    /// The ids of everything that has arrived so far.
    #[must_use]
    pub fn webhook_ids(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.webhook_id().to_owned()).collect()
    }

    /// Waits until what has arrived is enough.
    pub async fn until(&self, enough: impl Fn(&[Request]) -> bool) {
        let is_enough = |_: &usize| enough(&self.inner.requests.lock().unwrap());
        self.inner.count.subscribe().wait_for(is_enough).await.unwrap();
    }

    /// Waits until this many requests have arrived altogether.
    pub async fn arrived(&self, count: usize) {
        self.inner.count.subscribe().wait_for(|arrived| *arrived >= count).await.unwrap();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn answer(status: u16) -> Answer {
    Answer { status: StatusCode::from_u16(status).unwrap(), headers: Vec::new(), body: Bytes::new() }
}

fn answer_with(status: u16, headers: Vec<(&'static str, String)>, body: impl Into<Bytes>) -> Answer {
    let header =
        |(name, value): (&'static str, String)| (HeaderName::from_static(name), value.parse().unwrap());
    Answer { headers: headers.into_iter().map(header).collect(), body: body.into(), ..answer(status) }
}

async fn receive(State(inner): State<Arc<Inner>>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let scripted = inner.script.lock().unwrap().pop_front();
    let mut request = Request { method: head.method, path, headers: head.headers, body, answered: 0 };
    let answer = scripted.unwrap_or_else(|| match &*inner.answerer.lock().unwrap() {
        Some(answerer) => {
            let (status, headers, body) = answerer(&request);
            answer_with(status, headers, body)
        }
        None => inner.otherwise.lock().unwrap().clone(),
    });
    request.answered = answer.status.as_u16();
    inner.requests.lock().unwrap().push(request);
    inner.count.send_modify(|count| *count += 1);
    let gate = inner.gate.lock().unwrap().clone();
    if let Some(gate) = gate {
        // Closed means open to all.
        if let Ok(permit) = gate.acquire().await {
            permit.forget();
        }
    }
    let mut response = (answer.status, Body::from(answer.body)).into_response();
    response.headers_mut().extend(answer.headers);
    response
}
