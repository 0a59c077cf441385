//! The envelope that Standard Webhooks recommends. JSON data is spliced in byte for byte, so that receivers see numbers and spaces as the
//! producer wrote them; other data goes as base64, as only UTF-8 bodies can be verified by all receiver libraries.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Body, Error};
use crate::domain::event::Event;

/// The names and the time, and a little more.
const HEAD: usize = 128;

pub(super) fn write(event: &Event) -> Result<Body, Error> {
    let payload = &event.content.payload;
    let encoded = if payload.is_json() { None } else { Some(STANDARD.encode(&payload.data)) };
    let data = match &encoded {
        None => payload.data.len(),
        Some(encoded) => encoded.len() + payload.content_type.len() * 2,
    };
    let mut text = String::with_capacity(HEAD + event.content.event_type.as_str().len() * 2 + data);
    text.push_str("{\"type\":");
    text.push_str(&serde_json::to_string(event.content.event_type.as_str())?);
    write!(text, ",\"timestamp\":\"{}\",", event.time())?;
    let mut body = text.into_bytes();
    match encoded {
        None => {
            body.extend_from_slice(b"\"data\":");
            body.extend_from_slice(&payload.data);
        }
        Some(encoded) => {
            body.extend_from_slice(b"\"content_type\":");
            body.extend_from_slice(serde_json::to_string(&payload.content_type)?.as_bytes());
            body.extend_from_slice(b",\"data_base64\":\"");
            body.extend_from_slice(encoded.as_bytes());
            body.push(b'"');
        }
    }
    body.push(b'}');
    Ok(Body::json(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{fixtures::event, timestamp::Timestamp};

    #[test]
    fn json_data_is_spliced_in_byte_for_byte() {
        let data = " {\"b\": 1.10, \"a\":\t\"\\u00e4ä\", \"b\": 2}\n";
        let body = write(&event(data.as_bytes(), "application/vnd.api+json")).unwrap();
        let expected = format!(
            "{{\"type\":\"order.created\",\"timestamp\":\"2024-11-21T10:59:59.25Z\",\"data\":{data}}}"
        );
        assert_eq!(body.bytes, expected.as_bytes());
        assert_eq!(body.content_type, "application/json");
        assert!(body.headers.is_empty());
    }

    #[test]
    fn other_data_goes_as_base64_with_its_content_type() {
        let body = write(&event(b"\xff\x00", "application/x; q=\"a\\b\"")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
        assert_eq!(json["type"], "order.created");
        assert_eq!(json["content_type"], "application/x; q=\"a\\b\"");
        assert_eq!(json["data_base64"], "/wA=");
        assert_eq!(json.as_object().unwrap().len(), 4);
    }

    #[test]
    fn empty_data_still_makes_a_body() {
        let body = write(&event(b"", "text/plain")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
        assert_eq!(json["data_base64"], "");
    }

    #[test]
    fn a_time_that_cannot_be_written_is_no_panic() {
        let mut event = event(b"{}", "");
        event.content.time = Some(Timestamp::from_micros(i64::MAX));
        assert!(matches!(write(&event), Err(Error::Time(_))));
    }
}
