//! `DeliveryService`: what became of events.

use std::sync::Arc;

use postrider_proto::v1::{self as pb, delivery_service_server::DeliveryService};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Parts, convert, failure::Failure, name, page_token::Query};
use crate::{
    domain::{id::TenantId, invalid::Invalid, page::Cursor},
    store::{deliveries::DeliveryFilter, steering::Steered},
};

pub(super) struct Deliveries(pub(super) Arc<Parts>);

/// Shows a delivery whose course was changed.
fn steered(steered: Steered, name: String) -> Result<Option<pb::Delivery>, Failure> {
    match steered {
        Steered::Done(delivery) => Ok(Some(convert::delivery::to_delivery(&delivery))),
        Steered::NotFound => Err(Failure::NotFound { field: "name", name }),
        Steered::Refused(refusal) => Err(refusal.into()),
    }
}

#[tonic::async_trait]
impl DeliveryService for Deliveries {
    async fn get_delivery(
        &self,
        request: Request<pb::GetDeliveryRequest>,
    ) -> Result<Response<pb::GetDeliveryResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::delivery("name", &request.name).map_err(Failure::from)?;
        let found = self.0.store.delivery(&tenant, id).await.map_err(Failure::from)?;
        let found = found.ok_or(Failure::NotFound { field: "name", name: request.name })?;
        let delivery = Some(convert::delivery::to_delivery(&found));
        Ok(Response::new(pb::GetDeliveryResponse { delivery }))
    }

    async fn list_deliveries(
        &self,
        request: Request<pb::ListDeliveriesRequest>,
    ) -> Result<Response<pb::ListDeliveriesResponse>, Status> {
        let request = request.into_inner();
        let filter = delivery_filter(&request).map_err(Failure::from)?;
        let query = Query::new("ListDeliveries", &filter);
        let page = query.page(request.page_size, &request.page_token).map_err(Failure::from)?;
        self.0.check_tenant(filter.tenant.as_ref()).await?;
        let page = self.0.store.deliveries(&filter, page).await.map_err(Failure::from)?;
        Ok(Response::new(pb::ListDeliveriesResponse {
            next_page_token: query.token(page.next),
            deliveries: page.items.iter().map(convert::delivery::to_delivery).collect(),
        }))
    }

    async fn list_attempts(
        &self,
        request: Request<pb::ListAttemptsRequest>,
    ) -> Result<Response<pb::ListAttemptsResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::delivery("parent", &request.parent).map_err(Failure::from)?;
        let query = Query::new("ListAttempts", &(&tenant, id));
        let page = query.page(request.page_size, &request.page_token).map_err(Failure::from)?;
        // The cursor holds the number of the last attempt.
        let after = page.after.and_then(|cursor| u32::try_from(cursor.0.as_u128()).ok()).unwrap_or(0);
        let found =
            self.0.store.attempts(&tenant, id, after, page.size.rows() + 1).await.map_err(Failure::from)?;
        let mut attempts = found.ok_or(Failure::NotFound { field: "parent", name: request.parent })?;
        let more = attempts.len() as u64 > page.size.rows();
        if more {
            attempts.pop();
        }
        let last = attempts.last().filter(|_| more);
        let next = last.map(|attempt| Cursor(Uuid::from_u128(attempt.number.get().into())));
        Ok(Response::new(pb::ListAttemptsResponse {
            next_page_token: query.token(next),
            attempts: attempts.into_iter().map(convert::delivery::to_attempt).collect(),
        }))
    }

    async fn redeliver_delivery(
        &self,
        request: Request<pb::RedeliverDeliveryRequest>,
    ) -> Result<Response<pb::RedeliverDeliveryResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::delivery("name", &request.name).map_err(Failure::from)?;
        let outcome = self.0.store.redeliver(&tenant, id, self.0.clock.now()).await.map_err(Failure::from)?;
        let delivery = steered(outcome, request.name)?;
        self.0.nudge.deliveries_due();
        Ok(Response::new(pb::RedeliverDeliveryResponse { delivery }))
    }

    async fn cancel_delivery(
        &self,
        request: Request<pb::CancelDeliveryRequest>,
    ) -> Result<Response<pb::CancelDeliveryResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::delivery("name", &request.name).map_err(Failure::from)?;
        let outcome = self.0.store.cancel(&tenant, id, self.0.clock.now()).await.map_err(Failure::from)?;
        if let Steered::Done(delivery) = &outcome {
            self.0.nudge.send_one_away(delivery.subscription_uid, id);
        }
        let delivery = steered(outcome, request.name)?;
        // It may have held others up.
        self.0.nudge.deliveries_due();
        Ok(Response::new(pb::CancelDeliveryResponse { delivery }))
    }
}

fn delivery_filter(request: &pb::ListDeliveriesRequest) -> Result<DeliveryFilter, Invalid> {
    let tenant = name::tenant_or_all("parent", &request.parent)?;
    let belongs = |field: &str, owner: &_| match &tenant {
        Some(tenant) if tenant != owner => {
            Err(Invalid::new(field, "belongs to another tenant than `parent`"))
        }
        _ => Ok(()),
    };
    let event = match request.event.as_str() {
        "" => None,
        text => {
            let (owner, event) = name::event("event", text)?;
            belongs("event", &owner)?;
            Some((owner, event))
        }
    };
    let subscription = match request.subscription.as_str() {
        "" => None,
        text => {
            let (owner, id) = name::subscription("subscription", text)?;
            belongs("subscription", &owner)?;
            Some((owner, id))
        }
    };
    // The name of an event says whose it is, also where all tenants are asked for.
    let tenant = tenant.or_else(|| event.as_ref().map(|(owner, _)| TenantId::clone(owner)));
    Ok(DeliveryFilter {
        event: event.map(|(_, event)| event),
        subscription,
        status: convert::delivery::status(request.state)?,
        from: convert::timestamp("create_time_from", request.create_time_from)?,
        until: convert::timestamp("create_time_until", request.create_time_until)?,
        tenant,
    })
}
