//! The names that templates know an event by.

use std::collections::HashMap;

use minijinja::Value;

use super::{Error, MAX_DATA};
use crate::domain::event::Event;

/// All that there can be.
pub(super) const ALL: [&str; 9] =
    ["type", "id", "timestamp", "source", "subject", "attributes", "data", "tenant", "subscription"];

/// `type`, `id`, `timestamp`, `source`, `subject`, `attributes`, `data`, `tenant`, `subscription`. There is no `data` if it is not JSON, and no
/// `source` or `subject` if the event has none.
pub(super) fn of(event: &Event, subscription: &str) -> Result<HashMap<&'static str, Value>, Error> {
    let content = &event.content;
    let attributes = content.attributes.as_map().iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let mut names = HashMap::from([
        ("type", Value::from(content.event_type.as_str())),
        ("id", Value::from(event.id.to_string())),
        ("timestamp", Value::from(event.time().to_string())),
        ("attributes", Value::from_pairs(attributes)),
        ("tenant", Value::from(event.tenant.as_str())),
        ("subscription", Value::from(subscription)),
    ]);
    for (name, text) in [("source", &content.source), ("subject", &content.subject)] {
        if !text.is_empty() {
            names.insert(name, Value::from(text.as_str()));
        }
    }
    let payload = &content.payload;
    if payload.is_json() {
        if payload.data.len() > MAX_DATA {
            let message = format!(
                "the event has {} bytes of data; templates take up to {MAX_DATA}",
                payload.data.len()
            );
            return Err(Error { message, place: None });
        }
        let data = serde_json::from_slice(&payload.data);
        let data = data.map_err(|cause| {
            let message =
                format!("the data cannot be read: {cause}; numbers must be in the range of a double");
            Error { message, place: None }
        })?;
        names.insert("data", data);
    }
    Ok(names)
}
