//! The process of the hostile receivers: a port for each kind.

use std::{collections::BTreeMap, io, io::Write, sync::Arc, time::Duration};

use flate2::{Compression, write::GzEncoder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{Failure, helper};

/// No connection is kept longer, should the server keep it that long.
const LIMIT: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_secs(1);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// What a receiver does.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A body without end, as fast as it is read.
    EndlessBody,
    /// A body, one byte a second.
    TrickledBody,
    /// A head, one byte a second.
    TrickledHead,
    /// Headers without end.
    EndlessHeaders,
    /// One header without end.
    EndlessHeader,
    /// Interim answers without end.
    InterimFlood,
    /// A body that unpacks to a thousand times its size, and has no end either.
    CompressedBomb,
    /// A chunk said to be larger than any machine.
    HugeChunk,
    /// A body that is shorter than it was said to be.
    ShortBody,
    /// Bytes that are not HTTP.
    Garbage,
    /// The connection is reset as soon as it is open.
    ResetAtOnce,
    /// It is reset when the request has been read.
    ResetAfterRequest,
    /// It is reset within the head.
    ResetInHead,
    /// It is reset within the body.
    ResetInBody,
    /// The request is not read and nothing is said.
    NeverReads,
    /// The request is read and nothing is said.
    NeverAnswers,
    /// Redirects to itself.
    Redirects,
    /// `https`: the handshake is never answered.
    SilentTls,
    /// `https`: the handshake is answered by what is not TLS.
    GarbageTls,
}

const KINDS: [Kind; 19] = [
    Kind::EndlessBody,
    Kind::TrickledBody,
    Kind::TrickledHead,
    Kind::EndlessHeaders,
    Kind::EndlessHeader,
    Kind::InterimFlood,
    Kind::CompressedBomb,
    Kind::HugeChunk,
    Kind::ShortBody,
    Kind::Garbage,
    Kind::ResetAtOnce,
    Kind::ResetAfterRequest,
    Kind::ResetInHead,
    Kind::ResetInBody,
    Kind::NeverReads,
    Kind::NeverAnswers,
    Kind::Redirects,
    Kind::SilentTls,
    Kind::GarbageTls,
];

/// Says where each kind is, and serves until the process ends.
pub(crate) async fn serve() -> Result<(), Failure> {
    helper::end_with_parent();
    let mut urls = BTreeMap::new();
    let mut serving = JoinSet::new();
    let bomb: Arc<[u8]> = chunk(&bomb()?).into();
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let scheme = if matches!(kind, Kind::SilentTls | Kind::GarbageTls) { "https" } else { "http" };
        urls.insert(kind.name(), format!("{scheme}://{}/hook", listener.local_addr()?));
        serving.spawn(accept(listener, kind, Arc::clone(&bomb)));
    }
    helper::say(&urls)?;
    while let Some(ended) = serving.join_next().await {
        ended??;
    }
    Ok(())
}

async fn accept(listener: TcpListener, kind: Kind, bomb: Arc<[u8]>) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        connections.spawn(timeout(LIMIT, misbehave(stream, kind, Arc::clone(&bomb))));
        while connections.try_join_next().is_some() {}
    }
}

async fn misbehave(mut stream: TcpStream, kind: Kind, bomb: Arc<[u8]>) -> io::Result<()> {
    match kind {
        Kind::ResetAtOnce => return stream.set_zero_linger(),
        Kind::NeverReads | Kind::SilentTls => {
            sleep(LIMIT).await;
            return Ok(());
        }
        _ => {}
    }
    if stream.read(&mut [0; 16 * 1024]).await? == 0 {
        return Ok(());
    }
    match kind {
        Kind::EndlessBody => {
            stream.write_all(CHUNKED).await?;
            repeat(&mut stream, &chunk(&[b'x'; 16 * 1024])).await
        }
        Kind::TrickledBody => {
            stream.write_all(OK).await?;
            stream.write_all(b"content-length: 1000000\r\n\r\n").await?;
            trickle(&mut stream, &[b'x'; 100]).await
        }
        Kind::TrickledHead => trickle(&mut stream, OK).await,
        Kind::EndlessHeaders => {
            stream.write_all(OK).await?;
            repeat(&mut stream, b"x-header: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").await
        }
        Kind::EndlessHeader => {
            stream.write_all(OK).await?;
            stream.write_all(b"x-header: ").await?;
            repeat(&mut stream, &[b'a'; 16 * 1024]).await
        }
        Kind::InterimFlood => repeat(&mut stream, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await,
        Kind::CompressedBomb => {
            stream.write_all(OK).await?;
            stream.write_all(b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            repeat(&mut stream, &bomb).await
        }
        Kind::HugeChunk => {
            stream.write_all(CHUNKED).await?;
            stream.write_all(b"7fffffffffffffff\r\n").await?;
            repeat(&mut stream, &[b'x'; 16 * 1024]).await
        }
        Kind::ShortBody => {
            stream.write_all(OK).await?;
            stream.write_all(b"content-length: 1000\r\n\r\nshort").await?;
            stream.shutdown().await
        }
        Kind::Garbage | Kind::GarbageTls => repeat(&mut stream, b"\0\xff\x01garbage\r\n\r\n\x80").await,
        Kind::ResetInHead => reset_after(stream, b"HTTP/1.1 200 OK\r\ncontent-le").await,
        Kind::ResetInBody => {
            reset_after(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf").await
        }
        Kind::Redirects => {
            stream.write_all(b"HTTP/1.1 307 x\r\nlocation: /hook\r\ncontent-length: 0\r\n\r\n").await
        }
        Kind::NeverAnswers => {
            sleep(LIMIT).await;
            Ok(())
        }
        Kind::ResetAtOnce | Kind::ResetAfterRequest | Kind::NeverReads | Kind::SilentTls => {
            stream.set_zero_linger()
        }
    }
}

/// Writes the same again and again, until nobody reads any more.
async fn repeat(stream: &mut TcpStream, what: &[u8]) -> io::Result<()> {
    loop {
        stream.write_all(what).await?;
    }
}

/// Writes a byte a second, and then waits.
async fn trickle(stream: &mut TcpStream, what: &[u8]) -> io::Result<()> {
    for byte in what {
        stream.write_all(&[*byte]).await?;
        sleep(TICK).await;
    }
    sleep(LIMIT).await;
    Ok(())
}

async fn reset_after(mut stream: TcpStream, what: &[u8]) -> io::Result<()> {
    stream.write_all(what).await?;
    // Time to be read: a reset takes back what is on its way.
    sleep(Duration::from_millis(20)).await;
    stream.set_zero_linger()
}

/// What it is called in reports: `EndlessBody` is `endless_body`.
impl Kind {
    fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

/// A chunk of a chunked body.
fn chunk(data: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// Sixteen mebibytes of zeros, packed.
fn bomb() -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..1024 {
        encoder.write_all(&[0; 16 * 1024])?;
    }
    encoder.finish()
}
