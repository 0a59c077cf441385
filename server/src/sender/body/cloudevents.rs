//! CloudEvents 1.0 by the HTTP protocol binding (`CONTRACTS.md` A2): binary, where attributes are headers and the body is the data, and
//! structured, where the body is the whole event as JSON. Batches are for those who ask for them, and nobody can.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{Body, Error};
use crate::domain::event::Event;

/// Of the JSON event format.
const STRUCTURED: HeaderValue = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
/// Names that CloudEvents uses itself: no attribute of an event can be an extension of such a name.
const RESERVED: [&str; 11] = [
    "data",
    "datacontenttype",
    "dataschema",
    "id",
    "source",
    "specversion",
    "subject",
    "time",
    "traceparent",
    "tracestate",
    "type",
];

/// Attributes in headers.
pub(super) fn binary(event: &Event) -> Result<Body, Error> {
    let mut body = Body::data(&event.content.payload)?;
    for (name, value) in attributes(event)? {
        let name = HeaderName::try_from(format!("ce-{name}"))?;
        body.headers.push((name, HeaderValue::from_str(&header_encoded(&value))?));
    }
    Ok(body)
}

/// Everything in the body. JSON data is spliced in byte for byte. There are no `ce-` headers: some receivers would take the event
/// for one in binary mode.
pub(super) fn structured(event: &Event) -> Result<Body, Error> {
    let payload = &event.content.payload;
    let mut bytes = Vec::with_capacity(payload.data.len() + 512);
    for (name, value) in attributes(event)? {
        bytes.push(if bytes.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut bytes, name)?;
        bytes.push(b':');
        serde_json::to_writer(&mut bytes, &value)?;
    }
    bytes.extend_from_slice(b",\"datacontenttype\":");
    serde_json::to_writer(&mut bytes, &payload.content_type)?;
    if payload.is_json() {
        bytes.extend_from_slice(b",\"data\":");
        bytes.extend_from_slice(&payload.data);
    } else {
        bytes.extend_from_slice(b",\"data_base64\":\"");
        bytes.extend_from_slice(STANDARD.encode(&payload.data).as_bytes());
        bytes.push(b'"');
    }
    bytes.push(b'}');
    Ok(Body { content_type: STRUCTURED, headers: Vec::new(), bytes: bytes.into() })
}

/// All attributes but `datacontenttype`.
fn attributes(event: &Event) -> Result<Vec<(&str, Cow<'_, str>)>, fmt::Error> {
    let mut time = String::with_capacity(32);
    write!(time, "{}", event.time())?;
    let content = &event.content;
    let source = match content.source.as_str() {
        "" => Cow::Owned(format!("/tenants/{}", event.tenant)),
        source => uri_reference(source),
    };
    let mut attributes: Vec<(&str, Cow<'_, str>)> = vec![
        ("specversion", "1.0".into()),
        ("id", event.id.to_string().into()),
        ("source", source),
        ("type", content.event_type.as_str().into()),
        ("time", time.into()),
    ];
    if !content.subject.is_empty() {
        attributes.push(("subject", content.subject.as_str().into()));
    }
    // That of the publish, not of this attempt: the extension tells where an event began, and says the same in every attempt.
    if let Some(trace) = &event.trace {
        attributes.push(("traceparent", trace.traceparent().into()));
        if !trace.tracestate().is_empty() {
            attributes.push(("tracestate", trace.tracestate().into()));
        }
    }
    let extensions = content.attributes.as_map().iter().filter(|(name, _)| is_extension(name));
    attributes.extend(extensions.map(|(name, value)| (name.as_str(), value.as_str().into())));
    Ok(attributes)
}

/// Others are left out: two of them could not be told apart if they were brought into this form.
fn is_extension(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) && !RESERVED.contains(&name)
}

/// As HTTP binding section 3.1.3.2 says: everything but visible ASCII, and of that `"` and `%`.
fn header_encoded(value: &str) -> Cow<'_, str> {
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
    utf8_percent_encode(value, ENCODED).into()
}

/// What cannot stand in a URI reference (RFC 3986) is encoded; a `%` that begins an escape stays.
fn uri_reference(source: &str) -> Cow<'_, str> {
    const OTHERS: AsciiSet = CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'<')
        .add(b'>')
        .add(b'\\')
        .add(b'^')
        .add(b'`')
        .add(b'{')
        .add(b'|')
        .add(b'}');
    const ALL: &AsciiSet = &OTHERS.add(b'%');
    let is_escape = |at: usize| {
        source.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    };
    let all_escapes = source.bytes().enumerate().all(|(at, byte)| byte != b'%' || is_escape(at));
    utf8_percent_encode(source, if all_escapes { &OTHERS } else { ALL }).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{event::Attributes, fixtures::event, trace_context::TraceContext};

    fn header<'a>(body: &'a Body, name: &str) -> Option<&'a str> {
        let found = body.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.to_str().unwrap())
    }

    fn full() -> Event {
        let mut event = event(b" {\"a\": 1.10}", "");
        event.content.source = "https://shop.example/Zürich 1".to_owned();
        event.content.subject = "Euro € \"100 %\"".to_owned();
        let attributes = [
            ("region", "eu west"),
            ("tier2", "gold"),
            ("Region", "no"),
            ("a_b", "no"),
            ("a-b", "no"),
            ("id", "no"),
            ("data", "no"),
            ("traceparent", "no"),
        ];
        event.content.attributes =
            Attributes::parse(attributes.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap();
        event.trace =
            TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1,b=2");
        event
    }

    #[test]
    fn binary_has_the_attributes_in_headers_and_the_data_in_the_body() {
        let event = full();
        let body = binary(&event).unwrap();
        assert_eq!(&body.bytes[..], b" {\"a\": 1.10}");
        assert_eq!(body.content_type, "application/json");
        let id = event.id.to_string();
        let expected = [
            ("ce-specversion", "1.0"),
            ("ce-id", &id),
            // Encoded once for the URI and once more for the header.
            ("ce-source", "https://shop.example/Z%25C3%25BCrich%25201"),
            ("ce-type", "order.created"),
            ("ce-time", "2024-11-21T10:59:59.25Z"),
            ("ce-subject", "Euro%20%E2%82%AC%20%22100%20%25%22"),
            ("ce-traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("ce-tracestate", "a=1,b=2"),
            ("ce-region", "eu%20west"),
            ("ce-tier2", "gold"),
        ];
        let sent: Vec<_> =
            body.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(sent, expected);
    }

    #[test]
    fn structured_is_this_byte_for_byte_and_without_headers() {
        let event = full();
        let body = structured(&event).unwrap();
        let expected = format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{}\",\"source\":\"https://shop.example/Z%C3%BCrich%201\",\
             \"type\":\"order.created\",\"time\":\"2024-11-21T10:59:59.25Z\",\"subject\":\"Euro € \\\"100 %\\\"\",\
             \"traceparent\":\"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\",\"tracestate\":\"a=1,b=2\",\
             \"region\":\"eu west\",\"tier2\":\"gold\",\"datacontenttype\":\"application/json\",\"data\": {{\"a\": 1.10}}}}",
            event.id
        );
        assert_eq!(std::str::from_utf8(&body.bytes).unwrap(), expected);
        assert_eq!(body.content_type, "application/cloudevents+json; charset=utf-8");
        assert!(body.headers.is_empty());
    }

    #[test]
    fn the_least_that_an_event_says_makes_a_valid_one() {
        let event = event(b"\xff\x00", "image/png");
        let body = binary(&event).unwrap();
        assert_eq!((&body.bytes[..], body.content_type.as_bytes()), (&b"\xff\x00"[..], &b"image/png"[..]));
        assert_eq!(header(&body, "ce-source"), Some("/tenants/default"));
        assert_eq!(body.headers.len(), 5);
        let json: serde_json::Value = serde_json::from_slice(&structured(&event).unwrap().bytes).unwrap();
        assert_eq!(json["data_base64"], "/wA=");
        assert_eq!(json["datacontenttype"], "image/png");
        assert_eq!(json.get("data"), None);
    }

    #[test]
    fn without_data_there_is_a_body_all_the_same() {
        let event = event(b"", "text/plain");
        assert_eq!(&binary(&event).unwrap().bytes[..], b"{}");
        let json: serde_json::Value = serde_json::from_slice(&structured(&event).unwrap().bytes).unwrap();
        assert_eq!(json["data_base64"], "");
    }

    #[test]
    fn a_source_becomes_a_uri_reference() {
        for (source, expected) in [
            ("/a/b?c=%20#d", "/a/b?c=%20#d"),
            ("urn:uuid:1", "urn:uuid:1"),
            ("100 %", "100%20%25"),
            ("a%2", "a%252"),
            ("<a|b>", "%3Ca%7Cb%3E"),
        ] {
            assert_eq!(uri_reference(source), expected);
        }
    }
}
