//! The sender against receivers of all kinds, over real sockets.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use postrider_server::{
    clock::{Clock, SystemClock},
    dispatch::Sender,
    domain::{
        attempt::{Attempt, AttemptNumber, Failure, Outcome},
        claim::{Claim, Target},
        event::{Attributes, Event, EventContent, Payload},
        event_type::EventType,
        handling::Handling,
        id::{DeliveryId, EventId, SubscriptionId, SubscriptionUid, TenantId},
        secret::{SecretInForce, SecretSet, SigningSecret},
        settings::Settings,
        subscription::Pace,
        target_url::TargetUrl,
        timestamp::Timestamp,
        trace_context::TraceContext,
    },
    sender::{BuildError, Config, HttpSender, ProxyUrl},
};

mod authentication;
mod certificates;
mod check;
mod hostile;
mod own_tls;
mod proxy;
mod receiver;
mod token;

use certificates::Authority;
use receiver::Receiver;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const SECRET: [u8; 32] = [7; 32];

fn claim(url: &str) -> Claim {
    claim_with(url, Settings::default())
}

fn claim_with(url: &str, settings: Settings) -> Claim {
    let now = SystemClock.now();
    let tenant = TenantId::parse("default").unwrap();
    let secret = SecretInForce::current(SigningSecret::from_bytes(SECRET.to_vec()));
    let event = Event {
        id: EventId::new(now),
        tenant: tenant.clone(),
        request_id: None,
        content: EventContent {
            event_type: EventType::parse("order.created").unwrap(),
            source: String::new(),
            subject: String::new(),
            time: None,
            payload: Payload::parse(
                Bytes::from_static("{\"id\": 1.0, \"to\": \"Zürich\"}".as_bytes()),
                "",
                100,
            )
            .unwrap(),
            attributes: Attributes::default(),
            handling: Handling::default(),
        },
        trace: None,
        created_at: now,
    };
    let target = Target {
        uid: SubscriptionUid::new(now),
        tenant,
        id: SubscriptionId::parse("orders").unwrap(),
        url: TargetUrl::parse(url).unwrap(),
        secrets: SecretSet::newest_first(vec![secret]),
        pace: Pace::default(),
        suspected: false,
        recovered_at: None,
        revision: 1,
        settings: Some(Arc::new(settings)),
    };
    Claim {
        delivery: DeliveryId::new(now),
        attempt: AttemptNumber::FIRST,
        event: Arc::new(event),
        target: Arc::new(target),
        leased_until: now + Duration::from_mins(1),
        previous_span: None,
        probe: None,
    }
}

/// May send to this machine, in the clear too. Trusts an authority of its own, so that the system need not have any.
fn sender_with(change: impl FnOnce(&mut Config)) -> HttpSender {
    let authority = Authority::new().file();
    let mut config = Config {
        allow_http: true,
        allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
        extra_ca_file: authority.path().to_owned(),
        ..Config::default()
    };
    change(&mut config);
    assert_eq!(config.validate(), Ok(()));
    HttpSender::new(&config).unwrap()
}

fn sender() -> HttpSender {
    sender_with(|_| {})
}

fn hasty_sender() -> HttpSender {
    sender_with(|config| {
        config.timeout = Duration::from_millis(300);
        config.connect_timeout = Duration::from_millis(300);
    })
}

async fn send(sender: &HttpSender, url: &str) -> Attempt {
    sender.send(&claim(url), None, SystemClock.now()).await
}

async fn send_to(receiver: &Receiver) -> Attempt {
    send(&sender(), &format!("http://{}/hook", receiver.address)).await
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// What an attempt came to at a receiver that answers like this.
async fn answered(answer: &str) -> Attempt {
    send_to(&Receiver::answering(answer).await).await
}

#[track_caller]
fn assert_failed(attempt: &Attempt, expected: Failure, words: &str) {
    match &attempt.outcome {
        Outcome::Failed { failure, message } => {
            assert_eq!(*failure, expected, "{message}");
            assert!(message.contains(words), "{message}");
            assert!(message.starts_with(|first: char| first.is_lowercase()), "{message}");
        }
        outcome => panic!("{outcome:?}"),
    }
}

fn rejected(status: u16, retry_after: Option<Duration>) -> Outcome {
    Outcome::Rejected { status, retry_after }
}

const ACKNOWLEDGED: Outcome = Outcome::Acknowledged { status: 200 };

mod what_is_sent {
    use super::*;

    #[tokio::test]
    async fn the_official_library_verifies_it() {
        let mut receiver = Receiver::answering(OK).await;
        let claim = claim(&format!("http://{}/a/b?token=x", receiver.address));
        let trace =
            TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1").unwrap();
        let attempt = sender().send(&claim, Some(&trace), SystemClock.now()).await;
        assert_eq!(attempt.outcome, ACKNOWLEDGED);

        let request = receiver.request().await;
        assert_eq!(request.request_line, "POST /a/b?token=x HTTP/1.1");
        let judge = standardwebhooks::Webhook::from_bytes(SECRET.to_vec()).unwrap();
        judge.verify(&request.body, &request.headers).unwrap();
        assert_eq!(request.headers["webhook-id"], claim.event.id.to_string().as_str());
        assert_eq!(request.headers["traceparent"], trace.traceparent());
        assert_eq!(request.headers["tracestate"], "a=1");
        assert_eq!(request.headers["accept-encoding"], "identity");
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["host"], receiver.address.to_string().as_str());
        let mut names: Vec<_> = request.headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = "accept accept-encoding content-length content-type host traceparent tracestate user-agent \
                        webhook-id webhook-signature webhook-timestamp";
        assert_eq!(names.join(" "), expected);
        let expected = format!(
            "{{\"type\":\"order.created\",\"timestamp\":\"{}\",\"data\":{{\"id\": 1.0, \"to\": \"Zürich\"}}}}",
            claim.event.created_at
        );
        assert_eq!(String::from_utf8(request.body).unwrap(), expected);
    }

    #[tokio::test]
    async fn the_attempt_is_recorded_without_the_query() {
        let receiver = Receiver::answering(OK).await;
        let (sender, now) = (sender(), Timestamp::from_micros(1_732_186_800_000_000));
        let claim = self::claim(&format!("http://{}/hook?token=s3cret", receiver.address));
        let attempt = sender.send(&claim, None, now).await;
        assert_eq!(attempt.number, AttemptNumber::FIRST);
        assert_eq!(attempt.started_at, now);
        assert_eq!(attempt.target_url, format!("http://{}/hook", receiver.address));
        assert_eq!(attempt.span, None);

        let nowhere = self::claim(&format!("http://{}/hook?token=s3cret", nobody()));
        let failed = sender.send(&nowhere, None, now).await;
        assert!(matches!(failed.outcome, Outcome::Failed { .. }));
        assert!(!format!("{attempt:?}{failed:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn without_a_secret_nothing_is_sent() {
        let receiver = Receiver::answering(OK).await;
        let mut claim = claim(&format!("http://{}/", receiver.address));
        claim.target = Arc::new(Target {
            uid: claim.target.uid,
            tenant: claim.target.tenant.clone(),
            id: claim.target.id.clone(),
            url: claim.target.url.clone(),
            secrets: SecretSet::newest_first(Vec::new()),
            pace: Pace::default(),
            suspected: false,
            recovered_at: None,
            revision: 1,
            settings: Some(Settings::plain()),
        });
        let attempt = sender().send(&claim, None, SystemClock.now()).await;
        assert_failed(&attempt, Failure::Internal, "no signing secret");
        assert_eq!(receiver.pending_requests(), 0);
    }
}

mod what_comes_back {
    use super::*;

    #[tokio::test]
    async fn a_2xx_acknowledges_and_the_response_is_kept() {
        let attempt = answered("HTTP/1.1 201 Made\r\nX-One: 1\r\nset-cookie: a\r\nX-\u{54}wo: \u{e4}\r\ncontent-length: 4\r\n\r\ndone").await;
        assert_eq!(attempt.outcome, Outcome::Acknowledged { status: 201 });
        let response = attempt.response.unwrap();
        assert_eq!(response.status, 201);
        assert_eq!(response.body, "done");
        assert!(!response.truncated);
        let names: Vec<_> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-one", "set-cookie", "x-two", "content-length"]);
        assert_eq!(response.headers[2].1, "ä");

        let attempt = answered("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(attempt.outcome, Outcome::Acknowledged { status: 204 });
        let response = attempt.response.unwrap();
        assert!(response.body.is_empty() && !response.truncated);
    }

    #[tokio::test]
    async fn other_statuses_reject() {
        for status in [400, 404, 410, 500] {
            let attempt = answered(&format!("HTTP/1.1 {status} No\r\ncontent-length: 2\r\n\r\nno")).await;
            assert_eq!(attempt.outcome, rejected(status, None));
            assert_eq!(attempt.response.unwrap().body, "no");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let mut elsewhere = Receiver::answering(OK).await;
        for status in [301, 302, 307, 308] {
            let location = format!("http://{}/", elsewhere.address);
            let attempt = answered(&format!(
                "HTTP/1.1 {status} Go\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
            ))
            .await;
            assert_eq!(attempt.outcome, rejected(status, None));
            assert_eq!(attempt.response.unwrap().headers[0], ("location".to_owned(), location));
        }
        assert_eq!(elsewhere.pending_requests(), 0);
        send_to(&elsewhere).await;
        elsewhere.request().await;
    }

    #[tokio::test]
    async fn the_receiver_may_ask_for_a_wait() {
        let second = Duration::from_secs(1);
        let busy = |status: u16, wait: &str| {
            format!("HTTP/1.1 {status} Busy\r\nretry-after: {wait}\r\ncontent-length: 0\r\n\r\n")
        };
        assert_eq!(answered(&busy(429, "7")).await.outcome, rejected(429, Some(7 * second)));
        assert_eq!(answered(&busy(503, "0")).await.outcome, rejected(503, Some(Duration::ZERO)));
        assert_eq!(answered(&busy(500, "7")).await.outcome, rejected(500, None));

        let receiver = Receiver::answering(busy(429, "Wed, 21 Oct 2015 07:29:00 GMT")).await;
        let now = Timestamp::from_micros(1_445_412_480_000_000);
        let claim = claim(&format!("http://{}/", receiver.address));
        match sender().send(&claim, None, now).await.outcome {
            Outcome::Rejected { status: 429, retry_after: Some(wait) } => {
                assert!(wait <= 60 * second && wait > 45 * second, "{wait:?}");
            }
            outcome => panic!("{outcome:?}"),
        }
    }

    #[tokio::test]
    async fn a_body_is_kept_up_to_the_limit() {
        let kept = |length: usize| async move {
            let receiver = Receiver::answering(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}",
                "x".repeat(length)
            ))
            .await;
            let attempt = send_to(&receiver).await;
            assert_eq!(attempt.outcome, ACKNOWLEDGED);
            let response = attempt.response.unwrap();
            (response.body.len(), response.truncated)
        };
        assert_eq!(kept(16_383).await, (16_383, false));
        assert_eq!(kept(16_384).await, (16_384, false));
        assert_eq!(kept(16_385).await, (16_384, true));
        assert_eq!(kept(1_000_000).await, (16_384, true));
    }

    #[tokio::test]
    async fn a_chunked_body_is_put_together() {
        let attempt =
            answered("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
                .await;
        let response = attempt.response.unwrap();
        assert_eq!((&response.body[..], response.truncated), (&b"abc"[..], false));
    }

    #[tokio::test]
    async fn an_interim_response_is_passed_over() {
        let attempt = answered(&format!("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n{OK}")).await;
        assert_eq!(attempt.outcome, ACKNOWLEDGED);
    }
}

mod hostile_receivers {
    use super::*;

    #[tokio::test]
    async fn one_that_says_nothing_times_out() {
        let receiver = Receiver::stalling_after(b"").await;
        let began = Instant::now();
        let attempt = send(&hasty_sender(), &format!("http://{}/", receiver.address)).await;
        assert_failed(&attempt, Failure::Timeout, "while waiting for the response");
        assert_eq!(attempt.response, None);
        assert_eq!(attempt.timings.first_byte, None);
        assert!(attempt.timings.connect.unwrap() < Duration::from_millis(300));
        assert!(attempt.timings.total >= Duration::from_millis(300));
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn one_that_stalls_in_the_body_times_out_and_what_came_is_kept() {
        let receiver = Receiver::stalling_after(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart").await;
        let attempt = send(&hasty_sender(), &format!("http://{}/", receiver.address)).await;
        assert_failed(&attempt, Failure::Timeout, "while reading the response");
        assert!(attempt.timings.first_byte.unwrap() < attempt.timings.total);
        let response = attempt.response.unwrap();
        assert_eq!((response.status, &response.body[..]), (200, &b"part"[..]));
        assert!(response.truncated);
    }

    #[tokio::test]
    async fn one_that_hangs_up_in_the_body_has_given_its_status() {
        for receiver in [
            Receiver::resetting_after(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart").await,
            Receiver::serving(|mut stream, _| async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                stream.read_u8().await?;
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n")
                    .await?;
                stream.shutdown().await
            })
            .await,
        ] {
            let attempt = send_to(&receiver).await;
            assert_eq!(attempt.outcome, ACKNOWLEDGED);
            assert!(attempt.response.unwrap().truncated);
        }
    }

    #[tokio::test]
    async fn one_that_does_not_speak_http_is_a_protocol_failure() {
        for beginning in
            [&b"SSH-2.0-OpenSSH_9.9\r\n\r\n"[..], b"HTTP/1.1 20", b"", b"\0\0\0\0\0\0\0\0\r\n\r\n"]
        {
            let receiver = Receiver::resetting_after(beginning).await;
            assert_failed(&send_to(&receiver).await, Failure::Protocol, "the exchange broke off: ");
        }
    }

    #[tokio::test]
    async fn large_headers_are_kept_up_to_a_limit() {
        let attempt = answered(&format!(
            "HTTP/1.1 200 OK\r\nx-a: 1\r\nx-b: {}\r\ncontent-length: 0\r\n\r\n",
            "b".repeat(50_000)
        ))
        .await;
        assert_eq!(attempt.outcome, ACKNOWLEDGED);
        assert_eq!(attempt.response.unwrap().headers, [("x-a".to_owned(), "1".to_owned())]);
    }

    #[tokio::test]
    async fn one_that_is_not_there_is_a_connect_failure() {
        let attempt = send(&sender(), &format!("http://{}/", nobody())).await;
        assert_failed(&attempt, Failure::Connect, "could not connect: connection refused");
        assert!(attempt.timings.connect.is_some());
        assert_eq!(attempt.timings.dns, None);
        assert_eq!(attempt.response, None);
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_looked_up_is_a_dns_failure() {
        // Longer than a label may be, so that no name server needs to be asked.
        let url = format!("http://{}.example/", "a".repeat(64));
        let attempt = send(&sender(), &url).await;
        assert_failed(&attempt, Failure::Dns, "could not look up the host: ");
        assert!(attempt.timings.dns.is_some());
        assert_eq!(attempt.timings.connect, None);
    }
}

mod the_address_guard {
    use super::*;

    #[tokio::test]
    async fn a_refused_literal_is_not_connected_to() {
        let receiver = Receiver::answering(OK).await;
        let sender = sender_with(|config| config.allowed_networks.clear());
        let port = receiver.address.port();
        for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "2130706433"] {
            let attempt = send(&sender, &format!("http://{host}:{port}/")).await;
            assert_failed(&attempt, Failure::AddressRefused, "loopback");
        }
        assert_eq!(receiver.pending_requests(), 0);
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_connected_to() {
        let receiver = Receiver::answering(OK).await;
        let url = format!("http://localhost:{}/", receiver.address.port());
        let elsewhere = sender_with(|config| config.allowed_networks = vec!["10.0.0.0/8".parse().unwrap()]);
        assert_failed(&send(&elsewhere, &url).await, Failure::AddressRefused, "localhost");
        assert_eq!(receiver.pending_requests(), 0);
        assert_eq!(send(&sender(), &url).await.outcome, ACKNOWLEDGED);
    }

    #[tokio::test]
    async fn http_is_refused_unless_allowed() {
        let receiver = Receiver::answering(OK).await;
        let sender = sender_with(|config| config.allow_http = false);
        let attempt = send(&sender, &format!("http://{}/", receiver.address)).await;
        assert_failed(&attempt, Failure::AddressRefused, "`http`");
        assert_eq!(receiver.pending_requests(), 0);
    }
}

mod phases {
    use super::*;

    fn sender_trusting(authority: &Authority) -> HttpSender {
        let file = authority.file();
        sender_with(|config| {
            file.path().clone_into(&mut config.extra_ca_file);
            config.connect_timeout = Duration::from_millis(500);
        })
    }

    #[tokio::test]
    async fn over_tls_all_are_told_and_on_a_reused_connection_none() {
        let authority = Authority::new();
        let receiver = Receiver::answering_over_tls(authority.acceptor("http/1.1"), OK).await;
        let sender = sender_trusting(&authority);
        let url = format!("https://localhost:{}/", receiver.address.port());

        let attempt = send(&sender, &url).await;
        assert_eq!(attempt.outcome, ACKNOWLEDGED);
        let timings = attempt.timings;
        let (dns, connect, tls) = (timings.dns.unwrap(), timings.connect.unwrap(), timings.tls.unwrap());
        let first_byte = timings.first_byte.unwrap();
        assert!(dns + connect + tls <= first_byte && first_byte <= timings.total, "{timings:?}");
        assert!(!tls.is_zero() && !connect.is_zero() && !dns.is_zero(), "{timings:?}");

        let again = send(&sender, &url).await;
        assert_eq!(again.outcome, ACKNOWLEDGED);
        assert_eq!((again.timings.dns, again.timings.connect, again.timings.tls), (None, None, None));
        assert!(again.timings.first_byte.is_some());
    }

    #[tokio::test]
    async fn http_2_is_spoken_where_the_receiver_does() {
        let authority = Authority::new();
        let mut receiver =
            Receiver::answering_over_http2(authority.acceptor("h2"), vec![b'x'; 1_000_000]).await;
        let claim = claim(&format!("https://localhost:{}/hook", receiver.address.port()));
        let sender = sender_trusting(&authority);
        for reused in [false, true] {
            let attempt = sender.send(&claim, None, SystemClock.now()).await;
            assert_eq!(attempt.outcome, ACKNOWLEDGED);
            assert_eq!(attempt.timings.tls.is_none(), reused);
            let response = attempt.response.unwrap();
            assert_eq!((response.body.len(), response.truncated), (16_384, true));
            let request = receiver.request().await;
            assert_eq!(request.request_line, "POST /hook HTTP/2.0");
            let judge = standardwebhooks::Webhook::from_bytes(SECRET.to_vec()).unwrap();
            judge.verify(&request.body, &request.headers).unwrap();
        }
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        let authority = Authority::new();
        let receiver = Receiver::answering_over_tls(authority.acceptor("http/1.1"), OK).await;
        let attempt = send(&sender_trusting(&authority), &format!("https://{}/", receiver.address)).await;
        assert_eq!(attempt.outcome, ACKNOWLEDGED);
        assert_eq!(attempt.timings.dns, None);
        assert!(attempt.timings.connect.is_some() && attempt.timings.tls.is_some());
    }

    #[tokio::test]
    async fn in_the_clear_there_is_no_handshake() {
        let receiver = Receiver::answering(OK).await;
        let attempt = send(&sender(), &format!("http://localhost:{}/", receiver.address.port())).await;
        assert_eq!(attempt.outcome, ACKNOWLEDGED);
        assert!(attempt.timings.dns.is_some() && attempt.timings.connect.is_some());
        assert_eq!(attempt.timings.tls, None);
    }

    #[tokio::test]
    async fn a_certificate_of_an_unknown_authority_fails_the_handshake() {
        let receiver = Receiver::answering_over_tls(Authority::new().acceptor("http/1.1"), OK).await;
        let url = format!("https://localhost:{}/", receiver.address.port());
        let attempt = send(&sender_trusting(&Authority::new()), &url).await;
        assert_failed(&attempt, Failure::Tls, "the tls handshake failed: invalid peer certificate");
        let timings = attempt.timings;
        assert!(timings.dns.is_some() && timings.connect.is_some() && timings.tls.is_some());
        assert_eq!(timings.first_byte, None);
        assert_eq!(receiver.pending_requests(), 0);
    }

    #[tokio::test]
    async fn a_receiver_that_does_not_speak_tls_fails_the_handshake() {
        let sender = sender_trusting(&Authority::new());
        let plain = Receiver::serving(|mut stream, _| async move {
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
            std::future::pending().await
        })
        .await;
        let gone = Receiver::serving(|stream, _| async move { stream.set_zero_linger() }).await;
        for receiver in [plain, gone] {
            let attempt = send(&sender, &format!("https://{}/", receiver.address)).await;
            assert_failed(&attempt, Failure::Tls, "the tls handshake failed: ");
            assert!(attempt.timings.tls.is_some());
        }
    }

    #[tokio::test]
    async fn a_handshake_that_stalls_is_a_timeout_and_says_where() {
        let receiver = Receiver::serving(|stream, _| async move {
            let _open = stream;
            std::future::pending().await
        })
        .await;
        let sender = sender_trusting(&Authority::new());
        let attempt = send(&sender, &format!("https://{}/", receiver.address)).await;
        assert_failed(&attempt, Failure::Timeout, "timed out while waiting for the tls handshake");
        assert!(attempt.timings.connect.unwrap() < attempt.timings.tls.unwrap());
        assert!(attempt.timings.total < Duration::from_secs(5), "the connection has a timeout of its own");
    }
}

#[test]
fn a_file_without_certificates_is_refused_by_name() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let config = Config { extra_ca_file: empty.path().to_owned(), ..Config::default() };
    let error = HttpSender::new(&config).unwrap_err();
    assert!(matches!(error, BuildError::CaFile { .. }));
    assert!(error.to_string().starts_with("sender.extra_ca_file `"));
}
