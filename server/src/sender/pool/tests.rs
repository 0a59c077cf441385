//! Requests over connections that exist only in memory, and tokio's time, which jumps when all are idle.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use http_body_util::BodyExt;
use hyper::rt::{Executor, ReadBufCursor};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::{TokioExecutor, TokioIo},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::threads::{First, Threads};

const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const MAX_AGE: Duration = Duration::from_mins(5);
const NOTHING: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// One end of a connection.
struct Wire(TokioIo<DuplexStream>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Connections to a receiver that gives these answers on each, one after another, and then hangs up.
#[derive(Debug, Default)]
struct Receiver {
    answers: &'static [&'static str],
    opened: AtomicUsize,
    /// How many it has seen the end of.
    over: AtomicUsize,
}

impl Receiver {
    async fn serve(self: Arc<Self>, mut wire: DuplexStream) {
        let mut answers = self.answers.iter();
        let mut seen = Vec::new();
        loop {
            let mut byte = [0];
            if wire.read(&mut byte).await.unwrap_or(0) == 0 {
                break;
            }
            seen.extend(byte);
            if seen.ends_with(b"\r\n\r\n") {
                let request = String::from_utf8(std::mem::take(&mut seen)).unwrap();
                assert!(
                    request.starts_with("GET /hook?a=b HTTP/1.1\r\nhost: example.com:8080\r\n"),
                    "{request}"
                );
                let Some(answer) = answers.next() else { break };
                if wire.write_all(answer.as_bytes()).await.is_err() || answers.len() == 0 {
                    break;
                }
            }
        }
        self.over.fetch_add(1, Ordering::SeqCst);
    }
}

/// Makes requests of a receiver.
fn pool(
    receiver: &Arc<Receiver>,
) -> Pool<impl Service<Uri, Response = Wire, Error = io::Error, Future: Send> + Clone + Send + use<>> {
    let receiver = Arc::clone(receiver);
    let connector = tower::service_fn(move |_: Uri| {
        let receiver = Arc::clone(&receiver);
        async move {
            receiver.opened.fetch_add(1, Ordering::SeqCst);
            let (ours, theirs) = tokio::io::duplex(1_024);
            TokioExecutor::new().execute(receiver.serve(theirs));
            Ok(Wire(TokioIo::new(ours)))
        }
    });
    // Nobody here speaks it.
    let http2 = Http2 {
        max_head_bytes: 0,
        stream_window: 0,
        connection_window: 0,
        ping_interval: IDLE_TIMEOUT,
        ping_timeout: IDLE_TIMEOUT,
    };
    let (http1, max_idle, idle_timeout) = (http1::Builder::new(), 2, IDLE_TIMEOUT);
    Pool::new(connector, Protocol { http1, http2, max_idle, idle_timeout, max_age: MAX_AGE })
}

impl<S: Clone> Pool<S> {
    /// The same for connections that take requests for so long.
    fn aging(&self, max_age: Duration) -> Self {
        let protocol = Protocol { max_age, ..Protocol::clone(&self.protocol) };
        Self { protocol: Arc::new(protocol), ..self.clone() }
    }
}

fn receiver(answers: &'static [&'static str]) -> Arc<Receiver> {
    Arc::new(Receiver { answers, ..Receiver::default() })
}

const URL: &str = "http://example.com:8080/hook?a=b";

#[tokio::test(start_paused = true)]
async fn a_connection_whose_answer_was_read_serves_the_next_request() {
    let receiver = receiver(&[OK, NOTHING, OK, NOTHING]);
    let pool = pool(&receiver);
    for expected in ["ok", "", "ok"] {
        let answer = pool.get(URL).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), expected);
    }
    assert_eq!(receiver.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_serves_one_request_at_a_time() {
    let receiver = receiver(&[OK, OK, OK]);
    let pool = pool(&receiver);
    let unread = pool.get(URL).await.unwrap();
    let other = pool.get(URL).await.unwrap();
    assert_eq!(receiver.opened.load(Ordering::SeqCst), 2);
    for answer in [unread, other] {
        answer.into_body().collect().await.unwrap();
    }
    pool.get(URL).await.unwrap();
    assert_eq!(receiver.opened.load(Ordering::SeqCst), 2, "both are there again");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_closed_whose_answer_nobody_wants_or_whose_request_was_given_up() {
    let receiver = receiver(&[OK, "", OK]);
    let pool = pool(&receiver);
    drop(pool.get(URL).await.unwrap());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(receiver.over.load(Ordering::SeqCst), 1);
    pool.get(URL).await.unwrap().into_body().collect().await.unwrap();
    let unanswered = tokio::time::timeout(Duration::from_secs(1), pool.get(URL)).await;
    assert!(unanswered.is_err());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(receiver.over.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_receiver_has_closed_meanwhile_is_not_used() {
    let receiver = receiver(&[NOTHING]);
    let pool = pool(&receiver);
    for opened in 1..=3 {
        pool.get(URL).await.unwrap();
        assert_eq!(receiver.opened.load(Ordering::SeqCst), opened);
        // It hangs up.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_written_is_not_repeated() {
    let receiver = receiver(&["HTTP/1.1 200 OK\r\n"]);
    let failed = pool(&receiver).get(URL).await.unwrap_err();
    assert!(!failed.is_connect(), "{failed:?}");
    assert_eq!(receiver.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_are_kept_than_may_be() {
    let receiver = receiver(&[OK, OK]);
    let pool = pool(&receiver);
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(pool.get(URL).await.unwrap());
    }
    for answer in answers {
        answer.into_body().collect().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(receiver.over.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_nobody_uses_is_closed() {
    let receiver = receiver(&[NOTHING, NOTHING]);
    let pool = pool(&receiver);
    pool.get(URL).await.unwrap();
    assert!(pool.kept.close_unused(IDLE_TIMEOUT), "it was used just now");
    assert!(!pool.kept.close_unused(Duration::ZERO));
    pool.get(URL).await.unwrap();
    assert_eq!(receiver.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn one_that_is_old_takes_no_more_requests() {
    let receiver = receiver(&[NOTHING, NOTHING]);
    let pool = pool(&receiver).aging(Duration::ZERO);
    for opened in 1..=3 {
        pool.get(URL).await.unwrap();
        assert_eq!(receiver.opened.load(Ordering::SeqCst), opened);
    }
}

#[tokio::test]
async fn a_url_must_be_absolute() {
    let failed = pool(&receiver(&[])).get("/hook").await.unwrap_err();
    assert!(failed.is_connect());
}

#[tokio::test]
async fn a_connection_stays_on_the_runtime_that_opened_it() {
    let receiver = receiver(&[NOTHING; 3]);
    let (pool, threads) = (pool(&receiver), Threads::start("test", 2, First::Own).unwrap());
    for (thread, opened) in [(0, 1), (1, 2), (0, 2), (1, 2)] {
        let pool = pool.clone();
        let request = async move { pool.get(URL).await.unwrap().into_body().collect().await.unwrap() };
        threads.runtime_of(thread).spawn(request).await.unwrap();
        assert_eq!(receiver.opened.load(Ordering::SeqCst), opened, "after a request of thread {thread}");
    }
}
