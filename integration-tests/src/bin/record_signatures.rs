//! Records callbacks that the real server has signed, one JSON object per line, for the vendors' own libraries to judge
//! (`integration-tests/interop`): each profile by itself, all at once, and both sides of a rotation.
//!
//! ```text
//! record-signatures OUTPUT      (`postrider` must have been built)
//! ```

#![expect(clippy::unwrap_used, reason = "a harness for tests")]

use std::io::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_integration_tests::{Kind, ProcessBuilder, Raw, Receiver, TestDatabase};
use postrider_proto::v1::{self as pb, signature_profile::Profile};
use serde_json::json;

const PARENT: &str = "tenants/default";

/// The profiles by name.
fn profiles() -> Vec<(&'static str, Profile)> {
    let custom = |header: &str, prefix: &str, signed_content: &str| pb::CustomHmacSignature {
        header: header.to_owned(),
        prefix: prefix.to_owned(),
        signed_content: signed_content.to_owned(),
        ..pb::CustomHmacSignature::default()
    };
    let trello = pb::CustomHmacSignature {
        algorithm: pb::HmacAlgorithm::Sha1.into(),
        encoding: pb::SignatureEncoding::Base64.into(),
        ..custom("X-Trello-Webhook", "", "{body}{url}")
    };
    let shopify = pb::ShopifySignature {
        topic: "orders/create".to_owned(),
        shop_domain: "acme.myshopify.com".to_owned(),
        api_version: "2026-10".to_owned(),
    };
    vec![
        ("standard_webhooks", Profile::StandardWebhooks(pb::StandardWebhooksSignature {})),
        (
            "standard_webhooks_ed25519",
            Profile::StandardWebhooksEd25519(pb::StandardWebhooksEd25519Signature {}),
        ),
        ("svix", Profile::Svix(pb::SvixSignature {})),
        ("stripe", Profile::Stripe(pb::StripeSignature {})),
        ("github", Profile::Github(pb::GithubSignature { legacy_sha1: true })),
        ("shopify", Profile::Shopify(shopify)),
        ("slack", Profile::Slack(pb::SlackSignature {})),
        ("twilio", Profile::Twilio(pb::TwilioSignature {})),
        ("square", Profile::Square(pb::SquareSignature {})),
        ("hubspot", Profile::Hubspot(pb::HubspotSignature {})),
        ("trello", Profile::CustomHmac(trello)),
        ("asana", Profile::CustomHmac(custom("X-Hook-Signature", "", "{body}"))),
    ]
}

/// A server, a receiver, and the file that is written.
struct Recorder {
    raw: Raw,
    http: String,
    receiver: Receiver,
    output: std::fs::File,
}

impl Recorder {
    async fn create(&self, id: &str, profiles: Vec<Profile>) -> String {
        let profiles = profiles.into_iter().map(|profile| pb::SignatureProfile { profile: Some(profile) });
        let request = pb::CreateSubscriptionRequest {
            parent: PARENT.to_owned(),
            subscription: Some(pb::Subscription {
                target_url: format!("{}/{id}?a=1&b=%20x", self.receiver.url()),
                event_types: vec!["nothing".to_owned()],
                signing: Some(pb::Signing { profiles: profiles.collect() }),
                ..pb::Subscription::default()
            }),
            subscription_id: id.to_owned(),
            ..pb::CreateSubscriptionRequest::default()
        };
        self.raw.clone().subscriptions.create_subscription(request).await.unwrap().into_inner().secret
    }

    async fn rotate(&self, id: &str) -> String {
        let name = format!("{PARENT}/subscriptions/{id}");
        let request =
            pb::RotateSubscriptionSecretRequest { name, ..pb::RotateSubscriptionSecretRequest::default() };
        self.raw.clone().subscriptions.rotate_subscription_secret(request).await.unwrap().into_inner().secret
    }

    /// Sends an event to a subscription and records what arrives. `secrets` are in force, the newest first.
    async fn record(&mut self, profile: &str, id: &str, secrets: &[&str]) {
        let before = self.receiver.requests().len();
        let name = format!("{PARENT}/subscriptions/{id}");
        let request = pb::SendTestEventRequest {
            name,
            r#type: "orders.create".to_owned(),
            data: "{\"price\": 1.10, \"to\": \"Zürich ☕\"}".into(),
            ..pb::SendTestEventRequest::default()
        };
        self.raw.subscriptions.send_test_event(request).await.unwrap();
        self.receiver.arrived(before + 1).await;
        let request = self.receiver.requests().pop().unwrap();
        let headers: serde_json::Map<_, _> = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())))
            .collect();
        let line = json!({
            "profile": profile,
            "secrets": secrets,
            "jwks": format!("{}/.well-known/postrider/default/{id}/jwks.json", self.http),
            "keys": self.keys(id).await,
            "method": request.method.as_str(),
            "url": format!("http://{}{}", self.receiver.address(), request.path),
            "headers": headers,
            "body": STANDARD.encode(&request.body),
        });
        writeln!(self.output, "{line}").unwrap();
    }

    /// The public keys as the server serves them.
    async fn keys(&self, id: &str) -> serde_json::Value {
        let path = format!("/.well-known/postrider/default/{id}/jwks.json");
        let address = self.http.trim_start_matches("http://").parse().unwrap();
        let request = http::Request::get(path).body(bytes::Bytes::new()).unwrap();
        let answer = postrider_integration_tests::send_http1(address, request).await;
        serde_json::from_slice(answer.body()).unwrap_or_default()
    }
}

#[tokio::main]
async fn main() {
    let output = std::env::args_os().nth(1).expect("usage: record-signatures OUTPUT");
    let database = TestDatabase::new(Kind::Sqlite).await;
    let server = ProcessBuilder::serve(&database).start().await;
    let raw = Raw::to(server.grpc.trim_start_matches("http://").parse().unwrap());
    let output = std::fs::File::create(output).unwrap();
    let mut recorder = Recorder { raw, http: server.http.clone(), receiver: Receiver::start().await, output };
    for (name, profile) in profiles() {
        let id = name.replace('_', "-");
        let first = recorder.create(&id, vec![profile]).await;
        recorder.record(name, &id, &[&first]).await;
        let second = recorder.rotate(&id).await;
        recorder.record(name, &id, &[&second, &first]).await;
    }
    let all = profiles().into_iter().map(|(_, profile)| profile).collect();
    let secret = recorder.create("all", all).await;
    for (name, _) in profiles() {
        recorder.record(name, "all", &[&secret]).await;
    }
    server.stop().await;
}
