//! In what form callbacks come: bodies, methods, headers.

use cloudevents::{AttributesReader, Data, binding::http::to_event};
use percent_encoding::percent_decode_str;
use postrider_integration_tests::{Receiver, Request, TestApp, an_event, on_both_databases};
use postrider_sdk::{
    Event, Subscription,
    model::{BodyFormat, CloudEventsMode, Format, HeaderValue, Method},
    verify::Verifier,
};
use time::{OffsetDateTime, macros::datetime};

on_both_databases! {
    async fn raw_data_comes_as_it_was_published(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let secret = subscribe(&app, &receiver, Format::raw()).await;
        for (nth, (data, content_type, body, shown)) in [
            (&b" {\"b\" : 1.10}\r\n"[..], "application/json", &b" {\"b\" : 1.10}\r\n"[..], "application/json"),
            (b"\x00\xff", "image/png", b"\x00\xff", "image/png"),
            (b"a=1&b=%20", "application/x-www-form-urlencoded", b"a=1&b=%20", "application/x-www-form-urlencoded"),
            (b"", "text/plain", b"{}", "application/json"),
        ]
        .into_iter()
        .enumerate()
        {
            app.client.publish(an_event().data(data.to_vec(), content_type)).await.unwrap();
            app.run_until_idle().await;
            let request = &receiver.requests()[nth];
            assert_eq!(request.body, body);
            assert_eq!(request.header("content-type"), shown);
            verify(&app, &secret, request);
        }
        app.stop().await;
    }

    async fn a_binary_cloudevent_is_read_by_the_official_sdk(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let secret = subscribe(&app, &receiver, Format::cloud_events(CloudEventsMode::Binary)).await;
        let published = app.client.publish(full_event()).await.unwrap();
        app.run_until_idle().await;
        let request = &receiver.requests()[0];
        verify(&app, &secret, request);
        assert_eq!(request.body, DATA);
        assert_eq!(request.header("content-type"), "application/json");
        assert!(!request.headers.contains_key("ce-datacontenttype"));
        // That SDK does not decode headers.
        let subject = percent_decode_str(request.header("ce-subject")).decode_utf8().unwrap();
        assert_eq!(subject, "Zoë \"1 %\"");
        let event = to_event(&request.headers, request.body.to_vec()).unwrap();
        judge(&event, published.event_id());
        assert_eq!(event.data(), Some(&Data::Binary(DATA.as_bytes().to_vec())));
        app.stop().await;
    }

    async fn a_structured_cloudevent_is_read_by_the_official_sdk(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let secret = subscribe(&app, &receiver, Format::cloud_events(CloudEventsMode::Structured)).await;
        let published = app.client.publish(full_event()).await.unwrap();
        // Two that go at once arrive in any order.
        app.run_until_idle().await;
        app.client.publish(full_event().data(vec![0, 255], "image/png")).await.unwrap();
        app.run_until_idle().await;
        let requests = receiver.requests();
        for request in &requests {
            verify(&app, &secret, request);
            assert_eq!(request.header("content-type"), "application/cloudevents+json; charset=utf-8");
            assert!(request.headers.keys().all(|name| !name.as_str().starts_with("ce-")));
        }
        let [json, binary] = [0, 1].map(|nth| {
            let request: &Request = &requests[nth];
            to_event(&request.headers, request.body.to_vec()).unwrap()
        });
        judge(&json, published.event_id());
        assert_eq!(json.subject(), Some("Zoë \"1 %\""));
        assert_eq!(json.data(), Some(&Data::Json(serde_json::from_str(DATA).unwrap())));
        // As it was published, within the event.
        assert!(requests[0].body.windows(DATA.len()).any(|part| part == DATA.as_bytes()));
        assert_eq!(binary.datacontenttype(), Some("image/png"));
        assert_eq!(binary.data(), Some(&Data::Binary(vec![0, 255])));
        app.stop().await;
    }

    async fn a_retry_sends_the_same_cloudevent(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([500]).await;
        subscribe(&app, &receiver, Format::cloud_events(CloudEventsMode::Structured)).await;
        app.client.publish(full_event()).await.unwrap();
        app.run_until_idle().await;
        app.advance(std::time::Duration::from_secs(5));
        app.run_until_idle().await;
        let requests = receiver.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].body, requests[1].body);
        app.stop().await;
    }

    async fn the_method_and_further_headers_are_the_receivers_choice(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let format = Format::envelope()
            .method(Method::Put)
            .header("X-Version", "2 beta")
            .header("User-Agent", "Acme")
            .secret_header("X-Api-Key", "hidden");
        let secret = subscribe(&app, &receiver, format).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let request = &receiver.requests()[0];
        assert_eq!(request.method, http::Method::PUT);
        assert_eq!(request.header("x-version"), "2 beta");
        assert_eq!(request.header("user-agent"), "Acme");
        assert_eq!(request.header("x-api-key"), "hidden");
        assert_eq!(request.envelope()["type"], "order.created");
        verify(&app, &secret, request);

        // What is shown of a secret keeps it.
        let shown = app.client.subscriptions().get("formed").await.unwrap().format.unwrap();
        assert_eq!((&shown.body, shown.method), (&BodyFormat::Envelope, Method::Put));
        assert_eq!(shown.headers[2].name, "x-api-key");
        assert_eq!(shown.headers[2].value, HeaderValue::Kept);
        let changed = shown.clone().method(Method::Post).header("X-More", "1");
        app.client.subscriptions().update("formed").format(changed).await.unwrap();
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let request = &receiver.requests()[1];
        assert_eq!(request.method, http::Method::POST);
        assert_eq!((request.header("x-api-key"), request.header("x-more")), ("hidden", "1"));

        // But not for another name, and not once it is gone.
        let elsewhere = Format::raw().secret_header("X-Other", "********");
        let refused = app.client.subscriptions().update("formed").format(elsewhere).await.unwrap_err();
        assert_eq!(refused.field_violations()[0].field, "subscription.format.headers[0].value");
        app.client.subscriptions().update("formed").format(None).await.unwrap();
        assert_eq!(app.client.subscriptions().get("formed").await.unwrap().format, None);
        let refused = app.client.subscriptions().update("formed").format(shown).await.unwrap_err();
        assert_eq!(refused.field_violations()[0].field, "subscription.format.headers[2].value");
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let plain = &receiver.requests()[2];
        assert!(!plain.headers.contains_key("x-api-key"));
        app.stop().await;
    }
}

const DATA: &str = "{\"order\": {\"id\": 17, \"price\": 1.10}}";

/// An event that says everything that a `CloudEvent` can.
fn full_event() -> Event {
    Event::new("order.created")
        .source("https://shop.example/orders")
        .subject("Zoë \"1 %\"")
        .time(datetime!(2026-02-03 04:05:06.25 UTC))
        .attribute("region", "eu")
        .attribute("not_one", "left out")
        .data(DATA, "application/json")
}

/// What the official SDK must see in it.
fn judge(event: &cloudevents::Event, id: &str) {
    assert_eq!((event.id(), event.ty()), (id, "order.created"));
    assert_eq!(event.source(), "https://shop.example/orders");
    assert_eq!(event.specversion(), cloudevents::event::SpecVersion::V10);
    assert_eq!(event.datacontenttype(), Some("application/json"));
    assert_eq!(event.time().unwrap().timestamp_millis(), 1_770_091_506_250);
    assert_eq!(event.extension("region").unwrap().to_string(), "eu");
    assert!(event.extension("not_one").is_none());
}

/// Subscribes as `formed`, and returns the secret.
async fn subscribe(app: &TestApp, receiver: &Receiver, format: Format) -> postrider_sdk::Secret {
    let new = Subscription::to(receiver.url()).event_types(["**"]).format(format).id("formed");
    app.client.subscriptions().create(new).await.unwrap().secret
}

/// Whatever the form, it is signed.
fn verify(app: &TestApp, secret: &postrider_sdk::Secret, request: &Request) {
    let now = OffsetDateTime::from_unix_timestamp(app.now().unix_seconds()).unwrap();
    let verifier = Verifier::new([secret.expose()]).unwrap();
    verifier.verify_at(&request.headers, &request.body, now).unwrap();
}
