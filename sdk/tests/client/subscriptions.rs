//! Subscriptions: what is sent and what comes back.

use std::time::Duration;

use postrider_sdk::{
    Subscription,
    model::{AttemptFailure, RateLimit, SubscriptionState, TargetOutcome, TestEventStanding, TlsProblem},
};
use time::macros::datetime;

use crate::fake::Fake;

#[tokio::test]
async fn creating_gives_the_subscription_and_its_secret() {
    let server = Fake::start().await;
    let new = Subscription::to("https://example.com/hooks")
        .event_types(["order.*"])
        .id("orders")
        .description("the shop");
    let created = server.client().tenant("acme").subscriptions().create(new).await.unwrap();
    assert_eq!(created.subscription.name, "tenants/acme/subscriptions/orders");
    assert_eq!(created.subscription.id(), "orders");
    assert_eq!(created.subscription.target_url, "https://example.com/hooks");
    assert_eq!(created.subscription.event_types, ["order.*"]);
    assert_eq!(created.subscription.description, "the shop");
    assert_eq!(created.subscription.state, SubscriptionState::Active);
    assert_eq!(created.secret.expose(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    assert!(!format!("{created:?}").contains("whsec_"));
}

#[tokio::test]
async fn an_update_changes_the_fields_that_were_set_and_no_others() {
    let server = Fake::start().await;
    let subscriptions = server.client().subscriptions();
    let updated = subscriptions.update("orders").description("").event_types(["**"]).etag("7").await.unwrap();
    assert_eq!(updated.description, "mask description,event_types; etag 7");
    let updated = subscriptions.update("orders").target_url("https://example.com").await.unwrap();
    assert_eq!(updated.description, "mask target_url; etag ");
    let updated = subscriptions.update("orders").rate_limit(RateLimit::per_second(2.5)).max_in_flight(3);
    let updated = updated.await.unwrap();
    assert_eq!(updated.description, "mask rate_limit,max_in_flight; etag ");
    assert_eq!(updated.rate_limit, Some(RateLimit::per_second(2.5)));
    assert_eq!(updated.max_in_flight, Some(3));
    let updated = subscriptions.update("orders").rate_limit(None).max_in_flight(None).await.unwrap();
    assert_eq!((updated.rate_limit, updated.max_in_flight), (None, None));
}

#[tokio::test]
async fn a_paused_subscription_says_since_when() {
    let server = Fake::start().await;
    let paused = server.client().subscriptions().pause("orders").await.unwrap();
    assert_eq!(paused.state, SubscriptionState::Paused);
    assert_eq!(paused.paused_at, Some(datetime!(2024-11-21 11:00 UTC)));
    assert_eq!(paused.disabled_at, None);
}

#[tokio::test]
async fn rotating_gives_the_new_secret_and_the_end_of_the_old_one() {
    let server = Fake::start().await;
    let subscriptions = server.client().subscriptions();
    let rotated = subscriptions.rotate_secret("orders").await.unwrap();
    assert_eq!(rotated.previous_expires_at, datetime!(2024-11-21 11:00 UTC));
    assert_eq!(rotated.secret, subscriptions.secret("orders").await.unwrap());
}

#[tokio::test]
async fn a_test_event_names_its_delivery() {
    let server = Fake::start().await;
    let subscriptions = server.client().subscriptions();
    let sent = subscriptions.send_test_event("orders").json(&17).unwrap().await.unwrap();
    assert_eq!(sent.event, "tenants/default/events/evt_1");
    assert_eq!(sent.delivery, "tenants/default/deliveries/dlv_1");
    assert_eq!((sent.standing, sent.attempt), (TestEventStanding::Paused, None));
    assert_eq!(sent.summary, "waits None");
    assert_eq!(sent.check.unwrap().summary, "TLS fails.");
    let sent = subscriptions.send_test_event("orders").wait(Duration::from_secs(2)).await.unwrap();
    assert!(sent.summary.contains("seconds: 2"), "{}", sent.summary);
}

#[tokio::test]
async fn a_check_says_what_was_found() {
    let server = Fake::start().await;
    let subscriptions = server.client().subscriptions();
    let check = subscriptions.check_target("orders").await.unwrap();
    assert!(!check.is_reachable());
    assert_eq!(check.addresses[0].refused_as.as_deref(), Some("documentation"));
    assert_eq!(check.addresses[1].refused_as, None);
    assert_eq!(check.connected_address, Some("8.8.8.8".parse().unwrap()));
    let tls = check.tls.unwrap();
    assert_eq!((tls.version, tls.problem), (None, Some(TlsProblem::Expired)));
    assert_eq!(tls.certificates[0].not_after, datetime!(2024-11-21 11:00 UTC));
    let message = "the tls handshake failed".to_owned();
    assert_eq!(check.outcome, TargetOutcome::Failed { failure: AttemptFailure::Tls, message });

    let new = Subscription::to("https://example.com/hooks");
    let check = subscriptions.check_target_for(new).await.unwrap();
    assert_eq!(check.target_url, "https://example.com/hooks");
    let redirect = Some("https://example.com/new".to_owned());
    assert_eq!(check.outcome, TargetOutcome::Answered { status: 308, redirect, headers: Vec::new() });
}
