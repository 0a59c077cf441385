//! Events that cannot be taken.

use std::collections::HashMap;

use postrider_integration_tests::{Kind, Refusal, Refused, TestApp, on_both_databases};
use postrider_proto::v1 as pb;
use tonic::Code;

use super::{a_subscription, create, event, publish};

on_both_databases! {
    async fn nothing_that_is_refused_is_stored(kind: Kind) {
        let app = TestApp::start(kind).await;
        let raw = app.raw();
        publish(&raw, pb::Event { data: "{".into(), ..event() }).await.unwrap_err();
        let inside = pb::Subscription { target_url: "https://10.0.0.1/".to_owned(), ..a_subscription() };
        create(&raw, inside).await.unwrap_err();
        assert!(app.client.events().list().page().await.unwrap().items.is_empty());
        assert!(app.client.subscriptions().list().page().await.unwrap().items.is_empty());
        app.stop().await;
    }
}

#[tokio::test]
async fn data_that_cannot_be_delivered_is_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let raw = app.raw();
    let created = create(&raw, a_subscription()).await.unwrap();
    let limit = 1 << 20;
    for (what, data, content_type) in [
        ("empty", Vec::new(), ""),
        ("blank", b" \n".to_vec(), "application/json"),
        ("not UTF-8", b"\"\xff\"".to_vec(), "application/json"),
        ("a lone surrogate in UTF-8", b"\"\xed\xa0\x80\"".to_vec(), "application/json"),
        ("UTF-16", b"{\0}\0".to_vec(), "application/json; charset=utf-16"),
        ("a byte order mark", b"\xef\xbb\xbf{}".to_vec(), "application/json"),
        ("cut off", b"{\"a\": [1, 2".to_vec(), "application/problem+json"),
        ("two values", b"{} {}".to_vec(), "text/json"),
        ("not JSON", b"NaN".to_vec(), "application/json"),
        ("a trailing comma", b"[1,]".to_vec(), "APPLICATION/JSON"),
        ("deeper than any parser likes", b"[".repeat(100_000), "application/json"),
        ("one byte too large", format!("\"{}\"", "x".repeat(limit - 1)).into_bytes(), "application/json"),
        ("one byte too large and no JSON", vec![b'x'; limit + 1], "text/plain"),
    ] {
        let content_type = content_type.to_owned();
        let refused = publish(
            &raw,
            pb::Event { data: data.clone().into(), data_content_type: content_type.clone(), ..event() },
        )
        .await;
        assert_eq!(Refusal::from(&refused.unwrap_err()), Refusal::invalid("event.data"), "{what}");
        if content_type != "text/plain" && !data.is_empty() {
            let test = pb::SendTestEventRequest {
                name: created.name.clone(),
                data,
                ..pb::SendTestEventRequest::default()
            };
            let refused = raw.subscriptions.clone().send_test_event(test).await;
            assert_eq!(refused.refusal(), Refusal::invalid("data"), "{what}");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn what_an_event_asks_for_has_limits() {
    let app = TestApp::start(Kind::Sqlite).await;
    let raw = app.raw();
    let now = app.now().unix_seconds();
    let at = |seconds: i64| Some(prost_types::Timestamp { seconds: now + seconds, nanos: 0 });
    let keyed = |key: &str| pb::Event { ordering_key: key.to_owned(), ..event() };
    let put_off = |deliver_time| pb::Event { deliver_time, ..event() };
    let expiring = |deliver_time, expire_time| pb::Event { deliver_time, expire_time, ..event() };
    let month = 30 * 24 * 3_600;
    let no_time = Some(prost_types::Timestamp { seconds: now, nanos: -1 });
    for (field, refused) in [
        ("event.ordering_key", keyed(&"x".repeat(129))),
        ("event.ordering_key", keyed(&"ä".repeat(65))),
        ("event.ordering_key", keyed("a\0b")),
        ("event.ordering_key", keyed("a\n")),
        ("event.deliver_time", put_off(at(month + 1))),
        ("event.deliver_time", put_off(no_time)),
        ("event.expire_time", expiring(None, at(0))),
        ("event.expire_time", expiring(None, at(-1))),
        ("event.expire_time", expiring(at(5), at(5))),
        ("event.expire_time", expiring(at(5), at(4))),
        ("event.expire_time", expiring(None, no_time)),
        ("event.priority", pb::Event { priority: 4, ..event() }),
        ("event.priority", pb::Event { priority: -1, ..event() }),
    ] {
        let status = publish(&raw, refused.clone()).await.unwrap_err();
        assert_eq!(Refusal::from(&status), Refusal::invalid(field), "{refused:?}");
    }
    for taken in [
        keyed(&"x".repeat(128)),
        keyed("a key, with spaces: ä"),
        put_off(at(month)),
        put_off(at(-month)),
        expiring(at(-5), at(1)),
        expiring(at(5), at(6)),
        expiring(None, at(10 * 365 * 24 * 3_600)),
        pb::Event { priority: pb::EventPriority::High.into(), ..event() },
    ] {
        publish(&raw, taken.clone()).await.unwrap_or_else(|status| panic!("{taken:?}: {status}"));
    }
    app.stop().await;
}

#[tokio::test]
async fn events_that_are_malformed_are_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let raw = app.raw();
    let long = "x".repeat(256);
    let typed = |text: &str| pb::Event { r#type: text.to_owned(), ..event() };
    for text in [
        "",
        ".",
        "order.",
        ".order",
        "order..created",
        "order created",
        "order/created",
        "ördér",
        "order.*",
        "**",
        &long,
    ] {
        let refused = publish(&raw, typed(text)).await.unwrap_err();
        assert_eq!(Refusal::from(&refused), Refusal::invalid("event.type"), "{text}");
    }
    for reserved in ["postrider.x", "postrider.test"] {
        let refused = publish(&raw, typed(reserved)).await.unwrap_err();
        assert_eq!(Refusal::from(&refused), Refusal::invalid("event.type"), "{reserved}");
    }
    for good in ["postrider", "postriderx.y", &"x".repeat(255)] {
        publish(&raw, typed(good)).await.unwrap();
    }
    let moment = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    let attributes = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let (long_key, long_value) = ("k".repeat(65), "v".repeat(1_025));
    for (field, event) in [
        ("event.source", pb::Event { source: long.clone(), ..event() }),
        ("event.source", pb::Event { source: "a\0b".to_owned(), ..event() }),
        ("event.subject", pb::Event { subject: "ä".repeat(256), ..event() }),
        ("event.subject", pb::Event { subject: "a\nb".to_owned(), ..event() }),
        ("event.time", pb::Event { time: moment(253_402_300_800, 0), ..event() }),
        ("event.time", pb::Event { time: moment(i64::MIN, 0), ..event() }),
        ("event.time", pb::Event { time: moment(0, -1), ..event() }),
        ("event.time", pb::Event { time: moment(0, 1_000_000_000), ..event() }),
        ("event.data_content_type", pb::Event { data_content_type: "json".to_owned(), ..event() }),
        (
            "event.data_content_type",
            pb::Event { data_content_type: "text/plain\r\nx: y".to_owned(), ..event() },
        ),
        ("event.data_content_type", pb::Event { data_content_type: format!("text/{long}"), ..event() }),
        (
            "event.attributes",
            pb::Event { attributes: (0..33).map(|n| (n.to_string(), String::new())).collect(), ..event() },
        ),
        ("event.attributes", pb::Event { attributes: attributes(&[("", "x")]), ..event() }),
        ("event.attributes", pb::Event { attributes: attributes(&[("a b", "x")]), ..event() }),
        ("event.attributes", pb::Event { attributes: attributes(&[(&long_key, "x")]), ..event() }),
        ("event.attributes[\"a\"]", pb::Event { attributes: attributes(&[("a", &long_value)]), ..event() }),
        ("event.attributes[\"a\"]", pb::Event { attributes: attributes(&[("a", "\0")]), ..event() }),
    ] {
        let refused = publish(&raw, event.clone()).await;
        let refused = refused.expect_err(field);
        assert_eq!(Refusal::from(&refused), Refusal::invalid(field), "{refused}");
    }
    let full = pb::Event {
        source: "ä".repeat(255),
        subject: "\u{1F600}".repeat(255),
        time: moment(253_402_300_799, 999_999_999),
        attributes: (0..32).map(|n| (format!("{n:064}"), "√".repeat(1_024))).collect(),
        data_content_type: format!("text/{}", "x".repeat(122)),
        ..event()
    };
    publish(&raw, full).await.unwrap();
    app.stop().await;
}

#[tokio::test]
async fn request_ids_that_are_malformed_are_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let mut raw = app.raw();
    let publish = |request_id: &str| pb::PublishEventRequest {
        parent: "tenants/default".to_owned(),
        event: Some(event()),
        request_id: request_id.to_owned(),
    };
    for bad in [" ", "a b", "ä", "a\n", "\0", &"x".repeat(129)] {
        assert_eq!(
            raw.events.publish_event(publish(bad)).await.refusal(),
            Refusal::invalid("request_id"),
            "{bad:?}"
        );
    }
    for good in ["!", "~", &"x".repeat(128)] {
        raw.events.publish_event(publish(good)).await.unwrap();
    }
    app.stop().await;
}

#[tokio::test]
async fn what_is_missing_is_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let mut raw = app.raw();
    let request = pb::PublishEventRequest {
        parent: "tenants/default".to_owned(),
        ..pb::PublishEventRequest::default()
    };
    assert_eq!(raw.events.publish_event(request).await.refusal(), Refusal::invalid("event"));
    let request = pb::CreateSubscriptionRequest {
        parent: "tenants/default".to_owned(),
        ..pb::CreateSubscriptionRequest::default()
    };
    assert_eq!(
        raw.subscriptions.create_subscription(request).await.refusal(),
        Refusal::invalid("subscription")
    );
    let request = pb::UpdateSubscriptionRequest::default();
    assert_eq!(
        raw.subscriptions.update_subscription(request).await.refusal(),
        Refusal::invalid("subscription")
    );
    let request = pb::PublishEventsRequest {
        parent: "tenants/default".to_owned(),
        items: vec![
            pb::PublishItem::default(),
            pb::PublishItem { event: Some(event()), ..pb::PublishItem::default() },
        ],
    };
    let results = raw.events.publish_events(request).await.unwrap().into_inner().results;
    assert!(matches!(&results[0].result, Some(pb::publish_result::Result::Error(error))
        if error.field_violations[0].field == "event" && error.code == Code::InvalidArgument as i32));
    assert!(matches!(&results[1].result, Some(pb::publish_result::Result::Published(_))));
    app.stop().await;
}
