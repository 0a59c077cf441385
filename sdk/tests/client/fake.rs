//! A server that notes every call and fails, waits or breaks off as it is told.

mod deliveries;
mod events;
mod subscriptions;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use postrider_proto::v1 as pb;
use postrider_sdk::{Client, ClientBuilder, RetryPolicy};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};

type Answer<T> = Result<Response<T>, Status>;

/// What a server of this kind is told and remembers. Clones share it.
#[derive(Clone)]
pub(crate) struct Fake {
    address: SocketAddr,
    calls: Arc<watch::Sender<Vec<Call>>>,
    /// What the next calls are answered with instead of an answer.
    failures: Arc<Mutex<VecDeque<Status>>>,
    /// What the next streams end with, after how many answers.
    breaks: Arc<Mutex<VecDeque<(usize, Status)>>>,
    /// What the items with these types are refused with; each refusal is used once.
    refusals: Arc<Mutex<HashMap<String, VecDeque<pb::ItemError>>>>,
    /// Each answer takes a permit.
    gate: Arc<Semaphore>,
    /// Request ids in the order in which they were first seen.
    stored: Arc<Mutex<Vec<String>>>,
    /// Names of the subscriptions that were deleted.
    deleted: Arc<Mutex<HashSet<String>>>,
}

/// A call that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) metadata: MetadataMap,
    pub(crate) request_ids: Vec<String>,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Fake {
    /// A server that answers everything.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap(),
            calls: Arc::new(watch::Sender::new(Vec::new())),
            failures: Arc::default(),
            breaks: Arc::default(),
            refusals: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            stored: Arc::default(),
            deleted: Arc::default(),
        };
        let serve = Server::builder()
            .add_service(
                pb::event_service_server::EventServiceServer::new(fake.clone())
                    .max_decoding_message_size(32 << 20),
            )
            .add_service(pb::subscription_service_server::SubscriptionServiceServer::new(fake.clone()))
            .add_service(pb::delivery_service_server::DeliveryServiceServer::new(fake.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        #[expect(clippy::disallowed_methods, reason = "the server ends with the test's runtime")]
        tokio::spawn(serve);
        fake
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client that doesn't wait between its tries.
    pub(crate) fn client(&self) -> Client {
        impatient(Client::builder(self.url())).connect_lazy().unwrap()
    }

    pub(crate) fn fail_next(&self, failures: impl IntoIterator<Item = Status>) {
        self.failures.lock().unwrap().extend(failures);
    }

    pub(crate) fn break_next_stream(&self, after_answers: usize, with: Status) {
        self.breaks.lock().unwrap().push_back((after_answers, with));
    }

    pub(crate) fn refuse_next(&self, event_type: &str, error: pb::ItemError) {
        self.refusals.lock().unwrap().entry(event_type.to_owned()).or_default().push_back(error);
    }

    /// Answers nothing until [`answer`](Self::answer) says so.
    pub(crate) fn hold_answers(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn answer(&self, answers: usize) {
        self.gate.add_permits(answers);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    /// How often each method was called, in the order of the calls.
    pub(crate) fn methods(&self) -> Vec<&'static str> {
        self.calls.borrow().iter().map(|call| call.method).collect()
    }

    pub(crate) async fn until_called(&self, calls: usize) {
        self.calls.subscribe().wait_for(|seen| seen.len() >= calls).await.unwrap();
    }

    pub(crate) fn stored(&self) -> Vec<String> {
        self.stored.lock().unwrap().clone()
    }

    fn next_break(&self) -> Option<(usize, Status)> {
        self.breaks.lock().unwrap().pop_front()
    }

    async fn until_answer_is_allowed(&self) {
        self.gate.acquire().await.unwrap().forget();
    }

    /// Notes a call, waits until it may be answered, and fails if it is told to.
    async fn begin<T>(
        &self,
        method: &'static str,
        request: &Request<T>,
        request_ids: Vec<String>,
    ) -> Result<(), Status> {
        let call = Call { method, metadata: request.metadata().clone(), request_ids };
        self.calls.send_modify(|calls| calls.push(call));
        self.until_answer_is_allowed().await;
        match self.failures.lock().unwrap().pop_front() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn note_stream(&self, metadata: MetadataMap) {
        let call = Call { method: "PublishEventStream", metadata, request_ids: Vec::new() };
        self.calls.send_modify(|calls| calls.push(call));
    }

    fn note_stream_request(&self, request_id: String) {
        self.calls.send_modify(|calls| {
            calls.last_mut().expect("a stream was noted when it began").request_ids.push(request_id);
        });
    }

    fn delete(&self, subscription: String) {
        self.deleted.lock().unwrap().insert(subscription);
    }

    fn is_deleted(&self, subscription: &str) -> bool {
        self.deleted.lock().unwrap().contains(subscription)
    }

    /// Stores an event once for each request id.
    fn store(&self, item: pb::PublishItem) -> pb::publish_result::Result {
        let event_type = item.event.unwrap_or_default().r#type;
        if let Some(error) = self.refusals.lock().unwrap().get_mut(&event_type).and_then(VecDeque::pop_front)
        {
            return pb::publish_result::Result::Error(error);
        }
        let mut stored = self.stored.lock().unwrap();
        let duplicate = stored.contains(&item.request_id);
        if !duplicate {
            stored.push(item.request_id.clone());
        }
        pb::publish_result::Result::Published(pb::PublishedEvent {
            event: format!("tenants/default/events/{}", item.request_id),
            create_time: Some(prost_types::Timestamp { seconds: 1_732_186_800, nanos: 0 }),
            delivery_count: 1,
            duplicate,
        })
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a field of a message is an option")]
fn now() -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 1_732_186_800, nanos: 0 })
}

pub(crate) fn impatient(builder: ClientBuilder) -> ClientBuilder {
    builder.with_retry(RetryPolicy::default().with_backoff(Duration::ZERO, Duration::ZERO))
}

pub(crate) fn unavailable() -> Status {
    Status::unavailable("the store cannot be reached")
}
