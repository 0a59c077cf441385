//! Handshakes that cannot be.

use postrider_integration_tests::{Kind, Refusal, TestApp};
use postrider_proto::v1::{self as pb, handshake::Method};

use super::{a_subscription, create};

fn with(method: Method) -> pb::Subscription {
    pb::Subscription { handshake: Some(pb::Handshake { method: Some(method) }), ..a_subscription() }
}

fn cloud_events(origin: &str, requests_per_minute: i32) -> pb::Subscription {
    with(Method::CloudEvents(pb::CloudEventsHandshake { origin: origin.to_owned(), requests_per_minute }))
}

fn slack(token: &str) -> pb::Subscription {
    with(Method::SlackUrlVerification(pb::SlackUrlVerification { token: token.to_owned() }))
}

fn meta(verify_token: &str) -> pb::Subscription {
    with(Method::Meta(pb::MetaHandshake { verify_token: verify_token.to_owned() }))
}

fn ebay(verification_token: &str) -> pb::Subscription {
    with(Method::Ebay(pb::EbayHandshake { verification_token: verification_token.to_owned() }))
}

fn linkedin(client_secret: &str) -> pb::Subscription {
    with(Method::Linkedin(pb::LinkedinHandshake { client_secret: client_secret.to_owned() }))
}

#[tokio::test]
async fn handshakes_that_cannot_be_are_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let raw = app.raw();
    let long = "x".repeat(257);
    let nothing = pb::Subscription { handshake: Some(pb::Handshake::default()), ..a_subscription() };
    for (field, subscription) in vec![
        ("method", nothing),
        ("cloud_events.origin", cloud_events("", 0)),
        ("cloud_events.origin", cloud_events("https://example.com", 0)),
        ("cloud_events.origin", cloud_events("a.com\r\nx: y", 0)),
        ("cloud_events.origin", cloud_events("*", 0)),
        ("cloud_events.origin", cloud_events(&"a.".repeat(200), 0)),
        ("cloud_events.requests_per_minute", cloud_events("a.com", -1)),
        ("cloud_events.requests_per_minute", cloud_events("a.com", i32::MAX)),
        ("slack_url_verification.token", slack("a\0")),
        ("slack_url_verification.token", slack(&long)),
        ("slack_url_verification.token", slack("********")),
        ("meta.verify_token", meta("")),
        ("meta.verify_token", meta("ä")),
        ("meta.verify_token", meta(&long)),
        ("meta.verify_token", meta("********")),
        ("ebay.verification_token", ebay("")),
        ("ebay.verification_token", ebay(&"x".repeat(31))),
        ("ebay.verification_token", ebay(&"x".repeat(81))),
        ("ebay.verification_token", ebay(&"ä".repeat(16))),
        ("ebay.verification_token", ebay("********")),
        ("linkedin.client_secret", linkedin("")),
        ("linkedin.client_secret", linkedin("a b")),
        ("linkedin.client_secret", linkedin(&long)),
        ("linkedin.client_secret", linkedin("********")),
    ] {
        let refused = create(&raw, subscription).await.expect_err(field);
        assert_eq!(Refusal::from(&refused), Refusal::invalid(&format!("subscription.handshake.{field}")));
    }
    app.stop().await;
}

#[tokio::test]
async fn a_header_of_the_handshake_has_no_other_author() {
    let app = TestApp::start(Kind::Sqlite).await;
    let api_key = pb::ApiKey { header: "X-Hook-Secret".to_owned(), value: "k".to_owned() };
    let method = Some(pb::authentication::Method::ApiKey(api_key));
    let subscription = pb::Subscription {
        authentication: Some(pb::Authentication { method }),
        ..with(Method::HookSecret(pb::HookSecretHandshake {}))
    };
    let refused = create(&app.raw(), subscription).await.unwrap_err();
    assert_eq!(Refusal::from(&refused), Refusal::invalid("subscription.authentication.api_key.header"));
    app.stop().await;
}
