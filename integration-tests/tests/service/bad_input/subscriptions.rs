//! Subscriptions that cannot be, and changes that cannot be made.

use postrider_integration_tests::{Kind, Refusal, Refused, TestApp, on_both_databases};
use postrider_proto::v1 as pb;
use tonic::Code;

use super::{a_subscription, create, update};

on_both_databases! {
    async fn a_stale_etag_is_refused_and_changes_nothing(kind: Kind) {
        let app = TestApp::start(kind).await;
        let mut raw = app.raw();
        let before = create(&raw, a_subscription()).await.unwrap();
        let update = |description: &str, etag: &str| pb::UpdateSubscriptionRequest {
            subscription: Some(pb::Subscription {
                name: before.name.clone(),
                description: description.to_owned(),
                etag: etag.to_owned(),
                ..pb::Subscription::default()
            }),
            update_mask: None,
        };
        let answer = raw.subscriptions.update_subscription(update("first", &before.etag)).await.unwrap();
        let after = answer.into_inner().subscription.unwrap();
        assert_ne!(after.etag, before.etag);
        let mismatch = |field: &str| Refusal::new(Code::Aborted, "ETAG_MISMATCH").of(field);
        for etag in [before.etag.as_str(), "made-up", "0"] {
            let refused = raw.subscriptions.update_subscription(update("second", etag)).await;
            assert_eq!(refused.refusal(), mismatch("subscription.etag"), "{etag}");
            let delete = pb::DeleteSubscriptionRequest { name: before.name.clone(), etag: etag.to_owned() };
            let refused = raw.subscriptions.delete_subscription(delete).await;
            assert_eq!(refused.refusal(), mismatch("etag"), "{etag}");
        }
        assert_eq!(app.client.subscriptions().get(&before.name).await.unwrap().description, "first");
        app.stop().await;
    }

    async fn a_taken_id_is_refused(kind: Kind) {
        let app = TestApp::start(kind).await;
        let request = pb::CreateSubscriptionRequest {
            parent: "tenants/default".to_owned(),
            subscription: Some(a_subscription()),
            subscription_id: "orders".to_owned(), ..pb::CreateSubscriptionRequest::default() };
        let mut raw = app.raw();
        raw.subscriptions.create_subscription(request.clone()).await.unwrap();
        let refused = raw.subscriptions.create_subscription(request.clone()).await;
        assert_eq!(refused.refusal(), Refusal::new(Code::AlreadyExists, "ID_TAKEN").of("subscription_id"));
        let elsewhere = pb::CreateSubscriptionRequest { parent: "tenants/acme".to_owned(), ..request };
        raw.subscriptions.create_subscription(elsewhere).await.unwrap();
        app.stop().await;
    }
}

#[tokio::test]
async fn targets_that_are_not_to_be_sent_to_are_refused() {
    let app = TestApp::builder(Kind::Sqlite)
        .await
        .with(|config| {
            config.sender.allow_http = false;
            config.sender.allowed_networks.clear();
        })
        .start()
        .await;
    let raw = app.raw();
    let good = create(&raw, a_subscription()).await.unwrap();
    let long = format!("https://example.com/{}", "a".repeat(3_000 - 20));
    assert_eq!(long.len(), 3_000);
    for url in [
        "",
        "/hook",
        "example.com/hook",
        "//example.com/hook",
        "https:",
        "https://",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://example.com/hook",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://:secret@example.com/",
        "https://example.com/#part",
        "https://example.com:99999/",
        "https://exa mple.com/",
        "https://[::1/",
        &long,
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://1２7.0.0.1/",
        "https://%31%32%37.0.0.1/",
        "https://①②⑦.0.0.1/",
        "https://127。0。0。1/",
        "https://0/",
        "https://localhost/",
        "https://LocalHost./",
        "https://app.localhost:8443/",
        "https://10.1.2.3/",
        "https://172.20.0.1/",
        "https://192.168.0.1:8080/",
        "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://2852039166/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://[::]/",
        "https://[::1]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[64:ff9b::10.0.0.1]/",
        "https://[2002:7f00:1::]/",
        "https://[fd00:ec2::254]/",
        "https://[fe80::1]/",
        "https://[ff02::1]/",
    ] {
        let target_url = url.to_owned();
        let refused =
            create(&raw, pb::Subscription { target_url: target_url.clone(), ..a_subscription() }).await;
        let expected = Refusal::invalid("subscription.target_url");
        assert_eq!(Refusal::from(&refused.unwrap_err()), expected, "{url}");
        let name = good.name.clone();
        let change = pb::Subscription { name, target_url, ..pb::Subscription::default() };
        let refused = update(&raw, change, &["target_url"]).await;
        assert_eq!(Refusal::from(&refused.unwrap_err()), expected, "{url}");
    }
    assert_eq!(app.client.subscriptions().get(&good.name).await.unwrap().target_url, good.target_url);
    app.stop().await;
}

#[tokio::test]
async fn the_reason_why_a_target_is_refused_does_not_repeat_its_secrets() {
    let app = TestApp::start(Kind::Sqlite).await;
    for url in [
        "https://user:s3cret@example.com/",
        "https://10.0.0.1/hook?token=s3cret",
        "https://example.com/#s3cret",
    ] {
        let refused =
            create(&app.raw(), pb::Subscription { target_url: url.to_owned(), ..a_subscription() }).await;
        assert!(!format!("{:?}", refused.unwrap_err()).contains("s3cret"), "{url}");
    }
    app.stop().await;
}

#[tokio::test]
async fn subscriptions_that_are_malformed_are_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let raw = app.raw();
    let wanting = |patterns: &[&str]| pb::Subscription {
        event_types: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ..a_subscription()
    };
    let limited = |deliveries_per_second, burst| pb::Subscription {
        rate_limit: Some(pb::RateLimit { deliveries_per_second, burst }),
        ..a_subscription()
    };
    let (long, many) = ("x".repeat(256), vec!["a"; 101]);
    for (field, subscription) in vec![
        ("subscription.event_types", wanting(&[])),
        ("subscription.event_types", wanting(&many)),
        ("subscription.event_types[0]", wanting(&[""])),
        ("subscription.event_types[1]", wanting(&["order.*", "order.***"])),
        ("subscription.event_types[1]", wanting(&["order.*", "order.a*"])),
        ("subscription.event_types[0]", wanting(&["order..created"])),
        ("subscription.event_types[0]", wanting(&[&long])),
        ("subscription.description", pb::Subscription { description: "ä".repeat(1_025), ..a_subscription() }),
        ("subscription.description", pb::Subscription { description: "\0".to_owned(), ..a_subscription() }),
        ("subscription.rate_limit.deliveries_per_second", limited(0.0, 1)),
        ("subscription.rate_limit.deliveries_per_second", limited(-1.0, 1)),
        ("subscription.rate_limit.deliveries_per_second", limited(f64::NAN, 1)),
        ("subscription.rate_limit.deliveries_per_second", limited(100_001.0, 1)),
        ("subscription.rate_limit.burst", limited(1.0, -1)),
        ("subscription.rate_limit.burst", limited(1.0, 100_001)),
        ("subscription.max_in_flight", pb::Subscription { max_in_flight: -1, ..a_subscription() }),
        ("subscription.max_in_flight", pb::Subscription { max_in_flight: 100_001, ..a_subscription() }),
    ] {
        let refused = create(&raw, subscription).await.expect_err(field);
        assert_eq!(Refusal::from(&refused), Refusal::invalid(field), "{refused}");
    }
    for id in ["Orders", "1", "-a", "a.b", "a/b", "ä", "a b", &"a".repeat(64)] {
        let request = pb::CreateSubscriptionRequest {
            parent: "tenants/default".to_owned(),
            subscription: Some(a_subscription()),
            subscription_id: id.to_owned(),
            ..pb::CreateSubscriptionRequest::default()
        };
        let refused = raw.subscriptions.clone().create_subscription(request).await;
        assert_eq!(refused.refusal(), Refusal::invalid("subscription_id"), "{id}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_mask_names_fields_that_can_be_changed() {
    let app = TestApp::start(Kind::Sqlite).await;
    let raw = app.raw();
    let before = create(&raw, pb::Subscription { description: "before".to_owned(), ..a_subscription() })
        .await
        .unwrap();
    let change = |description: &str| pb::Subscription {
        name: before.name.clone(),
        description: description.to_owned(),
        ..pb::Subscription::default()
    };
    for path in [
        "nothing",
        "secret",
        "Description",
        "subscription.description",
        "event_types.0",
        "rate_limit.burst",
        "",
        "**",
        "description,name",
    ] {
        let refused = update(&raw, change("x"), &["description", path]).await.unwrap_err();
        assert_eq!(Refusal::from(&refused), Refusal::invalid("update_mask"), "{path}");
    }
    assert_eq!(app.client.subscriptions().get(&before.name).await.unwrap().description, "before");
    // What is output only may be named, and is ignored.
    let output_only = ["uid", "state", "create_time", "etag", "health", "description"];
    assert_eq!(update(&raw, change("after"), &output_only).await.unwrap().description, "after");
    // A field that is named and empty is emptied, or refused where it must not be empty.
    assert_eq!(update(&raw, change(""), &["description"]).await.unwrap().description, "");
    for (path, field) in
        [("target_url", "subscription.target_url"), ("event_types", "subscription.event_types")]
    {
        let refused = update(&raw, change(""), &[path]).await.unwrap_err();
        assert_eq!(Refusal::from(&refused), Refusal::invalid(field));
    }
    let refused = update(&raw, change("all of it"), &["*"]).await.unwrap_err();
    assert_eq!(Refusal::from(&refused), Refusal::invalid("subscription.target_url"));
    app.stop().await;
}
