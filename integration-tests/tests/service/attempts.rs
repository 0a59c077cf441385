//! What the record of an attempt tells.

use std::time::Duration;

use postrider_integration_tests::{Kind, Receiver, TestApp, an_event, on_both_databases};
use postrider_sdk::{
    Subscription,
    model::{Attempt, AttemptFailure, AttemptOutcome},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::retry::{attempts, now, the_delivery};

on_both_databases! {
    async fn an_attempt_shows_what_came_back(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let url = format!("{}?token=s3cret", receiver.url());
        let new = Subscription::to(&url).event_types(["**"]);
        app.client.subscriptions().create(new).await.unwrap();
        receiver.then(422, &[("x-reason", "näh"), ("content-type", "text/x")], "no \u{1F600}, thanks");
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(receiver.requests()[0].path, "/hook?token=s3cret");
        let delivery = the_delivery(&app).await;
        let attempt = attempts(&app, &delivery).await.remove(0);
        assert_eq!(attempt.number, 1);
        assert_eq!(attempt.started_at, now(&app));
        assert_eq!(attempt.target_url, receiver.url(), "a query may hold a secret");
        assert_eq!(attempt.outcome, AttemptOutcome::Rejected { status: 422 });
        assert_eq!(attempt.status(), Some(422));
        let header = |name: &str| {
            let found = attempt.response_headers.iter().find(|header| header.name == name);
            found.map(|header| header.value.clone())
        };
        assert_eq!(header("x-reason").as_deref(), Some("näh"));
        assert_eq!(header("content-type").as_deref(), Some("text/x"));
        assert_eq!(header("content-length").as_deref(), Some("15"));
        assert_eq!(attempt.response_body, "no \u{1F600}, thanks");
        assert!(!attempt.response_truncated);
        // The host is an address and the scheme `http`: no name to look up, no handshake.
        assert_eq!((attempt.dns_duration, attempt.tls_duration), (None, None));
        let (connect, first_byte) = (attempt.connect_duration.unwrap(), attempt.first_byte_duration.unwrap());
        assert!(connect > Duration::ZERO && connect < first_byte && first_byte <= attempt.total_duration);
        app.stop().await;
    }

    async fn no_more_than_the_beginning_of_an_answer_is_kept(kind: Kind) {
        const KEPT: usize = 16 << 10;
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        for (length, truncated) in
            [(0, false), (KEPT - 1, false), (KEPT, false), (KEPT + 1, true), (20 * KEPT, true)]
        {
            // Not text: what comes back is anything at all.
            let body: Vec<u8> = (0..=255).cycle().take(length).collect();
            receiver.then(500, &[], body.clone());
            app.client.publish(an_event()).await.unwrap();
            app.run_until_idle().await;
            let attempt = attempts(&app, &the_delivery(&app).await).await.remove(0);
            assert_eq!(attempt.response_body, body[..length.min(KEPT)], "{length}");
            assert_eq!(attempt.response_truncated, truncated, "{length}");
        }
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_come_is_a_timeout() {
    let app = TestApp::builder(Kind::Sqlite)
        .await
        .with(|config| {
            config.sender.timeout = Duration::from_millis(200);
            config.sender.connect_timeout = Duration::from_millis(200);
        })
        .start()
        .await;
    let receiver = Receiver::start().await;
    let _shut = receiver.gate();
    app.subscribe(&receiver).await;
    app.client.publish(an_event()).await.unwrap();
    app.run_until_idle().await;
    let delivery = the_delivery(&app).await;
    assert_eq!(delivery.due_at, Some(now(&app) + Duration::from_secs(5)));
    let attempt = attempts(&app, &delivery).await.remove(0);
    assert_eq!(attempt.outcome, failed(AttemptFailure::Timeout, "timed out while waiting for the response"));
    assert!(attempt.total_duration >= Duration::from_millis(200));
    assert!(attempt.connect_duration.is_some());
    assert_eq!((attempt.status(), attempt.first_byte_duration), (None, None));
    assert!(attempt.response_headers.is_empty() && attempt.response_body.is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_end_is_a_timeout() {
    let app = TestApp::builder(Kind::Sqlite)
        .await
        .with(|config| {
            config.sender.timeout = Duration::from_millis(200);
            config.sender.connect_timeout = Duration::from_millis(200);
        })
        .start()
        .await;
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    let attempt = attempt_at(&app, answering_with(head, true).await).await;
    let expected = failed(AttemptFailure::Timeout, "timed out while reading the response");
    assert_eq!(attempt.outcome, expected, "what was said of success was not said to the end");
    assert_eq!(attempt.response_body, "half");
    assert!(attempt.response_truncated);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_before_a_status_is_told_apart() {
    let app = TestApp::start(Kind::Sqlite).await;
    let receiver = Receiver::start().await;
    // Nobody listens on port 1.
    let refused = attempt_at(&app, "http://127.0.0.1:1/hook".to_owned()).await;
    assert_eq!(
        refused.outcome,
        failed(AttemptFailure::Connect, "could not connect: connection refused (os error 111)")
    );
    let plain = attempt_at(&app, receiver.url().replace("http:", "https:")).await;
    assert!(
        matches!(plain.outcome, AttemptOutcome::Failed { failure: AttemptFailure::Tls, .. }),
        "{plain:?}"
    );
    assert!(plain.connect_duration.is_some() && plain.tls_duration.is_some());
    for answer in ["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 abc\r\n\r\n"] {
        let broken = attempt_at(&app, answering_with(answer, false).await).await;
        let outcome = &broken.outcome;
        assert!(
            matches!(outcome, AttemptOutcome::Failed { failure: AttemptFailure::Protocol, .. }),
            "{outcome:?}"
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_no_longer_allowed_is_not_sent_to() {
    let app = TestApp::start(Kind::Sqlite).await;
    let receiver = Receiver::answering([500]).await;
    app.subscribe(&receiver).await;
    app.client.publish(an_event()).await.unwrap();
    app.run_until_idle().await;
    let strict = app.another().with(|config| config.sender.allowed_networks.clear()).start().await;
    app.advance(Duration::from_secs(5));
    strict.run_until_idle().await;
    assert_eq!(receiver.requests().len(), 1);
    let attempt = attempts(&app, &the_delivery(&app).await).await.remove(1);
    let AttemptOutcome::Failed { failure, message } = attempt.outcome else { panic!("{attempt:?}") };
    assert_eq!(failure, AttemptFailure::AddressRefused);
    assert!(message.contains("loopback"), "{message}");
    strict.stop().await;
    app.stop().await;
}

/// What the first attempt at a new subscription comes to.
async fn attempt_at(app: &TestApp, url: String) -> Attempt {
    let new = Subscription::to(url).event_types(["**"]);
    let name = app.client.subscriptions().create(new).await.unwrap().subscription.name;
    app.client.subscriptions().send_test_event(&name).wait(Duration::ZERO).await.unwrap();
    app.run_until_idle().await;
    attempts(app, &the_delivery(app).await).await.remove(0)
}

fn failed(failure: AttemptFailure, message: &str) -> AttemptOutcome {
    AttemptOutcome::Failed { failure, message: message.to_owned() }
}

/// The URL of something that reads a request, answers with this, and hangs up or does not.
async fn answering_with(answer: &'static str, stay: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let serve = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4_096];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        if stay {
            std::future::pending::<()>().await;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(serve);
    url
}
