//! Settings of subscriptions that cannot be.

use postrider_integration_tests::{Kind, Refusal, TestApp};
use postrider_proto::v1::{self as pb, signature_profile::Profile as Pb};

use super::{a_subscription, create};

/// Each of these is refused, for this field.
async fn refuses(subscriptions: Vec<(&str, pb::Subscription)>) {
    let app = TestApp::start(Kind::Sqlite).await;
    let raw = app.raw();
    for (field, subscription) in subscriptions {
        let refused = create(&raw, subscription).await.expect_err(field);
        assert_eq!(Refusal::from(&refused), Refusal::invalid(field), "{refused}");
    }
    app.stop().await;
}

#[tokio::test]
async fn retry_policies_and_timeouts_that_cannot_be_are_refused() {
    let retried = |policy| pb::Subscription { retry_policy: Some(policy), ..a_subscription() };
    let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
    let scheduled = |pauses: Vec<prost_types::Duration>| {
        let schedule = pb::retry_policy::Pauses::Schedule(pb::RetrySchedule { pauses });
        retried(pb::RetryPolicy { pauses: Some(schedule), max_age: None })
    };
    let growing = |initial_pause, multiplier, max_pause: Option<i64>, max_attempts| {
        let backoff = pb::ExponentialBackoff {
            initial_pause: Some(seconds(initial_pause)),
            multiplier,
            max_pause: max_pause.map(seconds),
            max_attempts,
        };
        let pauses = Some(pb::retry_policy::Pauses::Exponential(backoff));
        retried(pb::RetryPolicy { pauses, max_age: None })
    };
    let aged = |age| retried(pb::RetryPolicy { pauses: None, max_age: Some(seconds(age)) });
    let timed = |timeout| pb::Subscription { timeout: Some(seconds(timeout)), ..a_subscription() };
    refuses(vec![
        ("subscription.retry_policy.schedule.pauses", scheduled(vec![seconds(1); 101])),
        ("subscription.retry_policy.schedule.pauses[1]", scheduled(vec![seconds(1), seconds(-1)])),
        ("subscription.retry_policy.schedule.pauses[0]", scheduled(vec![seconds(30 * 86_400 + 1)])),
        ("subscription.retry_policy.schedule.pauses[0]", scheduled(vec![seconds(0)])),
        (
            "subscription.retry_policy.schedule.pauses[0]",
            scheduled(vec![prost_types::Duration { seconds: 0, nanos: 1 }]),
        ),
        ("subscription.retry_policy.exponential.initial_pause", growing(0, 2.0, None, 5)),
        ("subscription.retry_policy.exponential.multiplier", growing(1, 0.5, None, 5)),
        ("subscription.retry_policy.exponential.max_pause", growing(10, 2.0, Some(9), 5)),
        ("subscription.retry_policy.exponential.max_attempts", growing(1, 2.0, None, 0)),
        ("subscription.retry_policy.exponential.max_attempts", growing(1, 2.0, None, -1)),
        ("subscription.retry_policy.max_age", aged(0)),
        ("subscription.retry_policy.max_age", aged(90 * 86_400 + 1)),
        ("subscription.timeout", timed(0)),
        ("subscription.timeout", timed(-1)),
        ("subscription.timeout", timed(31)),
    ])
    .await;
}

#[tokio::test]
async fn failure_policies_that_cannot_be_are_refused() {
    use pb::failure_policy::Disabling;
    let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
    let failing = |disabling, probe_interval: Option<i64>| pb::Subscription {
        failure_policy: Some(pb::FailurePolicy { disabling, probe_interval: probe_interval.map(seconds) }),
        ..a_subscription()
    };
    let after = |span| failing(Some(Disabling::DisableAfter(seconds(span))), None);
    refuses(vec![
        ("subscription.failure_policy.disable_after", after(-1)),
        ("subscription.failure_policy.disable_after", after(0)),
        ("subscription.failure_policy.disable_after", after(3_599)),
        ("subscription.failure_policy.disable_after", after(90 * 86_400 + 1)),
        ("subscription.failure_policy.never_disable", failing(Some(Disabling::NeverDisable(false)), None)),
        ("subscription.failure_policy.probe_interval", failing(None, Some(-1))),
        ("subscription.failure_policy.probe_interval", failing(None, Some(59))),
        ("subscription.failure_policy.probe_interval", failing(None, Some(30 * 86_400 + 1))),
    ])
    .await;
}

#[tokio::test]
async fn filters_that_cannot_be_are_refused() {
    let filtered = |attributes: &[(&str, Option<pb::attribute_condition::Test>)], expression: &str| {
        let attribute = |(key, test): &(&str, _)| pb::AttributeCondition {
            key: (*key).to_owned(),
            test: Clone::clone(test),
        };
        let attributes = attributes.iter().map(attribute).collect();
        pb::Subscription {
            filter: Some(pb::EventFilter { attributes, expression: expression.to_owned() }),
            ..a_subscription()
        }
    };
    let equals = |text: &str| Some(pb::attribute_condition::Test::Equals(text.to_owned()));
    let prefix = |text: &str| Some(pb::attribute_condition::Test::Prefix(text.to_owned()));
    refuses(vec![
        ("subscription.filter.attributes", filtered(&vec![("a", equals("b")); 33], "")),
        ("subscription.filter.attributes[0].key", filtered(&[("", equals("b"))], "")),
        ("subscription.filter.attributes[1].key", filtered(&[("a", equals("")), ("a b", equals("b"))], "")),
        ("subscription.filter.attributes[0].test", filtered(&[("a", None)], "")),
        ("subscription.filter.attributes[0].prefix", filtered(&[("a", prefix(""))], "")),
        ("subscription.filter.attributes[0].equals", filtered(&[("a", equals(&"x".repeat(1_025)))], "")),
        ("subscription.filter.expression", filtered(&[], "data.amount >")),
        ("subscription.filter.expression", filtered(&[], "data.amount + 1")),
        ("subscription.filter.expression", filtered(&[], "nothing == 1")),
        ("subscription.filter.expression", filtered(&[], &"(".repeat(4_000))),
        ("subscription.filter.expression", filtered(&[], &format!("type == '{}'", "x".repeat(4_096)))),
    ])
    .await;
}

#[tokio::test]
async fn formats_that_cannot_be_are_refused() {
    let formed = |format| pb::Subscription { format: Some(format), ..a_subscription() };
    let carrying = |headers: &[(&str, &str, bool)]| {
        let header = |(name, value, secret): &(&str, &str, bool)| pb::StaticHeader {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            secret: *secret,
        };
        formed(pb::Format { headers: headers.iter().map(header).collect(), ..pb::Format::default() })
    };
    let structured = |mode| {
        let body = Some(pb::format::Body::CloudEvents(pb::CloudEventsFormat { mode }));
        formed(pb::Format { body, ..pb::Format::default() })
    };
    let template = |source: &str, content_type: &str| {
        let (source, content_type) = (source.to_owned(), content_type.to_owned());
        let body = pb::format::Body::Template(pb::TemplateFormat { source, content_type });
        formed(pb::Format { body: Some(body), ..pb::Format::default() })
    };
    let slack = |text: &str| {
        let body = pb::format::Body::Slack(pb::SlackFormat { text: text.to_owned() });
        formed(pb::Format { body: Some(body), ..pb::Format::default() })
    };
    refuses(vec![
        ("subscription.format.method", formed(pb::Format { method: 3, ..pb::Format::default() })),
        ("subscription.format.cloud_events.mode", structured(3)),
        ("subscription.format.template.source", template("", "")),
        ("subscription.format.template.source", template("{{ x", "")),
        ("subscription.format.template.source", template("{% include 'x' %}", "")),
        ("subscription.format.template.source", template(&"x".repeat(16_385), "")),
        ("subscription.format.template.content_type", template("x", "text")),
        ("subscription.format.template.content_type", template("x", "text/plain; charset=iso-8859-1")),
        ("subscription.format.template.content_type", template("x", "text/plain; a=b; Charset=\"UTF-16\"")),
        ("subscription.format.slack.text", slack("{{ x | shout }}")),
        ("subscription.format.headers", carrying(&[("x", "1", false); 33])),
        ("subscription.format.headers[0].name", carrying(&[("", "1", false)])),
        ("subscription.format.headers[1].name", carrying(&[("x", "1", false), ("X", "2", false)])),
        ("subscription.format.headers[0].name", carrying(&[("Authorization", "Bearer 1", true)])),
        ("subscription.format.headers[0].name", carrying(&[("Host", "example.com", false)])),
        ("subscription.format.headers[0].name", carrying(&[("Webhook-Id", "1", false)])),
        ("subscription.format.headers[0].name", carrying(&[("X-Hub-Signature-256", "1", false)])),
        ("subscription.format.headers[0].value", carrying(&[("x", "", false)])),
        ("subscription.format.headers[0].value", carrying(&[("x", "a\r\nb: c", false)])),
        ("subscription.format.headers[0].value", carrying(&[("x", &"v".repeat(4_097), false)])),
        ("subscription.format.headers[0].value", carrying(&[("x", "********", true)])),
        ("subscription.format.headers[0].value", carrying(&[("x", "********", false)])),
    ])
    .await;
}

#[tokio::test]
async fn signatures_that_cannot_be_are_refused() {
    let app = TestApp::start(Kind::Sqlite).await;
    let raw = app.raw();
    let signed = |profiles: Vec<Pb>| {
        let profiles = profiles.into_iter().map(|profile| pb::SignatureProfile { profile: Some(profile) });
        pb::Subscription { signing: Some(pb::Signing { profiles: profiles.collect() }), ..a_subscription() }
    };
    let custom = |header: &str, signed_content: &str| pb::CustomHmacSignature {
        header: header.to_owned(),
        signed_content: signed_content.to_owned(),
        ..pb::CustomHmacSignature::default()
    };
    let own = |custom| signed(vec![Pb::CustomHmac(custom)]);
    let fine = custom("X-A", "{body}");
    for (field, subscription) in vec![
        ("subscription.signing.profiles", signed(vec![])),
        (
            "subscription.signing.profiles[0].profile",
            pb::Subscription {
                signing: Some(pb::Signing { profiles: vec![pb::SignatureProfile { profile: None }] }),
                ..a_subscription()
            },
        ),
        (
            "subscription.signing.profiles[1].slack",
            signed(vec![Pb::Slack(pb::SlackSignature {}), Pb::Slack(pb::SlackSignature {})]),
        ),
        (
            "subscription.signing.profiles[1].custom_hmac.header",
            signed(vec![
                Pb::Stripe(pb::StripeSignature {}),
                Pb::CustomHmac(custom("stripe-signature", "{body}")),
            ]),
        ),
        (
            "subscription.signing.profiles[0].shopify.shop_domain",
            signed(vec![Pb::Shopify(pb::ShopifySignature::default())]),
        ),
        ("subscription.signing.profiles[0].custom_hmac.header", own(custom("Content-Length", "{body}"))),
        ("subscription.signing.profiles[0].custom_hmac.header", own(custom("webhook-signature", "{body}"))),
        ("subscription.signing.profiles[0].custom_hmac.signed_content", own(custom("X-A", "{id}"))),
        ("subscription.signing.profiles[0].custom_hmac.signed_content", own(custom("X-A", "{body}{data}"))),
        (
            "subscription.signing.profiles[0].custom_hmac.prefix",
            own(pb::CustomHmacSignature { prefix: "{body}".to_owned(), ..fine.clone() }),
        ),
        (
            "subscription.signing.profiles[0].custom_hmac.timestamp_header",
            own(pb::CustomHmacSignature { timestamp_header: "Host".to_owned(), ..fine.clone() }),
        ),
        (
            "subscription.signing.profiles[0].custom_hmac.algorithm",
            own(pb::CustomHmacSignature { algorithm: 99, ..fine.clone() }),
        ),
        (
            "subscription.signing.profiles[0].custom_hmac.encoding",
            own(pb::CustomHmacSignature { encoding: 99, ..fine }),
        ),
        (
            "subscription.target_url",
            pb::Subscription {
                target_url: "https://example.com/?bodySHA256=1".to_owned(),
                ..signed(vec![Pb::Twilio(pb::TwilioSignature {})])
            },
        ),
    ] {
        let refused = create(&raw, subscription).await.expect_err(field);
        assert_eq!(Refusal::from(&refused), Refusal::invalid(field), "{refused}");
    }
    app.stop().await;
}
