//! Callbacks signed as each receiver wants them, judged by the official libraries of those who have one in Rust. What the others say of
//! them is in `integration-tests/interop`.

use std::{sync::Arc, time::Duration};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use postrider_integration_tests::{
    Builder, Kind, Receiver, Refusal, Refused, Request, TestApp, TestDatabase, an_event, on_both_databases,
    send_http1,
};
use postrider_proto::v1 as pb;
use postrider_sdk::{
    Subscription,
    model::{CustomHmac, HmacAlgorithm, SignatureEncoding, SignatureProfile},
};
use postrider_server::clock::{Clock, ManualClock, SystemClock};
use ring::signature::{ED25519, UnparsedPublicKey};
use time::OffsetDateTime;

const IMPORTED: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Svix's example.
const IMPORTED_KEY: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";

/// Libraries judge timestamps by the real time.
async fn app_of_today(kind: Kind) -> TestApp {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    Builder::on(Arc::new(TestDatabase::new(kind).await), clock).start().await
}

async fn subscribe(
    app: &TestApp,
    receiver: &Receiver,
    profiles: impl IntoIterator<Item = SignatureProfile>,
) -> String {
    let new = Subscription::to(receiver.url()).event_types(["**"]).id("sub").signing(profiles);
    app.client.subscriptions().create(new).await.unwrap().secret.expose().to_owned()
}

/// Publishes an event and returns what the receiver got.
async fn send(app: &TestApp, receiver: &Receiver) -> Request {
    app.client.publish(an_event()).await.unwrap();
    app.run_until_idle().await;
    receiver.requests().pop().unwrap()
}

fn profiles() -> [SignatureProfile; 11] {
    [
        SignatureProfile::StandardWebhooks,
        SignatureProfile::StandardWebhooksEd25519,
        SignatureProfile::Svix,
        SignatureProfile::Stripe,
        SignatureProfile::github_with_sha1(),
        SignatureProfile::shopify("acme.myshopify.com", "2026-10"),
        SignatureProfile::Slack,
        SignatureProfile::Twilio,
        SignatureProfile::Square,
        SignatureProfile::Hubspot,
        SignatureProfile::CustomHmac(
            CustomHmac::new("X-Trello-Webhook", "{body}{url}")
                .algorithm(HmacAlgorithm::Sha1)
                .encoding(SignatureEncoding::Base64)
                .prefix("i={id};")
                .timestamp_header("X-Trello-Time"),
        ),
    ]
}

/// Svix's headers under the names of the standard.
fn as_standard(request: &Request) -> http::HeaderMap {
    ["id", "timestamp", "signature"]
        .map(|part| {
            let name: http::HeaderName = format!("webhook-{part}").parse().unwrap();
            (name, request.header(&format!("svix-{part}")).parse().unwrap())
        })
        .into_iter()
        .collect()
}

fn at(app: &TestApp, ahead: Duration) -> OffsetDateTime {
    let nanos = i128::from((app.now() + ahead).as_micros()) * 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap()
}

/// Whether this key verifies one of the `v1a` signatures.
fn verifies_v1a(public: &[u8], request: &Request) -> bool {
    let content = [
        request.webhook_id().as_bytes(),
        b".",
        request.header("webhook-timestamp").as_bytes(),
        b".",
        &request.body,
    ]
    .concat();
    let key = UnparsedPublicKey::new(&ED25519, public);
    let mut signatures =
        request.header("webhook-signature").split(' ').filter_map(|one| one.strip_prefix("v1a,"));
    signatures.any(|one| key.verify(&content, &STANDARD.decode(one).unwrap()).is_ok())
}

/// The status, and the public keys if there are some.
async fn jwks(app: &TestApp, subscription: &str) -> (u16, Vec<Vec<u8>>) {
    let path = format!("/.well-known/postrider/default/{subscription}/jwks.json");
    let answer = send_http1(app.http, http::Request::get(path).body(Bytes::new()).unwrap()).await;
    let keys: serde_json::Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let keys = keys["keys"].as_array().cloned().unwrap_or_default();
    let x = |key: &serde_json::Value| URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
    (answer.status().as_u16(), keys.iter().map(x).collect())
}

on_both_databases! {
    async fn all_profiles_sign_at_once_and_are_shown_as_they_were_set(kind: Kind) {
        let app = app_of_today(kind).await;
        let receiver = Receiver::answering([500]).await;
        let secret = subscribe(&app, &receiver, profiles()).await;
        let shown = app.client.subscriptions().get("sub").await.unwrap();
        assert_eq!(shown.signing, profiles());
        let first = send(&app, &receiver).await;
        app.advance(Duration::from_secs(5));
        app.run_until_idle().await;
        let second = receiver.requests().pop().unwrap();
        for request in [&first, &second] {
            standardwebhooks::Webhook::new(&secret).unwrap().verify(&request.body, &request.headers).unwrap();
            let renamed = as_standard(request);
            let svix = standardwebhooks::Webhook::new(&secret).unwrap();
            svix.verify(&request.body, &renamed).unwrap();
            assert!(svix.verify(b"{}", &renamed).is_err());
            assert!(request.path.starts_with("/hook?bodySHA256="), "{}", request.path);
            assert!(request.header("x-trello-webhook").starts_with(&format!("i={};", request.webhook_id())));
        }
        for name in ["webhook-timestamp", "stripe-signature", "x-slack-signature", "x-hubspot-signature-v3", "x-trello-time"] {
            assert_ne!(first.header(name), second.header(name), "each attempt is signed anew: {name}");
        }
        for name in ["webhook-id", "svix-id", "x-github-delivery", "x-hub-signature-256", "x-shopify-webhook-id"] {
            assert_eq!(first.header(name), second.header(name), "{name}");
        }
        app.stop().await;
    }

    async fn without_standard_webhooks_there_is_its_id_but_not_its_signature(kind: Kind) {
        let app = app_of_today(kind).await;
        let receiver = Receiver::start().await;
        subscribe(&app, &receiver, [SignatureProfile::Stripe]).await;
        let request = send(&app, &receiver).await;
        assert!(request.headers.contains_key("webhook-id") && request.headers.contains_key("webhook-timestamp"));
        assert!(!request.headers.contains_key("webhook-signature"));
        // And back to the default.
        app.client.subscriptions().update("sub").signing([]).await.unwrap();
        let request = send(&app, &receiver).await;
        assert!(request.headers.contains_key("webhook-signature") && !request.headers.contains_key("stripe-signature"));
        app.stop().await;
    }

    async fn a_rotation_overlaps_in_lists_and_changes_over_where_there_is_one_signature(kind: Kind) {
        let app = app_of_today(kind).await;
        let receiver = Receiver::start().await;
        let old = subscribe(&app, &receiver, profiles()).await;
        let single = |request: &Request| request.header("x-hub-signature-256").to_owned();
        let hour = Duration::from_hours(1);
        let rotated = app.client.subscriptions().rotate_secret("sub").effective_at(at(&app, hour)).await.unwrap();
        let new = rotated.secret.expose();
        let during = send(&app, &receiver).await;
        for secret in [&old, new] {
            standardwebhooks::Webhook::new(secret).unwrap().verify(&during.body, &during.headers).unwrap();
            standardwebhooks::Webhook::new(secret).unwrap().verify(&during.body, &as_standard(&during)).unwrap();
        }
        assert_eq!(during.header("stripe-signature").matches(",v1=").count(), 2);
        assert_eq!(during.header("webhook-signature").matches("v1a,").count(), 2);
        let by = |secret: &str, request: &Request| {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
            let tag = ring::hmac::sign(&key, &request.body);
            tag.as_ref().iter().fold("sha256=".to_owned(), |hex, byte| hex + &format!("{byte:02x}"))
        };
        assert_eq!(single(&during), by(&old, &during), "not yet");
        app.advance(hour);
        let after = send(&app, &receiver).await;
        assert_eq!(single(&after), by(new, &after));
        assert_eq!(after.header("stripe-signature").matches(",v1=").count(), 2, "the overlap goes on");
        app.stop().await;
    }

    async fn secrets_of_another_system_are_taken_over_where_they_fit(kind: Kind) {
        let app = app_of_today(kind).await;
        let receiver = Receiver::start().await;
        let text = "a text of another system";
        let new = || Subscription::to(receiver.url()).event_types(["**"]);
        let refused = |error: postrider_sdk::Error| error.to_string();
        for bad in [new().secret(text), new().secret("whsec_c2hvcnQ="), new().signing([SignatureProfile::Svix]).secret(text)] {
            let error = refused(app.client.subscriptions().create(bad).await.unwrap_err());
            assert!(error.contains("secret: ") && error.contains("whsec_"), "{error}");
        }
        let created = app.client.subscriptions().create(new().id("sub").secret(IMPORTED)).await.unwrap();
        assert_eq!(created.secret.expose(), IMPORTED);
        let request = send(&app, &receiver).await;
        standardwebhooks::Webhook::new(IMPORTED).unwrap().verify(&request.body, &request.headers).unwrap();

        let subscriptions = app.client.subscriptions();
        let error = refused(subscriptions.rotate_secret("sub").to(text).await.unwrap_err());
        assert!(error.contains("secret: does not fit"), "{error}");
        subscriptions.update("sub").signing([SignatureProfile::Slack]).await.unwrap();
        assert_eq!(subscriptions.rotate_secret("sub").to(text).await.unwrap().secret.expose(), text);
        assert_eq!(subscriptions.secret("sub").await.unwrap().expose(), text);
        let error = refused(subscriptions.update("sub").signing([SignatureProfile::Svix]).await.unwrap_err());
        assert!(error.contains("subscription.signing: ") && error.contains("rotate the secret first"), "{error}");
        app.stop().await;
    }

    async fn a_key_of_another_system_signs_where_ed25519_is_asked_for(kind: Kind) {
        let app = app_of_today(kind).await;
        let receiver = Receiver::start().await;
        let public = STANDARD.decode("1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=").unwrap();
        let new = |profiles: &[SignatureProfile]| {
            Subscription::to(receiver.url()).event_types(["**"]).signing(profiles.iter().cloned())
        };
        let (ed25519, slack) = (SignatureProfile::StandardWebhooksEd25519, SignatureProfile::Slack);
        let subscriptions = app.client.subscriptions();
        for (profiles, secret, reason) in [
            (vec![ed25519.clone()], "a text of another system", "`whsk_` and the padded base64"),
            (vec![ed25519.clone()], IMPORTED, "`whsk_` and the padded base64"),
            (vec![ed25519.clone()], "whsk_c2hvcnQ=", "32 bytes"),
            (vec![slack.clone()], IMPORTED_KEY, "`standard_webhooks_ed25519`"),
        ] {
            let error = subscriptions.create(new(&profiles).secret(secret)).await.unwrap_err().to_string();
            assert!(error.contains("secret: ") && error.contains(reason), "{error}");
        }
        let created = subscriptions.create(new(&[ed25519.clone(), slack]).id("sub").secret(IMPORTED_KEY)).await.unwrap();
        assert!(created.secret.expose().starts_with("whsec_"), "of the other profile");
        assert_eq!(jwks(&app, "sub").await, (200, vec![public.clone()]));
        let request = send(&app, &receiver).await;
        assert!(verifies_v1a(&public, &request));

        subscriptions.rotate_secret("sub").await.unwrap();
        let (_, made) = jwks(&app, "sub").await;
        assert_ne!(made[0], public);
        subscriptions.update("sub").signing([ed25519]).await.unwrap();
        let error = subscriptions.rotate_secret("sub").to(IMPORTED).await.unwrap_err().to_string();
        assert!(error.contains("secret: does not fit"), "{error}");
        subscriptions.rotate_secret("sub").to(IMPORTED_KEY).await.unwrap();
        let error = subscriptions.rotate_secret("sub").to(IMPORTED_KEY).await.unwrap_err().to_string();
        assert!(error.contains("secret: is the current one"), "{error}");
        let request = send(&app, &receiver).await;
        assert_eq!(request.header("webhook-signature").matches("v1a,").count(), 2, "gone back to, it signs once");
        assert_eq!(jwks(&app, "sub").await, (200, vec![public, made[0].clone()]));
        app.stop().await;
    }

    async fn a_short_secret_signs_where_its_vendor_lets_it(kind: Kind) {
        let app = app_of_today(kind).await;
        let receiver = Receiver::start().await;
        let new = || Subscription::to(receiver.url()).event_types(["**"]).id("sub").secret("short");
        let error = app.client.subscriptions().create(new()).await.unwrap_err().to_string();
        assert!(error.contains("24 to 64 bytes"), "{error}");
        let created = app.client.subscriptions().create(new().signing([SignatureProfile::Stripe])).await.unwrap();
        assert_eq!(created.secret.expose(), "short");
        let error = app.client.subscriptions().rotate_secret("sub").to("short").await.unwrap_err().to_string();
        assert!(error.contains("secret: is the current one"), "{error}");
        assert_eq!(send(&app, &receiver).await.header("stripe-signature").matches(",v1=").count(), 1);
        app.stop().await;
    }

    async fn a_cut_over_is_at_most_thirty_days_ahead(kind: Kind) {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        subscribe(&app, &receiver, [SignatureProfile::Slack]).await;
        let rotate = async |seconds: i64, nanos| {
            let request = pb::RotateSubscriptionSecretRequest {
                name: "tenants/default/subscriptions/sub".to_owned(),
                effective_time: Some(prost_types::Timestamp { seconds: app.now().unix_seconds() + seconds, nanos }),
                ..pb::RotateSubscriptionSecretRequest::default()
            };
            app.raw().subscriptions.rotate_subscription_secret(request).await
        };
        for (seconds, nanos) in [(30 * 86_400 + 1, 0), (i64::from(i32::MAX) * 1_000, 0), (0, -1)] {
            assert_eq!(rotate(seconds, nanos).await.refusal(), Refusal::invalid("effective_time"));
        }
        rotate(30 * 86_400, 0).await.unwrap();
        rotate(-5, 0).await.unwrap();
        app.stop().await;
    }

    async fn public_keys_are_served_to_those_who_verify_without_a_secret(kind: Kind) {
        let app = app_of_today(kind).await;
        let receiver = Receiver::start().await;
        let new = Subscription::to(receiver.url()).event_types(["**"]).id("sub");
        app.client.subscriptions().create(new).await.unwrap();
        assert_eq!(app.client.subscriptions().public_key("sub").await.unwrap(), None);
        for nobody in ["sub", "other", "No%20Name"] {
            assert_eq!(jwks(&app, nobody).await, (404, Vec::new()));
        }
        app.client.subscriptions().update("sub").signing([SignatureProfile::StandardWebhooksEd25519]).await.unwrap();
        let text = app.client.subscriptions().public_key("sub").await.unwrap().unwrap();
        let public = STANDARD.decode(text.strip_prefix("whpk_").unwrap()).unwrap();
        assert_eq!(jwks(&app, "sub").await, (200, vec![public.clone()]));
        let request = send(&app, &receiver).await;
        assert!(verifies_v1a(&public, &request));
        let tampered = Request { body: Bytes::from_static(b"{}"), ..request };
        assert!(!verifies_v1a(&public, &tampered));

        app.client.subscriptions().rotate_secret("sub").await.unwrap();
        let (_, keys) = jwks(&app, "sub").await;
        assert_eq!((keys.len(), &keys[1]), (2, &public));
        let during = send(&app, &receiver).await;
        assert!(keys.iter().all(|key| verifies_v1a(key, &during)));
        app.advance(Duration::from_hours(24));
        assert_eq!(jwks(&app, "sub").await, (200, keys[..1].to_vec()));
        let after = send(&app, &receiver).await;
        assert!(verifies_v1a(&keys[0], &after) && !verifies_v1a(&public, &after));
        app.stop().await;
    }
}
