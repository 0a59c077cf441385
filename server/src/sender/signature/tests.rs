//! Byte for byte what the shared vectors say: `vectors.json` for the SDK too, `profiles.json` for all schemes.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::*;
use crate::domain::{
    event::{Attributes, EventContent, Payload},
    event_type::EventType,
    handling::Handling,
    id::{EventId, TenantId},
    secret::{KeyPair, SecretInForce},
};

#[derive(serde::Deserialize)]
struct StandardVector {
    description: String,
    secrets: Vec<String>,
    id: String,
    timestamp: i64,
    body: String,
    signature: String,
}

#[derive(serde::Deserialize)]
struct ProfileVector {
    description: String,
    profiles: Signing,
    secrets: Vec<String>,
    key_pairs: Vec<String>,
    id: String,
    event_type: String,
    event_id: uuid::Uuid,
    event_time: String,
    method: String,
    url: String,
    content_type: String,
    body: String,
    timestamp_ms: i64,
    headers: BTreeMap<String, String>,
    requested_url: Option<String>,
}

fn secrets(texts: &[String]) -> Vec<SecretInForce> {
    texts.iter().map(|text| SecretInForce::current(SigningSecret::parse(text).unwrap())).collect()
}

fn event(event_type: &str, id: uuid::Uuid, time: Timestamp) -> Event {
    Event {
        id: EventId::from_uuid(id),
        tenant: TenantId::parse("default").unwrap(),
        request_id: None,
        content: EventContent {
            event_type: EventType::parse(event_type).unwrap(),
            source: String::new(),
            subject: String::new(),
            time: Some(time),
            payload: Payload::parse(Bytes::from_static(b"{}"), "", 1_000).unwrap(),
            attributes: Attributes::default(),
            handling: Handling::default(),
        },
        trace: None,
        created_at: time,
    }
}

/// A message that does not matter but for these.
fn signed(
    signing: Option<&Signing>,
    secrets: &SecretSet,
    id: &str,
    at: i64,
    body: &[u8],
) -> Result<HeaderMap, Unsigned> {
    let mut headers = HeaderMap::new();
    let now = Timestamp::from_micros(at * 1_000_000);
    let url = Url::parse("https://example.com/").unwrap();
    let event = event("order.created", uuid::Uuid::nil(), now);
    let message = Message {
        event: &event,
        id,
        method: &Method::POST,
        url: &url,
        content_type: "application/json",
        body,
        now,
    };
    sign(signing, secrets, &message, &mut headers).map(|_| headers)
}

#[test]
fn standard_webhooks_is_what_the_shared_vectors_say() {
    let vectors: Vec<StandardVector> =
        serde_json::from_str(include_str!("../../../../proto/signature/vectors.json")).unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        let secrets = SecretSet::newest_first(secrets(&vector.secrets));
        let headers = signed(None, &secrets, &vector.id, vector.timestamp, vector.body.as_bytes()).unwrap();
        assert_eq!(headers["webhook-signature"], vector.signature, "{}", vector.description);
        assert_eq!(headers.len(), 1);
        assert!(headers["webhook-signature"].is_sensitive());
    }
}

#[test]
fn every_profile_is_what_the_vectors_say() {
    let vectors: Vec<ProfileVector> =
        serde_json::from_str(include_str!("../../../../proto/signature/profiles.json")).unwrap();
    let mut seen = BTreeSet::new();
    for vector in vectors {
        let mut held = secrets(&vector.secrets);
        for (held, pair) in held.iter_mut().zip(&vector.key_pairs) {
            let both = STANDARD.decode(pair.strip_prefix("whsk_").unwrap()).unwrap();
            held.key_pair = KeyPair::from_stored(&both);
        }
        let time = OffsetDateTime::parse(&vector.event_time, &Rfc3339).unwrap();
        let time = Timestamp::from_parts(time.unix_timestamp(), 0).unwrap();
        let event = event(&vector.event_type, vector.event_id, time);
        let method = Method::from_bytes(vector.method.as_bytes()).unwrap();
        let message = Message {
            event: &event,
            id: &vector.id,
            method: &method,
            url: &Url::parse(&vector.url).unwrap(),
            content_type: &vector.content_type,
            body: vector.body.as_bytes(),
            now: Timestamp::from_micros(vector.timestamp_ms * 1_000),
        };
        let mut headers = HeaderMap::new();
        let url =
            sign(Some(&vector.profiles), &SecretSet::newest_first(held), &message, &mut headers).unwrap();
        let written: BTreeMap<_, _> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        assert_eq!(written, vector.headers, "{}", vector.description);
        assert_eq!(url.map(String::from), vector.requested_url, "{}", vector.description);
        for profile in vector.profiles.profiles() {
            seen.insert(profile.name());
        }
        // What is told of headers is what is written.
        let told = vector.profiles.headers().filter(|name| !headers.contains_key(name)).count();
        assert_eq!(told, 0, "{}", vector.description);
    }
    assert_eq!(seen.len(), 11, "there is a vector for each profile: {seen:?}");
}

#[test]
fn there_is_no_signature_without_a_secret_that_is_fit() {
    let none = SecretSet::newest_first(Vec::new());
    let text = SecretSet::newest_first(secrets(&["a text of another system".to_owned()]));
    let of = |profile| Signing::new(vec![profile]).unwrap();
    for (signing, secrets) in [
        (None, &none),
        (None, &text),
        (Some(of(Profile::Svix)), &text),
        (Some(of(Profile::Slack)), &none),
        (Some(of(Profile::StandardWebhooksEd25519)), &text),
    ] {
        let refused = signed(signing.as_ref(), secrets, "evt_1", 1, b"{}");
        assert!(matches!(refused, Err(Unsigned::NoSecret)), "{signing:?}");
    }
}

#[test]
fn a_secret_of_another_scheme_that_is_still_in_force_does_not_sign() {
    let both = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a text of another system"].map(str::to_owned);
    let secrets = SecretSet::newest_first(secrets(&both));
    let headers = signed(None, &secrets, "evt_1", 1, b"{}").unwrap();
    assert!(!headers["webhook-signature"].to_str().unwrap().contains(' '));
}
