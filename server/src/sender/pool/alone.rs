//! A connection of HTTP/1.1: it serves one request at a time, and whoever makes that moves it.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderValue, Uri, header::HOST, uri::PathAndQuery};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{Connection, SendRequest},
    rt::{Read, Write},
};

use super::{Request, Unanswered, unanswered};
use crate::sender::meter::{Meter, UnderWay};

/// The connection, with what it may cost.
pub(super) struct Alone {
    requests: SendRequest<Full<Bytes>>,
    /// What moves it; at its end when this is none.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    meter: Option<Meter>,
    under_way: Option<UnderWay>,
    pub(super) opened_at: Instant,
}

impl fmt::Debug for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alone").field("stands", &self.connection.is_some()).finish_non_exhaustive()
    }
}

impl Alone {
    pub(super) fn new<T>(
        requests: SendRequest<Full<Bytes>>,
        connection: Connection<T, Full<Bytes>>,
        meter: Option<Meter>,
    ) -> Self
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        Self {
            requests,
            connection: Some(Box::pin(connection)),
            meter,
            under_way: None,
            opened_at: Instant::now(),
        }
    }

    /// Sends a request with an absolute URL; returns when the head of the answer is there.
    pub(super) async fn send(
        mut self,
        mut request: Request,
    ) -> Result<(Self, http::Response<Incoming>), Unanswered> {
        let written = Written::of(&mut request);
        self.under_way = self.meter.as_ref().map(Meter::begin);
        let mut answer = pin!(self.requests.try_send_request(request));
        let answered = poll_fn(|context| {
            // The answer comes from the connection, so that moving this is all there is to wait for.
            self.advance(context);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await;
        match answered.map_err(|cause| unanswered(cause, |request| request)) {
            Ok(answer) => Ok((self, answer)),
            Err(Unanswered::Unsent(mut request, cause)) => {
                written.undo(&mut request);
                Err(Unanswered::Unsent(request, cause))
            }
            Err(failed) => Err(failed),
        }
    }

    /// Moves the connection as far as it goes.
    pub(super) fn advance(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && let Poll::Ready(_) = connection.as_mut().poll(context)
        {
            // Whoever waits for an answer hears of it there.
            self.connection = None;
        }
    }

    /// Whether it can serve another request. To be asked when it serves none; the other side may have hung up meanwhile.
    pub(super) fn stands(&mut self) -> bool {
        self.advance(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.requests.is_ready()
    }

    /// The answer has been read. Whether it can serve another request, and is to.
    pub(super) fn rest(&mut self) -> bool {
        self.under_way = None;
        self.meter.as_ref().is_none_or(Meter::is_kept) && self.stands()
    }
}

/// What was changed of a request to write it down as HTTP/1.1 wants it (RFC 9112, 3.2.1).
struct Written {
    uri: Uri,
    with_host: bool,
}

impl Written {
    fn of(request: &mut Request) -> Self {
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let uri = std::mem::replace(request.uri_mut(), Uri::from(path));
        let host = if request.headers().contains_key(HOST) { None } else { host(&uri) };
        let with_host = host.is_some();
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host);
        }
        Self { uri, with_host }
    }

    fn undo(self, request: &mut Request) {
        *request.uri_mut() = self.uri;
        if self.with_host {
            request.headers_mut().remove(HOST);
        }
    }
}

/// The host of a URL, with its port unless that goes without saying.
fn host(uri: &Uri) -> Option<HeaderValue> {
    let host = uri.host()?;
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    match uri.port_u16().filter(|port| *port != default) {
        None => HeaderValue::from_str(host).ok(),
        // What stands before it says who is calling.
        Some(_) => HeaderValue::from_str(uri.authority()?.as_str().rsplit('@').next()?).ok(),
    }
}
