//! The examples do what they say.

#[expect(dead_code, reason = "its `main` is what a reader runs")]
#[path = "../../examples/manage_subscriptions.rs"]
mod manage_subscriptions;
#[expect(dead_code, reason = "its `main` is what a reader runs")]
#[path = "../../examples/publish.rs"]
mod publish;
#[expect(dead_code, reason = "its `main` is what a reader runs")]
#[path = "../../examples/receive_axum.rs"]
mod receive_axum;
#[expect(dead_code, reason = "its `main` is what a reader runs")]
#[path = "../../examples/rotate_secret.rs"]
mod rotate_secret;
#[expect(dead_code, reason = "its `main` is what a reader runs")]
#[path = "../../examples/stream.rs"]
mod stream;

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use postrider_sdk::verify::Verifier;
use tower::ServiceExt;

use crate::fake::Fake;

#[tokio::test]
async fn publish_publishes() {
    let server = Fake::start().await;
    publish::run(&server.url()).await.unwrap();
    assert_eq!(server.stored().len(), 101);
}

#[tokio::test]
async fn stream_publishes_a_thousand() {
    let server = Fake::start().await;
    stream::run(&server.url()).await.unwrap();
    assert_eq!(server.stored().len(), 1_000);
}

#[tokio::test]
async fn manage_subscriptions_ends_with_what_it_created_deleted() {
    let server = Fake::start().await;
    manage_subscriptions::run(&server.url()).await.unwrap();
    assert!(server.methods().ends_with(&["DeleteSubscription", "GetSubscription"]));
}

#[tokio::test]
async fn rotate_secret_rotates() {
    let server = Fake::start().await;
    rotate_secret::run(&server.url()).await.unwrap();
    assert!(server.methods().contains(&"RotateSubscriptionSecret"));
}

#[tokio::test]
async fn receive_axum_takes_what_is_genuine_and_nothing_else() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let sent = "1614265330";
    let signature =
        standardwebhooks::Webhook::new(secret).unwrap().sign("evt_1", 1_614_265_330, b"{}").unwrap();
    // The example looks at the clock; the callback is old.
    let tolerant = Verifier::new([secret]).unwrap().with_tolerance(std::time::Duration::MAX);
    let app = receive_axum::app(tolerant);
    let callback = |body: &'static str| {
        Request::post("/hooks")
            .header("webhook-id", "evt_1")
            .header("webhook-timestamp", sent)
            .header("webhook-signature", &signature)
            .body(Body::from(body))
            .unwrap()
    };
    assert_eq!(app.clone().oneshot(callback("{}")).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(app.oneshot(callback("[]")).await.unwrap().status(), StatusCode::UNAUTHORIZED);
}
