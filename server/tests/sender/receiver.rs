//! A receiver that says on the wire just what a test tells it to.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Listens until it is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Captured>,
    _accepting: JoinSet<()>,
}

/// A request as it came.
pub(crate) struct Captured {
    pub(crate) request_line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Receiver {
    /// Does `serve` with each connection.
    #[expect(clippy::unused_async, reason = "needs a runtime, and begins like the others")]
    pub(crate) async fn serving<F, Served>(serve: F) -> Self
    where
        F: Fn(TcpStream, mpsc::UnboundedSender<Captured>) -> Served + Send + 'static,
        Served: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let (captured, requests) = mpsc::unbounded_channel();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, captured.clone()));
            }
        });
        Self { address, requests, _accepting: accepting }
    }

    /// Answers each request with these bytes, and keeps the connection.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::serving(move |stream, captured| keep_answering(stream, captured, Arc::clone(&answer))).await
    }

    /// The same over TLS.
    pub(crate) async fn answering_over_tls(acceptor: TlsAcceptor, answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::serving(move |stream, captured| {
            let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
            async move { keep_answering(accept(acceptor, stream).await?, captured, answer).await }
        })
        .await
    }

    /// Answers over HTTP/2, with 200 and this body.
    pub(crate) async fn answering_over_http2(acceptor: TlsAcceptor, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::serving(move |stream, captured| {
            let (acceptor, body) = (acceptor.clone(), body.clone());
            async move {
                let mut connection =
                    h2::server::handshake(accept(acceptor, stream).await?).await.map_err(io::Error::other)?;
                let mut answering = JoinSet::new();
                while let Some(next) = connection.accept().await {
                    let (request, answer) = next.map_err(io::Error::other)?;
                    answering.spawn(answer_over_http2(request, answer, captured.clone(), body.clone()));
                }
                Ok(())
            }
        })
        .await
    }

    /// Reads one request, sends these bytes, and says no more.
    pub(crate) async fn stalling_after(beginning: &'static [u8]) -> Self {
        Self::serving(move |mut stream, _| async move {
            read_request(&mut stream).await?;
            stream.write_all(beginning).await?;
            std::future::pending().await
        })
        .await
    }

    /// Reads one request, sends these bytes and resets the connection.
    pub(crate) async fn resetting_after(beginning: &'static [u8]) -> Self {
        Self::serving(move |mut stream, _| async move {
            read_request(&mut stream).await?;
            stream.write_all(beginning).await?;
            stream.set_zero_linger()
        })
        .await
    }

    /// The next request that it was sent.
    pub(crate) async fn request(&mut self) -> Captured {
        self.requests.recv().await.unwrap()
    }

    /// How many more requests it has been sent.
    pub(crate) fn pending_requests(&self) -> usize {
        self.requests.len()
    }
}

/// With little room in the kernel, so that what is written was also read, but for a little.
fn listen() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(16 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(128).unwrap()
}

/// Begins TLS. One who is refused is listened to until they hang up, so that what we said is not lost in a reset.
async fn accept(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, mut stream)) => {
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            Err(error)
        }
    }
}

async fn keep_answering(
    mut stream: impl Stream,
    captured: mpsc::UnboundedSender<Captured>,
    answer: Arc<[u8]>,
) -> io::Result<()> {
    loop {
        let request = read_request(&mut stream).await?;
        let _nobody_asks = captured.send(request);
        stream.write_all(&answer).await?;
        stream.flush().await?;
    }
}

async fn answer_over_http2(
    request: http::Request<h2::RecvStream>,
    mut answer: h2::server::SendResponse<Bytes>,
    captured: mpsc::UnboundedSender<Captured>,
    body: Bytes,
) -> Result<(), h2::Error> {
    let (head, mut sent) = request.into_parts();
    let mut request = Captured {
        request_line: format!("{} {} {:?}", head.method, head.uri.path(), head.version),
        headers: head.headers,
        body: Vec::new(),
    };
    while let Some(part) = sent.data().await {
        request.body.extend_from_slice(&part?);
    }
    let _nobody_asks = captured.send(request);
    answer.send_response(http::Response::new(()), false)?.send_data(body, true)
}

pub(crate) async fn read_request(stream: &mut impl Stream) -> io::Result<Captured> {
    let (request_line, headers) = read_head(stream).await?;
    let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Captured { request_line, headers, body })
}

pub(crate) async fn read_head(stream: &mut impl Stream) -> io::Result<(String, HeaderMap)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let request_line = lines.next().unwrap().to_owned();
    let headers: HeaderMap = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap()))
        .fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        });
    Ok((request_line, headers))
}
