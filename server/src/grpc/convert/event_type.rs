//! Types of events, as the catalogue holds them.

use postrider_proto::v1 as pb;

use super::to_timestamp;
use crate::{
    domain::{
        catalogue::{CataloguedType, TypeSpec},
        invalid::Invalid,
        subscription::Description,
    },
    grpc::name,
};

/// Sets one field of a type to what was read.
type Set = Box<dyn FnOnce(&mut TypeSpec) + Send>;

/// A field that can be set, each as a whole.
struct Field {
    /// As a mask names it.
    path: &'static str,
    /// Whether a message without a mask says something about it.
    is_populated: fn(&pb::EventType) -> bool,
    /// Reads it; what is not populated is read as its default.
    read: fn(&pb::EventType) -> Result<Set, Invalid>,
}

/// All of them.
const FIELDS: [Field; 6] = [
    Field {
        path: "description",
        is_populated: |message| !message.description.is_empty(),
        read: |message| {
            let description = Description::parse(&message.description)?;
            Ok(Box::new(|spec| spec.description = description))
        },
    },
    Field {
        path: "group",
        is_populated: |message| !message.group.is_empty(),
        read: |message| {
            TypeSpec::check_group(&message.group)?;
            let group = message.group.clone();
            Ok(Box::new(|spec| spec.group = group))
        },
    },
    Field {
        path: "schemas",
        is_populated: |message| !message.schemas.is_empty(),
        read: |message| {
            let pairs = message.schemas.iter().map(|schema| (schema.version, schema.json_schema.clone()));
            let schemas = TypeSpec::parse_schemas(pairs.collect())?;
            Ok(Box::new(|spec| spec.schemas = schemas))
        },
    },
    Field {
        path: "current_version",
        is_populated: |message| message.current_version != 0,
        read: |message| {
            let invalid = || Invalid::new("current_version", "must not be negative");
            let version = u32::try_from(message.current_version).map_err(|_| invalid())?;
            Ok(Box::new(move |spec| spec.current_version = (version != 0).then_some(version)))
        },
    },
    Field {
        path: "enforce",
        is_populated: |message| message.enforce,
        read: |message| {
            let enforce = message.enforce;
            Ok(Box::new(move |spec| spec.enforce = enforce))
        },
    },
    Field {
        path: "deprecated",
        is_populated: |message| message.deprecated,
        read: |message| {
            let deprecated = message.deprecated;
            Ok(Box::new(move |spec| spec.deprecated = deprecated))
        },
    },
];

/// Fields that a mask may name and that change nothing (AIP-161).
const OUTPUT_ONLY: [&str; 5] = ["name", "archive_time", "create_time", "update_time", "etag"];

/// What an update sets.
pub(in crate::grpc) struct Edit(Vec<Set>);

impl Edit {
    /// Sets what is to be set.
    pub(in crate::grpc) fn apply(self, spec: &mut TypeSpec) -> Result<(), Invalid> {
        for set in self.0 {
            set(spec);
        }
        spec.check().map_err(within)
    }
}

/// Reads a new type.
pub(in crate::grpc) fn spec(message: &pb::EventType) -> Result<TypeSpec, Invalid> {
    let mut spec = TypeSpec {
        description: Description::parse("")?,
        group: String::new(),
        schemas: std::collections::BTreeMap::new(),
        current_version: None,
        enforce: false,
        deprecated: false,
    };
    read(message, FIELDS.iter())?.apply(&mut spec)?;
    Ok(spec)
}

/// Reads an update: the fields that the mask names, or, without a mask, those that are not empty (AIP-134).
pub(in crate::grpc) fn edit(
    message: &pb::EventType,
    mask: Option<&prost_types::FieldMask>,
) -> Result<Edit, Invalid> {
    match mask {
        Some(mask) if mask.paths.iter().any(|path| path == "*") => read(message, FIELDS.iter()),
        Some(mask) if !mask.paths.is_empty() => {
            let paths = mask.paths.iter().filter(|path| !OUTPUT_ONLY.contains(&path.as_str()));
            let named =
                paths.map(|path| FIELDS.iter().find(|field| field.path == path).ok_or_else(|| unknown(path)));
            read(message, named.collect::<Result<Vec<_>, _>>()?.into_iter())
        }
        _ => read(message, FIELDS.iter().filter(|field| (field.is_populated)(message))),
    }
}

fn read<'a>(message: &pb::EventType, fields: impl Iterator<Item = &'a Field>) -> Result<Edit, Invalid> {
    fields.map(|field| (field.read)(message)).collect::<Result<_, _>>().map(Edit).map_err(within)
}

/// A mask names a field that there is not.
fn unknown(path: &str) -> Invalid {
    let shown: String = path.chars().take(100).collect();
    let known = FIELDS.map(|field| field.path).join("`, `");
    Invalid::new("update_mask", format!("names `{}`; it may name `{known}`", shown.escape_debug()))
}

fn within(invalid: Invalid) -> Invalid {
    invalid.within("event_type")
}

/// Shows a type.
pub(in crate::grpc) fn to_event_type(one: &CataloguedType) -> pb::EventType {
    let schema = |(version, text): (&u32, &String)| pb::EventTypeSchema {
        version: i32::try_from(*version).unwrap_or(i32::MAX),
        json_schema: text.clone(),
    };
    let spec = &one.spec;
    pb::EventType {
        name: name::of_event_type(&one.event_type),
        description: spec.description.as_str().to_owned(),
        group: spec.group.clone(),
        schemas: spec.schemas.iter().map(schema).collect(),
        current_version: spec.current_version.map_or(0, |version| i32::try_from(version).unwrap_or(i32::MAX)),
        enforce: spec.enforce,
        deprecated: spec.deprecated,
        archive_time: one.archived_at.and_then(to_timestamp),
        create_time: to_timestamp(one.created_at),
        update_time: to_timestamp(one.updated_at),
        etag: one.etag(),
    }
}
