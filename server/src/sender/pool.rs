//! Makes requests, and keeps connections for the next ones.
//!
//! Over HTTP/1.1 the task that makes a request moves the connection that serves it as well ([`alone`]): nobody else is woken between
//! the request and the end of its answer, where a task for each connection would hand over four times. Between requests a
//! connection rests here and nobody moves it; whether it still stands shows when it is taken out. A connection of HTTP/2
//! serves many requests at once, so it is moved by a task of its own.
//!
//! ```text
//!   request ─> kept, and stands? ─ yes ─> send ─> head ─> Answer{body} ── read to its end ──> kept again
//!                   └─ no ─> connect ────────┘               └── dropped before ──> closed
//! ```
//!
//! A request that could not be written to a connection that others had used goes out on another one. One that was written is never repeated: what
//! follows from that is decided elsewhere.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Extensions, Uri,
    uri::{Authority, Scheme},
};
use http_body_util::Full;
use hyper::{
    client::conn::{TrySendError, http1},
    rt::{Read, Write},
};
use hyper_util::client::legacy::connect::Connection;
use tokio::runtime;
use tower::{BoxError, Service, ServiceExt};

use self::{
    alone::Alone,
    kept::{Keeper, Kept},
    shared::Shared,
};
pub(super) use self::{body::AnswerBody, shared::Http2};
use super::meter::Meter;

mod alone;
mod body;
mod kept;
mod shared;
#[cfg(test)]
mod tests;

pub(super) type Request = http::Request<Full<Bytes>>;
/// Its connection may be read from for as long as the body lives.
pub(super) type Answer = http::Response<AnswerBody>;

/// Makes requests on connections that `S` opens. Cheap to clone; the clones share what is kept.
#[derive(Debug, Clone)]
pub(super) struct Pool<S> {
    connector: S,
    protocol: Arc<Protocol>,
    kept: Arc<Kept>,
}

/// How connections are spoken on, and for how long they are kept.
#[derive(Debug, Clone)]
pub(super) struct Protocol {
    pub(super) http1: http1::Builder,
    pub(super) http2: Http2,
    /// How many of HTTP/1.1 are kept for one origin, on one thread.
    pub(super) max_idle: usize,
    /// For how long one is kept that nobody uses.
    pub(super) idle_timeout: Duration,
    /// For how long one takes requests that is used all the time: then names are looked up again.
    pub(super) max_age: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There was no connection to send the request on.
    #[error("there is no connection")]
    Connect(#[source] BoxError),
    /// The connection broke, or what came was no answer.
    #[error("the exchange broke off")]
    Exchange(#[source] hyper::Error),
}

impl Error {
    /// Whether it was for want of a connection.
    pub(super) fn is_connect(&self) -> bool {
        matches!(self, Self::Connect(_))
    }
}

/// A request that was not written, or what else went wrong.
enum Unanswered {
    Unsent(Box<Request>, hyper::Error),
    Failed(Error),
}

/// Where a connection leads, and whose it is: on another runtime it would be moved by two threads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Origin {
    scheme: Scheme,
    authority: Authority,
    runtime: runtime::Id,
}

impl<S> Pool<S>
where
    S: Service<Uri> + Clone + Send,
    S::Response: Connection + Read + Write + Unpin + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    pub(super) fn new(connector: S, protocol: Protocol) -> Self {
        Self { connector, protocol: Arc::new(protocol), kept: Arc::default() }
    }

    /// Makes a request with an absolute URL; returns when the head of the answer is there. Nothing goes on in the background when it is
    /// dropped.
    pub(super) async fn request(&self, mut request: Request) -> Result<Answer, Error> {
        let origin = Origin::of(request.uri())?;
        loop {
            // Boxed, but for what most requests are: what one may have to wait for is part of the size of all.
            let (connection, is_new) = match self.kept.take(&origin, &self.protocol) {
                Some(connection) => (connection, false),
                None => Box::pin(self.connect(&origin, request.uri())).await?,
            };
            let answer = match connection {
                Taken::Alone(alone) => self.send_alone(&origin, alone, request).await,
                Taken::Shared(shared) => Box::pin(shared.send(request, self.keeper(&origin))).await,
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Unsent(unsent, _)) if !is_new => request = *unsent,
                Err(Unanswered::Unsent(_, cause)) => return Err(Error::Exchange(cause)),
                Err(Unanswered::Failed(cause)) => return Err(cause),
            }
        }
    }

    /// `GET`s a URL.
    #[cfg(test)]
    pub(super) async fn get(&self, url: &str) -> Result<Answer, Error> {
        let mut request = Request::default();
        *request.uri_mut() = url.parse().unwrap();
        self.request(request).await
    }

    async fn send_alone(
        &self,
        origin: &Origin,
        alone: Alone,
        request: Request,
    ) -> Result<Answer, Unanswered> {
        let (alone, answer) = alone.send(request).await?;
        let keeper = self.keeper(origin);
        Ok(answer.map(|body| AnswerBody::alone(body, alone, keeper)))
    }

    fn keeper(&self, origin: &Origin) -> Keeper {
        Keeper { kept: Arc::clone(&self.kept), origin: origin.clone(), protocol: Arc::clone(&self.protocol) }
    }

    /// Opens a connection; returns the one that is to be used, and whether it is that: somebody else may have opened another one meanwhile.
    async fn connect(&self, origin: &Origin, uri: &Uri) -> Result<(Taken, bool), Error> {
        let opening = self.connector.clone().oneshot(uri.clone());
        let stream = opening.await.map_err(|cause| Error::Connect(cause.into()))?;
        let connected = stream.connected();
        let mut extras = Extensions::new();
        connected.get_extras(&mut extras);
        let meter = extras.remove::<Meter>();
        if !connected.is_negotiated_h2() {
            let (requests, connection) =
                self.protocol.http1.handshake(stream).await.map_err(Error::Exchange)?;
            return Ok((Taken::Alone(Alone::new(requests, connection, meter)), true));
        }
        let own = Shared::open(stream, &self.protocol.http2, meter).await.map_err(Error::Exchange)?;
        let used = Arc::clone(&self.kept).share(origin, own.clone(), &self.protocol);
        let is_new = used.is(&own);
        Ok((Taken::Shared(used), is_new))
    }
}

/// What a request is sent on.
enum Taken {
    Alone(Alone),
    Shared(Shared),
}

/// What became of a request without an answer; `inner` is the request as it was handed in.
fn unanswered<T>(mut cause: TrySendError<T>, inner: impl FnOnce(T) -> Request) -> Unanswered {
    match cause.take_message() {
        Some(request) => Unanswered::Unsent(Box::new(inner(request)), cause.into_error()),
        None => Unanswered::Failed(Error::Exchange(cause.into_error())),
    }
}

impl Origin {
    fn of(uri: &Uri) -> Result<Self, Error> {
        match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => {
                let runtime = runtime::Handle::current().id();
                Ok(Self { scheme: scheme.clone(), authority: authority.clone(), runtime })
            }
            _ => Err(Error::Connect("the url is not absolute".into())),
        }
    }
}
