//! With a key configured, nobody calls without it; over TLS, nobody reads along.

use bytes::Bytes;
use http::{Request, StatusCode};
use postrider_integration_tests::{Kind, Raw, Receiver, Refusal, TestApp, an_event, send_http1};
use postrider_sdk::{Client, Reason, RetryPolicy};
use postrider_server::grpc::auth::{KeyHash, draw_token};
use prost::Message;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

/// All methods of all services, and whether they answer with a stream.
fn methods() -> Vec<(String, bool)> {
    let files = [
        postrider_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut methods = Vec::new();
    for set in files {
        for file in prost_types::FileDescriptorSet::decode(set).unwrap().file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    methods.push((path, method.server_streaming()));
                }
            }
        }
    }
    methods
}

/// Calls a method with an empty message.
async fn call(raw: &Raw, path: &str, stream: bool, authorization: Option<&str>) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(raw.channel.clone());
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    let (path, codec) = (path.parse().unwrap(), ProstCodec::<(), ()>::default());
    if stream {
        let mut answers = grpc.server_streaming(request, path, codec).await?.into_inner();
        answers.message().await.map(drop)
    } else {
        grpc.unary(request, path, codec).await.map(drop)
    }
}

async fn app_with_keys(tokens: &[&str]) -> TestApp {
    let hashes = tokens.iter().map(|token| KeyHash::of(token)).collect();
    TestApp::builder(Kind::Sqlite).await.with(|config| config.auth.key_hashes = hashes).start().await
}

#[tokio::test]
async fn every_method_of_every_service_needs_a_key() {
    let (token, other) = (draw_token(), draw_token());
    let app = app_with_keys(&[&token, &other]).await;
    let raw = app.raw();
    let methods = methods();
    let services: std::collections::BTreeSet<_> =
        methods.iter().map(|(path, _)| path.split('/').nth(1).unwrap()).collect();
    assert_eq!(
        services.into_iter().collect::<Vec<_>>(),
        [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "postrider.v1.DeliveryService",
            "postrider.v1.EventService",
            "postrider.v1.EventTypeService",
            "postrider.v1.SubscriptionService",
        ]
    );
    let wrong = draw_token();
    for (path, stream) in &methods {
        for bad in [
            None,
            Some(String::new()),
            Some(format!("Bearer {wrong}")),
            Some(format!("Bearer {token}x")),
            Some("Bearer ".to_owned()),
            Some(token.clone()),
            Some(format!("Basic {token}")),
            Some(format!("Bearer {}", KeyHash::of(&token))),
        ] {
            let refused = call(&raw, path, *stream, bad.as_deref()).await.unwrap_err();
            let expected = Refusal::new(Code::Unauthenticated, "UNAUTHENTICATED");
            assert_eq!(Refusal::from(&refused), expected, "{path} with {bad:?}");
            assert!(!format!("{refused:?}").contains(&wrong), "a token is not repeated");
        }
        for good in [format!("Bearer {token}"), format!("bearer {other}")] {
            let answer = call(&raw, path, *stream, Some(&good)).await;
            let code = answer.err().map_or(Code::Ok, |status| status.code());
            // An empty message names nothing; but it has come past the door.
            assert!(matches!(code, Code::Ok | Code::InvalidArgument), "{path}: {code:?}");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn a_method_that_there_is_not_needs_a_key_too() {
    let token = draw_token();
    let app = app_with_keys(&[&token]).await;
    for path in ["/postrider.v1.EventService/Nothing", "/nothing.Nothing/Nothing"] {
        let refused = call(&app.raw(), path, false, None).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{path}");
        let unknown = call(&app.raw(), path, false, Some(&format!("Bearer {token}"))).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unimplemented, "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn the_sdk_presents_its_token_in_every_call() {
    let token = draw_token();
    let app = app_with_keys(&[&token]).await;
    let receiver = Receiver::start().await;
    let url = format!("http://{}", app.grpc);
    let with = |token: &str| {
        let client = Client::builder(&url).with_token(token).with_retry(RetryPolicy::never());
        client.connect_lazy().unwrap()
    };
    for stranger in [app.client.clone(), with("prk_wrong")] {
        let refused = stranger.publish(an_event()).await.unwrap_err();
        assert!(refused.is_unauthenticated(), "{refused}");
        assert_eq!(refused.reason(), Some(&Reason::Unauthenticated));
        let publisher = stranger.publisher();
        let ack = publisher.publish(an_event()).await.unwrap();
        assert!(ack.await.unwrap_err().is_unauthenticated());
        publisher.close().await.unwrap();
    }
    let client = with(&token);
    let new = postrider_sdk::Subscription::to(receiver.url()).event_types(["**"]);
    client.subscriptions().create(new).await.unwrap();
    for way in crate::ways::Way::ALL {
        way.publish(&client, an_event()).await.unwrap();
    }
    app.run_until_idle().await;
    assert_eq!(client.deliveries().list().items().collect().await.unwrap().len(), 3);
    app.stop().await;
}

#[tokio::test]
async fn the_http_port_needs_no_key() {
    let app = app_with_keys(&[&draw_token()]).await;
    app.tick().await;
    app.look().await.unwrap();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let request = Request::get(path).body(Bytes::new()).unwrap();
        assert_eq!(send_http1(app.http, request).await.status(), StatusCode::OK, "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn with_a_certificate_calls_are_taken_over_tls_only() {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let token = draw_token();
    let app = TestApp::builder(Kind::Sqlite)
        .await
        .with(|config| {
            config.grpc.tls_certificate = config.data.dir.join("certificate.pem");
            config.grpc.tls_key = config.data.dir.join("key.pem");
            config.auth.key_hashes = vec![KeyHash::of(&token)];
            std::fs::write(&config.grpc.tls_certificate, own.cert.pem()).unwrap();
            std::fs::write(&config.grpc.tls_key, own.signing_key.serialize_pem()).unwrap();
        })
        .start()
        .await;
    let trusting = |authority: String| {
        Client::builder(format!("https://{}", app.grpc))
            .with_ca_certificate_pem(authority)
            .with_token(&token)
            .with_retry(RetryPolicy::never())
    };
    let client = trusting(own.cert.pem()).connect().await.unwrap();
    for way in crate::ways::Way::ALL {
        way.publish(&client, an_event()).await.unwrap();
    }
    let distrustful = trusting(other.cert.pem()).connect().await.unwrap_err();
    assert!(distrustful.is_unavailable() && distrustful.to_string().contains("certificate"), "{distrustful}");
    let plain = app.client.publish(an_event()).await.unwrap_err();
    assert!(plain.is_unavailable(), "{plain}");
    drop(client);
    app.stop().await;
}
