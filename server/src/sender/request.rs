//! What is sent: the body and the headers of one attempt (`CONTRACTS.md` A1).

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT},
};

use super::signature::{self, Message, Unsigned};
use crate::domain::{claim::Target, event::Event, timestamp::Timestamp, trace_context::TraceContext};

/// Why there is no request. None of these can happen to what the domain let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    /// It cannot be signed.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    /// The event's time is outside the years 1 to 9999.
    #[error("the event's time cannot be written down")]
    Time(#[from] std::fmt::Error),
    /// A string did not become JSON.
    #[error("the envelope cannot be written down")]
    Envelope(#[from] serde_json::Error),
    /// A value does not fit in a header.
    #[error("a header cannot be written down")]
    Header(#[from] http::header::InvalidHeaderValue),
    /// The target cannot be requested.
    #[error("the target url cannot be requested")]
    Uri(#[from] http::uri::InvalidUri),
}

/// What is sent.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// The request of an attempt that begins at `now`.
pub(super) fn build(
    event: &Event,
    target: &Target,
    trace: Option<&TraceContext>,
    now: Timestamp,
    user_agent: &HeaderValue,
) -> Result<Parts, BuildError> {
    let (method, content_type) = (Method::POST, "application/json");
    let body = body(event)?;
    let id = event.id.to_string();

    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    // What comes back is kept as it is; nothing is ever unpacked.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, user_agent.clone());
    headers.insert(HeaderName::from_static("webhook-id"), HeaderValue::try_from(&id)?);
    headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(now.unix_seconds()));
    let message =
        Message { event, id: &id, method: &method, url: target.url.url(), content_type, body: &body, now };
    let signing = target.settings.as_ref().and_then(|settings| settings.signing.as_ref());
    let url = signature::sign(signing, &target.secrets, &message, &mut headers)?;
    let uri = Uri::try_from(url.as_ref().unwrap_or(target.url.url()).as_str())?;
    if let Some(trace) = trace {
        add_trace(&mut headers, trace);
    }
    Ok(Parts { method, uri, headers, body })
}

/// A trace context that does not fit in headers is left out: tracing must not keep an event from its receiver.
fn add_trace(headers: &mut HeaderMap, trace: &TraceContext) {
    let Ok(traceparent) = HeaderValue::from_str(trace.traceparent()) else {
        return;
    };
    headers.insert(HeaderName::from_static("traceparent"), traceparent);
    match HeaderValue::from_str(trace.tracestate()) {
        Ok(tracestate) if !tracestate.is_empty() => {
            headers.insert(HeaderName::from_static("tracestate"), tracestate);
        }
        Ok(_) | Err(_) => {}
    }
}

/// The envelope. JSON data is spliced in byte for byte, so that receivers see numbers and spaces as the producer wrote them;
/// other data goes as base64, as only UTF-8 bodies can be verified by all receiver libraries.
fn body(event: &Event) -> Result<Bytes, BuildError> {
    let payload = &event.content.payload;
    let encoded = if payload.is_json() { None } else { Some(STANDARD.encode(&payload.data)) };
    let mut text = String::with_capacity(512);
    text.push_str("{\"type\":");
    text.push_str(&serde_json::to_string(event.content.event_type.as_str())?);
    write!(text, ",\"timestamp\":\"{}\",", event.time())?;
    let mut body = text.into_bytes();
    match encoded {
        None => {
            body.reserve_exact(payload.data.len() + 16);
            body.extend_from_slice(b"\"data\":");
            body.extend_from_slice(&payload.data);
        }
        Some(encoded) => {
            body.reserve_exact(encoded.len() + payload.content_type.len() * 2 + 64);
            body.extend_from_slice(b"\"content_type\":");
            body.extend_from_slice(serde_json::to_string(&payload.content_type)?.as_bytes());
            body.extend_from_slice(b",\"data_base64\":\"");
            body.extend_from_slice(encoded.as_bytes());
            body.push(b'"');
        }
    }
    body.push(b'}');
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        event::{Attributes, EventContent, Payload},
        event_type::EventType,
        handling::Handling,
        id::{EventId, SubscriptionId, SubscriptionUid, TenantId},
        secret::{SecretInForce, SecretSet, SigningSecret},
        settings::Settings,
        subscription::Pace,
        target_url::TargetUrl,
    };

    const NOW: Timestamp = Timestamp::from_micros(1_732_186_800_900_000);

    fn event(data: &[u8], content_type: &str) -> Event {
        Event {
            id: EventId::new(NOW),
            tenant: TenantId::parse("default").unwrap(),
            request_id: None,
            content: EventContent {
                event_type: EventType::parse("order.created").unwrap(),
                source: String::new(),
                subject: String::new(),
                time: Some(Timestamp::from_micros(1_732_186_799_250_000)),
                payload: Payload::parse(Bytes::copy_from_slice(data), content_type, 1_000).unwrap(),
                attributes: Attributes::default(),
                handling: Handling::default(),
            },
            trace: None,
            created_at: NOW,
        }
    }

    fn secrets(ends: &[Option<Timestamp>]) -> SecretSet {
        let held = |(at, end): (usize, &Option<Timestamp>)| SecretInForce {
            expires_at: *end,
            ..SecretInForce::current(SigningSecret::from_bytes(vec![u8::try_from(at).unwrap(); 32]))
        };
        SecretSet::newest_first(ends.iter().enumerate().map(held).collect())
    }

    fn target(ends: &[Option<Timestamp>]) -> Target {
        Target {
            uid: SubscriptionUid::new(NOW),
            tenant: TenantId::parse("default").unwrap(),
            id: SubscriptionId::parse("orders").unwrap(),
            url: TargetUrl::parse("https://example.com/hook").unwrap(),
            secrets: secrets(ends),
            pace: Pace::default(),
            recovered_at: None,
            revision: 1,
            settings: Some(Settings::plain()),
        }
    }

    fn build_with(trace: Option<&TraceContext>, target: &Target) -> Result<HeaderMap, BuildError> {
        let agent = HeaderValue::from_static("Postrider/test");
        build(&event(b"{}", ""), target, trace, NOW, &agent).map(|parts| parts.headers)
    }

    #[test]
    fn json_data_is_spliced_in_byte_for_byte() {
        let data = " {\"b\": 1.10, \"a\":\t\"\\u00e4ä\", \"b\": 2}\n";
        let body = body(&event(data.as_bytes(), "application/vnd.api+json")).unwrap();
        let expected = format!(
            "{{\"type\":\"order.created\",\"timestamp\":\"2024-11-21T10:59:59.25Z\",\"data\":{data}}}"
        );
        assert_eq!(body, expected.as_bytes());
    }

    #[test]
    fn other_data_goes_as_base64_with_its_content_type() {
        let body = body(&event(b"\xff\x00", "application/x; q=\"a\\b\"")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["type"], "order.created");
        assert_eq!(json["content_type"], "application/x; q=\"a\\b\"");
        assert_eq!(json["data_base64"], "/wA=");
        assert_eq!(json.as_object().unwrap().len(), 4);
    }

    #[test]
    fn empty_data_still_makes_a_body() {
        let body = body(&event(b"", "text/plain")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["data_base64"], "");
    }

    #[test]
    fn the_headers_are_those_of_the_contract() {
        let trace =
            TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1").unwrap();
        let headers = build_with(Some(&trace), &target(&[None])).unwrap();
        let get = |name| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(get("content-type"), Some("application/json"));
        assert_eq!(get("accept"), Some("*/*"));
        assert_eq!(get("accept-encoding"), Some("identity"));
        assert_eq!(get("user-agent"), Some("Postrider/test"));
        assert!(get("webhook-id").unwrap().starts_with("evt_"));
        assert_eq!(get("webhook-timestamp"), Some("1732186800"));
        assert_eq!(get("traceparent"), Some(trace.traceparent()));
        assert_eq!(get("tracestate"), Some("a=1"));
        assert_eq!(headers.len(), 9);
    }

    #[test]
    fn a_trace_without_state_or_with_a_broken_one_sends_no_tracestate() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for state in ["", "a=\n"] {
            let trace = TraceContext::from_stored(parent.to_owned(), state.to_owned());
            let headers = build_with(Some(&trace), &target(&[None])).unwrap();
            assert!(headers.contains_key("traceparent"));
            assert!(!headers.contains_key("tracestate"));
        }
        let trace = TraceContext::from_stored("\n".to_owned(), "a=1".to_owned());
        let headers = build_with(Some(&trace), &target(&[None])).unwrap();
        assert!(!headers.contains_key("tracestate"), "a state without its parent says nothing");
    }

    #[test]
    fn during_a_rotation_both_secrets_sign_in_one_line() {
        let headers =
            build_with(None, &target(&[None, Some(NOW + std::time::Duration::from_secs(1))])).unwrap();
        let line = headers["webhook-signature"].to_str().unwrap();
        assert_eq!(headers.get_all("webhook-signature").iter().count(), 1);
        let signatures: Vec<_> = line.split(' ').collect();
        assert_eq!(signatures.len(), 2);
        assert!(signatures.iter().all(|one| one.starts_with("v1,") && one.len() == 47));
    }

    #[test]
    fn without_a_secret_in_force_there_is_no_request() {
        let none = build_with(None, &target(&[Some(NOW)]));
        assert!(matches!(none, Err(BuildError::Unsigned(Unsigned::NoSecret))));
    }

    #[test]
    fn a_time_that_cannot_be_written_is_no_panic() {
        let mut event = event(b"{}", "");
        event.content.time = Some(Timestamp::from_micros(i64::MAX));
        let agent = HeaderValue::from_static("x");
        let none = build(&event, &target(&[None]), None, NOW, &agent);
        assert!(matches!(none, Err(BuildError::Time(_))));
    }
}
