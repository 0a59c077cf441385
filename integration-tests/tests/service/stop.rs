//! A server that stops finishes what it has begun, and has kept what it acknowledged.

use std::{pin::pin, time::Duration};

use futures_util::future::join_all;
use postrider_integration_tests::{Receiver, Refusal, TestApp, an_event, on_both_databases};
use postrider_proto::v1 as pb;
use postrider_sdk::{RetryPolicy, model::DeliveryState};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

on_both_databases! {
    async fn attempts_under_way_are_finished_and_recorded(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let gate = receiver.gate();
        app.subscribe(&receiver).await;
        for _ in 0..3 {
            app.client.publish(an_event()).await.unwrap();
        }
        receiver.arrived(3).await;
        let mut health = HealthClient::new(app.raw().channel);
        let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        let next = app.another();
        {
            let mut stopping = pin!(app.stop());
            tokio::select! {
                () = &mut stopping => panic!("three attempts are under way"),
                () = async { while let Ok(Some(_)) = watch.message().await {} } => {}
            }
            gate.open();
            stopping.await;
        }
        let app = next.start().await;
        let deliveries = app.client.deliveries().list().items().collect().await.unwrap();
        assert_eq!(deliveries.len(), 3);
        for delivery in deliveries {
            assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Succeeded, 1));
        }
        app.stop().await;
    }

    async fn a_stream_that_waits_for_more_ends_with_unavailable(kind: Kind) {
        let app = TestApp::start(kind).await;
        let requests = tokio_stream::iter(std::iter::repeat_n(line(), 10)).chain(tokio_stream::pending());
        let mut answers = app.raw().events.publish_event_stream(requests).await.unwrap().into_inner();
        for index in 0..10 {
            assert_eq!(answers.next().await.unwrap().unwrap().index, index);
        }
        let silent = app.raw().events.publish_event_stream(tokio_stream::pending()).await.unwrap();
        let next = app.another();
        app.stop().await;
        for mut answers in [answers, silent.into_inner()] {
            let end = answers.next().await.unwrap().unwrap_err();
            assert_eq!(Refusal::from(&end), Refusal::new(Code::Unavailable, "SERVER_BUSY"));
        }
        let app = next.start().await;
        assert_eq!(app.client.events().list().items().collect().await.unwrap().len(), 10);
        app.stop().await;
    }

    async fn what_a_stream_has_acknowledged_is_stored_whatever_was_still_being_sent(kind: Kind) {
        let app = TestApp::start(kind).await;
        let endless = tokio_stream::iter(std::iter::repeat(line()));
        let mut answers = app.raw().events.publish_event_stream(endless).await.unwrap().into_inner();
        let mut acknowledged = vec![event_of(answers.next().await.unwrap().unwrap())];
        let next = app.another();
        // The status may get lost: the connection is closed while we are still sending.
        let read_to_the_end = async {
            while let Some(Ok(answer)) = answers.next().await {
                acknowledged.push(event_of(answer));
            }
        };
        tokio::join!(read_to_the_end, app.stop());
        let app = next.start().await;
        let stored = app.client.events().list().page_size(1_000).items().collect().await.unwrap();
        let mut stored: Vec<_> = stored.into_iter().map(|event| event.name).collect();
        stored.reverse();
        assert_eq!(acknowledged, stored[..acknowledged.len()], "they are the first, in their order");
        app.stop().await;
    }

    async fn a_publish_that_was_answered_with_ok_is_stored(kind: Kind) {
        let app = TestApp::start(kind).await;
        let next = app.another();
        let client = app.client.clone();
        let publishing = join_all((0..200).map(|nth| client.publish(an_event().subject(nth.to_string()))));
        let (results, ()) = tokio::join!(publishing, async {
            client.publish(an_event()).await.unwrap();
            app.stop().await;
        });
        let app = next.start().await;
        for result in results {
            match result {
                Ok(published) => drop(app.client.events().get(&published.event).await.unwrap()),
                Err(error) => assert!(error.is_unavailable(), "{error}"),
            }
        }
        app.stop().await;
    }

    async fn a_publisher_outlives_its_server_and_loses_and_repeats_nothing(kind: Kind) {
        const EVENTS: usize = 2_000;
        let app = TestApp::start(kind).await;
        let next = app.another().with(|config| config.grpc.listen = app.grpc);
        let patient = RetryPolicy::default()
            .with_max_tries(1_000)
            .with_backoff(Duration::from_millis(10), Duration::from_millis(50));
        let publisher = app.client.with_retry(patient).publisher().with_max_in_flight(100);
        let mut acks = Vec::new();
        for nth in 0..EVENTS / 2 {
            acks.push(publisher.publish(an_event().request_id(format!("r{nth}"))).await.unwrap());
        }
        let publish_the_rest = async {
            for nth in EVENTS / 2..EVENTS {
                acks.push(publisher.publish(an_event().request_id(format!("r{nth}"))).await.unwrap());
            }
        };
        let ((), app) = tokio::join!(publish_the_rest, async {
            app.stop().await;
            next.start().await
        });
        for ack in acks {
            ack.await.unwrap();
        }
        publisher.close().await.unwrap();
        let stored = app.client.events().list().page_size(1_000).items().collect().await.unwrap();
        assert_eq!(stored.len(), EVENTS);
        app.stop().await;
    }
}

/// One message of a stream.
fn line() -> pb::PublishEventStreamRequest {
    let event = pb::Event { r#type: "a.b".to_owned(), data: "{}".into(), ..pb::Event::default() };
    let item = pb::PublishItem { event: Some(event), ..pb::PublishItem::default() };
    pb::PublishEventStreamRequest { parent: "tenants/default".to_owned(), item: Some(item) }
}

fn event_of(answer: pb::PublishEventStreamResponse) -> String {
    match answer.result.unwrap().result.unwrap() {
        pb::publish_result::Result::Published(published) => published.event,
        pb::publish_result::Result::Error(error) => panic!("{error:?}"),
    }
}
