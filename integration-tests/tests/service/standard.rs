//! What every service is expected to offer: health, reflection, and a port for orchestrators.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use postrider_integration_tests::{Kind, Receiver, TestApp, an_event, on_both_databases, send_http1};
use postrider_server::readiness::NotReady;
use prost::Message;
use tonic::{Code, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

const SERVICES: [&str; 4] = [
    "postrider.v1.DeliveryService",
    "postrider.v1.EventService",
    "postrider.v1.EventTypeService",
    "postrider.v1.SubscriptionService",
];

on_both_databases! {
    async fn health_tells_what_readiness_finds(kind: Kind) {
        let app = TestApp::start(kind).await;
        let mut health = HealthClient::new(app.raw().channel);
        let mut watches = Vec::new();
        for service in [&[""], &SERVICES[..]].concat() {
            let request = HealthCheckRequest { service: service.to_owned() };
            let mut watch = health.watch(request).await.unwrap().into_inner();
            assert_eq!(next(&mut watch).await, ServingStatus::NotServing, "{service}");
            watches.push((service, watch));
        }
        assert_eq!(app.look().await, Err(NotReady::Starting), "nothing was claimed yet");
        app.tick().await;
        assert_eq!(app.look().await, Ok(()));
        for (service, watch) in &mut watches {
            assert_eq!(next(watch).await, ServingStatus::Serving, "{service}");
            let request = HealthCheckRequest { service: (*service).to_owned() };
            let answer = health.check(request).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
        }
        app.advance(Duration::from_secs(11));
        assert_eq!(app.look().await, Err(NotReady::Claiming));
        for (service, watch) in &mut watches {
            assert_eq!(next(watch).await, ServingStatus::NotServing, "{service}");
        }
        app.tick().await;
        assert_eq!(app.look().await, Ok(()));
        for (service, watch) in &mut watches {
            assert_eq!(next(watch).await, ServingStatus::Serving, "{service}");
        }
        // Those who watch do not hold the server up.
        app.stop().await;
        for (_, watch) in &mut watches {
            while let Ok(Some(last)) = watch.message().await {
                assert_ne!(last.status(), ServingStatus::Serving);
            }
        }
    }

    async fn a_delivery_that_stays_unclaimed_though_there_is_room_makes_the_node_not_ready(kind: Kind) {
        // Nobody expects a claim before the delivery is found to be overdue.
        let app = TestApp::builder(kind).await.with(|config| config.dispatch.poll_interval = Duration::from_mins(1));
        let app = app.start().await;
        let receiver = Receiver::answering([500]).await;
        app.subscribe(&receiver).await;
        app.tick().await;
        app.client.publish(an_event()).await.unwrap();
        app.drain().await;
        app.advance(Duration::from_secs(4));
        assert_eq!(app.look().await, Ok(()), "its retry is due in a second");
        assert_eq!(app.metric("postrider_oldest_due_seconds").await, "0.0");
        app.advance(Duration::from_secs(6));
        assert_eq!(app.look().await, Ok(()));
        assert_eq!(app.metric("postrider_oldest_due_seconds").await, "5.0");
        app.advance(Duration::from_secs(80));
        assert_eq!(app.look().await, Ok(()), "the poll finds it within a minute, and has 20 s");
        app.advance(Duration::from_secs(4));
        assert_eq!(app.look().await, Err(NotReady::Overdue));
        app.run_until_idle().await;
        app.advance(Duration::from_secs(4));
        assert_eq!(app.look().await, Ok(()));
        assert_eq!(app.metric("postrider_oldest_due_seconds").await, "0.0");
        app.stop().await;
    }

    async fn what_cannot_be_claimed_does_not_make_a_node_not_ready(kind: Kind) {
        let app = TestApp::builder(kind).await.with(|config| {
            config.dispatch.max_in_flight = 2;
            config.dispatch.max_in_flight_per_tenant = 2;
            config.dispatch.max_in_flight_per_subscription = 1;
        });
        let app = app.start().await;
        let (slow, paused) = (Receiver::start().await, Receiver::start().await);
        let gate = slow.gate();
        app.subscribe(&slow).await;
        let pausable = app.subscribe(&paused).await.subscription.name;
        app.client.subscriptions().pause(&pausable).await.unwrap();
        app.client.publish(an_event()).await.unwrap();
        app.client.publish(an_event()).await.unwrap();
        slow.arrived(1).await;
        // One attempt is under way, and its subscription takes no more; all else is paused.
        for _ in 0..40 {
            app.advance(Duration::from_secs(4));
            app.tick().await;
            assert_eq!(app.look().await, Ok(()));
        }
        // It was paused for so long that all of this is old; but it moves.
        app.client.subscriptions().resume(&pausable).await.unwrap();
        app.advance(Duration::from_secs(4));
        assert_eq!(app.look().await, Ok(()));
        assert_ne!(app.metric("postrider_oldest_due_seconds").await, "0.0");
        gate.open();
        app.run_until_idle().await;
        app.stop().await;
    }

    async fn the_http_port_tells_of_life_readiness_and_metrics(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let get = async |path: &str| {
            let response = send_http1(app.http, Request::get(path).body(Bytes::new()).unwrap()).await;
            (response.status(), String::from_utf8(response.into_body().to_vec()).unwrap())
        };
        assert_eq!(get("/healthz").await.0, StatusCode::OK);
        assert_eq!(
            get("/readyz").await,
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting\n".to_owned())
        );
        app.tick().await;
        app.look().await.unwrap();
        assert_eq!(get("/readyz").await.0, StatusCode::OK);
        app.advance(Duration::from_secs(11));
        app.look().await.unwrap_err();
        let not_ready =
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: due deliveries are not being claimed\n".to_owned());
        assert_eq!(get("/readyz").await, not_ready);
        assert_eq!(get("/healthz").await.0, StatusCode::OK, "it lives all the same");
        assert_eq!(get("/nothing").await.0, StatusCode::NOT_FOUND);

        app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let (status, metrics) = get("/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(metrics.ends_with("# EOF\n"), "OpenMetrics: {metrics}");
        assert!(metrics.contains("postrider_"), "{metrics}");
        for id in ["evt_", "dlv_", "sub_"] {
            assert!(!metrics.contains(id), "ids are never labels");
        }
        app.stop().await;
    }
}

#[tokio::test]
async fn health_does_not_know_other_services() {
    let app = TestApp::start(Kind::Sqlite).await;
    let request = HealthCheckRequest { service: "nothing".to_owned() };
    let refused = HealthClient::new(app.raw().channel).check(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    app.stop().await;
}

#[tokio::test]
async fn reflection_shows_all_services_in_both_versions() {
    let app = TestApp::start(Kind::Sqlite).await;
    let channel = app.raw().channel;
    let host = String::new;
    let ask = |message_request| v1::ServerReflectionRequest {
        host: host(),
        message_request: Some(message_request),
    };
    let asked = tokio_stream::iter([
        ask(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        ask(v1::server_reflection_request::MessageRequest::FileContainingSymbol(SERVICES[1].to_owned())),
    ]);
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let listed = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(listed) = listed else {
        panic!("{listed:?}")
    };
    let mut newer: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    let found = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::FileDescriptorResponse(found) = found else {
        panic!("{found:?}")
    };
    let file = prost_types::FileDescriptorProto::decode(&*found.file_descriptor_proto[0]).unwrap();
    assert_eq!(file.name(), "postrider/v1/event_service.proto");

    let ask = v1alpha::ServerReflectionRequest {
        host: host(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    let listed = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(listed) = listed else {
        panic!("{listed:?}")
    };
    let mut older: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();

    for names in [&mut newer, &mut older] {
        names.retain(|name| !name.starts_with("grpc.reflection."));
        names.sort_unstable();
        assert_eq!(*names, [&["grpc.health.v1.Health"], &SERVICES[..]].concat());
    }
    app.stop().await;
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    watch.message().await.unwrap().unwrap().status()
}
