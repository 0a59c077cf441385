//! gRPC-Web: calls from browsers, over HTTP/1.1 and from the pages of other origins.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use postrider_integration_tests::{Kind, TestApp, send_http1};
use postrider_proto::v1 as pb;
use postrider_server::grpc::auth::{KeyHash, draw_token};
use prost::Message;

#[tokio::test]
async fn a_browser_publishes_by_grpc_web_over_http_1() {
    let app = TestApp::start(Kind::Sqlite).await;
    let message = publish("{\"from\": \"a browser\"}").encode_to_vec();
    let answer = send_http1(app.grpc, web_call("application/grpc-web+proto", frame(&message))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/grpc-web+proto");
    let (messages, trailers) = frames(answer.into_body());
    let published = pb::PublishEventResponse::decode(messages[0].clone()).unwrap().published.unwrap();
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    let stored = app.client.events().get(&published.event).await.unwrap();
    assert_eq!(stored.data, "{\"from\": \"a browser\"}");

    let text = STANDARD.encode(frame(&message)).into();
    let answer = send_http1(app.grpc, web_call("application/grpc-web-text+proto", text)).await;
    // Each frame is encoded and padded by itself.
    let body: Vec<_> = answer.into_body().chunks(4).flat_map(|four| STANDARD.decode(four).unwrap()).collect();
    let (messages, trailers) = frames(body.into());
    assert!(pb::PublishEventResponse::decode(messages[0].clone()).unwrap().published.is_some());
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    app.stop().await;
}

#[tokio::test]
async fn a_browser_learns_why_its_call_was_refused() {
    let token = draw_token();
    let hash = KeyHash::of(&token);
    let app =
        TestApp::builder(Kind::Sqlite).await.with(|config| config.auth.key_hashes = vec![hash]).start().await;
    let stranger = web_call("application/grpc-web+proto", frame(&publish("{}").encode_to_vec()));
    assert_eq!(status_of(send_http1(app.grpc, stranger).await), "16");
    let with_token = |data: &str| {
        let mut call = web_call("application/grpc-web+proto", frame(&publish(data).encode_to_vec()));
        call.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        call
    };
    assert_eq!(status_of(send_http1(app.grpc, with_token("{")).await), "3");
    assert_eq!(status_of(send_http1(app.grpc, with_token("{}")).await), "0");
    app.stop().await;
}

#[tokio::test]
async fn pages_of_configured_origins_may_call_and_no_others() {
    const OURS: &str = "https://console.example.com";
    let open = TestApp::builder(Kind::Sqlite)
        .await
        .with(|config| {
            config.grpc.web_origins = vec![OURS.to_owned(), "http://localhost:3000".to_owned()];
            // A browser asks without a token whether it may call with one.
            config.auth.key_hashes = vec![KeyHash::of("token")];
        })
        .start()
        .await;
    let closed = TestApp::start(Kind::Sqlite).await;
    let preflight = |origin: &str| {
        Request::builder()
            .method(Method::OPTIONS)
            .uri("/postrider.v1.EventService/PublishEvent")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,x-grpc-web,x-user-agent")
            .body(Bytes::new())
            .unwrap()
    };
    let header = |response: &Response<Bytes>, name: &str| {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_ascii_lowercase())
    };
    for origin in [OURS, "http://localhost:3000"] {
        let answer = send_http1(open.grpc, preflight(origin)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(&answer, "access-control-allow-origin").as_deref(), Some(origin));
        assert_eq!(header(&answer, "access-control-allow-methods").as_deref(), Some("post"));
        let headers = header(&answer, "access-control-allow-headers").unwrap();
        for name in ["authorization", "content-type", "x-grpc-web", "x-user-agent"] {
            assert!(headers.split(',').any(|allowed| allowed.trim() == name), "{name}: {headers}");
        }
        let mut call = web_call("application/grpc-web+proto", frame(&publish("{}").encode_to_vec()));
        call.headers_mut().insert("origin", origin.parse().unwrap());
        call.headers_mut().insert("authorization", "Bearer token".parse().unwrap());
        let answer = send_http1(open.grpc, call).await;
        assert_eq!(header(&answer, "access-control-allow-origin").as_deref(), Some(origin));
        let exposed = header(&answer, "access-control-expose-headers").unwrap();
        assert!(exposed.contains("grpc-status") && exposed.contains("grpc-message"), "{exposed}");
        let refused = send_http1(closed.grpc, preflight(origin)).await;
        assert_eq!(header(&refused, "access-control-allow-origin"), None);
    }
    for origin in [
        "https://evil.example",
        "https://console.example.com.evil.example",
        "http://console.example.com",
        "null",
    ] {
        let answer = send_http1(open.grpc, preflight(origin)).await;
        assert_eq!(header(&answer, "access-control-allow-origin"), None, "{origin}");
    }
    open.stop().await;
    closed.stop().await;
}

fn publish(data: &str) -> pb::PublishEventRequest {
    let event = pb::Event { r#type: "a.b".to_owned(), data: data.to_owned().into(), ..pb::Event::default() };
    pb::PublishEventRequest {
        parent: "tenants/default".to_owned(),
        event: Some(event),
        request_id: String::new(),
    }
}

/// `PublishEvent` as a page calls it.
fn web_call(content_type: &str, body: Bytes) -> Request<Bytes> {
    Request::post("/postrider.v1.EventService/PublishEvent")
        .header("content-type", content_type)
        .header("accept", content_type)
        .header("x-grpc-web", "1")
        .body(body)
        .unwrap()
}

/// A message behind its five bytes: no compression, and the length.
fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().unwrap());
    frame.put_slice(message);
    frame.freeze()
}

/// The messages of an answer, and its trailers, which gRPC-Web sends as a last frame with the highest bit set.
fn frames(mut body: Bytes) -> (Vec<Bytes>, String) {
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    while !body.is_empty() {
        let head = body.split_to(5);
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let content = body.split_to(length.try_into().unwrap());
        match head[0] {
            0 => messages.push(content),
            0x80 => trailers.push_str(std::str::from_utf8(&content).unwrap()),
            flag => panic!("a frame of kind {flag}"),
        }
    }
    (messages, trailers)
}

/// Where there is no message, the status stands in the headers.
fn status_of(answer: Response<Bytes>) -> String {
    if let Some(status) = answer.headers().get("grpc-status") {
        return status.to_str().unwrap().to_owned();
    }
    let (_, trailers) = frames(answer.into_body());
    let status = trailers.lines().find_map(|line| line.strip_prefix("grpc-status:"));
    status.unwrap_or_else(|| panic!("no status in {trailers}")).trim().to_owned()
}
