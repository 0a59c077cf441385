//! What a proxy said first. The client that speaks with it tells a refusal from a consent, but not what the refusal was.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Enough for `HTTP/1.1 502 ` and the words behind it.
const MAX_LENGTH: usize = 64;

/// The beginning of what comes in.
#[derive(Debug, Clone, Default)]
pub(super) struct Start(Arc<Mutex<Vec<u8>>>);

impl Start {
    /// The status, if it is the beginning of an HTTP/1 response.
    pub(super) fn status(&self) -> Option<u16> {
        let start = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = std::str::from_utf8(start.split(|byte| *byte == b'\r').next()?).ok()?;
        let mut words = line.split(' ');
        words.next().filter(|version| version.starts_with("HTTP/1."))?;
        words.next()?.parse().ok().filter(|status| (100..=999).contains(status))
    }

    fn hear(&self, bytes: &[u8]) {
        let mut start = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_LENGTH.saturating_sub(start.len());
        start.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }
}

/// A stream of which the beginning of what comes in is kept.
#[derive(Debug)]
pub(super) struct Overheard<S> {
    stream: S,
    start: Start,
}

impl<S> Overheard<S> {
    pub(super) fn new(stream: S, start: Start) -> Self {
        Self { stream, start }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, start } = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(stream).poll_read(context, buffer);
        start.hear(buffer.filled().get(before..).unwrap_or_default());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_the_beginning_of_a_response() {
        for (heard, status) in [
            (&["HTTP/1.1 502 Bad Gateway\r\nx: y"][..], Some(502)),
            (&["HTTP/1.0 40", "3\r\n"], Some(403)),
            (&["HTTP/1.1 99999\r\n"], None),
            (&["SSH-2.0-OpenSSH\r\n"], None),
            (&["HTTP/2 502\r\n"], None),
            (&[], None),
        ] {
            let start = Start::default();
            for part in heard {
                start.hear(part.as_bytes());
            }
            assert_eq!(start.status(), status, "{heard:?}");
        }
        let start = Start::default();
        start.hear(&[b'x'; 1_000]);
        assert_eq!(start.0.lock().unwrap().len(), MAX_LENGTH);
    }
}
