//! What the server logs, by all of its threads: alone in its process, so that nothing is heard of other tests.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    io::{self, Write},
    sync::Mutex,
    time::Duration,
};

use postrider_integration_tests::{Kind, Needles, Receiver, TestApp, an_event};
use postrider_sdk::{Subscription, model::Authentication};
use tracing::Level;

/// What was logged.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Writes there.
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_holds_no_secret_and_no_payload() {
    tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false).with_writer(|| Log).init();
    let app = TestApp::start(Kind::Sqlite).await;
    let receiver = Receiver::answering([500]).await;
    let mut secrets = Needles::default();
    let new = Subscription::to(format!("{}?token=s3cret-query", receiver.url()))
        .event_types(["**"])
        .authentication(Authentication::bearer("s3cret-bearer"));
    let created = app.client.subscriptions().create(new).await.unwrap();
    secrets.add(&created.secret);
    secrets.add(&app.client.subscriptions().rotate_secret(&created.subscription.name).await.unwrap().secret);
    app.client.subscriptions().secret(&created.subscription.name).await.unwrap();
    app.client.publish(an_event().data("\"s3cret-payload\"", "application/json")).await.unwrap();
    app.run_until_idle().await;
    app.advance(Duration::from_secs(5));
    app.run_until_idle().await;
    app.client.subscriptions().delete(&created.subscription.name).await.unwrap();
    app.sweep().await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    app.stop().await;

    let everything = std::mem::take(&mut *LOG.lock().unwrap());
    assert!(requests.iter().all(|request| request.header("authorization") == "Bearer s3cret-bearer"));
    secrets.add_text("s3cret-bearer");
    assert!(!secrets.are_in(&everything), "at no level, of no crate");
    let ours: Vec<_> = String::from_utf8(everything)
        .unwrap()
        .lines()
        .filter(|line| line.contains("postrider"))
        .map(str::to_owned)
        .collect();
    assert!(ours.iter().any(|line| line.contains("CreateSubscription")), "the log is not empty: {ours:#?}");
    let errors: Vec<_> = ours.iter().filter(|line| line.split_whitespace().nth(1) == Some("ERROR")).collect();
    assert!(errors.is_empty(), "what a receiver does is no error of ours, nor is stopping: {errors:#?}");
    let signatures = requests.iter().flat_map(|request| request.header("webhook-signature").split(' '));
    for hidden in signatures.chain(["s3cret-query", "s3cret-payload"]) {
        assert!(!ours.iter().any(|line| line.contains(hidden)), "{hidden}");
    }
}
