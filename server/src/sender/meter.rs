//! How much a receiver can make us read.
//!
//! The client bounds one head and one body, but not what is neither: interim responses, trailers, HTTP/2's `SETTINGS` and
//! `PING`, TLS messages. So the bytes of each connection are counted where they arrive. An exchange may cost so many; then the
//! connection breaks, with everything on it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower::Service;

/// How many connections are kept for further requests, over all receivers. Those that are opened while there are as many serve one
/// request each: a node that sends to tens of thousands of receivers must not run out of file descriptors.
const MAX_KEPT: usize = 2_048;

/// The receiver sent more than an exchange may cost.
#[derive(Debug, thiserror::Error)]
#[error("the receiver sent more than a response may have")]
pub(super) struct TooMuch;

/// What is left of a connection's allowance. Cheap to clone; the clones are one.
#[derive(Debug, Clone)]
pub(super) struct Meter(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    /// What one exchange may cost.
    allowance: i64,
    /// Whether the connection is kept for further requests.
    is_kept: bool,
    left: AtomicI64,
    under_way: AtomicUsize,
}

/// An exchange that a connection serves.
#[derive(Debug)]
pub(super) struct UnderWay(Meter);

impl Meter {
    fn new(allowance: i64, is_kept: bool) -> Self {
        let (left, under_way) = (AtomicI64::new(allowance), AtomicUsize::new(0));
        Self(Arc::new(Counts { allowance, is_kept, left, under_way }))
    }

    /// Allows for one more exchange. Those that are under way together share what they are allowed.
    pub(super) fn begin(&self) -> UnderWay {
        if self.0.under_way.fetch_add(1, Ordering::Relaxed) == 0 {
            self.0.left.store(self.0.allowance, Ordering::Relaxed);
        } else {
            self.0.left.fetch_add(self.0.allowance, Ordering::Relaxed);
        }
        UnderWay(self.clone())
    }

    /// Whether the connection is to serve further requests.
    pub(super) fn is_kept(&self) -> bool {
        self.0.is_kept
    }

    fn spend(&self, bytes: usize) {
        self.0.left.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn is_spent(&self) -> bool {
        self.0.left.load(Ordering::Relaxed) <= 0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Meter(counts) = &self.0;
        if counts.under_way.fetch_sub(1, Ordering::Relaxed) == 1 {
            // What an idle connection may be sent: tickets, pings, a farewell.
            counts.left.store(counts.allowance, Ordering::Relaxed);
        }
    }
}

/// A connector whose connections are metered.
#[derive(Debug, Clone)]
pub(super) struct MeteredConnector<C> {
    inner: C,
    allowance: i64,
    /// How many connections there are.
    open: Arc<()>,
}

impl<C> MeteredConnector<C> {
    /// An exchange may cost `allowance` bytes.
    pub(super) fn new(inner: C, allowance: usize) -> Self {
        Self { inner, allowance: i64::try_from(allowance).unwrap_or(i64::MAX), open: Arc::default() }
    }
}

impl<C> Service<Uri> for MeteredConnector<C>
where
    C: Service<Uri, Response = TokioIo<TcpStream>>,
    C::Future: Send + 'static,
{
    type Response = TokioIo<Metered>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let (connecting, allowance) = (self.inner.call(target), self.allowance);
        let open = Arc::clone(&self.open);
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            let meter = Meter::new(allowance, Arc::strong_count(&open) <= MAX_KEPT);
            Ok(TokioIo::new(Metered { stream, meter, _open: open }))
        })
    }
}

/// A connection whose incoming bytes are counted.
#[derive(Debug)]
pub(super) struct Metered {
    stream: TcpStream,
    meter: Meter,
    _open: Arc<()>,
}

impl Connection for Metered {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.meter.clone())
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.meter.is_spent() {
            return Poll::Ready(Err(io::Error::other(TooMuch)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.meter.spend(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exchange_has_an_allowance_and_those_under_way_together_share_theirs() {
        let meter = Meter::new(10, true);
        meter.spend(7);
        let first = meter.begin();
        meter.spend(9);
        assert!(!meter.is_spent());
        let second = meter.begin();
        meter.spend(10);
        assert!(!meter.is_spent());
        meter.spend(1);
        assert!(meter.is_spent());
        drop(first);
        assert!(meter.is_spent());
        drop(second);
        assert!(!meter.is_spent());
        meter.spend(10);
        assert!(meter.is_spent(), "an idle connection has no more than that");
    }

    #[tokio::test]
    async fn connections_beyond_a_number_are_not_kept() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connect = async |open: &Arc<()>| {
            let inner = tower::service_fn(move |_: Uri| async move {
                Ok::<_, io::Error>(TokioIo::new(TcpStream::connect(address).await?))
            });
            let mut connector = MeteredConnector { inner, allowance: 1, open: Arc::clone(open) };
            let connection = connector.call(Uri::from_static("http://x/")).await.unwrap().into_inner();
            drop(connector);
            connection.meter.is_kept()
        };
        let open = Arc::new(());
        assert!(connect(&open).await);
        let others: Vec<_> = (0..MAX_KEPT).map(|_| Arc::clone(&open)).collect();
        assert!(!connect(&open).await);
        drop(others);
        assert!(connect(&open).await);
    }
}
