//! Types of events.

use postrider_proto::v1 as pb;

use super::{required, time};
use crate::{Result, model::EventType};

pub(crate) fn event_type(event_type: Option<pb::EventType>) -> Result<EventType> {
    let event_type = required(event_type, "event_type")?;
    let schema =
        |schema: pb::EventTypeSchema| (u32::try_from(schema.version).unwrap_or_default(), schema.json_schema);
    Ok(EventType {
        name: event_type.name,
        description: event_type.description,
        group: event_type.group,
        schemas: event_type.schemas.into_iter().map(schema).collect(),
        current_version: u32::try_from(event_type.current_version).ok().filter(|version| *version > 0),
        enforce: event_type.enforce,
        deprecated: event_type.deprecated,
        archived_at: time::optional(event_type.archive_time, "archive_time")?,
        created_at: time::from_pb(event_type.create_time, "create_time")?,
        updated_at: time::from_pb(event_type.update_time, "update_time")?,
        etag: event_type.etag,
    })
}
