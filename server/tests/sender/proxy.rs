//! Proxies of both kinds, on the way to receivers of both kinds.

use std::io;

use http::{HeaderMap, HeaderValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
    sync::mpsc::UnboundedSender,
};

use super::{
    receiver::{Captured, read_head},
    *,
};

/// What a proxy was asked for: the address, and the credentials as `proxy-authorization`.
fn asked(address: String, credentials: Option<HeaderValue>) -> Captured {
    let headers: HeaderMap =
        credentials.into_iter().map(|value| (http::header::PROXY_AUTHORIZATION, value)).collect();
    Captured { request_line: address, headers, body: Vec::new() }
}

async fn serve_connect(mut stream: TcpStream, captured: UnboundedSender<Captured>) -> io::Result<()> {
    let (line, headers) = read_head(&mut stream).await?;
    let address = line.strip_prefix("CONNECT ").unwrap().strip_suffix(" HTTP/1.1").unwrap().to_owned();
    assert_eq!(headers["host"], address.as_str());
    captured.send(asked(address.clone(), headers.get("proxy-authorization").cloned())).unwrap();
    let mut receiver = TcpStream::connect(address).await?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\nvia: 1.1 test\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut receiver).await.map(drop)
}

async fn read_string(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes).unwrap())
}

/// Takes any credentials (RFC 1928, RFC 1929), but for the password `wrong`.
async fn serve_socks(mut stream: TcpStream, captured: UnboundedSender<Captured>) -> io::Result<()> {
    assert_eq!((stream.read_u8().await?, stream.read_u8().await?), (5, 1));
    let method = stream.read_u8().await?;
    stream.write_all(&[5, method]).await?;
    let mut credentials = None;
    if method == 2 {
        assert_eq!(stream.read_u8().await?, 1);
        let (user, password) = (read_string(&mut stream).await?, read_string(&mut stream).await?);
        if password == "wrong" {
            return stream.write_all(&[1, 1]).await;
        }
        stream.write_all(&[1, 0]).await?;
        credentials = Some(HeaderValue::try_from(format!("{user}:{password}")).unwrap());
    }
    let mut request = [0; 10];
    stream.read_exact(&mut request).await?;
    let [5, 1, 0, 1, a, b, c, d, high, low] = request else { panic!("{request:?} names no IPv4 address") };
    let address = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
    captured.send(asked(address.to_string(), credentials)).unwrap();
    let mut receiver = TcpStream::connect(address).await?;
    stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).await?;
    copy_bidirectional(&mut stream, &mut receiver).await.map(drop)
}

fn sender_through(proxy: &str, change: impl FnOnce(&mut Config)) -> HttpSender {
    sender_with(|config| {
        config.proxy = ProxyUrl::new(proxy);
        config.connect_timeout = Duration::from_secs(1);
        change(config);
    })
}

/// A proxy that says this and no more.
async fn saying(answer: &'static [u8]) -> Receiver {
    Receiver::serving(move |mut stream, _| async move {
        stream.read_u8().await?;
        stream.write_all(answer).await?;
        std::future::pending().await
    })
    .await
}

#[tokio::test]
async fn requests_go_through_the_proxy_which_is_told_addresses_and_no_names() {
    let authority = Authority::new();
    let (file, acceptor) = (authority.file(), authority.acceptor("http/1.1"));
    for (scheme, credentials, expected) in [
        ("http", "", None),
        ("http", "us%40er:p%3Ass@", Some("Basic dXNAZXI6cDpzcw==")),
        ("socks5", "", None),
        ("socks5h", "user:pass@", Some("user:pass")),
    ] {
        let mut proxy = if scheme == "http" {
            Receiver::serving(serve_connect).await
        } else {
            Receiver::serving(serve_socks).await
        };
        let sender = sender_through(&format!("{scheme}://{credentials}{}", proxy.address), |config| {
            file.path().clone_into(&mut config.extra_ca_file);
        });
        for tls in [false, true] {
            let mut receiver = if tls {
                Receiver::answering_over_tls(acceptor.clone(), OK).await
            } else {
                Receiver::answering(OK).await
            };
            let port = receiver.address.port();
            let url = format!("{}://localhost:{port}/hook", if tls { "https" } else { "http" });
            for _ in 0..2 {
                let attempt = send(&sender, &url).await;
                assert_eq!(attempt.outcome, ACKNOWLEDGED, "{scheme} {url}");
                let request = receiver.request().await;
                assert_eq!(request.request_line, "POST /hook HTTP/1.1");
                assert_eq!(request.headers["host"], format!("localhost:{port}").as_str());
                assert!(!request.headers.contains_key("proxy-authorization"));
            }
            let asked = proxy.request().await;
            assert_eq!(asked.request_line, format!("127.0.0.1:{port}"));
            let told = asked.headers.get("proxy-authorization").map(|value| value.to_str().unwrap());
            assert_eq!(told, expected);
            assert_eq!(proxy.pending_requests(), 0, "the connection is used again");
        }
    }
}

#[tokio::test]
async fn a_receiver_that_must_not_be_sent_to_is_refused_also_with_a_proxy() {
    let proxy = Receiver::serving(serve_connect).await;
    let sender = sender_through(&format!("http://{}", proxy.address), |config| {
        config.allowed_networks = vec!["10.9.0.0/16".parse().unwrap()];
    });
    for host in ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254"] {
        let attempt = send(&sender, &format!("http://{host}/")).await;
        assert!(
            matches!(attempt.outcome, Outcome::Failed { failure: Failure::AddressRefused, .. }),
            "{host}: {:?}",
            attempt.outcome
        );
    }
    assert_eq!(proxy.pending_requests(), 0);
}

#[tokio::test]
async fn what_is_exempt_is_sent_to_straight() {
    let proxy = Receiver::serving(serve_connect).await;
    let receiver = Receiver::answering(OK).await;
    for (entry, host) in
        [("localhost", "localhost"), ("127.0.0.0/8", "localhost"), ("127.0.0.1", "127.0.0.1")]
    {
        let sender = sender_through(&format!("http://{}", proxy.address), |config| {
            config.no_proxy = vec!["192.0.2.0/24".to_owned(), entry.to_owned()];
        });
        let attempt = send(&sender, &format!("http://{host}:{}/", receiver.address.port())).await;
        assert_eq!(attempt.outcome, ACKNOWLEDGED, "{entry}");
    }
    assert_eq!(proxy.pending_requests(), 0);
}

#[tokio::test]
async fn a_failure_says_that_it_was_the_proxy() {
    let receiver = Receiver::answering(OK).await;
    let connecting = "could not connect through the proxy: ";
    let endless: &[u8] =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(100_000)).into_bytes().into());
    for (scheme, answer, words) in [
        (
            "http",
            &b"HTTP/1.1 407 No\r\nproxy-authenticate: Basic\r\n\r\n"[..],
            "proxy authorization required",
        ),
        ("http", b"HTTP/1.1 403 Forbidden\r\n\r\n", "it answered `CONNECT` with 403"),
        ("http", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "it answered `CONNECT` with 502"),
        ("http", b"SSH-2.0-OpenSSH\r\n\r\n", "unsuccessful"),
        ("http", endless, "headers too long"),
        ("socks5", b"\x05\xff", "server does not support user/pass authentication"),
        ("socks5", b"\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", "not allowed"),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", "failed parsing server response"),
    ] {
        let proxy = saying(answer).await;
        let sender = sender_through(&format!("{scheme}://{}", proxy.address), |_| {});
        let attempt = send(&sender, &format!("http://{}/", receiver.address)).await;
        assert_failed(&attempt, Failure::Connect, connecting);
        assert_failed(&attempt, Failure::Connect, words);
    }

    let wrong = Receiver::serving(serve_socks).await;
    let sender = sender_through(&format!("socks5://user:wrong@{}", wrong.address), |_| {});
    let attempt = send(&sender, &format!("http://{}/", receiver.address)).await;
    assert_failed(&attempt, Failure::Connect, "credentials not accepted");
    assert!(!format!("{attempt:?}").contains("wrong"));

    let gone = sender_through(&format!("http://{}", nobody()), |_| {});
    let attempt = send(&gone, &format!("http://{}/", receiver.address)).await;
    assert_failed(&attempt, Failure::Connect, "could not connect through the proxy: connection refused");
    assert_eq!(receiver.pending_requests(), 0);
}

#[tokio::test]
async fn a_proxy_that_says_nothing_has_the_time_of_a_connection() {
    let receiver = Receiver::answering(OK).await;
    for scheme in ["http", "socks5"] {
        let proxy = saying(b"").await;
        let sender = sender_through(&format!("{scheme}://{}", proxy.address), |config| {
            config.connect_timeout = Duration::from_millis(300);
        });
        let attempt = send(&sender, &format!("http://{}/", receiver.address)).await;
        assert_failed(&attempt, Failure::Timeout, "timed out while connecting through the proxy");
        assert!(attempt.timings.total < Duration::from_secs(5));
    }
}
