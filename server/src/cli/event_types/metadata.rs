//! What the catalogue says of types beside their schemas, in one file of the directory.
//!
//! ```json
//! {"event_types": [{"type": "order.created", "group": "orders", "current_version": 2, "enforce": true}]}
//! ```
//!
//! What an entry does not say is as in a new type. Errors name the place by a JSON pointer.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use postrider_server::domain::{
    catalogue::{CataloguedType, MAX_VERSION, TypeSpec},
    event_type::EventType,
    subscription::Description,
};
use serde::Serialize;
use serde_json::{Map, Value};

/// What no event type can be called, so that it is no schema's file.
pub(super) const FILE_NAME: &str = "@catalogue.json";

/// What is said of one type.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) event_type: EventType,
    description: Description,
    group: String,
    current_version: Option<u32>,
    enforce: bool,
    deprecated: bool,
    pub(super) archived: bool,
    /// Where it is, for messages.
    pub(super) pointer: String,
}

impl Entry {
    /// Says of a type what the entry does; its schemas are another file's matter.
    pub(super) fn apply(&self, spec: &mut TypeSpec) {
        spec.description.clone_from(&self.description);
        spec.group.clone_from(&self.group);
        spec.current_version = self.current_version;
        spec.enforce = self.enforce;
        spec.deprecated = self.deprecated;
    }
}

/// Where the file of a directory is.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}

/// Reads the file of a directory; nothing if there is none.
pub(super) fn read(directory: &Path) -> Result<Vec<Entry>, String> {
    let path = path(directory);
    let in_file = |cause: String| format!("{}: {cause}", path.display());
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).map_err(in_file),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(cause) => Err(in_file(cause.to_string())),
    }
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let document: Value = serde_json::from_str(text).map_err(|cause| format!("is not JSON: {cause}"))?;
    let mut document = Fields::of(document, "")?;
    let entries = document.take("event_types");
    document.nothing_else(&["event_types"])?;
    let Some(Value::Array(entries)) = entries else {
        return Err("at `/event_types`: must be a list of event types".to_owned());
    };
    let mut known = HashSet::new();
    let mut read = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let entry = parse_entry(entry, format!("/event_types/{index}"))?;
        if !known.insert(entry.event_type.clone()) {
            return Err(format!("at `{}/type`: `{}` is there already", entry.pointer, entry.event_type));
        }
        read.push(entry);
    }
    Ok(read)
}

fn parse_entry(entry: Value, pointer: String) -> Result<Entry, String> {
    let mut fields = Fields::of(entry, &pointer)?;
    let event_type = fields.text("type")?;
    let event_type =
        EventType::parse(&event_type).map_err(|invalid| fields.fault("type", &invalid.reason))?;
    let description = fields.text("description")?;
    let description =
        Description::parse(&description).map_err(|invalid| fields.fault("description", &invalid.reason))?;
    let group = fields.text("group")?;
    TypeSpec::check_group(&group).map_err(|invalid| fields.fault("group", &invalid.reason))?;
    let current_version = fields.version("current_version")?;
    let (enforce, deprecated) = (fields.flag("enforce")?, fields.flag("deprecated")?);
    let archived = fields.flag("archived")?;
    fields.nothing_else(&[
        "type",
        "description",
        "group",
        "current_version",
        "enforce",
        "deprecated",
        "archived",
    ])?;
    Ok(Entry { event_type, description, group, current_version, enforce, deprecated, archived, pointer })
}

/// What is left to read of an object, and where it is.
struct Fields<'a> {
    fields: Map<String, Value>,
    pointer: &'a str,
}

impl<'a> Fields<'a> {
    fn of(value: Value, pointer: &'a str) -> Result<Self, String> {
        match value {
            Value::Object(fields) => Ok(Self { fields, pointer }),
            _ => Err(format!("at `{pointer}`: must be an object")),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name)
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.fault(name, "must be a string")),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.fault(name, "must be true or false")),
        }
    }

    fn version(&mut self, name: &str) -> Result<Option<u32>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let version = value.as_u64().and_then(|version| u32::try_from(version).ok());
        let version = version.filter(|version| (1..=MAX_VERSION).contains(version)).ok_or_else(|| {
            let message = format!(
                "must be from 1 to {MAX_VERSION}; leave it out to go by the highest version there is"
            );
            self.fault(name, &message)
        })?;
        Ok(Some(version))
    }

    fn nothing_else(&self, known: &[&str]) -> Result<(), String> {
        match self.fields.keys().next() {
            Some(unknown) => {
                let known = known.join("`, `");
                Err(self.fault(unknown, &format!("is not known; there are `{known}`")))
            }
            None => Ok(()),
        }
    }

    fn fault(&self, name: &str, message: &str) -> String {
        let name = name.replace('~', "~0").replace('/', "~1");
        format!("at `{}/{name}`: {message}", self.pointer)
    }
}

/// Writes the file of a directory.
pub(super) fn write(types: &[CataloguedType], directory: &Path) -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(&document(types))?;
    text.push('\n');
    fs::write(path(directory), text)
}

/// The file, in the order in which it is written.
#[derive(Serialize)]
struct Document<'a> {
    event_types: Vec<Written<'a>>,
}

#[derive(Serialize)]
struct Written<'a> {
    r#type: &'a str,
    description: &'a str,
    group: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_version: Option<u32>,
    enforce: bool,
    deprecated: bool,
    archived: bool,
}

/// By type, so that the same catalogue gives the same file.
fn document(types: &[CataloguedType]) -> Document<'_> {
    let mut event_types: Vec<_> = types.iter().map(written).collect();
    event_types.sort_by_key(|written| written.r#type);
    Document { event_types }
}

fn written(one: &CataloguedType) -> Written<'_> {
    Written {
        r#type: one.event_type.as_str(),
        description: one.spec.description.as_str(),
        group: &one.spec.group,
        current_version: one.spec.current_version,
        enforce: one.spec.enforce,
        deprecated: one.spec.deprecated,
        archived: one.archived_at.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_by_its_place_with_what_would_be_right() {
        for (text, message) in [
            ("{", "is not JSON: EOF while parsing an object at line 1 column 1"),
            ("[]", "at ``: must be an object"),
            ("{}", "at `/event_types`: must be a list of event types"),
            (r#"{"event_types": [], "types": 1}"#, "at `/types`: is not known; there are `event_types`"),
            (r#"{"event_types": [1]}"#, "at `/event_types/0`: must be an object"),
            (r#"{"event_types": [{}]}"#, "at `/event_types/0/type`: must not be empty"),
            (
                r#"{"event_types": [{"type": "a b"}]}"#,
                "at `/event_types/0/type`: must be segments of letters",
            ),
            (
                r#"{"event_types": [{"type": "a"}, {"type": "a"}]}"#,
                "at `/event_types/1/type`: `a` is there already",
            ),
            (r#"{"event_types": [{"type": "a", "enforce": 1}]}"#, "/enforce`: must be true or false"),
            (r#"{"event_types": [{"type": "a", "group": 1}]}"#, "/group`: must be a string"),
            (r#"{"event_types": [{"type": "a", "current_version": 0}]}"#, "must be from 1 to 1000000"),
            (r#"{"event_types": [{"type": "a", "description": "\u0000"}]}"#, "/description`: must not hold"),
            (r#"{"event_types": [{"type": "a", "a/b": 1}]}"#, "at `/event_types/0/a~1b`: is not known"),
        ] {
            let refused = parse(text).expect_err(text);
            assert!(refused.contains(message), "{text}: {refused}");
        }
    }

    #[test]
    fn what_is_not_said_is_as_in_a_new_type() {
        let [entry] = &parse(r#"{"event_types": [{"type": "a"}]}"#).unwrap()[..] else { panic!() };
        assert_eq!((entry.group.as_str(), entry.current_version), ("", None));
        assert!(!entry.enforce && !entry.deprecated && !entry.archived);
    }
}
