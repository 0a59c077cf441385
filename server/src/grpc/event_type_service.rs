//! `EventTypeService`: what types of events there are.

use std::sync::Arc;

use postrider_proto::v1::{self as pb, event_type_service_server::EventTypeService};
use tonic::{Request, Response, Status};

use super::{Parts, convert, failure::Failure, name, page_token::Query};
use crate::{
    domain::{
        catalogue::{CataloguedType, MAX_TYPES},
        event_type::{EventType, RESERVED_PREFIX},
        invalid::Invalid,
    },
    store::{event_types::Creation, subscriptions::Change},
};

pub(super) struct EventTypes(pub(super) Arc<Parts>);

/// Where a request names the type and its etag.
struct Fields {
    name: &'static str,
    etag: &'static str,
}

const FIELDS: Fields = Fields { name: "name", etag: "etag" };
const FIELDS_OF_UPDATE: Fields = Fields { name: "event_type.name", etag: "event_type.etag" };

/// What a change has left.
fn changed<T>(change: Change<T>, fields: &Fields, name: String) -> Result<T, Failure> {
    match change {
        Change::Done(changed) => Ok(changed),
        Change::NotFound => Err(Failure::NotFound { field: fields.name, name }),
        Change::EtagMismatch => Err(Failure::EtagMismatch { field: fields.etag }),
        Change::Invalid(invalid) => Err(Failure::Invalid(invalid)),
    }
}

/// An empty etag asks for nothing.
fn etag(etag: &str) -> Option<&str> {
    (!etag.is_empty()).then_some(etag)
}

#[expect(clippy::unnecessary_wraps, reason = "message fields are optional")]
fn shown(one: &CataloguedType) -> Option<pb::EventType> {
    Some(convert::event_type::to_event_type(one))
}

impl EventTypes {
    async fn archive(&self, name: String, archived: bool) -> Result<Option<pb::EventType>, Failure> {
        let event_type = name::event_type("name", &name)?;
        let change = self.0.store.archive_event_type(&event_type, archived, self.0.clock.now()).await?;
        Ok(shown(&changed(change, &FIELDS, name)?))
    }
}

#[tonic::async_trait]
impl EventTypeService for EventTypes {
    async fn create_event_type(
        &self,
        request: Request<pb::CreateEventTypeRequest>,
    ) -> Result<Response<pb::CreateEventTypeResponse>, Status> {
        let request = request.into_inner();
        let invalid = |reason: String| Failure::from(Invalid::new("event_type_id", reason));
        let event_type =
            EventType::parse(&request.event_type_id).map_err(|refused| invalid(refused.reason))?;
        if event_type.is_reserved() {
            let reason = format!("types that begin with `{RESERVED_PREFIX}` are reserved");
            return Err(invalid(reason).into());
        }
        let message =
            request.event_type.ok_or_else(|| Failure::from(Invalid::new("event_type", "is missing")))?;
        let spec = convert::event_type::spec(&message).map_err(Failure::from)?;
        let creation = self.0.store.create_event_type(&event_type, &spec, self.0.clock.now()).await;
        match creation.map_err(Failure::from)? {
            Creation::Done(created) => {
                Ok(Response::new(pb::CreateEventTypeResponse { event_type: shown(&created) }))
            }
            Creation::Exists => {
                let name = name::of_event_type(&event_type);
                Err(Failure::IdTaken { field: "event_type_id", name }.into())
            }
            Creation::Full => {
                let message = format!("there are {MAX_TYPES} event types already; delete one first");
                Err(Failure::WrongState(message).into())
            }
        }
    }

    async fn get_event_type(
        &self,
        request: Request<pb::GetEventTypeRequest>,
    ) -> Result<Response<pb::GetEventTypeResponse>, Status> {
        let request = request.into_inner();
        let event_type = name::event_type("name", &request.name).map_err(Failure::from)?;
        let found = self.0.store.event_type(&event_type).await.map_err(Failure::from)?;
        let found = found.ok_or(Failure::NotFound { field: "name", name: request.name })?;
        Ok(Response::new(pb::GetEventTypeResponse { event_type: shown(&found) }))
    }

    async fn list_event_types(
        &self,
        request: Request<pb::ListEventTypesRequest>,
    ) -> Result<Response<pb::ListEventTypesResponse>, Status> {
        let request = request.into_inner();
        let query = Query::new("ListEventTypes", &());
        let page = query.page(request.page_size, &request.page_token).map_err(Failure::from)?;
        let page = self.0.store.event_types(page).await.map_err(Failure::from)?;
        Ok(Response::new(pb::ListEventTypesResponse {
            next_page_token: query.token(page.next),
            event_types: page.items.iter().map(convert::event_type::to_event_type).collect(),
        }))
    }

    async fn update_event_type(
        &self,
        request: Request<pb::UpdateEventTypeRequest>,
    ) -> Result<Response<pb::UpdateEventTypeResponse>, Status> {
        let request = request.into_inner();
        let message =
            request.event_type.ok_or_else(|| Failure::from(Invalid::new("event_type", "is missing")))?;
        let event_type = name::event_type("event_type.name", &message.name).map_err(Failure::from)?;
        let edit =
            convert::event_type::edit(&message, request.update_mask.as_ref()).map_err(Failure::from)?;
        let now = self.0.clock.now();
        let apply = |spec: &mut _| edit.apply(spec);
        let change = self.0.store.update_event_type(&event_type, etag(&message.etag), apply, now).await;
        let updated = changed(change.map_err(Failure::from)?, &FIELDS_OF_UPDATE, message.name)?;
        Ok(Response::new(pb::UpdateEventTypeResponse { event_type: shown(&updated) }))
    }

    async fn archive_event_type(
        &self,
        request: Request<pb::ArchiveEventTypeRequest>,
    ) -> Result<Response<pb::ArchiveEventTypeResponse>, Status> {
        let event_type = self.archive(request.into_inner().name, true).await?;
        Ok(Response::new(pb::ArchiveEventTypeResponse { event_type }))
    }

    async fn unarchive_event_type(
        &self,
        request: Request<pb::UnarchiveEventTypeRequest>,
    ) -> Result<Response<pb::UnarchiveEventTypeResponse>, Status> {
        let event_type = self.archive(request.into_inner().name, false).await?;
        Ok(Response::new(pb::UnarchiveEventTypeResponse { event_type }))
    }

    async fn delete_event_type(
        &self,
        request: Request<pb::DeleteEventTypeRequest>,
    ) -> Result<Response<pb::DeleteEventTypeResponse>, Status> {
        let request = request.into_inner();
        let event_type = name::event_type("name", &request.name).map_err(Failure::from)?;
        let change = self.0.store.delete_event_type(&event_type, etag(&request.etag)).await;
        changed(change.map_err(Failure::from)?, &FIELDS, request.name)?;
        Ok(Response::new(pb::DeleteEventTypeResponse {}))
    }
}
