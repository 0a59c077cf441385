//! What the demo publishes.

use std::{error::Error, fs, path::Path};

use serde::Deserialize;
use serde_json::value::RawValue;

/// An event, its data as it stands in the file.
pub(super) struct DemoEvent {
    pub(super) event_type: String,
    pub(super) data: String,
}

/// Three events of an imaginary shop.
pub(super) fn built_in() -> Vec<DemoEvent> {
    let events = [
        (
            "order.created",
            r#"{"order": 1001, "customer": "Zoë", "total": {"amount": "49.90", "currency": "EUR"}}"#,
        ),
        ("order.paid", r#"{"order": 1001, "method": "card"}"#),
        ("parcel.handed_over", r#"{"order": 1001, "carrier": "Postrider ☕", "weight_g": 750}"#),
    ];
    let event = |(event_type, data): (&str, &str)| DemoEvent {
        event_type: event_type.to_owned(),
        data: data.to_owned(),
    };
    events.into_iter().map(event).collect()
}

/// Reads events from a JSONL file.
pub(super) fn read(file: &Path) -> Result<Vec<DemoEvent>, Box<dyn Error>> {
    #[derive(Deserialize)]
    struct Line {
        r#type: String,
        data: Box<RawValue>,
    }
    let text =
        fs::read_to_string(file).map_err(|cause| format!("{} cannot be read: {cause}", file.display()))?;
    let read = |(index, line): (usize, &str)| {
        let line: Line = serde_json::from_str(line).map_err(|cause| {
            format!("{}, line {}: {cause}; expected {{\"type\": …, \"data\": …}}", file.display(), index + 1)
        })?;
        Ok(DemoEvent { event_type: line.r#type, data: line.data.get().to_owned() })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(read).collect()
}
