//! What a producer publishes.

use std::{fs, path::Path};

use bytes::Bytes;
use postrider_proto::v1::{Event, PublishEventRequest, PublishItem};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Data, Task};
use crate::{Failure, receiver::Numbered};

/// Makes events.
pub(super) struct Events {
    parent: String,
    spread: u64,
    request_ids: String,
    ordering_keys: u64,
    templates: Vec<Template>,
}

/// An event without its number.
struct Template {
    event_type: String,
    /// What follows the number, from the comma or the closing brace on.
    rest: String,
}

impl Events {
    pub(super) fn new(task: &Task) -> Result<Self, Failure> {
        let templates = match &task.data {
            Data::Bytes(bytes) => vec![padded(&task.event_type, *bytes)],
            Data::File(file) => read(file)?,
        };
        Ok(Self {
            parent: format!("tenants/{}", task.tenant),
            spread: task.spread,
            request_ids: task.request_ids.clone(),
            ordering_keys: task.ordering_keys,
            templates,
        })
    }

    /// The tenant.
    pub(super) fn parent(&self) -> String {
        self.parent.clone()
    }

    /// The event with this number, to be published at that time.
    pub(super) fn item(&self, number: u64, intended: u64) -> PublishItem {
        let index = number % self.templates.len() as u64;
        let template = &self.templates[usize::try_from(index).unwrap_or(0)];
        let mut data = String::with_capacity(template.rest.len() + 48);
        Numbered { number, intended }.write(&mut data);
        data.push_str(&template.rest);
        let r#type = if self.spread == 0 {
            template.event_type.clone()
        } else {
            format!("{}.s{}", template.event_type, number % self.spread)
        };
        let request_id = if self.request_ids.is_empty() {
            String::new()
        } else {
            format!("{}-{number:016}", self.request_ids)
        };
        let ordering_key = match self.ordering_keys {
            0 => String::new(),
            keys => format!("k{}", number % keys),
        };
        let event = Event { r#type, data: into_data(data), ordering_key, ..Event::default() };
        PublishItem { event: Some(event), request_id, ..PublishItem::default() }
    }

    /// The call that publishes it alone.
    pub(super) fn call(&self, number: u64, intended: u64) -> PublishEventRequest {
        let item = self.item(number, intended);
        PublishEventRequest { parent: self.parent(), event: item.event, request_id: item.request_id }
    }
}

fn into_data(data: String) -> Bytes {
    data.into()
}

/// Data of about so many bytes: the number and the time take 38.
fn padded(event_type: &str, bytes: usize) -> Template {
    let padding = "x".repeat(bytes.saturating_sub(46));
    Template { event_type: event_type.to_owned(), rest: format!(r#","pad":"{padding}"}}"#) }
}

/// Events as they stand in a file, with room for the number after their first brace.
fn read(file: &Path) -> Result<Vec<Template>, Failure> {
    #[derive(Deserialize)]
    struct Line<'a> {
        r#type: String,
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let text = fs::read_to_string(file).map_err(|cause| format!("{}: {cause}", file.display()))?;
    let mut templates = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let line: Line<'_> = serde_json::from_str(line)?;
        let rest = line.data.get().strip_prefix('{').ok_or("the data of an event is not an object")?;
        let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
        templates.push(Template { event_type: line.r#type, rest: format!("{comma}{rest}") });
    }
    if templates.is_empty() {
        return Err(format!("{} holds no event", file.display()).into());
    }
    Ok(templates)
}
