//! `EventService`: takes events in and shows what was taken.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use postrider_proto::v1::{self as pb, event_service_server::EventService};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Parts, convert,
    failure::Failure,
    intake::{size, to_result},
    name,
    page_token::Query,
    publish_stream, trace,
};
use crate::{
    domain::{event::RequestId, event_type::EventType, invalid::Invalid},
    publish::Room,
    store::events::EventFilter,
};

/// The most events of one batch.
const MAX_BATCH: usize = 10_000;

pub(super) struct Events(pub(super) Arc<Parts>);

#[tonic::async_trait]
impl EventService for Events {
    async fn publish_event(
        &self,
        request: Request<pb::PublishEventRequest>,
    ) -> Result<Response<pb::PublishEventResponse>, Status> {
        let trace = trace::of_call(request.metadata());
        let request = request.into_inner();
        let tenant = name::tenant("parent", &request.parent).map_err(Failure::from)?;
        let (event, request_id) = (request.event, request.request_id);
        let item = pb::PublishItem { event, request_id, ..pb::PublishItem::default() };
        let room = Room::of(self.0.budget.take(&tenant, size(&item))?);
        let in_hand = self.0.submit(tenant, item, trace, room).await;
        let published = Some(self.0.published(in_hand).await?);
        Ok(Response::new(pb::PublishEventResponse { published }))
    }

    async fn publish_events(
        &self,
        request: Request<pb::PublishEventsRequest>,
    ) -> Result<Response<pb::PublishEventsResponse>, Status> {
        let trace = trace::of_call(request.metadata());
        let request = request.into_inner();
        let tenant = name::tenant("parent", &request.parent).map_err(Failure::from)?;
        if !(1..=MAX_BATCH).contains(&request.items.len()) {
            let reason = format!("holds {} events; 1 to {MAX_BATCH} are allowed", request.items.len());
            return Err(Failure::from(Invalid::new("items", reason)).into());
        }
        let room = Room::of(self.0.budget.take(&tenant, request.items.iter().map(size).sum())?);
        // All of them are handed over before the first answer is awaited, so that they share commits.
        let mut in_hand = Vec::with_capacity(request.items.len());
        for item in request.items {
            // Others of this thread must not wait for all of them.
            tokio::task::consume_budget().await;
            in_hand.push(self.0.submit(tenant.clone(), item, trace.clone(), room.clone()).await);
        }
        let mut results = Vec::with_capacity(in_hand.len());
        for in_hand in in_hand {
            results.push(to_result(self.0.published(in_hand).await));
        }
        Ok(Response::new(pb::PublishEventsResponse { results }))
    }

    type PublishEventStreamStream =
        Pin<Box<dyn Stream<Item = Result<pb::PublishEventStreamResponse, Status>> + Send>>;

    async fn publish_event_stream(
        &self,
        request: Request<Streaming<pb::PublishEventStreamRequest>>,
    ) -> Result<Response<Self::PublishEventStreamStream>, Status> {
        let trace = trace::of_call(request.metadata());
        let answers = publish_stream::answers(Arc::clone(&self.0), request.into_inner(), trace);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_event(
        &self,
        request: Request<pb::GetEventRequest>,
    ) -> Result<Response<pb::GetEventResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::event("name", &request.name).map_err(Failure::from)?;
        let event = self.0.store.event(&tenant, id).await.map_err(Failure::from)?;
        let event = event.ok_or(Failure::NotFound { field: "name", name: request.name })?;
        Ok(Response::new(pb::GetEventResponse { event: Some(convert::event::to_event(event)) }))
    }

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        let request = request.into_inner();
        let filter = event_filter(&request).map_err(Failure::from)?;
        let query = Query::new("ListEvents", &filter);
        let page = query.page(request.page_size, &request.page_token).map_err(Failure::from)?;
        self.0.check_tenant(filter.tenant.as_ref()).await?;
        let page = self.0.store.events(&filter, page).await.map_err(Failure::from)?;
        Ok(Response::new(pb::ListEventsResponse {
            next_page_token: query.token(page.next),
            events: page.items.into_iter().map(convert::event::to_event).collect(),
        }))
    }

    async fn explain_event(
        &self,
        request: Request<pb::ExplainEventRequest>,
    ) -> Result<Response<pb::ExplainEventResponse>, Status> {
        Ok(Response::new(self.0.explain_event(request.into_inner()).await?))
    }
}

fn event_filter(request: &pb::ListEventsRequest) -> Result<EventFilter, Invalid> {
    let event_type = match request.r#type.as_str() {
        "" => None,
        text => Some(EventType::parse(text).map_err(|invalid| Invalid::new("type", invalid.reason))?),
    };
    let request_id = match request.request_id.as_str() {
        "" => None,
        text => Some(RequestId::parse(text)?),
    };
    Ok(EventFilter {
        tenant: name::tenant_or_all("parent", &request.parent)?,
        event_type,
        request_id,
        from: convert::timestamp("create_time_from", request.create_time_from)?,
        until: convert::timestamp("create_time_until", request.create_time_until)?,
    })
}
