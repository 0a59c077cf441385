//! Real OTLP, collected: from the producer's span to the receiver.

use postrider_integration_tests::{
    Collector, Kind, Process, ProcessBuilder, Receiver, Request, TestDatabase,
};
use postrider_proto::v1::{
    Event, PublishEventRequest, PublishEventStreamRequest, PublishItem,
    event_service_client::EventServiceClient,
};
use postrider_sdk::Subscription;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn event() -> Event {
    Event { r#type: "order.created".to_owned(), data: "{}".into(), ..Event::default() }
}

/// A client that sends what we tell it, and no trace of its own.
async fn raw_client(process: &Process) -> EventServiceClient<tonic::transport::Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(process.grpc.clone()).unwrap();
    EventServiceClient::new(endpoint.connect().await.unwrap())
}

/// The trace and the span that the receiver was given.
fn received(request: &Request) -> (String, String) {
    let parts: Vec<_> = request.header("traceparent").split('-').collect();
    assert_eq!(parts.len(), 4);
    (parts[1].to_owned(), parts[2].to_owned())
}

#[tokio::test]
async fn attempts_are_linked_to_the_publish_and_to_the_attempt_before_and_reach_the_receiver() {
    let database = TestDatabase::new(Kind::Sqlite).await;
    let (collector, receiver) = (Collector::start().await, Receiver::answering([503]).await);
    let process = ProcessBuilder::serve(&database)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)
        .with("POSTRIDER_RETRY_SCHEDULE", "50ms")
        .start()
        .await;
    let everything = Subscription::to(receiver.url()).event_types(["**"]);
    process.client().await.subscriptions().create(everything).await.unwrap();
    let mut client = raw_client(&process).await;
    let mut request = tonic::Request::new(PublishEventRequest {
        parent: "tenants/default".to_owned(),
        event: Some(event()),
        request_id: String::new(),
    });
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().unwrap());
    request.metadata_mut().insert("tracestate", "vendor=1".parse().unwrap());
    client.publish_event(request).await.unwrap();
    receiver.arrived(2).await;
    assert_eq!(process.stop().await.code, Some(0));

    let publish = collector.spans("postrider.v1.EventService/PublishEvent").remove(0);
    assert_eq!(publish.service, "postrider");
    assert_eq!((&*publish.trace_id, &*publish.parent_id), (TRACE, CALLER));
    let mut attempts = collector.spans("delivery.attempt");
    attempts.sort_by_key(|span| span.attributes.iter().find(|(key, _)| key == "attempt.number").cloned());
    let [first, second] = &attempts[..] else { panic!("{attempts:#?}") };
    let named = |span: &postrider_integration_tests::Span| (span.trace_id.clone(), span.span_id.clone());
    for attempt in [first, second] {
        assert_eq!((&*attempt.trace_id, &attempt.parent_id), (TRACE, &publish.span_id));
        assert!(attempt.links.contains(&named(&publish)), "{attempt:#?}");
    }
    assert_eq!(first.links.len(), 1);
    assert_eq!(second.links, [named(&publish), named(first)]);
    let requests = receiver.requests();
    assert_eq!(received(&requests[0]), named(first));
    assert_eq!(received(&requests[1]), named(second));
    assert_eq!(requests[0].header("tracestate"), "vendor=1");
}

#[tokio::test]
async fn an_event_on_a_stream_belongs_to_its_own_trace() {
    let database = TestDatabase::new(Kind::Sqlite).await;
    let (collector, receiver) = (Collector::start().await, Receiver::start().await);
    let process = ProcessBuilder::serve(&database)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)
        .start()
        .await;
    let everything = Subscription::to(receiver.url()).event_types(["**"]);
    process.client().await.subscriptions().create(everything).await.unwrap();
    let mut client = raw_client(&process).await;
    let item = PublishItem {
        event: Some(event()),
        traceparent: format!("00-{TRACE}-{CALLER}-01"),
        ..PublishItem::default()
    };
    let request = PublishEventStreamRequest { parent: "tenants/default".to_owned(), item: Some(item) };
    let answers = client.publish_event_stream(tokio_stream::iter([request])).await.unwrap();
    let mut answers = answers.into_inner();
    answers.message().await.unwrap().unwrap();
    assert!(answers.message().await.unwrap().is_none());
    receiver.arrived(1).await;
    assert_eq!(process.stop().await.code, Some(0));
    let publish = collector.spans("event.publish").remove(0);
    assert_eq!((&*publish.trace_id, &*publish.parent_id), (TRACE, CALLER));
    assert_eq!(received(&receiver.requests()[0]).0, TRACE);
}

#[tokio::test]
async fn without_a_collector_the_receiver_gets_what_the_producer_sent() {
    let database = TestDatabase::new(Kind::Sqlite).await;
    let receiver = Receiver::start().await;
    let process = ProcessBuilder::serve(&database).start().await;
    let everything = Subscription::to(receiver.url()).event_types(["**"]);
    process.client().await.subscriptions().create(everything).await.unwrap();
    let mut client = raw_client(&process).await;
    for traceparent in [Some(format!("00-{TRACE}-{CALLER}-01")), None] {
        let parent = "tenants/default".to_owned();
        let message = PublishEventRequest { parent, event: Some(event()), request_id: String::new() };
        let mut request = tonic::Request::new(message);
        if let Some(traceparent) = &traceparent {
            request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        }
        client.publish_event(request).await.unwrap();
    }
    receiver.arrived(2).await;
    assert_eq!(process.stop().await.code, Some(0));
    let given: Vec<_> = receiver.requests().iter().map(|r| r.headers.get("traceparent").cloned()).collect();
    assert!(given.contains(&Some(format!("00-{TRACE}-{CALLER}-01").parse().unwrap())), "{given:?}");
    assert!(given.contains(&None), "{given:?}");
}
