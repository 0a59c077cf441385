//! Events: as a producer hands them in, and as they are stored.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{
    event_type::EventType,
    handling::{Handling, OrderingKey, Priority},
    id::{EventId, TenantId},
    invalid::Invalid,
    timestamp::Timestamp,
    trace_context::TraceContext,
};

/// The longest source and the longest subject, in characters.
pub const MAX_TEXT: usize = 255;
/// The longest media type, in characters.
pub const MAX_CONTENT_TYPE: usize = 127;
/// The deepest nesting of JSON data: what `serde_json` and others parse by default.
pub const MAX_JSON_DEPTH: usize = 128;
/// The most attributes of one event.
pub const MAX_ATTRIBUTES: usize = 32;
/// The longest attribute key, in characters.
pub const MAX_ATTRIBUTE_KEY: usize = 64;
/// The longest attribute value, in characters.
pub const MAX_ATTRIBUTE_VALUE: usize = 1_024;
/// The longest request id, in characters.
pub const MAX_REQUEST_ID: usize = 128;

/// What happened, as its producer tells it.
#[derive(Debug, Clone)]
pub struct EventContent {
    /// Which kind of thing happened.
    pub event_type: EventType,
    /// The system it comes from; empty if not said.
    pub source: String,
    /// What it is about within the source; empty if not said.
    pub subject: String,
    /// When it happened, if said.
    pub time: Option<Timestamp>,
    /// The payload.
    pub payload: Payload,
    /// The producer's own attributes.
    pub attributes: Attributes,
    /// How it is to be delivered.
    pub handling: Handling,
}

impl EventContent {
    /// Tells whether two publishes with one request id mean the same event. The tracing of a call is no part of it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        // Each part with its length in front, so that nothing can move from one part to the next unnoticed.
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(self.event_type.as_str().as_bytes());
        part(self.source.as_bytes());
        part(self.subject.as_bytes());
        part(&self.time.map_or(Vec::new(), |time| time.as_micros().to_be_bytes().to_vec()));
        part(self.payload.content_type.as_bytes());
        part(&self.payload.data);
        for (key, value) in &self.attributes.0 {
            part(key.as_bytes());
            part(value.as_bytes());
        }
        let Handling { ordering_key, deliver_at, expire_at, priority } = &self.handling;
        if self.handling != Handling::default() {
            // No attribute has an empty key, so this is taken for none.
            part(b"");
            part(ordering_key.as_ref().map_or("", OrderingKey::as_str).as_bytes());
            for time in [deliver_at, expire_at] {
                part(&time.map_or(Vec::new(), |time| time.as_micros().to_be_bytes().to_vec()));
            }
            part(match priority {
                Priority::Low => b"low".as_slice(),
                Priority::Normal => b"normal",
                Priority::High => b"high",
            });
        }
        Fingerprint(hash.finalize().into())
    }
}

/// SHA-256 over an event's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// An event on its way in.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Whose event it is.
    pub tenant: TenantId,
    /// Makes the publish repeatable.
    pub request_id: Option<RequestId>,
    /// What happened.
    pub content: EventContent,
    /// The trace that the publish belongs to.
    pub trace: Option<TraceContext>,
}

/// An event as it is stored.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// Its owner.
    pub tenant: TenantId,
    /// The key it was published with.
    pub request_id: Option<RequestId>,
    /// What happened.
    pub content: EventContent,
    /// The trace that the publish belongs to.
    pub trace: Option<TraceContext>,
    /// When it was accepted.
    pub created_at: Timestamp,
}

impl Event {
    /// When it happened, or else when it was accepted.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.content.time.unwrap_or(self.created_at)
    }
}

/// A key that makes a publish repeatable, unique within its tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// Accepts 1 to 128 printable ASCII characters without spaces.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Invalid::new("request_id", "must be printable ASCII characters without spaces"));
        }
        if text.len() > MAX_REQUEST_ID {
            let reason = format!("has {} characters; at most {MAX_REQUEST_ID} are allowed", text.len());
            return Err(Invalid::new("request_id", reason));
        }
        Ok(Self(text.to_owned()))
    }

    /// From what the database stores.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Opaque bytes and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The bytes. Valid JSON in UTF-8 if the content type says so.
    pub data: Bytes,
    /// Their media type.
    pub content_type: String,
}

impl Payload {
    /// Accepts at most `max_bytes` bytes; with a JSON content type (which an empty one means) only valid JSON.
    pub fn parse(data: Bytes, content_type: &str, max_bytes: usize) -> Result<Self, Invalid> {
        if data.len() > max_bytes {
            let reason = format!("has {} bytes; at most {max_bytes} are allowed", data.len());
            return Err(Invalid::new("data", reason));
        }
        let content_type = if content_type.is_empty() { "application/json" } else { content_type };
        check_content_type(content_type)?;
        if is_json(content_type) {
            check_json(&data)?;
        }
        Ok(Self { data, content_type: content_type.to_owned() })
    }

    /// Whether the data is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        is_json(&self.content_type)
    }
}

/// `application/json`, `text/json` and all types with the suffix `+json` (RFC 6839), with any parameters.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(essence.as_str(), "application/json" | "text/json") || essence.ends_with("+json")
}

/// Accepts a media type of up to 127 characters, with any parameters.
pub fn check_content_type(text: &str) -> Result<(), Invalid> {
    if text.len() > MAX_CONTENT_TYPE {
        let reason = format!("has {} characters; at most {MAX_CONTENT_TYPE} are allowed", text.len());
        return Err(Invalid::new("data_content_type", reason));
    }
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    let well_formed = essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype));
    if well_formed && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        Ok(())
    } else {
        Err(Invalid::new("data_content_type", "must be a media type like `application/json`"))
    }
}

fn check_json(data: &[u8]) -> Result<(), Invalid> {
    if data.is_empty() {
        return Err(Invalid::new(
            "data",
            "must not be empty: the content type is JSON, and nothing is not valid JSON",
        ));
    }
    let text = std::str::from_utf8(data)
        .map_err(|cause| Invalid::new("data", format!("is not UTF-8, which JSON must be: {cause}")))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map_err(|cause| Invalid::new("data", format!("is not valid JSON: {cause}")))?;
    let depth = if brackets(data) > MAX_JSON_DEPTH { json_depth(data) } else { 0 };
    if depth > MAX_JSON_DEPTH {
        let reason = format!("is nested {depth} levels deep; at most {MAX_JSON_DEPTH} are allowed");
        return Err(Invalid::new("data", reason));
    }
    Ok(())
}

/// How many arrays and objects JSON has at most. Those in strings are counted too, so that there is nothing to decide for each byte.
fn brackets(json: &[u8]) -> usize {
    // `[` and `{` differ in this bit, and no other two bytes become this one.
    json.iter().filter(|byte| **byte | 0x20 == b'{').count()
}

/// How deep the arrays and objects of valid JSON are nested. Many a receiver's parser recurses, so the depth that we
/// pass on has a limit; our own check does not recurse.
fn json_depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The producer's own attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<String, String>);

impl Attributes {
    /// Accepts up to 32 attributes with keys of up to 64 and values of up to 1,024 characters.
    pub fn parse(attributes: impl IntoIterator<Item = (String, String)>) -> Result<Self, Invalid> {
        let attributes: BTreeMap<_, _> = attributes.into_iter().collect();
        let refuse = |reason: String| Err(Invalid::new("attributes", reason));
        if attributes.len() > MAX_ATTRIBUTES {
            return refuse(format!("has {} entries; at most {MAX_ATTRIBUTES} are allowed", attributes.len()));
        }
        for (key, value) in &attributes {
            let key_is_good = (1..=MAX_ATTRIBUTE_KEY).contains(&key.len())
                && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
            if !key_is_good {
                let shown: String = key.chars().take(MAX_ATTRIBUTE_KEY).collect();
                return refuse(format!(
                    "has the key `{}`; keys are 1 to {MAX_ATTRIBUTE_KEY} letters, digits, `_`, `-` and `.`",
                    shown.escape_debug()
                ));
            }
            check_text("attributes", value, MAX_ATTRIBUTE_VALUE)
                .map_err(|invalid| Invalid::new(format!("attributes[\"{key}\"]"), invalid.reason))?;
        }
        Ok(Self(attributes))
    }

    /// From what the database stores.
    #[must_use]
    pub fn from_stored(attributes: BTreeMap<String, String>) -> Self {
        Self(attributes)
    }

    /// The attributes, sorted by key.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// Accepts a text of at most `max` characters without control characters. `\0` in particular is one that
/// PostgreSQL cannot store.
pub fn check_text(field: &str, text: &str, max: usize) -> Result<(), Invalid> {
    let length = text.chars().count();
    if length > max {
        return Err(Invalid::new(field, format!("has {length} characters; at most {max} are allowed")));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(field, "must not hold control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(data: &[u8], content_type: &str) -> Result<Payload, Invalid> {
        Payload::parse(Bytes::copy_from_slice(data), content_type, 64)
    }

    #[test]
    fn json_is_checked_where_the_content_type_says_json() {
        for json in ["", "application/json", "application/JSON; charset=utf-8", "application/vnd.api+json"] {
            assert!(payload(b" {\"a\": [1]} ", json).is_ok(), "{json}");
            for bad in [&b""[..], b" ", b"{", b"{} {}", b"\xff", b"\"\xff\"", b"nul"] {
                assert_eq!(payload(bad, json).unwrap_err().field, "data", "{bad:?} as {json}");
            }
        }
        assert!(payload(b"\xff", "application/octet-stream").is_ok());
        assert!(payload(b"", "text/plain").is_ok());
    }

    #[test]
    fn data_has_a_limit_and_a_media_type_a_form() {
        assert!(payload(&[b'1'; 64], "").is_ok());
        assert!(payload(&[b'1'; 65], "").unwrap_err().reason.contains("65 bytes; at most 64"));
        for bad in ["json", "a/", "/b", "a b/c", "text/plain\n", "text/plain; x=ä"] {
            assert_eq!(payload(b"1", bad).unwrap_err().field, "data_content_type", "{bad}");
        }
    }

    #[test]
    fn the_depth_of_json_has_a_limit() {
        let nested = |depth: usize| {
            let json = format!("{}\"[[\\\"[[\"{}", "[".repeat(depth), "]".repeat(depth));
            Payload::parse(Bytes::from(json), "", 2_000_000)
        };
        assert!(nested(MAX_JSON_DEPTH).is_ok());
        assert!(nested(MAX_JSON_DEPTH + 1).unwrap_err().reason.contains("129 levels deep; at most 128"));
        assert!(nested(500_000).unwrap_err().reason.contains("500000 levels deep"));
    }

    #[test]
    fn deeply_nested_json_does_not_exhaust_the_stack() {
        let deep = Bytes::from("[".repeat(1_000_000));
        assert!(Payload::parse(deep, "", 2_000_000).unwrap_err().reason.contains("is not valid JSON"));
    }

    #[test]
    fn the_fingerprint_tells_contents_apart() {
        let content = |source: &str, subject: &str, data: &str| EventContent {
            event_type: EventType::parse("a.b").unwrap(),
            source: source.to_owned(),
            subject: subject.to_owned(),
            time: None,
            payload: payload(data.as_bytes(), "").unwrap(),
            attributes: Attributes::default(),
            handling: Handling::default(),
        };
        let first = content("ab", "c", "1").fingerprint();
        assert_eq!(first, content("ab", "c", "1").fingerprint());
        assert_ne!(first, content("a", "bc", "1").fingerprint());
        assert_ne!(first, content("ab", "c", "1 ").fingerprint());
    }

    #[test]
    fn the_fingerprint_tells_apart_what_is_asked_for() {
        let fingerprint = |handling: Handling| {
            let event_type = EventType::parse("a.b").unwrap();
            let (source, subject, time) = (String::new(), String::new(), None);
            let payload = payload(b"1", "").unwrap();
            let attributes = Attributes::default();
            EventContent { event_type, source, subject, time, payload, attributes, handling }.fingerprint().0
        };
        let at = |micros| Some(Timestamp::from_micros(micros));
        let key = |text: &str| Some(OrderingKey::from_stored(text.to_owned()));
        let none = Handling::default();
        let asked: std::collections::HashSet<_> = [
            none.clone(),
            Handling { ordering_key: key("a"), ..none.clone() },
            Handling { ordering_key: key("b"), ..none.clone() },
            Handling { deliver_at: at(1), ..none.clone() },
            Handling { expire_at: at(1), ..none.clone() },
            Handling { deliver_at: at(1), expire_at: at(2), ..none.clone() },
            Handling { priority: Priority::Low, ..none.clone() },
            Handling { priority: Priority::High, ..none },
        ]
        .map(fingerprint)
        .into();
        assert_eq!(asked.len(), 8);
    }

    #[test]
    fn attributes_have_limits() {
        let one = |key: &str, value: &str| Attributes::parse([(key.to_owned(), value.to_owned())]);
        assert!(one("tier", "gold").is_ok());
        assert!(one("", "x").is_err());
        assert!(one("a b", "x").is_err());
        assert_eq!(one("a", &"x".repeat(1_025)).unwrap_err().field, "attributes[\"a\"]");
        assert!(one("a", "\0").is_err());
        let many = (0..33).map(|n| (n.to_string(), String::new()));
        assert!(Attributes::parse(many).unwrap_err().reason.contains("33 entries; at most 32"));
    }
}
