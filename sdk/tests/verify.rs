//! Verification against the shared vectors, the official library, and everything that must be refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{collections::HashMap, time::Duration};

use postrider_sdk::verify::{Error, InvalidSecret, Verifier};
use serde::Deserialize;
use time::OffsetDateTime;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SENT: i64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

#[derive(Deserialize)]
struct Vector {
    description: String,
    secrets: Vec<String>,
    id: String,
    timestamp: i64,
    body: String,
    signature: String,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../../proto/signature/vectors.json")).unwrap()
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

fn headers(timestamp: &impl ToString, signature: &str) -> Vec<(String, String)> {
    [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signature.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn verify(signature: &str, body: &[u8]) -> Result<String, Error> {
    let verifier = Verifier::new([SECRET]).unwrap();
    verifier.verify_at(&headers(&SENT, signature), body, at(SENT)).map(|verified| verified.id)
}

#[test]
fn every_vector_is_verified_by_each_of_its_secrets() {
    for vector in vectors() {
        let headers = [
            ("webhook-id", vector.id.clone()),
            ("webhook-timestamp", vector.timestamp.to_string()),
            ("webhook-signature", vector.signature.clone()),
        ];
        let now = at(vector.timestamp);
        for secret in &vector.secrets {
            let verifier = Verifier::new([secret]).unwrap();
            let callback = verifier.verify_at(&headers, vector.body.as_bytes(), now).unwrap();
            assert_eq!((callback.id, callback.timestamp), (vector.id.clone(), now), "{}", vector.description);
        }
    }
}

#[test]
fn what_the_official_library_signs_is_verified() {
    let body = r#"{"data":"Zürich ☕"}"#;
    let signature =
        standardwebhooks::Webhook::new(OTHER_SECRET).unwrap().sign("evt_1", SENT, body.as_bytes()).unwrap();
    let headers =
        [("webhook-id", "evt_1"), ("webhook-timestamp", "1614265330"), ("webhook-signature", &signature)];
    Verifier::new([OTHER_SECRET]).unwrap().verify_at(&headers, body.as_bytes(), at(SENT)).unwrap();
}

#[test]
fn any_of_several_secrets_and_any_of_several_signatures_will_do() {
    let verifier = Verifier::new([OTHER_SECRET, SECRET]).unwrap();
    let signatures = format!("v1a,AAAA v1,AAAA {SIGNATURE} v2,whatever");
    assert!(verifier.verify_at(&headers(&SENT, &signatures), BODY, at(SENT)).is_ok());
}

#[test]
fn a_changed_body_is_refused() {
    assert_eq!(verify(SIGNATURE, br#"{"test": 2432232315}"#), Err(Error::NoMatchingSignature));
}

#[test]
fn a_signature_of_another_version_is_ignored() {
    let as_v2 = SIGNATURE.replace("v1,", "v2,");
    assert_eq!(verify(&as_v2, BODY), Err(Error::NoMatchingSignature));
}

#[test]
fn a_shortened_signature_is_refused() {
    for signature in ["v1,", "v1,g0hM9SsE", "v1,?", ""] {
        assert_eq!(verify(signature, BODY), Err(Error::NoMatchingSignature), "{signature}");
    }
}

#[test]
fn a_callback_is_accepted_up_to_the_tolerance_in_both_directions() {
    let verifier = Verifier::new([SECRET]).unwrap();
    let verify_at = |now| verifier.verify_at(&headers(&SENT, SIGNATURE), BODY, at(now)).err();
    assert_eq!(verify_at(SENT + 300), None);
    assert_eq!(verify_at(SENT + 301), Some(Error::TooOld));
    assert_eq!(verify_at(SENT - 300), None);
    assert_eq!(verify_at(SENT - 301), Some(Error::TooNew));
}

#[test]
fn the_tolerance_can_be_chosen() {
    let verifier = Verifier::new([SECRET]).unwrap().with_tolerance(Duration::from_secs(1));
    let verify_at = |now| verifier.verify_at(&headers(&SENT, SIGNATURE), BODY, at(now)).err();
    assert_eq!(verify_at(SENT + 1), None);
    assert_eq!(verify_at(SENT + 2), Some(Error::TooOld));
}

#[test]
fn the_present_is_what_verify_compares_with() {
    let verifier = Verifier::new([SECRET]).unwrap();
    assert_eq!(verifier.verify(&headers(&SENT, SIGNATURE), BODY), Err(Error::TooOld));
}

#[test]
fn a_timestamp_that_is_no_number_of_seconds_is_refused() {
    let verifier = Verifier::new([SECRET]).unwrap();
    for timestamp in ["", "now", "+1614265330", "-1", "1614265330.5", " 1614265330", "99999999999999999999"] {
        let result = verifier.verify_at(&headers(&timestamp, SIGNATURE), BODY, at(SENT));
        assert_eq!(result, Err(Error::MalformedTimestamp), "{timestamp:?}");
    }
}

#[test]
fn a_missing_header_is_named() {
    let verifier = Verifier::new([SECRET]).unwrap();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut headers = headers(&SENT, SIGNATURE);
        headers.retain(|(key, _)| key != name);
        let error = verifier.verify_at(&headers, BODY, at(SENT)).unwrap_err();
        assert_eq!(error, Error::MissingHeader(name));
        assert_eq!(error.to_string(), format!("header {name} is missing"));
    }
}

#[test]
fn headers_come_in_many_forms() {
    let verifier = Verifier::new([SECRET]).unwrap();
    let list: Vec<(String, String)> = headers(&SENT, SIGNATURE)
        .into_iter()
        .map(|(name, value)| (name.replace("webhook", "Webhook"), value))
        .collect();
    let map: HashMap<String, String> = list.iter().cloned().collect();
    let http: http::HeaderMap = (&map).try_into().unwrap();
    let closure = |name: &str| http.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert!(verifier.verify_at(&list, BODY, at(SENT)).is_ok());
    assert!(verifier.verify_at(list.as_slice(), BODY, at(SENT)).is_ok());
    assert!(verifier.verify_at(&map, BODY, at(SENT)).is_ok());
    assert!(verifier.verify_at(&http, BODY, at(SENT)).is_ok());
    assert!(verifier.verify_at(&closure, BODY, at(SENT)).is_ok());
}

#[test]
fn a_secret_may_lack_its_prefix_and_its_padding() {
    let bare = OTHER_SECRET.trim_start_matches("whsec_").trim_end_matches('=');
    let vector = vectors().into_iter().find(|vector| vector.secrets == [OTHER_SECRET]).unwrap();
    let headers = [
        ("webhook-id", vector.id),
        ("webhook-timestamp", vector.timestamp.to_string()),
        ("webhook-signature", vector.signature),
    ];
    let verifier = Verifier::new([bare]).unwrap();
    assert!(verifier.verify_at(&headers, vector.body.as_bytes(), at(vector.timestamp)).is_ok());
}

#[test]
fn a_useless_secret_is_refused_at_once() {
    let refusal = |secrets: &[&str]| Verifier::new(secrets).unwrap_err();
    assert_eq!(refusal(&[]), InvalidSecret::None);
    assert_eq!(refusal(&["whsec_"]), InvalidSecret::Empty);
    assert_eq!(refusal(&[SECRET, "whsec_not base64"]), InvalidSecret::NotBase64);
}

#[test]
fn a_verifier_does_not_show_its_secrets() {
    let shown = format!("{:?}", Verifier::new([SECRET]).unwrap());
    assert_eq!(shown, "Verifier { keys: 1, tolerance: 300s, .. }");
}
