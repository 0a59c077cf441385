//! What is published is stored, matched and delivered.

use std::time::Duration;

use postrider_integration_tests::{Raw, Receiver, Refusal, Refused, TestApp, an_event, on_both_databases};
use postrider_proto::v1::{self as pb, publish_result::Result as Answer};
use postrider_sdk::{Code, Event, Reason, Subscription};
use time::macros::datetime;
use tokio_stream::StreamExt;
use tonic::codec::CompressionEncoding;

use crate::ways::Way;

/// JSON that no parser would write like this.
const ODD_JSON: &str =
    " {\"b\" : 1.10,\n\t\"a\":12345678901234567890123, \"u\": \"\\u00e4ä\u{1F600}\", \"b\": 2 } \r\n";

on_both_databases! {
    async fn what_is_published_is_stored_byte_for_byte(kind: Kind) {
        let app = TestApp::start(kind).await;
        let every_byte: Vec<u8> = (0..=255).collect();
        for way in Way::ALL {
            for (data, content_type) in [
                (ODD_JSON.as_bytes().to_vec(), "application/vnd.api+json; charset=utf-8"),
                (every_byte.clone(), "application/octet-stream"),
                (Vec::new(), "text/plain"),
            ] {
                let event = an_event().data(data.clone(), content_type);
                let published = way.publish(&app.client, event).await.unwrap();
                let stored = app.client.events().get(&published.event).await.unwrap();
                assert_eq!(stored.data, data, "{way:?}");
                assert_eq!(stored.data_content_type, content_type);
            }
        }
        app.stop().await;
    }

    async fn everything_that_is_said_of_an_event_is_kept(kind: Kind) {
        let app = TestApp::start(kind).await;
        let when = datetime!(1969-12-31 23:59:59.123456 UTC);
        for way in Way::ALL {
            let event = Event::new("Order.line_item-2.created")
                .source("shop/Zürich")
                .subject("orders/17")
                .time(when)
                .attributes([("region", "eu"), ("empty", ""), ("a.b-c_D", "√ \"quoted\"")])
                .request_id(format!("{way:?}"));
            let published = way.publish(&app.client, event).await.unwrap();
            let stored = app.client.events().get(published.event_id()).await.unwrap();
            assert_eq!(stored.name, published.event);
            assert_eq!(stored.event_type, "Order.line_item-2.created");
            assert_eq!(stored.source.as_deref(), Some("shop/Zürich"));
            assert_eq!(stored.subject.as_deref(), Some("orders/17"));
            assert_eq!(stored.time, when);
            assert_eq!(stored.attributes.len(), 3);
            assert_eq!(stored.attributes["a.b-c_D"], "√ \"quoted\"");
            assert_eq!(stored.request_id, Some(format!("{way:?}")));
            assert_eq!(stored.created_at, published.created_at);
        }
        app.stop().await;
    }

    async fn an_event_without_a_time_happened_when_it_was_accepted(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        app.advance(Duration::from_millis(1_250));
        let published = app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(published.created_at, datetime!(2026-01-01 00:00:01.25 UTC));
        assert_eq!(app.client.events().get(&published.event).await.unwrap().time, published.created_at);
        assert_eq!(receiver.requests()[0].envelope()["timestamp"], "2026-01-01T00:00:01.25Z");
        app.stop().await;
    }

    async fn one_bad_event_does_not_fail_its_neighbours(kind: Kind) {
        let app = TestApp::start(kind).await;
        app.client.publish(an_event().request_id("used")).await.unwrap();
        for way in [Way::Batch, Way::Stream] {
            let results = way
                .publish_all(
                    &app.client,
                    [
                        an_event().subject("first"),
                        Event::new("order..created"),
                        an_event().data("{", "application/json"),
                        an_event().subject("other").request_id("used"),
                        an_event().request_id("with space"),
                        an_event().subject("last"),
                    ],
                )
                .await;
            for (index, subject) in [(0, "first"), (5, "last")] {
                let published = results[index].as_ref().unwrap();
                let stored = app.client.events().get(&published.event).await.unwrap();
                assert_eq!(stored.subject.as_deref(), Some(subject));
            }
            for (index, field) in [(1, "event.type"), (2, "event.data"), (4, "request_id")] {
                let error = results[index].as_ref().unwrap_err();
                assert_eq!(error.code(), Code::InvalidArgument, "{way:?}: {error}");
                assert_eq!(error.reason(), Some(&Reason::InvalidField));
                let fields: Vec<_> = error.field_violations().iter().map(|wrong| &wrong.field).collect();
                assert_eq!(fields, [field], "{way:?}");
            }
            assert_eq!(results[3].as_ref().unwrap_err().reason(), Some(&Reason::RequestIdReused));
        }
        app.stop().await;
    }

    async fn a_batch_takes_ten_thousand_events_and_not_one_more(kind: Kind) {
        let app = TestApp::start(kind).await;
        let mut request = batch(10_001);
        let refused = app.raw().events.publish_events(request.clone()).await;
        assert_eq!(refused.refusal(), Refusal::invalid("items"));
        let none = app.client.events().list().page().await.unwrap();
        assert!(none.items.is_empty(), "a batch that is refused leaves nothing behind");
        request.items.pop();
        let answer = app.raw().events.publish_events(request).await.unwrap().into_inner();
        assert_eq!(answer.results.len(), 10_000);
        let names: Vec<_> = answer.results.iter().map(|result| &published(result).event).collect();
        assert!(names.is_sorted(), "ids are in the order of the batch");
        let last = app.client.events().get(names[9_999]).await.unwrap();
        assert_eq!(last.subject.as_deref(), Some("9999"));
        app.stop().await;
    }

    async fn an_empty_batch_is_refused(kind: Kind) {
        let app = TestApp::start(kind).await;
        let refused = app.raw().events.publish_events(batch(0)).await;
        assert_eq!(refused.refusal(), Refusal::invalid("items"));
        app.stop().await;
    }

    async fn a_stream_is_answered_in_its_order(kind: Kind) {
        let app = TestApp::start(kind).await;
        // More than the server holds without an answer.
        let answers = stream(&app.raw(), (0..1_500).map(|nth| line("tenants/default", nth))).await;
        let indexes: Vec<_> = answers.iter().map(|answer| answer.index).collect();
        assert_eq!(indexes, (0..1_500).collect::<Vec<_>>());
        let names: Vec<_> =
            answers.iter().map(|answer| &published(answer.result.as_ref().unwrap()).event).collect();
        assert!(names.is_sorted());
        let last = app.client.events().get(names[1_499]).await.unwrap();
        assert_eq!(last.subject.as_deref(), Some("1499"));
        app.stop().await;
    }

    async fn a_message_of_a_stream_without_a_tenant_means_the_one_before(kind: Kind) {
        let app = TestApp::start(kind).await;
        let parents = ["", "tenants/acme", "", "other", "", "tenants/other", ""];
        let answers =
            stream(&app.raw(), parents.into_iter().zip(0..).map(|(parent, nth)| line(parent, nth))).await;
        // After a name that is refused, the one before is no longer meant.
        for refused in [0, 3, 4] {
            let error = refusal(answers[refused].result.as_ref().unwrap());
            assert_eq!(error.reason(), pb::ErrorReason::InvalidField);
            assert_eq!(error.field_violations[0].field, "parent");
        }
        for (index, tenant) in [(1, "acme"), (2, "acme"), (5, "other"), (6, "other")] {
            let event = &published(answers[index].result.as_ref().unwrap()).event;
            assert!(event.starts_with(&format!("tenants/{tenant}/events/")), "{index}: {event}");
        }
        app.stop().await;
    }

    async fn an_event_goes_to_every_subscription_whose_patterns_match(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let subscribe = async |id: &str, patterns: &[&str]| {
            let url = format!("http://{}/{id}", receiver.address());
            let new = Subscription::to(url).event_types(patterns.to_vec()).id(id);
            app.client.subscriptions().create(new).await.unwrap();
        };
        subscribe("exact", &["order.created"]).await;
        subscribe("one", &["order.*"]).await;
        subscribe("any", &["order.**"]).await;
        subscribe("middle", &["order.*.paid"]).await;
        subscribe("end", &["**.paid"]).await;
        subscribe("all", &["**"]).await;
        subscribe("several", &["invoice.*", "order.created", "order.*"]).await;
        for (event_type, expected) in [
            ("order", &["all", "any"][..]),
            ("order.created", &["all", "any", "exact", "one", "several"]),
            ("order.line.paid", &["all", "any", "end", "middle"]),
            ("order.line.item.paid", &["all", "any", "end"]),
            ("paid", &["all", "end"]),
            ("invoice.paid", &["all", "end", "several"]),
            ("orders.created", &["all"]),
            ("Order.created", &["all"]),
        ] {
            let published = app.client.publish(Event::new(event_type)).await.unwrap();
            app.run_until_idle().await;
            let requests = receiver.requests();
            let mut reached: Vec<_> = requests
                .iter()
                .filter(|request| request.webhook_id() == published.event_id())
                .map(|request| request.path.trim_start_matches('/'))
                .collect();
            reached.sort_unstable();
            assert_eq!(reached, expected, "{event_type}");
            assert_eq!(published.delivery_count as usize, expected.len());
            let stored = app.client.events().get(&published.event).await.unwrap();
            assert_eq!(stored.delivery_count as usize, expected.len());
        }
        app.stop().await;
    }

    async fn an_event_stays_within_its_tenant(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        let published = app.client.tenant("acme").publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(published.delivery_count, 0);
        assert!(receiver.requests().is_empty());
        assert!(published.event.starts_with("tenants/acme/events/"), "the tenant came into being");
        app.stop().await;
    }

    async fn data_may_be_as_large_as_the_limit(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        let data = format!("\"{}\"", "x".repeat((1 << 20) - 2));
        for (nth, way) in Way::ALL.into_iter().enumerate() {
            let event = an_event().data(data.clone(), "application/json");
            let published = way.publish(&app.client, event).await.unwrap();
            app.run_until_idle().await;
            assert_eq!(app.client.events().get(&published.event).await.unwrap().data, data);
            let body = &receiver.requests()[nth].body;
            assert!(body.ends_with(format!("\"data\":{data}}}").as_bytes()));
        }
        app.stop().await;
    }

    async fn a_request_may_be_compressed(kind: Kind) {
        let app = TestApp::start(kind).await;
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
            let request = tonic::Request::new(batch(1_000));
            let mut rpc =
                app.raw().events.send_compressed(encoding).accept_compressed(CompressionEncoding::Gzip);
            let answer = rpc.publish_events(request).await.unwrap();
            assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), "gzip");
            assert_eq!(answer.into_inner().results.len(), 1_000);
        }
        app.stop().await;
    }

    async fn an_event_keeps_the_trace_of_the_call_or_its_own(kind: Kind) {
        const CALL: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        const ITEM: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        let mut items = batch(2);
        ITEM.clone_into(&mut items.items[1].traceparent);
        "vendor=1".clone_into(&mut items.items[1].tracestate);
        let mut request = tonic::Request::new(items);
        request.metadata_mut().insert("traceparent", CALL.parse().unwrap());
        let answer = app.raw().events.publish_events(request).await.unwrap().into_inner();
        app.run_until_idle().await;
        for (result, expected) in answer.results.iter().zip([CALL, ITEM]) {
            let event = app.client.events().get(&published(result).event).await.unwrap();
            assert_eq!(event.traceparent.as_deref(), Some(expected));
            let requests = receiver.requests();
            let request = requests.iter().find(|request| request.webhook_id() == event.id()).unwrap();
            assert_eq!(request.header("traceparent"), expected);
            assert_eq!(request.headers.contains_key("tracestate"), expected == ITEM);
        }
        app.stop().await;
    }

    async fn a_malformed_trace_context_fails_neither_its_event_nor_its_neighbours(kind: Kind) {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        let contexts = [
            (PARENT, "a=\0"),
            (PARENT, "a=1\r\nx-evil: 1"),
            (PARENT, "ä=ö"),
            (PARENT, &"a=1,".repeat(1_000)),
            ("\0", "a=1"),
            ("", ""),
        ];
        let mut request = batch(contexts.len());
        for (item, (parent, state)) in request.items.iter_mut().zip(contexts) {
            (item.traceparent, item.tracestate) = (parent.to_owned(), state.to_owned());
        }
        let answer = app.raw().events.publish_events(request).await.unwrap().into_inner();
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), contexts.len());
        for (result, (parent, _)) in answer.results.iter().zip(contexts) {
            let event = app.client.events().get(&published(result).event).await.unwrap();
            assert_eq!(event.traceparent.as_deref(), (parent == PARENT).then_some(PARENT));
        }
        assert!(receiver.requests().iter().all(|request| !request.headers.contains_key("tracestate")));
        app.stop().await;
    }
}

/// This many events, which tell their place in `subject`.
fn batch(events: usize) -> pb::PublishEventsRequest {
    let items = (0..events).map(|nth| line("", nth).item.unwrap()).collect();
    pb::PublishEventsRequest { parent: "tenants/default".to_owned(), items }
}

/// One message of a stream.
fn line(parent: &str, nth: usize) -> pb::PublishEventStreamRequest {
    let event = pb::Event {
        r#type: "order.created".to_owned(),
        subject: nth.to_string(),
        data: "{}".into(),
        ..pb::Event::default()
    };
    let item = pb::PublishItem { event: Some(event), ..pb::PublishItem::default() };
    pb::PublishEventStreamRequest { parent: parent.to_owned(), item: Some(item) }
}

/// Sends all of it, and reads all answers.
async fn stream(
    raw: &Raw,
    requests: impl Iterator<Item = pb::PublishEventStreamRequest> + Send + 'static,
) -> Vec<pb::PublishEventStreamResponse> {
    let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
    let answers = raw.events.clone().publish_event_stream(requests).await.unwrap().into_inner();
    answers.map(Result::unwrap).collect().await
}

fn published(result: &pb::PublishResult) -> &pb::PublishedEvent {
    match result.result.as_ref().unwrap() {
        Answer::Published(published) => published,
        Answer::Error(error) => panic!("refused: {error:?}"),
    }
}

fn refusal(result: &pb::PublishResult) -> &pb::ItemError {
    match result.result.as_ref().unwrap() {
        Answer::Error(error) => error,
        Answer::Published(published) => panic!("not refused: {published:?}"),
    }
}
