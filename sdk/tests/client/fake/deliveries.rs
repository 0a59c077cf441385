//! One delivery, with two attempts.

use postrider_proto::v1::{self as pb, delivery_service_server::DeliveryService};
use tonic::{Request, Response, async_trait};

use super::{Answer, Fake, now};

fn delivery(name: String) -> pb::Delivery {
    pb::Delivery {
        name,
        state: pb::DeliveryState::Failed.into(),
        end_reason: pb::DeliveryEndReason::Exhausted.into(),
        attempt_count: 3,
        create_time: now(),
        end_time: now(),
        ..pb::Delivery::default()
    }
}

#[async_trait]
impl DeliveryService for Fake {
    async fn get_delivery(
        &self,
        request: Request<pb::GetDeliveryRequest>,
    ) -> Answer<pb::GetDeliveryResponse> {
        self.begin("GetDelivery", &request, Vec::new()).await?;
        Ok(Response::new(pb::GetDeliveryResponse { delivery: Some(delivery(request.into_inner().name)) }))
    }

    /// One delivery that repeats the filters.
    async fn list_deliveries(
        &self,
        request: Request<pb::ListDeliveriesRequest>,
    ) -> Answer<pb::ListDeliveriesResponse> {
        self.begin("ListDeliveries", &request, Vec::new()).await?;
        let request = request.into_inner();
        let found = pb::Delivery {
            event: request.event,
            subscription: request.subscription,
            state: request.state,
            ..delivery(format!("{}/deliveries/dlv_1", request.parent))
        };
        Ok(Response::new(pb::ListDeliveriesResponse {
            deliveries: vec![found],
            next_page_token: String::new(),
        }))
    }

    /// One attempt that was rejected and one that failed.
    async fn list_attempts(
        &self,
        request: Request<pb::ListAttemptsRequest>,
    ) -> Answer<pb::ListAttemptsResponse> {
        self.begin("ListAttempts", &request, Vec::new()).await?;
        let attempt = pb::Attempt {
            start_time: now(),
            total_duration: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            target_url: "https://example.com/hooks".to_owned(),
            ..pb::Attempt::default()
        };
        let rejected = pb::Attempt {
            number: 1,
            outcome: pb::AttemptOutcome::Rejected.into(),
            status_code: 503,
            response_headers: vec![pb::Header { name: "retry-after".to_owned(), value: "5".to_owned() }],
            response_body: b"later".as_slice().into(),
            ..attempt.clone()
        };
        let failed = pb::Attempt {
            number: 2,
            outcome: pb::AttemptOutcome::Failed.into(),
            failure: pb::AttemptFailure::Dns.into(),
            failure_message: "no such host".to_owned(),
            ..attempt
        };
        Ok(Response::new(pb::ListAttemptsResponse {
            attempts: vec![rejected, failed],
            next_page_token: String::new(),
        }))
    }

    async fn redeliver_delivery(
        &self,
        request: Request<pb::RedeliverDeliveryRequest>,
    ) -> Answer<pb::RedeliverDeliveryResponse> {
        self.begin("RedeliverDelivery", &request, Vec::new()).await?;
        Ok(Response::new(pb::RedeliverDeliveryResponse {
            delivery: Some(delivery(request.into_inner().name)),
        }))
    }

    async fn cancel_delivery(
        &self,
        request: Request<pb::CancelDeliveryRequest>,
    ) -> Answer<pb::CancelDeliveryResponse> {
        self.begin("CancelDelivery", &request, Vec::new()).await?;
        Ok(Response::new(pb::CancelDeliveryResponse { delivery: Some(delivery(request.into_inner().name)) }))
    }
}
