//! The SDK's examples do against a real server what they say.

#[expect(dead_code, reason = "its `main` is what a reader runs")]
#[path = "../../../sdk/examples/manage_subscriptions.rs"]
mod manage_subscriptions;
#[expect(dead_code, reason = "its `main` is what a reader runs")]
#[path = "../../../sdk/examples/publish.rs"]
mod publish;
#[expect(dead_code, reason = "its `main` is what a reader runs")]
#[path = "../../../sdk/examples/receive_axum.rs"]
mod receive_axum;
#[expect(dead_code, reason = "its `main` is what a reader runs")]
#[path = "../../../sdk/examples/rotate_secret.rs"]
mod rotate_secret;
#[expect(dead_code, reason = "its `main` is what a reader runs")]
#[path = "../../../sdk/examples/stream.rs"]
mod stream;

use std::sync::Arc;

use postrider_integration_tests::{Builder, TestApp, TestDatabase, an_event, on_both_databases};
use postrider_sdk::{
    Subscription,
    model::{AttemptOutcome, DeliveryState},
    verify::Verifier,
};
use postrider_server::clock::{Clock, ManualClock, SystemClock};
use tokio::net::TcpListener;

// Their targets are at example.com. Nothing is sent there: no example leaves a delivery for a subscription that is
// neither paused nor deleted, and whatever were to be sent would show up as an attempt.
on_both_databases! {
    async fn publish_publishes(kind: Kind) {
        let app = TestApp::start(kind).await;
        publish::run(&url(&app)).await.unwrap();
        assert_eq!(app.client.events().list().items().collect().await.unwrap().len(), 101);
        let orders = app.client.events().list().event_type("order.created").items().collect().await.unwrap();
        assert_eq!(orders.len(), 1);
        app.stop().await;
    }

    async fn stream_publishes_a_thousand(kind: Kind) {
        let app = TestApp::start(kind).await;
        stream::run(&url(&app)).await.unwrap();
        let events = app.client.events().list().page_size(1_000).items().collect().await.unwrap();
        assert_eq!(events.len(), 1_000);
        app.stop().await;
    }

    async fn manage_subscriptions_leaves_nothing_but_a_cancelled_test_event(kind: Kind) {
        let app = TestApp::start(kind).await;
        manage_subscriptions::run(&url(&app)).await.unwrap();
        assert!(app.client.subscriptions().list().page().await.unwrap().items.is_empty());
        app.run_until_idle().await;
        let deliveries = app.client.deliveries().list().items().collect().await.unwrap();
        assert_eq!(deliveries.len(), 1);
        assert_eq!((deliveries[0].state, deliveries[0].attempt_count), (DeliveryState::Cancelled, 0));
        app.stop().await;
    }

    async fn rotate_secret_leaves_nothing(kind: Kind) {
        let app = TestApp::start(kind).await;
        rotate_secret::run(&url(&app)).await.unwrap();
        assert!(app.client.subscriptions().list().page().await.unwrap().items.is_empty());
        assert!(app.client.events().list().page().await.unwrap().items.is_empty());
        app.stop().await;
    }

    async fn receive_axum_takes_our_callbacks_and_no_others(kind: Kind) {
        // The example asks the machine for the time.
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let app = Builder::on(Arc::new(TestDatabase::new(kind).await), clock).start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}/hooks", listener.local_addr().unwrap());
        let subscriptions = app.client.subscriptions();
        let known =
            subscriptions.create(Subscription::to(&target).event_types(["**"]).id("known")).await.unwrap();
        subscriptions.create(Subscription::to(&target).event_types(["**"]).id("unknown")).await.unwrap();
        let receiver = receive_axum::app(Verifier::new([known.secret.expose()]).unwrap());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, receiver).await.unwrap() });
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        for (subscription, expected) in [
            ("known", AttemptOutcome::Acknowledged { status: 204 }),
            ("unknown", AttemptOutcome::Rejected { status: 401 }),
        ] {
            let delivery = app
                .client
                .deliveries()
                .list()
                .subscription(subscription)
                .page()
                .await
                .unwrap()
                .items
                .remove(0);
            let attempts = app.client.deliveries().attempts(&delivery.name).page().await.unwrap().items;
            assert_eq!(attempts[0].outcome, expected);
        }
        app.stop().await;
    }
}

#[test]
fn receive_axum_stands_in_the_document_as_it_is() {
    let document = include_str!("../../../docs/receiving.md");
    let (_, begun) = document.split_once("```rust\n").unwrap();
    let (block, _) = begun.split_once("```\n").unwrap();
    assert!(include_str!("../../../sdk/examples/receive_axum.rs").ends_with(block));
}

fn url(app: &TestApp) -> String {
    format!("http://{}", app.grpc)
}
