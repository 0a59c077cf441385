//! Receivers are asked before they are sent anything, each in the way that it knows.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use postrider_integration_tests::{Receiver, Request, TestApp, an_event, on_both_databases};
use postrider_sdk::{
    Subscription,
    model::{
        Authentication, CustomHmac, Format, Handshake, HandshakeState, RateLimit, SignatureProfile,
        SubscriptionState,
    },
    verify::Verifier,
};
use postrider_server::domain::hexadecimal::hex;
use sha2::{Digest, Sha256};

use super::retry::now;

const ORIGIN: &str = "eventemitter.example.com";
const VERIFY_TOKEN: &str = "v&rify=me";
const EBAY_TOKEN: &str = "71745723-d031-455c-bfa5-f90d11b4f20a";
const CLIENT_SECRET: &str = "s3cret";

pub(super) type Reply = (u16, Vec<(&'static str, String)>, String);

pub(super) fn status(status: u16) -> Reply {
    (status, Vec::new(), String::new())
}

/// A parameter of a request's query.
fn parameter(request: &Request, name: &str) -> String {
    let (_, query) = request.path.split_once('?').unwrap_or_default();
    let found = url::form_urlencoded::parse(query.as_bytes()).find(|(other, _)| other == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn hmac(key: &str, text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(text);
    hex(&mac.finalize().into_bytes())
}

fn is_question(request: &Request) -> bool {
    request.envelope()["type"] == "url_verification"
}

/// What a receiver of this kind answers, whatever it is sent.
pub(super) fn agreeing(handshake: &Handshake, endpoint: String) -> impl Fn(&Request) -> Reply + use<> {
    let handshake = handshake.clone();
    move |request| match (&handshake, request.method.as_str()) {
        (Handshake::CloudEvents { .. }, "OPTIONS") => {
            let origin = request.header("webhook-request-origin").to_owned();
            (200, vec![("webhook-allowed-origin", origin)], String::new())
        }
        (Handshake::SlackUrlVerification { .. }, "POST") if is_question(request) => {
            let challenge = request.envelope()["challenge"].as_str().unwrap().to_owned();
            (200, vec![("content-type", "text/plain".to_owned())], challenge)
        }
        (Handshake::HookSecret, "POST") => match request.headers.get("x-hook-secret") {
            Some(secret) => {
                (204, vec![("x-hook-secret", secret.to_str().unwrap().to_owned())], String::new())
            }
            None => status(204),
        },
        (Handshake::Trello, "HEAD") => status(200),
        (Handshake::Meta { .. }, "GET") => {
            assert_eq!(parameter(request, "hub.mode"), "subscribe");
            match parameter(request, "hub.verify_token").as_str() {
                VERIFY_TOKEN => (200, Vec::new(), parameter(request, "hub.challenge")),
                _ => status(403),
            }
        }
        (Handshake::Ebay { .. }, "GET") => {
            let hashed = parameter(request, "challenge_code") + EBAY_TOKEN + &endpoint;
            let response = hex(&Sha256::digest(hashed));
            (200, Vec::new(), format!(r#"{{"challengeResponse":"{response}"}}"#))
        }
        (Handshake::Linkedin { .. }, "GET") => {
            let code = parameter(request, "challengeCode");
            let response = hmac(CLIENT_SECRET, code.as_bytes());
            (200, Vec::new(), format!(r#"{{"challengeCode":"{code}","challengeResponse":"{response}"}}"#))
        }
        (_, "POST") => status(204),
        (_, method) => panic!("an unexpected {method}"),
    }
}

/// One of each kind.
fn all() -> [Handshake; 7] {
    [
        Handshake::cloud_events(ORIGIN),
        Handshake::slack_url_verification_with("token"),
        Handshake::HookSecret,
        Handshake::Trello,
        Handshake::meta(VERIFY_TOKEN),
        Handshake::ebay(EBAY_TOKEN),
        Handshake::linkedin(CLIENT_SECRET),
    ]
}

/// Subscribes a receiver that is asked by a handshake, under the name `asked`.
pub(super) async fn subscribe(app: &TestApp, receiver: &Receiver, handshake: Handshake) -> Subscription {
    let new = Subscription::to(receiver.url()).event_types(["**"]).handshake(handshake).id("asked");
    app.client.subscriptions().create(new).await.unwrap().subscription
}

pub(super) async fn asked(app: &TestApp) -> Subscription {
    app.client.subscriptions().get("asked").await.unwrap()
}

on_both_databases! {
    async fn whoever_agrees_is_sent_what_has_waited(kind: Kind) {
        for handshake in all() {
            let app = TestApp::start(kind).await;
            let receiver = Receiver::start().await;
            // The target has a query already.
            let endpoint = receiver.url() + "?key=%20a+b";
            receiver.answer_by(agreeing(&handshake, endpoint.clone()));
            let new = Subscription::to(&endpoint).event_types(["**"]).handshake(handshake.clone()).id("asked");
            let created = app.client.subscriptions().create(new).await.unwrap().subscription;
            assert_eq!(created.state, SubscriptionState::AwaitingHandshake);
            let status = created.handshake_status.unwrap();
            assert_eq!((status.attempts, status.last_failure), (0, None));
            assert!(matches!(status.state, HandshakeState::Awaited { next_attempt_at: Some(at), .. } if at == now(&app)));

            app.client.publish(an_event()).await.unwrap();
            app.client.publish(an_event().ordering_key("key")).await.unwrap();
            app.run_until_idle().await;
            assert!(receiver.requests().is_empty(), "{handshake:?}");
            assert_eq!(app.look().await, Ok(()), "nothing is overdue that is not to be sent");

            assert_eq!(app.shake_hands().await, 1);
            let agreed = asked(&app).await;
            let status = agreed.handshake_status.unwrap();
            assert!(matches!(status.state, HandshakeState::Done { at: Some(at), .. } if at == now(&app)), "{status:?}");
            assert_eq!((agreed.state, status.attempts, status.last_failure), (SubscriptionState::Active, 1, None));
            assert_eq!((agreed.etag, agreed.updated_at), (created.etag, created.updated_at));
            assert_eq!(receiver.requests().len(), 1);
            assert!(receiver.requests()[0].path.starts_with("/hook?key=%20a+b"), "{:?}", receiver.requests());

            app.run_until_idle().await;
            assert_eq!(receiver.requests().len(), 3, "{handshake:?}");
            // And what comes now goes out from memory.
            app.client.publish(an_event()).await.unwrap();
            app.drain().await;
            let requests = receiver.requests();
            assert_eq!((requests.len(), app.shake_hands().await), (4, 0));
            for callback in &requests[1..] {
                assert_eq!((callback.method.as_str(), callback.path.as_str()), ("POST", "/hook?key=%20a+b"));
                let origin = callback.headers.get("webhook-request-origin").map(|origin| origin.to_str().unwrap());
                let expected = matches!(handshake, Handshake::CloudEvents { .. }).then_some(ORIGIN);
                assert_eq!(origin, expected);
            }
            app.stop().await;
        }
    }

    async fn a_subscription_is_asked_as_it_is_sent_to(kind: Kind) {
        let app = TestApp::start(kind).await;
        for handshake in all() {
            let receiver = Receiver::start().await;
            receiver.answer_by(agreeing(&handshake, receiver.url()));
            let new = Subscription::to(receiver.url())
                .event_types(["**"])
                .handshake(handshake)
                .authentication(Authentication::bearer("s3cret"))
                .format(Format::raw().header("X-Version", "2"));
            app.client.subscriptions().create(new).await.unwrap();
            assert_eq!(app.shake_hands().await, 1);
            let asked = &receiver.requests()[0];
            assert_eq!((asked.header("authorization"), asked.header("x-version")), ("Bearer s3cret", "2"));
            assert_eq!(asked.header("accept-encoding"), "identity");
        }
        app.stop().await;
    }

    async fn the_question_of_slack_is_signed(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let slack = Handshake::slack_url_verification();
        receiver.answer_by(agreeing(&slack, String::new()));
        let new = Subscription::to(receiver.url())
            .event_types(["**"])
            .handshake(slack)
            .signing([SignatureProfile::StandardWebhooks, SignatureProfile::Slack]);
        let secret = app.client.subscriptions().create(new).await.unwrap().secret;
        app.shake_hands().await;
        let asked = &receiver.requests()[0];
        assert_eq!(asked.envelope()["type"], "url_verification");
        let at = asked.header("x-slack-request-timestamp");
        let signed = [b"v0:", at.as_bytes(), b":", &asked.body].concat();
        assert_eq!(asked.header("x-slack-signature"), format!("v0={}", hmac(secret.expose(), &signed)));
        let verifier = Verifier::new([secret.expose()]).unwrap();
        verifier.verify_at(&asked.headers, &asked.body, now(&app)).unwrap();
        app.stop().await;
    }

    async fn a_hook_secret_is_what_callbacks_are_signed_with_also_after_a_rotation(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        receiver.answer_by(agreeing(&Handshake::HookSecret, String::new()));
        let asana = CustomHmac::new("X-Hook-Signature", "{body}");
        let new = Subscription::to(receiver.url())
            .event_types(["**"])
            .handshake(Handshake::HookSecret)
            .signing([SignatureProfile::CustomHmac(asana)])
            .id("asked");
        app.client.subscriptions().create(new).await.unwrap();
        let handed_over = async || {
            assert_eq!(app.shake_hands().await, 1);
            receiver.requests().last().unwrap().header("x-hook-secret").to_owned()
        };
        let signed_with = async |secret: &str| {
            app.client.publish(an_event()).await.unwrap();
            app.run_until_idle().await;
            let callback = receiver.requests().pop().unwrap();
            assert!(callback.headers.get("x-hook-secret").is_none());
            assert_eq!(callback.header("x-hook-signature"), hmac(secret, &callback.body));
        };
        let first = handed_over().await;
        signed_with(&first).await;

        let later = now(&app) + Duration::from_mins(1);
        let refused = app.client.subscriptions().rotate_secret("asked").effective_at(later).await.unwrap_err();
        assert_eq!(refused.field_violations()[0].field, "effective_time");
        assert_eq!(asked(&app).await.state, SubscriptionState::Active);

        let rotated = app.client.subscriptions().rotate_secret("asked").await.unwrap();
        assert_eq!(asked(&app).await.state, SubscriptionState::AwaitingHandshake);
        let before = receiver.requests().len();
        app.client.publish(an_event()).await.unwrap();
        app.run_until_idle().await;
        assert_eq!(receiver.requests().len(), before, "it could not be verified yet");
        let second = handed_over().await;
        assert_eq!((second.as_str(), second == first), (rotated.secret.expose(), false));
        signed_with(&second).await;
        app.stop().await;
    }

    async fn the_rate_that_a_receiver_allows_is_kept_to(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let allow = |rate: &'static str| {
            receiver.answer_by(move |request| {
                if request.method != "OPTIONS" {
                    return status(204);
                }
                let allowed = [("webhook-allowed-origin", "*"), ("webhook-allowed-rate", rate)];
                (200, allowed.map(|(name, value)| (name, value.to_owned())).to_vec(), String::new())
            });
        };
        allow("60");
        subscribe(&app, &receiver, Handshake::cloud_events(ORIGIN).requests_per_minute(600)).await;
        app.shake_hands().await;
        assert_eq!(receiver.requests()[0].header("webhook-request-rate"), "600");
        let shown = asked(&app).await;
        assert_eq!(shown.handshake_status.unwrap().allowed_requests_per_minute, Some(60));
        assert_eq!(shown.rate_limit, None, "that is the owner's");
        let sent = || receiver.requests().iter().filter(|request| request.method == "POST").count();
        for _ in 0..5 {
            app.client.publish(an_event()).await.unwrap();
        }
        for expected in [1, 2, 3] {
            app.run_until_idle().await;
            assert_eq!(sent(), expected);
            app.advance(Duration::from_secs(1));
        }

        // The lower one of both holds, and each is shown as it is.
        let subscriptions = app.client.subscriptions();
        let own = RateLimit::per_second(0.5).burst(1);
        subscriptions.update("asked").rate_limit(own).await.unwrap();
        for expected in [4, 4, 5] {
            app.run_until_idle().await;
            assert_eq!(sent(), expected);
            app.advance(Duration::from_secs(1));
        }
        let shown = asked(&app).await;
        assert_eq!(shown.rate_limit, Some(own));
        assert_eq!(shown.handshake_status.unwrap().allowed_requests_per_minute, Some(60));

        // Elsewhere something else may be allowed.
        allow("*");
        subscriptions.update("asked").target_url(receiver.url() + "/new").rate_limit(None).await.unwrap();
        app.shake_hands().await;
        let shown = asked(&app).await;
        assert_eq!((shown.state, shown.rate_limit), (SubscriptionState::Active, None));
        assert_eq!(shown.handshake_status.unwrap().allowed_requests_per_minute, None);
        for _ in 0..5 {
            app.client.publish(an_event()).await.unwrap();
        }
        app.run_until_idle().await;
        assert_eq!(sent(), 10);
        app.stop().await;
    }

    async fn secrets_of_handshakes_are_masked_and_kept_by_an_update_that_masks_them(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let meta = Handshake::meta(VERIFY_TOKEN);
        receiver.answer_by(agreeing(&meta, String::new()));
        let created = subscribe(&app, &receiver, meta).await;
        let shown = created.handshake.unwrap();
        assert_eq!(shown, Handshake::meta("********"));
        app.shake_hands().await;
        assert_eq!(asked(&app).await.state, SubscriptionState::Active);
        // What was read is sent back: nothing is new, so nothing is asked.
        let updated = app.client.subscriptions().update("asked").handshake(shown).description("x").await.unwrap();
        assert_eq!((updated.state, app.shake_hands().await), (SubscriptionState::Active, 0));
        app.client.subscriptions().update("asked").target_url(receiver.url() + "/new").await.unwrap();
        assert_eq!(app.shake_hands().await, 1);
        assert_eq!(asked(&app).await.state, SubscriptionState::Active);
        let refused = app.client.subscriptions().update("asked").handshake(Handshake::linkedin("********")).await;
        assert_eq!(refused.unwrap_err().field_violations()[0].field, "subscription.handshake.linkedin.client_secret");
        app.stop().await;
    }
}
