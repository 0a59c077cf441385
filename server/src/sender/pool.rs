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
//! A request that could not be written to a connection that had been kept goes out on another one. One that was written is never repeated: what
//! follows from that is decided elsewhere.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Extensions, Uri,
    uri::{Authority, Scheme},
};
use http_body_util::Full;
use hyper::{
    client::conn::{http1, http2},
    rt::{Executor, Read, Write},
};
use hyper_util::{client::legacy::connect::Connection, rt::TokioExecutor};
use tower::{BoxError, Service, ServiceExt};

pub(super) use self::body::AnswerBody;
use self::{
    alone::Alone,
    kept::{Keeper, Kept},
};
use super::meter::Meter;

mod alone;
mod body;
mod kept;
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
    pub(super) http2: http2::Builder<TokioExecutor>,
    /// How many of HTTP/1.1 are kept for one origin.
    pub(super) max_idle: usize,
    /// For how long one is kept that nobody uses.
    pub(super) idle_timeout: Duration,
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

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Origin {
    scheme: Scheme,
    authority: Authority,
}

/// A connection of HTTP/2.
#[derive(Debug, Clone)]
struct Shared {
    requests: http2::SendRequest<Full<Bytes>>,
    meter: Option<Meter>,
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
            let kept = self.kept.take(&origin, self.protocol.idle_timeout);
            let is_new = kept.is_none();
            // Boxed, but for what most requests are: what one may have to wait for is part of the size of all.
            let connection = match kept {
                Some(connection) => connection,
                None => Box::pin(self.connect(&origin, request.uri())).await?,
            };
            let answer = match connection {
                Taken::Alone(alone) => self.send_alone(&origin, alone, request).await,
                Taken::Shared(shared) => Box::pin(shared.send(request)).await,
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Unsent(unsent, _)) if !is_new => {
                    self.kept.unshare(&origin);
                    request = *unsent;
                }
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
        let keeper = Keeper {
            kept: Arc::clone(&self.kept),
            origin: origin.clone(),
            protocol: Arc::clone(&self.protocol),
        };
        Ok(answer.map(|body| AnswerBody::alone(body, alone, keeper)))
    }

    async fn connect(&self, origin: &Origin, uri: &Uri) -> Result<Taken, Error> {
        let opening = self.connector.clone().oneshot(uri.clone());
        let stream = opening.await.map_err(|cause| Error::Connect(cause.into()))?;
        let connected = stream.connected();
        let mut extras = Extensions::new();
        connected.get_extras(&mut extras);
        let meter = extras.remove::<Meter>();
        if !connected.is_negotiated_h2() {
            let (requests, connection) =
                self.protocol.http1.handshake(stream).await.map_err(Error::Exchange)?;
            return Ok(Taken::Alone(Alone::new(requests, connection, meter)));
        }
        let (requests, connection) = self.protocol.http2.handshake(stream).await.map_err(Error::Exchange)?;
        TokioExecutor::new().execute(async move {
            // Whoever has a request on it hears of its end.
            let _ = connection.await;
        });
        let shared = Shared { requests, meter };
        let kept = Arc::clone(&self.kept);
        Ok(Taken::Shared(kept.share(origin, shared, self.protocol.idle_timeout)))
    }
}

/// What a request is sent on.
enum Taken {
    Alone(Alone),
    Shared(Shared),
}

impl Shared {
    async fn send(mut self, request: Request) -> Result<Answer, Unanswered> {
        let under_way = self.meter.as_ref().map(Meter::begin);
        let sent = self.requests.try_send_request(request).await;
        sent.map(|answer| answer.map(|body| AnswerBody::shared(body, under_way))).map_err(Into::into)
    }

    fn stands(&self) -> bool {
        !self.requests.is_closed()
    }

    fn is_kept(&self) -> bool {
        self.meter.as_ref().is_none_or(Meter::is_kept)
    }
}

impl From<hyper::client::conn::TrySendError<Request>> for Unanswered {
    fn from(mut cause: hyper::client::conn::TrySendError<Request>) -> Self {
        match cause.take_message() {
            Some(request) => Self::Unsent(Box::new(request), cause.into_error()),
            None => Self::Failed(Error::Exchange(cause.into_error())),
        }
    }
}

impl Origin {
    fn of(uri: &Uri) -> Result<Self, Error> {
        match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => {
                Ok(Self { scheme: scheme.clone(), authority: authority.clone() })
            }
            _ => Err(Error::Connect("the url is not absolute".into())),
        }
    }
}
