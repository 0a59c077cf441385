//! What a receiver sees: a signed POST that any Standard Webhooks library verifies.

use std::{sync::Arc, time::Duration};

use postrider_integration_tests::{
    Builder, Kind, Receiver, Request, TestApp, TestDatabase, an_event, on_both_databases,
};
use postrider_sdk::{
    Event,
    verify::{Error, Verifier},
};
use postrider_server::clock::{Clock, ManualClock, SystemClock};
use standardwebhooks::Webhook;
use time::{OffsetDateTime, macros::datetime};

on_both_databases! {
    async fn a_callback_is_verified_by_the_official_library_and_by_ours(kind: Kind) {
        let app = app_of_today(kind).await;
        let receiver = Receiver::start().await;
        let secret = app.subscribe(&receiver).await.secret;
        let data =
            " {\"price\": 1.10, \"name\":\t\"Zo\\u00eb, ë, \u{1F600}\", \"n\": 12345678901234567890123} \n";
        app.client.publish(an_event().data(data, "application/json")).await.unwrap();
        app.client.publish(an_event().data(vec![0, 159, 255], "image/png")).await.unwrap();
        app.run_until_idle().await;
        let official = Webhook::new(secret.expose()).unwrap();
        let ours = Verifier::new([secret.expose()]).unwrap();
        for Request { headers, body, .. } in receiver.requests() {
            official.verify(&body, &headers).unwrap();
            let verified = ours.verify(&headers, &body).unwrap();
            assert_eq!(verified.id, headers["webhook-id"].to_str().unwrap());
            assert_eq!(verified.timestamp.unix_timestamp(), app.now().unix_seconds());
            let mut altered = body.to_vec();
            *altered.last_mut().unwrap() = b']';
            assert!(official.verify(&altered, &headers).is_err());
            assert_eq!(ours.verify(&headers, &altered), Err(Error::NoMatchingSignature));
        }
        assert_eq!(receiver.requests().len(), 2);
        app.stop().await;
    }

    async fn the_envelope_holds_the_data_byte_for_byte(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        for (nth, data) in [
            "null",
            "\"\"",
            " {\"b\" : 1,\r\n\t\"a\":2, \"b\": 3 } ",
            "[1.0, 1.10, 1e400, -0, 12345678901234567890123, 0.1000000000000000055]",
            "\"\\u00e4 ä \u{2028} \u{1F600} \\/ \\ud83d\\ude00\"",
            "{\"data\":{\"type\":\"x\"},\"}\":\"</script>\"}",
        ]
        .into_iter()
        .enumerate()
        {
            let when = datetime!(2026-02-03 04:05:06.25 UTC);
            let event = Event::new("order.created").time(when).data(data, "application/json");
            app.client.publish(event).await.unwrap();
            app.run_until_idle().await;
            let expected = format!(
                "{{\"type\":\"order.created\",\"timestamp\":\"2026-02-03T04:05:06.25Z\",\"data\":{data}}}"
            );
            assert_eq!(receiver.requests()[nth].body, expected);
        }
        app.stop().await;
    }

    async fn what_is_not_json_comes_in_base64_with_its_content_type(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        let content_type = "multipart/x; boundary=\"a\\b\"";
        app.client.publish(an_event().data(vec![0, 159, 255], content_type)).await.unwrap();
        app.run_until_idle().await;
        let request = &receiver.requests()[0];
        let expected = serde_json::json!({
            "type": "order.created",
            "timestamp": "2026-01-01T00:00:00Z",
            "content_type": content_type,
            "data_base64": "AJ//",
        });
        assert_eq!(request.envelope(), expected);
        assert_eq!(request.header("content-type"), "application/json");
        app.stop().await;
    }

    async fn a_callback_is_a_post_with_these_headers_and_each_of_them_once(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        app.subscribe(&receiver).await;
        let published = app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let request = &receiver.requests()[0];
        let mut names: Vec<_> = request.headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "accept-encoding",
                "content-length",
                "content-type",
                "host",
                "user-agent",
                "webhook-id",
                "webhook-signature",
                "webhook-timestamp",
            ]
        );
        assert_eq!(request.method, http::Method::POST);
        assert_eq!(request.path, "/hook");
        assert_eq!(request.header("accept"), "*/*");
        assert_eq!(request.header("accept-encoding"), "identity");
        assert_eq!(request.header("content-length"), request.body.len().to_string());
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("host"), receiver.address().to_string());
        assert!(request.header("user-agent").starts_with("Postrider/"));
        assert_eq!(request.header("webhook-timestamp"), "1767225600");
        assert_eq!(signatures(request).len(), 1);
        // A dot in the id would make the signed text ambiguous.
        let id = request.header("webhook-id");
        assert_eq!(id, published.event_id());
        assert!(id.strip_prefix("evt_").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric())));
        app.stop().await;
    }

    async fn a_retry_has_the_id_and_the_body_of_the_first_attempt_and_is_signed_anew(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::answering([500, 500]).await;
        let secret = app.subscribe(&receiver).await.secret;
        app.client.publish(an_event()).await.unwrap();
        let mut sent_at = Vec::new();
        for pause in [0, 5, 300] {
            app.advance(Duration::from_secs(pause));
            app.run_until_idle().await;
            sent_at.push(app.now());
        }
        let requests = receiver.requests();
        assert_eq!(requests.len(), 3);
        let verifier = Verifier::new([secret.expose()]).unwrap();
        for (request, at) in requests.iter().zip(&sent_at) {
            assert_eq!(request.webhook_id(), requests[0].webhook_id());
            assert_eq!(request.body, requests[0].body);
            assert_eq!(request.header("webhook-timestamp"), at.unix_seconds().to_string());
            let now = OffsetDateTime::from_unix_timestamp(at.unix_seconds()).unwrap();
            verifier.verify_at(&request.headers, &request.body, now).unwrap();
        }
        assert_ne!(signatures(&requests[0]), signatures(&requests[1]));
        assert_ne!(signatures(&requests[1]), signatures(&requests[2]));
        // Five minutes later the first one is too old to be played back.
        let now = OffsetDateTime::from_unix_timestamp(app.now().unix_seconds()).unwrap();
        let replayed = verifier.verify_at(&requests[0].headers, &requests[0].body, now);
        assert_eq!(replayed, Err(Error::TooOld));
        app.stop().await;
    }

    async fn each_subscription_signs_with_its_own_secret(kind: Kind) {
        let app = app_of_today(kind).await;
        let (one, two) = (Receiver::start().await, Receiver::start().await);
        let (first, second) = (app.subscribe(&one).await.secret, app.subscribe(&two).await.secret);
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let (one, two) = (&one.requests()[0], &two.requests()[0]);
        assert_eq!(one.webhook_id(), two.webhook_id());
        assert_eq!(one.body, two.body);
        assert!(verifies(&first, one) && verifies(&second, two));
        assert!(!verifies(&first, two) && !verifies(&second, one));
        app.stop().await;
    }

    async fn after_a_rotation_both_secrets_sign_until_the_overlap_is_over(kind: Kind) {
        let app = app_of_today(kind).await;
        let receiver = Receiver::start().await;
        let created = app.subscribe(&receiver).await;
        let send = async |nth: usize| {
            app.client.publish(an_event()).await.unwrap();
            app.run_until_idle().await;
            receiver.requests()[nth].clone()
        };
        let before = send(0).await;
        let rotated = app.client.subscriptions().rotate_secret(&created.subscription.name).await.unwrap();
        assert_ne!(rotated.secret, created.secret);
        let overlap = Duration::from_hours(24);
        let end = (app.now() + overlap).as_micros();
        assert_eq!(rotated.previous_expires_at.unix_timestamp_nanos(), i128::from(end) * 1_000);
        let during = send(1).await;
        assert_eq!((signatures(&before).len(), signatures(&during).len()), (1, 2));
        assert!(verifies(&created.secret, &during) && verifies(&rotated.secret, &during));
        assert!(verifies(&created.secret, &before) && !verifies(&rotated.secret, &before));
        // The current one signs first.
        assert!(verifies_alone(&rotated.secret, &during, 0) && verifies_alone(&created.secret, &during, 1));
        app.advance(Duration::from_secs(24 * 3_600 - 1));
        assert_eq!(signatures(&send(2).await).len(), 2);
        app.advance(Duration::from_secs(1));
        let after = send(3).await;
        assert_eq!(signatures(&after).len(), 1);
        assert!(verifies_alone(&rotated.secret, &after, 0));
        app.stop().await;
    }

    async fn a_retry_is_signed_with_the_secrets_that_are_in_force_by_then(kind: Kind) {
        let app = app_of_today(kind).await;
        let receiver = Receiver::answering([500]).await;
        let created = app.subscribe(&receiver).await;
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let rotated = app.client.subscriptions().rotate_secret(&created.subscription.name).await.unwrap();
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        let requests = receiver.requests();
        assert_eq!((signatures(&requests[0]).len(), signatures(&requests[1]).len()), (1, 2));
        assert!(verifies(&rotated.secret, &requests[1]) && verifies(&created.secret, &requests[1]));
        app.stop().await;
    }

    async fn up_to_five_secrets_are_in_force_at_once(kind: Kind) {
        let app = app_of_today(kind).await;
        let receiver = Receiver::start().await;
        let created = app.subscribe(&receiver).await;
        let name = &created.subscription.name;
        let mut newest_first = vec![created.secret];
        for _ in 0..4 {
            app.advance(Duration::from_hours(1));
            newest_first.insert(0, app.client.subscriptions().rotate_secret(name).await.unwrap().secret);
        }
        let refused = app.client.subscriptions().rotate_secret(name).await.unwrap_err();
        assert!(refused.is_failed_precondition(), "{refused}");
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        let request = &receiver.requests()[0];
        assert_eq!(signatures(request).len(), 5);
        for (nth, secret) in newest_first.iter().enumerate() {
            assert!(verifies_alone(secret, request, nth), "{nth}");
        }
        assert_eq!(app.client.subscriptions().secret(name).await.unwrap(), newest_first[0]);
        // The first was replaced three hours ago; when it has expired there is room for another.
        app.advance(Duration::from_hours(21));
        app.client.subscriptions().rotate_secret(name).await.unwrap();
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(signatures(&receiver.requests()[1]).len(), 5);
        assert!(!verifies(&newest_first[4], &receiver.requests()[1]));
        app.stop().await;
    }
}

#[tokio::test]
async fn the_overlap_of_a_rotation_is_configured() {
    let app = TestApp::builder(Kind::Sqlite)
        .await
        .with(|config| config.secrets.rotation_overlap = Duration::from_mins(1))
        .start()
        .await;
    let receiver = Receiver::start().await;
    let name = app.subscribe(&receiver).await.subscription.name;
    app.client.subscriptions().rotate_secret(&name).await.unwrap();
    for (advance, expected) in [(59, 2), (1, 1)] {
        app.advance(Duration::from_secs(advance));
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(signatures(receiver.requests().last().unwrap()).len(), expected);
    }
    app.stop().await;
}

/// A server whose clock shows today: the official library asks the machine for the time.
async fn app_of_today(kind: Kind) -> TestApp {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    Builder::on(Arc::new(TestDatabase::new(kind).await), clock).start().await
}

/// The parts of `webhook-signature`; some libraries fail on any other form than this.
fn signatures(request: &Request) -> Vec<&str> {
    let signatures: Vec<_> = request.header("webhook-signature").split(' ').collect();
    assert!(signatures.iter().all(|one| one.starts_with("v1,") && one.len() == 47), "{signatures:?}");
    signatures
}

/// Whether any of the signatures was made with this secret, whenever that was.
fn verifies(secret: &postrider_sdk::Secret, request: &Request) -> bool {
    (0..signatures(request).len()).any(|nth| verifies_alone(secret, request, nth))
}

/// Whether the `nth` signature was made with this secret, as the official library says.
fn verifies_alone(secret: &postrider_sdk::Secret, request: &Request, nth: usize) -> bool {
    let timestamp = request.header("webhook-timestamp").parse().unwrap();
    let official = Webhook::new(secret.expose()).unwrap();
    official.sign(request.webhook_id(), timestamp, &request.body).unwrap() == signatures(request)[nth]
}
