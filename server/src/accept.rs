//! Takes connections in, no more than a number of them at a time, and none from somebody who has nothing to say. Both ports do it this
//! way; what is spoken on a connection is theirs.

use std::{
    io,
    net::{self, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

use crate::telemetry::metrics::{Metrics, Shed};

/// How long to wait after a connection could not be accepted, which is mostly for want of file descriptors.
const REST: Duration = Duration::from_millis(100);
/// What somebody with something to say has said at least: HTTP/2's preface is this long (RFC 9113, section 3.4).
const OPENING_BYTES: usize = 24;

/// How long a connection may last.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// Until it has opened; this long to do so.
    ToOpen(Duration),
    /// This long in all.
    InAll(Duration),
}

/// A port.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Patience,
    metrics: Metrics,
}

impl Acceptor {
    /// Listens, for at most `max` connections at a time.
    #[must_use]
    pub fn new(listener: TcpListener, max: usize, patience: Patience, metrics: Metrics) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(max)), patience, metrics }
    }

    /// The next connection. Those that there is no place for are closed at once: whoever makes them learns of it, and may go elsewhere.
    pub async fn accept(&mut self) -> (Accepted, SocketAddr) {
        loop {
            let accepted = self.listener.accept().await;
            match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok((stream, peer)) => match Arc::clone(&self.places).try_acquire_owned() {
                    Ok(place) => {
                        let place = Place { of_port: place, load: None };
                        return (Accepted { stream, patience: self.patience, place }, peer);
                    }
                    Err(_) => self.metrics.shed(Shed::Connection),
                },
                Err(cause) => {
                    tracing::warn!(
                        cause = &cause as &dyn std::error::Error,
                        "a connection could not be accepted"
                    );
                    sleep(REST).await;
                }
            }
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that has a place, and belongs to no runtime yet.
#[derive(Debug)]
pub struct Accepted {
    stream: net::TcpStream,
    patience: Patience,
    place: Place,
}

/// What is given back when a connection ends.
#[derive(Debug)]
#[expect(dead_code, reason = "is given back when it is dropped")]
struct Place {
    of_port: OwnedSemaphorePermit,
    load: Option<Arc<()>>,
}

impl Accepted {
    /// Holds a clone of `load` as long as it lasts.
    #[must_use]
    pub fn counting_for(mut self, load: Arc<()>) -> Self {
        self.place.load = Some(load);
        self
    }

    /// Makes it one of the runtime that this is called in. From here on our patience runs.
    pub fn open(self) -> io::Result<Connection> {
        let stream = TcpStream::from_std(self.stream)?;
        if let Err(cause) = stream.set_nodelay(true) {
            tracing::debug!(
                cause = &cause as &dyn std::error::Error,
                "a connection is slower than it could be"
            );
        }
        let (to_open, patience) = match self.patience {
            Patience::ToOpen(patience) => (Some(OPENING_BYTES), patience),
            Patience::InAll(patience) => (None, patience),
        };
        Ok(Connection { stream, to_open, ends: Some(Box::pin(sleep(patience))), _place: self.place })
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// How many bytes it is to say before it has opened, if that is what ends our patience.
    to_open: Option<usize>,
    ends: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Connection {
    /// The connection itself.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn heard(&mut self, bytes: usize) {
        if let Some(to_open) = &mut self.to_open {
            *to_open = to_open.saturating_sub(bytes);
            if *to_open == 0 {
                self.ends = None;
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(ends) = &mut self.ends
            && ends.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.heard(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Connection {
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn acceptor(max: usize, patience: Patience) -> (Acceptor, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Acceptor::new(listener, max, patience, Metrics::default()), address)
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_connection_ends() {
        let (mut acceptor, address) = acceptor(1, Patience::ToOpen(Duration::from_mins(1))).await;
        let _first = TcpStream::connect(address).await.unwrap();
        let (place, _) = acceptor.accept().await;
        let (mut second, mut nothing) = (TcpStream::connect(address).await.unwrap(), [0; 1]);
        tokio::select! {
            _ = acceptor.accept() => panic!("there was no place"),
            end = second.read(&mut nothing) => assert_eq!(end.unwrap(), 0),
        }
        drop(place);
        let third = TcpStream::connect(address).await.unwrap();
        let (_place, peer) = acceptor.accept().await;
        assert_eq!(peer, third.local_addr().unwrap());
    }

    #[tokio::test]
    async fn patience_ends_with_the_opening_or_with_the_connection() {
        let short = Duration::from_millis(50);
        for (patience, said, outlasts) in [
            (Patience::ToOpen(short), OPENING_BYTES, true),
            (Patience::ToOpen(short), OPENING_BYTES - 1, false),
            (Patience::InAll(short), OPENING_BYTES, false),
        ] {
            let (mut acceptor, address) = acceptor(1, patience).await;
            let mut caller = TcpStream::connect(address).await.unwrap();
            let (accepted, _) = acceptor.accept().await;
            let mut connection = accepted.open().unwrap();
            caller.write_all(&vec![7; said]).await.unwrap();
            connection.read_exact(&mut vec![0; said]).await.unwrap();
            let next = tokio::time::timeout(2 * short, connection.read(&mut [0; 1])).await;
            assert_eq!(next.is_err(), outlasts, "{patience:?} after {said} bytes");
        }
    }
}
