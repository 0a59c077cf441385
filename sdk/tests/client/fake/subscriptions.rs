//! Subscriptions that exist as soon as they are asked for, until they are deleted.

use postrider_proto::v1::{self as pb, subscription_service_server::SubscriptionService};
use tonic::{Request, Response, Status, async_trait};

use super::{Answer, Fake, now};

fn subscription(name: String) -> pb::Subscription {
    pb::Subscription {
        name,
        state: pb::SubscriptionState::Active.into(),
        create_time: now(),
        update_time: now(),
        etag: "1".to_owned(),
        ..pb::Subscription::default()
    }
}

/// One that found an expired certificate.
fn target_check() -> pb::TargetCheck {
    let address = |address: &str, refused_as: &str| pb::TargetAddress {
        address: address.to_owned(),
        refused_as: refused_as.to_owned(),
    };
    let certificate = pb::TargetCertificate {
        subject: "CN=example.com".to_owned(),
        not_before_time: now(),
        not_after_time: now(),
        ..pb::TargetCertificate::default()
    };
    pb::TargetCheck {
        summary: "TLS fails.".to_owned(),
        start_time: now(),
        addresses: vec![address("2001:db8::1", "documentation"), address("8.8.8.8", "")],
        connected_address: "8.8.8.8".to_owned(),
        tls: Some(pb::TargetTls {
            certificates: vec![certificate],
            problem: pb::TargetTlsProblem::Expired.into(),
            problem_message: "it has expired".to_owned(),
            ..pb::TargetTls::default()
        }),
        failure: pb::AttemptFailure::Tls.into(),
        failure_message: "the tls handshake failed".to_owned(),
        total_duration: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..pb::TargetCheck::default()
    }
}

#[async_trait]
impl SubscriptionService for Fake {
    async fn create_subscription(
        &self,
        request: Request<pb::CreateSubscriptionRequest>,
    ) -> Answer<pb::CreateSubscriptionResponse> {
        self.begin("CreateSubscription", &request, Vec::new()).await?;
        let request = request.into_inner();
        let sent = request.subscription.unwrap_or_default();
        let name = format!("{}/subscriptions/{}", request.parent, request.subscription_id);
        let created = pb::Subscription {
            target_url: sent.target_url,
            event_types: sent.event_types,
            description: sent.description,
            ..subscription(name)
        };
        Ok(Response::new(pb::CreateSubscriptionResponse {
            subscription: Some(created),
            secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
        }))
    }

    async fn get_subscription(
        &self,
        request: Request<pb::GetSubscriptionRequest>,
    ) -> Answer<pb::GetSubscriptionResponse> {
        self.begin("GetSubscription", &request, Vec::new()).await?;
        if self.is_deleted(&request.get_ref().name) {
            return Err(Status::not_found("it is deleted"));
        }
        Ok(Response::new(pb::GetSubscriptionResponse {
            subscription: Some(subscription(request.into_inner().name)),
        }))
    }

    async fn list_subscriptions(
        &self,
        request: Request<pb::ListSubscriptionsRequest>,
    ) -> Answer<pb::ListSubscriptionsResponse> {
        self.begin("ListSubscriptions", &request, Vec::new()).await?;
        Ok(Response::new(pb::ListSubscriptionsResponse::default()))
    }

    /// Describes in `description` what would be set.
    async fn update_subscription(
        &self,
        request: Request<pb::UpdateSubscriptionRequest>,
    ) -> Answer<pb::UpdateSubscriptionResponse> {
        self.begin("UpdateSubscription", &request, Vec::new()).await?;
        let request = request.into_inner();
        let sent = request.subscription.unwrap_or_default();
        let mask = request.update_mask.unwrap_or_default().paths.join(",");
        let updated = pb::Subscription {
            description: format!("mask {mask}; etag {}", sent.etag),
            event_types: sent.event_types,
            rate_limit: sent.rate_limit,
            max_in_flight: sent.max_in_flight,
            ..subscription(sent.name)
        };
        Ok(Response::new(pb::UpdateSubscriptionResponse { subscription: Some(updated) }))
    }

    async fn delete_subscription(
        &self,
        request: Request<pb::DeleteSubscriptionRequest>,
    ) -> Answer<pb::DeleteSubscriptionResponse> {
        self.begin("DeleteSubscription", &request, Vec::new()).await?;
        self.delete(request.into_inner().name);
        Ok(Response::new(pb::DeleteSubscriptionResponse {}))
    }

    async fn pause_subscription(
        &self,
        request: Request<pb::PauseSubscriptionRequest>,
    ) -> Answer<pb::PauseSubscriptionResponse> {
        self.begin("PauseSubscription", &request, Vec::new()).await?;
        let paused = pb::Subscription {
            state: pb::SubscriptionState::Paused.into(),
            pause_time: now(),
            ..subscription(request.into_inner().name)
        };
        Ok(Response::new(pb::PauseSubscriptionResponse { subscription: Some(paused) }))
    }

    async fn resume_subscription(
        &self,
        request: Request<pb::ResumeSubscriptionRequest>,
    ) -> Answer<pb::ResumeSubscriptionResponse> {
        self.begin("ResumeSubscription", &request, Vec::new()).await?;
        Ok(Response::new(pb::ResumeSubscriptionResponse {
            subscription: Some(subscription(request.into_inner().name)),
        }))
    }

    async fn enable_subscription(
        &self,
        request: Request<pb::EnableSubscriptionRequest>,
    ) -> Answer<pb::EnableSubscriptionResponse> {
        self.begin("EnableSubscription", &request, Vec::new()).await?;
        Ok(Response::new(pb::EnableSubscriptionResponse {
            subscription: Some(subscription(request.into_inner().name)),
        }))
    }

    async fn verify_subscription(
        &self,
        request: Request<pb::VerifySubscriptionRequest>,
    ) -> Answer<pb::VerifySubscriptionResponse> {
        self.begin("VerifySubscription", &request, Vec::new()).await?;
        Ok(Response::new(pb::VerifySubscriptionResponse {
            subscription: Some(subscription(request.into_inner().name)),
        }))
    }

    async fn rotate_subscription_secret(
        &self,
        request: Request<pb::RotateSubscriptionSecretRequest>,
    ) -> Answer<pb::RotateSubscriptionSecretResponse> {
        self.begin("RotateSubscriptionSecret", &request, Vec::new()).await?;
        Ok(Response::new(pb::RotateSubscriptionSecretResponse {
            secret: "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
            previous_expire_time: now(),
        }))
    }

    async fn get_subscription_secret(
        &self,
        request: Request<pb::GetSubscriptionSecretRequest>,
    ) -> Answer<pb::GetSubscriptionSecretResponse> {
        self.begin("GetSubscriptionSecret", &request, Vec::new()).await?;
        Ok(Response::new(pb::GetSubscriptionSecretResponse {
            secret: "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
            ..pb::GetSubscriptionSecretResponse::default()
        }))
    }

    async fn send_test_event(
        &self,
        request: Request<pb::SendTestEventRequest>,
    ) -> Answer<pb::SendTestEventResponse> {
        self.begin("SendTestEvent", &request, Vec::new()).await?;
        Ok(Response::new(pb::SendTestEventResponse {
            event: "tenants/default/events/evt_1".to_owned(),
            delivery: "tenants/default/deliveries/dlv_1".to_owned(),
            standing: pb::TestEventStanding::Paused.into(),
            summary: format!("waits {:?}", request.get_ref().wait),
            check: Some(target_check()),
            ..pb::SendTestEventResponse::default()
        }))
    }

    async fn check_target(
        &self,
        request: Request<pb::CheckTargetRequest>,
    ) -> Answer<pb::CheckTargetResponse> {
        self.begin("CheckTarget", &request, Vec::new()).await?;
        let check = match request.into_inner().receiver {
            Some(pb::check_target_request::Receiver::Subscription(new)) => pb::TargetCheck {
                target_url: new.target_url,
                reachable: true,
                status_code: 308,
                redirect_location: "https://example.com/new".to_owned(),
                ..target_check()
            },
            _ => target_check(),
        };
        Ok(Response::new(pb::CheckTargetResponse { check: Some(check) }))
    }

    async fn render_event(
        &self,
        request: Request<pb::RenderEventRequest>,
    ) -> Answer<pb::RenderEventResponse> {
        self.begin("RenderEvent", &request, Vec::new()).await?;
        let error = pb::TemplateError { message: "undefined value".to_owned(), line: 2, column: 0 };
        Ok(Response::new(pb::RenderEventResponse {
            target_url: "https://example.com/hooks".to_owned(),
            template_error: Some(error),
            ..pb::RenderEventResponse::default()
        }))
    }
}
