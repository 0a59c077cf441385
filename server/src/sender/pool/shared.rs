//! A connection of HTTP/2: it serves many requests at once, and is moved by a task of its own.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    body::{Body, Frame, SizeHint},
    client::conn::http2::{Builder, SendRequest},
    rt::{Executor, Read, Write},
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Answer, AnswerBody, Keeper, Request, Unanswered, unanswered};
use crate::sender::meter::{Meter, UnderWay};

/// How it is spoken.
#[derive(Debug, Clone)]
pub(in crate::sender) struct Http2 {
    /// The most bytes of a response's head.
    pub(in crate::sender) max_head_bytes: u32,
    /// What a response may hold that we have not read, and what those of a connection may hold together, in bytes.
    pub(in crate::sender) stream_window: u32,
    pub(in crate::sender) connection_window: u32,
    /// After how much silence a connection with requests on it is asked for a sign of life, and how long it has.
    pub(in crate::sender) ping_interval: Duration,
    pub(in crate::sender) ping_timeout: Duration,
}

/// Runs what moves a connection until nobody uses that.
#[derive(Debug, Clone)]
struct WhileUsed(CancellationToken);

impl<F> Executor<F> for WhileUsed
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, task: F) {
        TokioExecutor::new().execute(self.0.clone().run_until_cancelled_owned(task));
    }
}

/// The connection, with what it may cost. The clones are one; with the last of them it is closed.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    requests: SendRequest<Upload>,
    meter: Option<Meter>,
    open: Arc<DropGuard>,
    pub(super) opened_at: Instant,
}

/// The body of a request. Once the answer is there hyper goes on sending it by itself, also to a receiver that never takes it; so it shows
/// whether it is still there.
#[derive(Debug)]
pub(super) struct Upload {
    body: Full<Bytes>,
    #[expect(dead_code, reason = "shows that the body is there")]
    there: Arc<()>,
}

/// A request and its answer, until that has been read or is not wanted.
#[derive(Debug)]
pub(super) struct Exchange {
    connection: Shared,
    upload: Weak<()>,
    keeper: Keeper,
    #[expect(dead_code, reason = "lets the connection be read from")]
    under_way: Option<UnderWay>,
}

impl Shared {
    /// Begins to speak HTTP/2, and has the connection moved until nobody uses it.
    pub(super) async fn open<T>(stream: T, protocol: &Http2, meter: Option<Meter>) -> hyper::Result<Self>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let unused = CancellationToken::new();
        let open = Arc::new(unused.clone().drop_guard());
        let executor = WhileUsed(unused);
        let (requests, connection) = Builder::new(executor.clone())
            .timer(TokioTimer::new())
            .max_header_list_size(protocol.max_head_bytes)
            .initial_stream_window_size(protocol.stream_window)
            .initial_connection_window_size(protocol.connection_window)
            .keep_alive_interval(protocol.ping_interval)
            .keep_alive_timeout(protocol.ping_timeout)
            .handshake(stream)
            .await?;
        // Whoever has a request on it hears of its end.
        executor.execute(connection);
        Ok(Self { requests, meter, open, opened_at: Instant::now() })
    }

    /// Sends a request; returns when the head of the answer is there.
    pub(super) async fn send(mut self, request: Request, keeper: Keeper) -> Result<Answer, Unanswered> {
        let under_way = self.meter.as_ref().map(Meter::begin);
        let there = Arc::new(());
        let upload = Arc::downgrade(&there);
        let sent = self.requests.try_send_request(request.map(|body| Upload { body, there })).await;
        match sent {
            Ok(answer) => {
                let exchange = Exchange { connection: self, upload, keeper, under_way };
                Ok(answer.map(|body| AnswerBody::shared(body, exchange)))
            }
            Err(cause) => {
                let unanswered = unanswered(cause, |request| request.map(|upload| upload.body));
                // It takes no requests any more. One that was reset alone says nothing of the others.
                if matches!(unanswered, Unanswered::Unsent(..)) {
                    keeper.kept.unshare(&keeper.origin, &self);
                }
                Err(unanswered)
            }
        }
    }

    /// Whether both are the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.open, &other.open)
    }

    pub(super) fn stands(&self) -> bool {
        !self.requests.is_closed()
    }

    pub(super) fn is_kept(&self) -> bool {
        self.meter.as_ref().is_none_or(Meter::is_kept)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.upload.strong_count() > 0 {
            // The receiver has answered what it has not taken, and may never take. That lasts for as long as the connection.
            self.keeper.kept.unshare(&self.keeper.origin, &self.connection);
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
