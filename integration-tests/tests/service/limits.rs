//! What callers can make the server keep has an end, and what has none is refused, not waited for.

use std::{net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use postrider_integration_tests::{Builder, Kind, Refusal, Refused, TestApp, an_event, send_http1};
use postrider_proto::v1 as pb;
use postrider_sdk::Event;
use sea_orm::{DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::ways::Way;

/// For what takes no time, on a machine that is busy.
const SOON: Duration = Duration::from_secs(20);

/// Waits until the server hangs up; returns what it said before.
async fn hung_up(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let _end_or_reset = timeout(SOON, stream.read_to_end(&mut said)).await.expect("the connection stands");
    said
}

/// How often a server has had no room for something.
async fn shed(app: &TestApp, what: &str) -> u64 {
    let request = http::Request::get("/metrics").body(bytes::Bytes::new()).unwrap();
    let metrics = send_http1(app.http, request).await.into_body();
    let counter = format!("postrider_shed_total{{what=\"{what}\"}} ");
    let text = std::str::from_utf8(&metrics).unwrap();
    text.lines().find_map(|line| line.strip_prefix(&counter)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let app =
        TestApp::builder(Kind::Sqlite).await.with(|config| config.grpc.max_connections = 1).start().await;
    app.client.publish(an_event()).await.unwrap();
    let second = TcpStream::connect(app.grpc).await.unwrap();
    assert!(hung_up(second).await.is_empty());
    assert_eq!(shed(&app, "connection").await, 1);
    app.client.publish(an_event()).await.unwrap();
    app.stop().await;
}

#[tokio::test]
async fn a_connection_that_does_not_begin_is_closed() {
    let impatient = Duration::from_millis(100);
    let app = TestApp::builder(Kind::Sqlite)
        .await
        .with(|config| config.grpc.handshake_timeout = impatient)
        .start()
        .await;
    for beginning in [&b""[..], b"PRI * HTTP/2.0\r\n", b"POST / HTTP/1.1\r\n"] {
        let mut stream = TcpStream::connect(app.grpc).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        assert!(hung_up(stream).await.is_empty());
    }
    assert_eq!(shed(&app, "connection").await, 0, "there was room for them");
    app.client.publish(an_event()).await.unwrap();
    app.stop().await;
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_end_is_broken_off() {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let app = TestApp::builder(Kind::Sqlite)
        .await
        .with(|config| {
            config.grpc.handshake_timeout = Duration::from_millis(100);
            config.grpc.tls_certificate = config.data.dir.join("certificate.pem");
            config.grpc.tls_key = config.data.dir.join("key.pem");
            std::fs::write(&config.grpc.tls_certificate, own.cert.pem()).unwrap();
            std::fs::write(&config.grpc.tls_key, own.signing_key.serialize_pem()).unwrap();
        })
        .start()
        .await;
    let mut stream = TcpStream::connect(app.grpc).await.unwrap();
    // The first part of a handshake record of 512 bytes.
    stream
        .write_all(&[&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 64]].concat())
        .await
        .unwrap();
    hung_up(stream).await;
    app.stop().await;
}

/// A server with room for two events of [`LARGE`] bytes of one tenant, and four in all; and as much for what arrives.
async fn small() -> TestApp {
    small_one().await.start().await
}

async fn small_one() -> Builder {
    TestApp::builder(Kind::Sqlite).await.with(|config| {
        config.grpc.max_data_bytes = LARGE;
        config.grpc.max_request_bytes = LARGE + (64 << 10);
        config.grpc.max_pending_bytes = 4 * config.grpc.max_request_bytes;
    })
}

const LARGE: usize = 60_000;

/// Holds back every commit until it is dropped.
async fn lock(app: &TestApp) -> DatabaseTransaction {
    let exclusive = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Exclusive),
        ..TransactionOptions::default()
    };
    app.database.connect().await.begin_with_options(exclusive).await.unwrap()
}

fn large() -> String {
    format!("\"{}\"", "x".repeat(LARGE - 2))
}

fn publish(tenant: &str) -> pb::PublishEventRequest {
    let event = pb::Event { r#type: "a.b".to_owned(), data: large().into(), ..pb::Event::default() };
    pb::PublishEventRequest {
        parent: format!("tenants/{tenant}"),
        event: Some(event),
        request_id: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_events_wait_for_too_long_is_refused_more_and_the_others_are_not() {
    let app = small().await;
    let events = app.raw().events;
    let publish = |tenant: &'static str| {
        let mut events = events.clone();
        async move { events.publish_event(publish(tenant)).await }
    };
    let lock = lock(&app).await;
    let mut three: FuturesUnordered<_> = ["default", "default", "default"].map(publish).into_iter().collect();
    // The others are waiting for their commit.
    let refused = three.next().await.unwrap();
    assert_eq!(refused.refusal(), Refusal::new(Code::ResourceExhausted, "SERVER_BUSY"));
    let details = refused.unwrap_err().get_error_details();
    assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    assert_eq!(shed(&app, "event").await, 1);

    let other = publish("other");
    let unlock = async { lock.rollback().await.unwrap() };
    let (other, (), rest) = tokio::join!(other, unlock, three.collect::<Vec<_>>());
    other.unwrap();
    assert_eq!(rest.len(), 2);
    for published in rest {
        published.unwrap();
    }
    for way in Way::ALL {
        way.publish(&app.client, an_event()).await.unwrap();
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_there_is_no_room_for_is_refused_as_a_whole() {
    let app = small().await;
    let events = app.raw().events;
    let publish = || {
        let mut events = events.clone();
        let pb::PublishEventRequest { parent, event, .. } = publish("default");
        let item = pb::PublishItem { event, ..pb::PublishItem::default() };
        let request = pb::PublishEventsRequest { parent, items: vec![item.clone(), item] };
        async move { events.publish_events(request).await }
    };
    let lock = lock(&app).await;
    let mut two: FuturesUnordered<_> = [publish(), publish()].into_iter().collect();
    let refused = two.next().await.unwrap();
    assert_eq!(refused.refusal(), Refusal::new(Code::ResourceExhausted, "SERVER_BUSY"));
    lock.rollback().await.unwrap();
    two.next().await.unwrap().unwrap();
    assert_eq!(app.client.events().list().page().await.unwrap().items.len(), 2);
    app.stop().await;
}

#[tokio::test]
async fn a_stream_waits_for_room_and_nothing_of_it_is_refused() {
    let app = small().await;
    let events = (0..9).map(|_| Event::new("a.b").json(&"x".repeat(LARGE - 2)).unwrap());
    for published in Way::Stream.publish_all(&app.client, events).await {
        published.unwrap();
    }
    assert_eq!(shed(&app, "event").await, 0);
    app.stop().await;
}

/// Begins a call and leaves it at that: a message of which there are `bytes` and to which some are missing.
async fn begin(grpc: SocketAddr, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(grpc).await.unwrap();
    let head = format!(
        "POST /postrider.v1.EventService/PublishEvent HTTP/1.1\r\nhost: {grpc}\r\n\
         content-type: application/grpc-web+proto\r\ncontent-length: {}\r\n\r\n",
        bytes + 6,
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[0]).await.unwrap();
    stream.write_all(&u32::try_from(bytes + 1).unwrap().to_be_bytes()).await.unwrap();
    stream.write_all(&vec![0; bytes]).await.unwrap();
    stream
}

#[tokio::test]
async fn requests_that_do_not_come_to_an_end_are_refused_when_there_is_no_more_room_for_them() {
    // On several, two of them may find no room at the same moment, each for what the other has brought.
    let app = small_one().await.on_one_thread().start().await;
    let mut calls = Vec::new();
    // Room for 245 KiB.
    for _ in 0..3 {
        calls.push(begin(app.grpc, 100 << 10).await);
    }
    let answered = async |call: &mut TcpStream| {
        let mut said = vec![0; 4_096];
        let length = timeout(SOON, call.read(&mut said)).await.expect("no answer").unwrap();
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    let mut waiting: FuturesUnordered<_> =
        calls.iter().enumerate().map(async |(nth, call)| call.readable().await.map(|()| nth)).collect();
    let nth = timeout(SOON, waiting.next()).await.expect("there was room").unwrap().unwrap();
    drop(waiting);
    let refused = answered(&mut calls.remove(nth)).await;
    assert!(refused.contains("grpc-status: 8"), "{refused}");
    assert_eq!(shed(&app, "request").await, 1);

    // The others come to an end, if only to be told that they make no sense.
    for call in &mut calls {
        call.write_all(&[0]).await.unwrap();
        assert!(answered(call).await.contains("grpc-status: 13"));
    }
    for way in Way::ALL {
        way.publish(&app.client, Event::new("a.b").json(&"x".repeat(LARGE - 2)).unwrap()).await.unwrap();
    }
    app.stop().await;
}

#[tokio::test]
async fn what_the_grpc_library_refuses_has_a_reason_too() {
    let app = small().await;
    let too_large = Refusal::new(Code::OutOfRange, "REQUEST_TOO_LARGE");
    let mut request = publish("default");
    request.event.as_mut().unwrap().data = vec![b' '; 200_000].into();
    let mut events = app.raw().events;
    assert_eq!(events.publish_event(request.clone()).await.refusal(), too_large);
    let item = pb::PublishItem { event: request.event, ..pb::PublishItem::default() };
    let message = pb::PublishEventStreamRequest { parent: request.parent, item: Some(item) };
    let stream = futures_util::stream::iter([message]);
    let mut answers = events.publish_event_stream(stream).await.unwrap().into_inner();
    assert_eq!(Refusal::from(&answers.message().await.unwrap_err()), too_large);

    let refusal = async |path: &str| {
        let request = http::Request::post(path)
            .header("content-type", "application/grpc-web+proto")
            .body(bytes::Bytes::from_static(b"\0\0\0\0\x02\xff\xff"))
            .unwrap();
        let answer = send_http1(app.grpc, request).await;
        Refusal::from(&tonic::Status::from_header_map(answer.headers()).unwrap())
    };
    let malformed = Refusal::new(Code::Internal, "MALFORMED_REQUEST");
    assert_eq!(refusal("/postrider.v1.EventService/PublishEvent").await, malformed);
    let not_there = Refusal::new(Code::Unimplemented, "NOT_IMPLEMENTED");
    assert_eq!(refusal("/postrider.v1.EventService/Nothing").await, not_there);
    assert_eq!(refusal("/nothing.v1.Service/Nothing").await, not_there);
    app.stop().await;
}
