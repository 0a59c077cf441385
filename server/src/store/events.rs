//! Shows events.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{
    Error, Store,
    entity::{events, payloads},
    page, rows,
};
use crate::domain::{
    event::{Event, RequestId},
    event_type::EventType,
    id::{EventId, TenantId},
    page::{Page, PageRequest},
    timestamp::Timestamp,
};

/// An event with what was counted when it was published.
#[derive(Debug)]
pub struct StoredEvent {
    /// The event; its data is empty in a listing, or if it is no longer kept.
    pub event: Event,
    /// How many subscriptions matched.
    pub delivery_count: u32,
}

/// Which events to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// Of exactly this type.
    pub event_type: Option<EventType>,
    /// Published with this key.
    pub request_id: Option<RequestId>,
    /// Accepted at this time or later.
    pub from: Option<Timestamp>,
    /// Accepted before this time.
    pub until: Option<Timestamp>,
}

impl Store {
    /// Reads an event with its data.
    pub async fn event(&self, tenant: &TenantId, id: EventId) -> Result<Option<StoredEvent>, Error> {
        let reader = &self.connections.reader;
        let row = events::Entity::find_by_id(id.uuid())
            .filter(events::Column::TenantId.eq(tenant.as_str()))
            .one(reader)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let payload = payloads::Entity::find_by_id(id.uuid()).one(reader).await?;
        stored(row, payload.map(|payload| payload.data)).map(Some)
    }

    /// Lists events, newest first, without their data.
    pub async fn events(
        &self,
        filter: &EventFilter,
        request: PageRequest,
    ) -> Result<Page<StoredEvent>, Error> {
        let mut query = events::Entity::find();
        if let Some(tenant) = &filter.tenant {
            query = query.filter(events::Column::TenantId.eq(tenant.as_str()));
        }
        if let Some(event_type) = &filter.event_type {
            query = query.filter(events::Column::EventType.eq(event_type.as_str()));
        }
        if let Some(request_id) = &filter.request_id {
            query = query.filter(events::Column::RequestId.eq(request_id.as_str()));
        }
        // Bounds on the id as well, which is in the order of time and has an index.
        if let Some(from) = filter.from {
            query = query
                .filter(events::Column::Id.gte(EventId::floor(from).uuid()))
                .filter(events::Column::CreatedAt.gte(from.as_micros()));
        }
        if let Some(until) = filter.until {
            let next_millisecond = EventId::floor(until + std::time::Duration::from_millis(1));
            query = query
                .filter(events::Column::Id.lt(next_millisecond.uuid()))
                .filter(events::Column::CreatedAt.lt(until.as_micros()));
        }
        if let Some(after) = request.after {
            query = query.filter(events::Column::Id.lt(after.0));
        }
        let rows = query
            .order_by_desc(events::Column::Id)
            .limit(page::limit(request))
            .all(&self.connections.reader)
            .await?;
        page::cut(rows, request, |row| row.id, |row| stored(row, None))
    }
}

fn stored(row: events::Model, data: Option<Vec<u8>>) -> Result<StoredEvent, Error> {
    let delivery_count = u32::try_from(row.delivery_count).unwrap_or(0);
    Ok(StoredEvent { event: rows::event(row, data)?, delivery_count })
}
