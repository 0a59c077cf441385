//! Receivers that mean harm: each costs at most its timeout and some 64 KiB, and holds up nobody else.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use postrider_server::{
    domain::attempt::{Attempt, Failure, Outcome},
    sender::HttpSender,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use super::{
    ACKNOWLEDGED, OK, assert_failed,
    certificates::Authority,
    receiver::{Receiver, read_request},
    rejected, send, sender_with,
};

const TIMEOUT: Duration = Duration::from_millis(600);
/// 64 KiB for the head, 16 KiB that are kept of the body, and what the two kernels hold in between.
const MOST_WRITTEN: usize = (64 + 16 + 256) * 1024;
/// For what takes no time, on a machine that is busy.
const SOON: Duration = Duration::from_secs(10);

/// A connection of a hostile receiver.
struct Wire {
    stream: TcpStream,
    written: Arc<AtomicUsize>,
    closed: mpsc::UnboundedSender<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _nobody_asks = self.closed.send(());
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = polled {
            self.written.fetch_add(count, Ordering::SeqCst);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

struct Hostile {
    receiver: Receiver,
    authority: Authority,
    scheme: &'static str,
    written: Arc<AtomicUsize>,
    closed: mpsc::UnboundedReceiver<()>,
}

impl Hostile {
    /// Does this with each connection; what it does ends when we hang up.
    async fn doing<F, Done>(scheme: &'static str, authority: Authority, harm: F) -> Self
    where
        F: Fn(Wire) -> Done + Send + 'static,
        Done: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (written, (tell, closed)) = (Arc::new(AtomicUsize::new(0)), mpsc::unbounded_channel());
        let count = Arc::clone(&written);
        let receiver = Receiver::serving(move |stream, _| {
            harm(Wire { stream, written: Arc::clone(&count), closed: tell.clone() })
        })
        .await;
        Self { receiver, authority, scheme, written, closed }
    }

    /// Reads a request in the clear, says `beginning`, and then `again` for as long as it is listened to.
    async fn flooding(beginning: &'static [u8], again: impl Into<Vec<u8>>) -> Self {
        let again: Arc<[u8]> = again.into().into();
        Self::doing("http", Authority::new(), move |mut wire| {
            let again = Arc::clone(&again);
            async move {
                read_request(&mut wire).await?;
                wire.write_all(beginning).await?;
                loop {
                    wire.write_all(&again).await?;
                }
            }
        })
        .await
    }

    /// Reads a request in the clear, says `beginning`, and then one byte after another, taking its time.
    async fn dripping(beginning: &'static [u8]) -> Self {
        Self::doing("http", Authority::new(), move |mut wire| async move {
            read_request(&mut wire).await?;
            wire.write_all(beginning).await?;
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            loop {
                pace.tick().await;
                wire.write_all(b"x").await?;
            }
        })
        .await
    }

    /// Speaks HTTP/2 over TLS: says `beginning` after its settings, and then `again` for as long as it is listened to. Never reads.
    async fn flooding_http2(beginning: Vec<u8>, again: Vec<u8>) -> Self {
        let authority = Authority::new();
        let acceptor = authority.acceptor("h2");
        let (beginning, again): (Arc<[u8]>, Arc<[u8]>) = (beginning.into(), again.into());
        Self::doing("https", authority, move |wire| {
            let (acceptor, beginning, again) = (acceptor.clone(), Arc::clone(&beginning), Arc::clone(&again));
            async move {
                let mut stream = acceptor.accept(wire).await?;
                stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
                // The preface and whatever comes with it: there is a request before harm is done.
                let _begun = stream.read(&mut [0; 16 * 1024]).await?;
                stream.write_all(&beginning).await?;
                loop {
                    if again.is_empty() {
                        // Waits for us to hang up.
                        if stream.read(&mut [0; 16 * 1024]).await? == 0 {
                            return Ok(());
                        }
                    } else {
                        stream.write_all(&again).await?;
                    }
                }
            }
        })
        .await
    }

    fn sender(&self) -> HttpSender {
        let file = self.authority.file();
        sender_with(|config| {
            file.path().clone_into(&mut config.extra_ca_file);
            config.timeout = TIMEOUT;
            config.connect_timeout = TIMEOUT;
        })
    }

    /// Makes an attempt here and beside it one at a healthy receiver; checks what the one costs, and that it costs the other nothing.
    async fn attempt(&mut self) -> Attempt {
        let healthy = Receiver::answering(OK).await;
        let (sender, began) = (self.sender(), Instant::now());
        let (here, there) = (
            format!("{}://localhost:{}/", self.scheme, self.receiver.address.port()),
            format!("http://{}/", healthy.address),
        );
        let (attempt, other) = tokio::join!(send(&sender, &here), send(&sender, &there));
        assert_eq!(other.outcome, ACKNOWLEDGED);
        assert!(began.elapsed() < TIMEOUT + SOON, "it took {:?}", began.elapsed());
        // The node goes on, and with it the pool of its connections.
        timeout(SOON, self.closed.recv()).await.expect("it is still listened to");
        let written = self.written.load(Ordering::SeqCst);
        assert!(written <= MOST_WRITTEN, "it could say {written} bytes: {:?}", attempt.outcome);
        attempt
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_short() {
    for head in [
        &b"HTTP/1.1 500 No\r\n\r\n"[..],
        b"HTTP/1.1 500 No\r\ncontent-length: 999999999999\r\n\r\n",
        b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n",
        // A bomb is kept as it came, and as much of it as of any other body.
        b"HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\n\r\n",
    ] {
        let attempt = Hostile::flooding(head, [b'x'; 4_096]).await.attempt().await;
        assert_eq!(attempt.outcome, rejected(500, None));
        let response = attempt.response.unwrap();
        assert_eq!((response.body.len(), response.truncated), (16_384, true));
    }
}

#[tokio::test]
async fn one_that_takes_its_time_for_each_byte_has_until_the_timeout() {
    let attempt = Hostile::dripping(b"HTTP/1.1 200 OK\r\n\r\n").await.attempt().await;
    assert_failed(&attempt, Failure::Timeout, "while reading the response");
    let attempt = Hostile::dripping(b"HTTP/1.1 200 OK\r\nx-a: ").await.attempt().await;
    assert_failed(&attempt, Failure::Timeout, "while waiting for the response");
    assert!(attempt.timings.total >= TIMEOUT);
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    for (beginning, again) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], &b"x-a: b\r\n"[..]),
        (b"HTTP/1.1 200 OK\r\n", &[b'x'; 4_096]),
        (b"HTTP/1.1 200 OK\r\nx-a: ", &[b'x'; 4_096]),
        (b"HTTP/1.1 200 ", &[b'x'; 4_096]),
    ] {
        let attempt = Hostile::flooding(beginning, again).await.attempt().await;
        assert_failed(&attempt, Failure::Protocol, "the exchange broke off: message head is too large");
    }
}

#[tokio::test]
async fn interim_responses_without_end_are_refused() {
    for interim in ["HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\n"] {
        let attempt = Hostile::flooding(b"", interim).await.attempt().await;
        assert_failed(&attempt, Failure::Protocol, "the receiver sent more than a response may have");
    }
}

#[tokio::test]
async fn what_follows_a_body_without_end_changes_nothing() {
    for (beginning, again) in [
        (&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"[..], &b"x-a: b\r\n"[..]),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", &[b'x'; 4_096]),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ] {
        let attempt = Hostile::flooding(beginning, again).await.attempt().await;
        assert_eq!(attempt.outcome, ACKNOWLEDGED);
    }
}

#[tokio::test]
async fn garbage_is_refused() {
    for again in [&[0; 4_096], &[0xff; 4_096], &[b'\n'; 4_096]] {
        let attempt = Hostile::flooding(b"", *again).await.attempt().await;
        assert_failed(&attempt, Failure::Protocol, "the exchange broke off: ");
    }
}

#[tokio::test]
async fn a_reset_is_a_failure_of_the_phase_that_it_comes_in() {
    let reset = async |scheme, after: &'static [u8], reads: bool| {
        let mut hostile = Hostile::doing(scheme, Authority::new(), move |mut wire| async move {
            if reads {
                read_request(&mut wire).await?;
                wire.write_all(after).await?;
            }
            wire.stream.set_zero_linger()
        })
        .await;
        hostile.attempt().await
    };
    let failure = |attempt: Attempt| match attempt.outcome {
        Outcome::Failed { failure, .. } => Some(failure),
        _ => None,
    };
    assert_eq!(failure(reset("https", b"", false).await), Some(Failure::Tls));
    assert_eq!(failure(reset("http", b"", false).await), Some(Failure::Protocol));
    assert_eq!(failure(reset("http", b"", true).await), Some(Failure::Protocol));
    assert_eq!(failure(reset("http", b"HTTP/1.1 200 O", true).await), Some(Failure::Protocol));
    assert_eq!(failure(reset("http", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart", true).await), None);
}

#[tokio::test]
async fn a_handshake_that_never_completes_has_until_the_timeout_or_is_refused() {
    let handshake = async |again: &'static [u8]| {
        let mut hostile = Hostile::doing("https", Authority::new(), move |mut wire| async move {
            let _hello = wire.read(&mut [0; 4_096]).await?;
            if again.is_empty() {
                let _until_we_hang_up = wire.read(&mut [0; 4_096]).await?;
                return Ok(());
            }
            loop {
                wire.write_all(again).await?;
            }
        })
        .await;
        hostile.attempt().await
    };
    assert_failed(&handshake(b"").await, Failure::Timeout, "while waiting for the tls handshake");
    // Records that change the cipher for ever; parts of a message without end; warnings.
    for record in [
        &b"\x14\x03\x03\x00\x01\x01"[..],
        b"\x16\x03\x03\x00\x04\x0b\xff\xff\xff",
        b"\x15\x03\x03\x00\x02\x01\x00",
    ] {
        assert_failed(&handshake(record).await, Failure::Tls, "the tls handshake failed: ");
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A head with this status and nothing else (RFC 7541, section 6.2.2).
fn status(status: [u8; 3]) -> Vec<u8> {
    let mut block = vec![0x08, 3];
    block.extend_from_slice(&status);
    frame(HEADERS, END_HEADERS, 1, &block)
}

#[tokio::test]
async fn over_http2_frames_without_end_break_the_connection() {
    let field = b"\x00\x01a\x7f\x00".iter().copied().chain([b'x'; 127]).collect::<Vec<_>>();
    for (what, beginning, again) in [
        ("settings", Vec::new(), frame(SETTINGS, 0, 0, &[])),
        ("pings", Vec::new(), frame(PING, 0, 0, &[0; 8])),
        ("answers to pings", Vec::new(), frame(PING, 1, 0, &[0; 8])),
        ("priorities", Vec::new(), frame(PRIORITY, 0, 3, &[0; 5])),
        ("unknown frames", Vec::new(), frame(0xbe, 0, 0, &[0; 4_096])),
        ("windows", Vec::new(), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("a large window", Vec::new(), frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("interim responses", Vec::new(), status(*b"103")),
        (
            "continuations",
            frame(HEADERS, 0, 1, &[0x08, 3, b'2', b'0', b'0']),
            frame(CONTINUATION, 0, 1, &field),
        ),
        (
            "empty continuations",
            frame(HEADERS, 0, 1, &[0x08, 3, b'2', b'0', b'0']),
            frame(CONTINUATION, 0, 1, &[]),
        ),
        ("data without a head", Vec::new(), frame(DATA, 0, 1, &[0; 4_096])),
        ("resets", Vec::new(), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
        ("garbage", Vec::new(), vec![0xff; 4_096]),
    ] {
        let attempt = Hostile::flooding_http2(beginning, again).await.attempt().await;
        match attempt.outcome {
            Outcome::Failed { failure: Failure::Protocol, .. } => {}
            outcome => panic!("{what}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn over_http2_a_body_without_end_is_cut_short() {
    let attempt =
        Hostile::flooding_http2(status(*b"500"), frame(DATA, 0, 1, &[b'x'; 4_096])).await.attempt().await;
    assert_eq!(attempt.outcome, rejected(500, None));
    assert!(attempt.response.unwrap().truncated);
    // Empty parts take no window.
    let attempt = Hostile::flooding_http2(status(*b"500"), frame(DATA, 0, 1, &[])).await.attempt().await;
    assert_eq!(attempt.outcome, rejected(500, None));
}

#[tokio::test]
async fn over_http2_one_that_leaves_no_room_for_the_request_has_until_the_timeout() {
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    let no_room = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let attempt = Hostile::flooding_http2(no_room, Vec::new()).await.attempt().await;
    assert_failed(&attempt, Failure::Timeout, "while waiting for the response");
}

#[tokio::test]
async fn over_http2_one_that_says_farewell_is_a_protocol_failure() {
    let mut hostile = Hostile::flooding_http2(frame(GOAWAY, 0, 0, &[0; 8]), Vec::new()).await;
    assert_failed(&hostile.attempt().await, Failure::Protocol, "the exchange broke off");
}

#[tokio::test]
async fn over_http2_one_that_answers_what_it_never_takes_is_hung_up_on() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("h2");
    let mut hostile = Hostile::doing("https", authority, move |wire| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(wire).await?;
            // There is no room for the body of any request that comes after this.
            stream.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await?;
            for request in [1, 3] {
                loop {
                    let mut seen = vec![0; 16 * 1024];
                    let count = stream.read(&mut seen).await?;
                    let begins = [0, 0, 0, request];
                    if count == 0 || seen[..count].windows(5).any(|bytes| bytes[1..] == begins) {
                        break;
                    }
                }
                stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, request.into(), &[0x88])).await?;
            }
            while stream.read(&mut [0; 16 * 1024]).await? > 0 {}
            Ok(())
        }
    })
    .await;
    let (sender, url) = (hostile.sender(), format!("https://localhost:{}/", hostile.receiver.address.port()));
    for _ in 0..2 {
        assert_eq!(send(&sender, &url).await.outcome, Outcome::Acknowledged { status: 200 });
    }
    timeout(SOON, hostile.closed.recv()).await.expect("it is kept for the sake of what it never takes");
}
