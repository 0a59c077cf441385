//! `CheckTarget`: what a person is told who asks whether a target can be reached.

use postrider_integration_tests::{Kind, Receiver, Refusal, Refused, TestApp, on_both_databases};
use postrider_proto::v1::{self as pb, check_target_request::Receiver as Whom};
use postrider_sdk::{
    Subscription,
    model::{AttemptFailure, Authentication, TargetCheck, TargetOutcome, TlsProblem},
};
use tonic::Code;

on_both_databases! {
    async fn the_target_of_a_subscription_is_asked_for_without_an_event(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.always(405);
        let new = Subscription::to(receiver.url())
            .event_types(["**"])
            .authentication(Authentication::bearer("t0ken"))
            .id("orders");
        app.client.subscriptions().create(new).await.unwrap();
        // Whether it is sent to makes no difference.
        app.client.subscriptions().pause("orders").await.unwrap();
        let check = app.client.subscriptions().check_target("orders").await.unwrap();
        assert!(check.is_reachable(), "{check:?}");
        assert!(check.summary.contains("can be reached") && check.summary.contains("405"), "{}", check.summary);
        assert_eq!(check.target_url, receiver.url());
        assert_eq!(check.connected_address, Some(receiver.address().ip()));
        assert_eq!((check.addresses.len(), check.addresses[0].refused_as.as_deref()), (1, None));
        assert_eq!(check.started_at.unix_timestamp(), app.now().unix_seconds());

        let requests = receiver.requests();
        assert_eq!((requests.len(), requests[0].method.as_str()), (1, "HEAD"));
        assert_eq!(requests[0].header("authorization"), "Bearer t0ken");
        assert!(requests[0].headers.keys().all(|name| !name.as_str().starts_with("webhook-")));
        assert!(app.client.deliveries().list().page().await.unwrap().items.is_empty());
        app.stop().await;
    }

    async fn a_target_need_not_be_subscribed_nor_be_allowed(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.then(302, &[("location", "/elsewhere")], "");
        let check = check(&app, &receiver.url()).await;
        let TargetOutcome::Answered { status: 302, redirect: Some(redirect), .. } = &check.outcome else {
            panic!("{check:?}");
        };
        assert_eq!(redirect, "/elsewhere");
        assert_eq!(receiver.requests().len(), 1, "a redirect is not followed");

        let tls = self::check(&app, &receiver.url().replace("http:", "https:")).await;
        assert_eq!(tls.tls.unwrap().problem, Some(TlsProblem::NotTls));

        for (url, rule) in [
            ("https://10.0.0.1/", "private"),
            ("https://169.254.169.254/latest/meta-data/", "link-local or cloud metadata"),
            ("https://[::1]/", "loopback"),
        ] {
            let check = self::check(&app, url).await;
            let TargetOutcome::Failed { failure: AttemptFailure::AddressRefused, message } = &check.outcome else {
                panic!("{check:?}");
            };
            assert!(message.contains(rule), "{message}");
            assert_eq!(check.addresses[0].refused_as.as_deref(), Some(rule));
            assert_eq!(check.connected_address, None);
        }
        assert!(app.client.subscriptions().list().page().await.unwrap().items.is_empty(), "nothing is stored");
        app.stop().await;
    }

    async fn what_cannot_be_meant_is_refused_by_its_field(kind: Kind) {
        let app = TestApp::start(kind).await;
        let raw = app.raw();
        let named = |name: &str| Some(Whom::SubscriptionName(name.to_owned()));
        let new = |change: &dyn Fn(&mut pb::Subscription)| {
            let mut subscription =
                pb::Subscription { target_url: "https://example.com/".to_owned(), ..pb::Subscription::default() };
            change(&mut subscription);
            Some(Whom::Subscription(subscription))
        };
        let default = "tenants/default";
        for (parent, receiver, expected) in [
            ("", named("tenants/default/subscriptions/a"), Refusal::invalid("parent")),
            ("tenants/-", named("tenants/default/subscriptions/a"), Refusal::invalid("parent")),
            (default, None, Refusal::invalid("receiver")),
            (default, named("a"), Refusal::invalid("subscription_name")),
            (default, named("tenants/other/subscriptions/a"), Refusal::invalid("subscription_name")),
            (
                default,
                named("tenants/default/subscriptions/a"),
                Refusal::new(Code::NotFound, "NOT_FOUND").of("subscription_name"),
            ),
            (default, new(&|it| it.target_url.clear()), Refusal::invalid("subscription.target_url")),
            (default, new(&|it| "example.com".clone_into(&mut it.target_url)), Refusal::invalid("subscription.target_url")),
            (default, new(&|it| "tenants/x/subscriptions/a".clone_into(&mut it.name)), Refusal::invalid("subscription.name")),
            (
                default,
                new(&|it| {
                    it.timeout = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
                }),
                Refusal::invalid("subscription.timeout"),
            ),
            (
                default,
                new(&|it| {
                    let bearer = pb::BearerToken { token: "********".to_owned() };
                    let method = pb::authentication::Method::Bearer(bearer);
                    it.authentication = Some(pb::Authentication { method: Some(method) });
                }),
                Refusal::invalid("subscription.authentication.bearer.token"),
            ),
        ] {
            let request = pb::CheckTargetRequest { parent: parent.to_owned(), receiver };
            let shown = format!("{request:?}");
            let refused = raw.subscriptions.clone().check_target(request).await;
            assert_eq!(refused.refusal(), expected, "{shown}");
        }
        app.stop().await;
    }
}

async fn check(app: &TestApp, url: &str) -> TargetCheck {
    app.client.subscriptions().check_target_for(Subscription::to(url)).await.unwrap()
}

#[tokio::test]
async fn a_server_that_allows_nothing_internal_says_so_and_goes_nowhere() {
    let app = TestApp::builder(Kind::Sqlite)
        .await
        .with(|config| {
            config.sender.allow_http = false;
            config.sender.allowed_networks.clear();
        })
        .start()
        .await;
    let receiver = Receiver::start().await;
    for (url, words) in [
        (receiver.url(), "the scheme is `http`"),
        (receiver.url().replace("http:", "https:"), "loopback"),
        (format!("https://localhost:{}/", receiver.address().port()), "this machine"),
    ] {
        let check = check(&app, &url).await;
        assert!(check.summary.contains("may not be sent to") && check.summary.contains(words), "{check:?}");
        assert_eq!(check.connected_address, None);
    }
    assert!(receiver.requests().is_empty());
    app.stop().await;
}
