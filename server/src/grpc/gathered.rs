//! What several calls have to say on one connection, in one write.
//!
//! A commit makes the answers of many calls ready. The first of them wakes the connection's task; if that wrote at once it would write
//! nearly each of them by a call to the system, and the caller would read them like that. It lets everybody
//! go first who can run, and then writes what all of them left. What a commit, on another thread, has made ready goes first there
//! ([`threads`](crate::threads)). Where nobody else can run, that costs one turn of an empty queue.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// A connection that lets others go first before it writes.
#[derive(Debug)]
pub(super) struct Gathered<C> {
    connection: C,
    /// Whether others have gone since everything was written.
    gone: bool,
}

impl<C> Gathered<C> {
    pub(super) fn new(connection: C) -> Self {
        Self { connection, gone: false }
    }

    fn let_others_go(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.gone {
            return Poll::Ready(());
        }
        self.gone = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Gathered<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Gathered<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.let_others_go(context));
        Pin::new(&mut self.connection).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.let_others_go(context));
        Pin::new(&mut self.connection).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    /// Is called when everything is written that there was.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gone = false;
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

impl<C: Connected> Connected for Gathered<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> C::ConnectInfo {
        self.connection.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures_util::{FutureExt, future};
    use http::{Request, Response};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        sync::{mpsc, oneshot},
    };
    use tokio_util::{io::InspectWriter, task::TaskTracker};

    use super::*;
    use crate::threads::{First, Threads};

    #[tokio::test]
    async fn who_can_run_goes_before_what_is_written() {
        let (near, mut far) = duplex(64);
        let (mut near, mut seen) = (Gathered::new(near), [0; 2]);
        for round in 0..2 {
            let (written, ()) = tokio::join!(near.write_all(b"a"), async {
                assert!(far.read(&mut seen).now_or_never().is_none(), "round {round}: others have not gone");
            });
            written.unwrap();
            near.write_all(b"b").now_or_never().expect("they have gone for what is not flushed yet").unwrap();
            near.flush().await.unwrap();
            assert_eq!(far.read(&mut seen).await.unwrap(), 2);
        }
    }

    /// They become ready on another thread than that of the connection, which is busy meanwhile.
    #[tokio::test]
    async fn answers_that_are_ready_together_are_written_together() {
        const CALLS: usize = 32;
        let threads = Threads::start("test", 1, First::Theirs).unwrap();
        let thread = threads.runtime_of(0);
        let (tasks, writes) = (TaskTracker::new(), Arc::new(AtomicUsize::new(0)));
        let (near, far) = duplex(64 << 10);

        let count = Arc::clone(&writes);
        let near = InspectWriter::new(near, move |_: &[u8]| _ = count.fetch_add(1, Ordering::SeqCst));
        let connection = h2::server::handshake(Gathered::new(near));
        let (wait, mut waiting) = mpsc::unbounded_channel();
        let answering = tasks.clone();
        thread.spawn(async move {
            let mut connection = connection.await.unwrap();
            while let Some(Ok((_, mut call))) = connection.accept().await {
                let (ready, answer) = oneshot::channel();
                wait.send(ready).unwrap();
                answering.spawn(async move {
                    answer.await.unwrap();
                    call.send_response(Response::new(()), true).unwrap();
                });
            }
        });
        let (mut caller, calls) = h2::client::handshake(far).await.unwrap();
        tasks.spawn(calls);
        let answers = future::join_all((0..CALLS).map(|_| {
            let request = Request::builder().uri("http://host/").body(()).unwrap();
            caller.send_request(request, true).unwrap().0
        }));
        let mut all = Vec::new();
        while all.len() < CALLS {
            all.push(waiting.recv().await.unwrap());
        }

        let ((busy, is_busy), (go_on, held)) = (oneshot::channel(), std::sync::mpsc::channel::<()>());
        thread.spawn(async move {
            busy.send(()).unwrap();
            held.recv().unwrap_err();
        });
        is_busy.await.unwrap();
        let before = writes.load(Ordering::SeqCst);
        for ready in all {
            ready.send(()).unwrap();
        }
        drop(go_on);
        assert!(answers.await.iter().all(Result::is_ok));
        let writes = writes.load(Ordering::SeqCst) - before;
        assert!(writes <= 2, "{CALLS} answers took {writes} writes");
    }
}
