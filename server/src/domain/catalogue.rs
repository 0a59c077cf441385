//! The catalogue of event types: what is known of them, and what follows for those who publish.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    event::{EventContent, check_text},
    event_type::EventType,
    invalid::Invalid,
    schema::Schema,
    subscription::Description,
    timestamp::Timestamp,
};

/// The most types in the catalogue.
pub const MAX_TYPES: u64 = 10_000;
/// The most versions of a schema.
pub const MAX_VERSIONS: usize = 20;
/// The highest version.
pub const MAX_VERSION: u32 = 1_000_000;
/// The longest group, in characters.
pub const MAX_GROUP: usize = 128;

/// What is said of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeSpec {
    /// For people.
    pub description: Description,
    /// What it belongs to, for people.
    pub group: String,
    /// JSON Schemas by version.
    pub schemas: BTreeMap<u32, String>,
    /// The version to go by; the highest if not set.
    pub current_version: Option<u32>,
    /// Whether data that does not conform is refused.
    pub enforce: bool,
    /// Whether producers should stop using it.
    pub deprecated: bool,
}

/// A type as it is stored.
#[derive(Debug, Clone)]
pub struct CataloguedType {
    /// Tells it apart for ever.
    pub uid: Uuid,
    /// The type.
    pub event_type: EventType,
    /// What is said of it.
    pub spec: TypeSpec,
    /// Since when its events are refused.
    pub archived_at: Option<Timestamp>,
    /// Counts its changes.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl TypeSpec {
    /// Checks a group.
    pub fn check_group(group: &str) -> Result<(), Invalid> {
        check_text("group", group, MAX_GROUP)
    }

    /// Checks schemas; they must compile.
    pub fn parse_schemas(schemas: Vec<(i32, String)>) -> Result<BTreeMap<u32, String>, Invalid> {
        if schemas.len() > MAX_VERSIONS {
            let reason = format!("holds {} versions; at most {MAX_VERSIONS} are allowed", schemas.len());
            return Err(Invalid::new("schemas", reason));
        }
        let mut parsed = BTreeMap::new();
        for (index, (version, text)) in schemas.into_iter().enumerate() {
            let within = |invalid: Invalid| invalid.within(&format!("schemas[{index}]"));
            let number = u32::try_from(version).ok().filter(|version| (1..=MAX_VERSION).contains(version));
            let number = number
                .ok_or_else(|| within(Invalid::new("version", format!("must be from 1 to {MAX_VERSION}"))))?;
            Schema::compile(&text).map_err(within)?;
            if parsed.insert(number, text).is_some() {
                return Err(within(Invalid::new("version", "comes twice")));
            }
        }
        Ok(parsed)
    }

    /// Checks how many versions there are.
    pub fn check_versions(&self) -> Result<(), Invalid> {
        if self.schemas.len() > MAX_VERSIONS {
            let reason = format!("holds {} versions; at most {MAX_VERSIONS} are allowed", self.schemas.len());
            return Err(Invalid::new("schemas", reason));
        }
        Ok(())
    }

    /// Checks what must be true between fields.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(current) = self.current_version
            && !self.schemas.contains_key(&current)
        {
            return Err(Invalid::new(
                "current_version",
                format!("is {current}, of which there is no schema"),
            ));
        }
        if self.enforce && self.schemas.is_empty() {
            return Err(Invalid::new("enforce", "needs a schema"));
        }
        Ok(())
    }

    /// The schema to go by.
    #[must_use]
    pub fn current_schema(&self) -> Option<&str> {
        let schema = match self.current_version {
            Some(version) => self.schemas.get(&version),
            None => self.schemas.values().next_back(),
        };
        schema.map(String::as_str)
    }
}

impl CataloguedType {
    /// Names this revision of it; other for every change and every type.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("{:08x}-{}", self.uid.as_u128() & 0xffff_ffff, self.revision)
    }
}

/// What happens to types that are not in the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownTypes {
    /// Their events are accepted.
    #[default]
    Accept,
    /// Their events are refused.
    Refuse,
}

/// What the catalogue says of publishing, at one version of it.
#[derive(Debug, Default)]
pub struct Rules {
    /// Raised with every change.
    pub version: i64,
    by_type: HashMap<EventType, Rule>,
}

#[derive(Debug)]
struct Rule {
    archived: bool,
    deprecated: bool,
    /// What is enforced; `Err` if this version cannot compile it, and then nothing conforms.
    schema: Option<Arc<Result<Schema, Invalid>>>,
}

impl Rules {
    /// Compiles what is enforced. Takes a while.
    #[must_use]
    pub fn new(version: i64, types: &[CataloguedType]) -> Self {
        let rule = |one: &CataloguedType| {
            let enforced =
                one.spec.current_schema().filter(|_| one.spec.enforce && one.archived_at.is_none());
            let rule = Rule {
                archived: one.archived_at.is_some(),
                deprecated: one.spec.deprecated,
                schema: enforced.map(|text| Arc::new(Schema::compile(text))),
            };
            (one.event_type.clone(), rule)
        };
        Self { version, by_type: types.iter().map(rule).collect() }
    }

    /// Whether the type's data is checked.
    #[must_use]
    pub fn enforces(&self, event_type: &EventType) -> bool {
        self.by_type.get(event_type).is_some_and(|rule| rule.schema.is_some())
    }

    /// Whether producers should stop using the type.
    #[must_use]
    pub fn is_deprecated(&self, event_type: &EventType) -> bool {
        self.by_type.get(event_type).is_some_and(|rule| rule.deprecated)
    }

    /// Checks an event; says all that is wrong with it.
    pub fn check(&self, event: &EventContent, unknown: UnknownTypes) -> Result<(), Vec<Invalid>> {
        if self.by_type.is_empty() && unknown == UnknownTypes::Accept {
            return Ok(());
        }
        let refuse = |reason: String| Err(vec![Invalid::new("event.type", reason)]);
        let Some(rule) = self.by_type.get(&event.event_type) else {
            return match unknown {
                UnknownTypes::Accept => Ok(()),
                UnknownTypes::Refuse => refuse(format!("`{}` is not in the catalogue", event.event_type)),
            };
        };
        if rule.archived {
            return refuse(format!("`{}` is archived", event.event_type));
        }
        let Some(schema) = &rule.schema else { return Ok(()) };
        if !event.payload.is_json() {
            let reason = "must be JSON: the event type has a schema";
            return Err(vec![Invalid::new("event.data_content_type", reason)]);
        }
        let violations = match schema.as_ref() {
            Ok(schema) => schema.violations(&event.payload.data),
            Err(_) => return refuse("has a schema that this version of the server cannot use".to_owned()),
        };
        if violations.is_empty() {
            return Ok(());
        }
        let invalid = |violation: super::schema::Violation| {
            Invalid::new(format!("event.data{}", violation.pointer), violation.description)
        };
        Err(violations.into_iter().map(invalid).collect())
    }
}
