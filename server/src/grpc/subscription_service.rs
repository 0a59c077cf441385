//! `SubscriptionService`: what is wanted, by whom, signed with what.

use std::sync::Arc;

use postrider_proto::v1::{self as pb, subscription_service_server::SubscriptionService};
use tonic::{Request, Response, Status};

use super::{
    Parts, check_target, convert, deadline, failure::Failure, name, page_token::Query, preview, test_event,
    trace, verify,
};
use crate::{
    domain::{id::SubscriptionId, invalid::Invalid, secret::MAX_IN_FORCE, subscription::Subscription},
    store::{
        secrets::{Rotation, Takeover},
        subscriptions::Change,
    },
};

pub(super) struct Subscriptions(pub(super) Arc<Parts>);

/// Where a request names the subscription and its etag.
struct Fields {
    name: &'static str,
    etag: &'static str,
}

const FIELDS: Fields = Fields { name: "name", etag: "etag" };
const FIELDS_OF_UPDATE: Fields = Fields { name: "subscription.name", etag: "subscription.etag" };

/// Shows a subscription that was changed.
fn changed(
    change: Change<Subscription>,
    fields: &Fields,
    name: String,
) -> Result<Option<pb::Subscription>, Failure> {
    match change {
        Change::Done(subscription) => Ok(Some(convert::subscription::to_subscription(&subscription))),
        Change::NotFound => Err(Failure::NotFound { field: fields.name, name }),
        Change::EtagMismatch => Err(Failure::EtagMismatch { field: fields.etag }),
        Change::Invalid(invalid) => Err(Failure::Invalid(invalid)),
    }
}

/// An empty etag asks for nothing.
fn etag(etag: &str) -> Option<&str> {
    (!etag.is_empty()).then_some(etag)
}

impl Subscriptions {
    fn send_away(&self, change: &Change<Subscription>) {
        if let Change::Done(subscription) = change {
            self.0.nudge.send_away(subscription.uid);
        }
    }
}

#[tonic::async_trait]
impl SubscriptionService for Subscriptions {
    async fn create_subscription(
        &self,
        request: Request<pb::CreateSubscriptionRequest>,
    ) -> Result<Response<pb::CreateSubscriptionResponse>, Status> {
        let request = request.into_inner();
        let tenant = name::tenant("parent", &request.parent).map_err(Failure::from)?;
        let id = match request.subscription_id.as_str() {
            "" => None,
            id => Some(
                SubscriptionId::parse(id)
                    .map_err(|invalid| Failure::from(Invalid::new("subscription_id", invalid.reason)))?,
            ),
        };
        let subscription =
            request.subscription.ok_or_else(|| Failure::from(Invalid::new("subscription", "is missing")))?;
        let spec = convert::subscription::spec(&subscription, &self.0.limits).map_err(Failure::from)?;
        let keys = convert::signing::new_keys(&request.secret).map_err(Failure::from)?;
        convert::signing::check_first(spec.settings.signing.as_ref(), &keys).map_err(Failure::from)?;
        let (secret, now) = (keys.secret().text(), self.0.clock.now());
        let created = self.0.store.create_subscription(&tenant, id, &spec, keys, now).await;
        let taken = || Failure::IdTaken {
            field: "subscription_id",
            name: format!("{}/subscriptions/{}", request.parent, request.subscription_id),
        };
        let created = created.map_err(Failure::from)?.ok_or_else(taken)?;
        self.0.handshakes.due();
        Ok(Response::new(pb::CreateSubscriptionResponse {
            subscription: Some(convert::subscription::to_subscription(&created)),
            secret,
        }))
    }

    async fn get_subscription(
        &self,
        request: Request<pb::GetSubscriptionRequest>,
    ) -> Result<Response<pb::GetSubscriptionResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::subscription("name", &request.name).map_err(Failure::from)?;
        let found = self.0.store.subscription(&tenant, &id).await.map_err(Failure::from)?;
        let found = found.ok_or(Failure::NotFound { field: "name", name: request.name })?;
        let subscription = Some(convert::subscription::to_subscription(&found));
        Ok(Response::new(pb::GetSubscriptionResponse { subscription }))
    }

    async fn list_subscriptions(
        &self,
        request: Request<pb::ListSubscriptionsRequest>,
    ) -> Result<Response<pb::ListSubscriptionsResponse>, Status> {
        let request = request.into_inner();
        let tenant = name::tenant_or_all("parent", &request.parent).map_err(Failure::from)?;
        let query = Query::new("ListSubscriptions", &tenant);
        let page = query.page(request.page_size, &request.page_token).map_err(Failure::from)?;
        self.0.check_tenant(tenant.as_ref()).await?;
        let page = self.0.store.subscriptions(tenant.as_ref(), page).await.map_err(Failure::from)?;
        Ok(Response::new(pb::ListSubscriptionsResponse {
            next_page_token: query.token(page.next),
            subscriptions: page.items.iter().map(convert::subscription::to_subscription).collect(),
        }))
    }

    async fn update_subscription(
        &self,
        request: Request<pb::UpdateSubscriptionRequest>,
    ) -> Result<Response<pb::UpdateSubscriptionResponse>, Status> {
        let request = request.into_inner();
        let subscription =
            request.subscription.ok_or_else(|| Failure::from(Invalid::new("subscription", "is missing")))?;
        let (tenant, id) =
            name::subscription(FIELDS_OF_UPDATE.name, &subscription.name).map_err(Failure::from)?;
        let mask = request.update_mask.as_ref();
        let edit = convert::subscription::edit(&subscription, mask, &self.0.limits).map_err(Failure::from)?;
        let etag = etag(&subscription.etag);
        let now = self.0.clock.now();
        let change = self.0.store.update_subscription(&tenant, &id, etag, |spec| edit.apply(spec), now).await;
        let subscription =
            changed(change.map_err(Failure::from)?, &FIELDS_OF_UPDATE, subscription.name.clone())?;
        self.0.handshakes.due();
        // It may no longer have to be waited for.
        self.0.nudge.deliveries_due();
        Ok(Response::new(pb::UpdateSubscriptionResponse { subscription }))
    }

    async fn delete_subscription(
        &self,
        request: Request<pb::DeleteSubscriptionRequest>,
    ) -> Result<Response<pb::DeleteSubscriptionResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::subscription("name", &request.name).map_err(Failure::from)?;
        let now = self.0.clock.now();
        let change = self.0.store.delete_subscription(&tenant, &id, etag(&request.etag), now).await;
        let change = change.map_err(Failure::from)?;
        self.send_away(&change);
        changed(change, &FIELDS, request.name)?;
        self.0.nudge.subscription_ended();
        Ok(Response::new(pb::DeleteSubscriptionResponse {}))
    }

    async fn pause_subscription(
        &self,
        request: Request<pb::PauseSubscriptionRequest>,
    ) -> Result<Response<pb::PauseSubscriptionResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::subscription("name", &request.name).map_err(Failure::from)?;
        let change = self.0.store.pause_subscription(&tenant, &id, self.0.clock.now()).await;
        let change = change.map_err(Failure::from)?;
        self.send_away(&change);
        let subscription = changed(change, &FIELDS, request.name)?;
        Ok(Response::new(pb::PauseSubscriptionResponse { subscription }))
    }

    async fn resume_subscription(
        &self,
        request: Request<pb::ResumeSubscriptionRequest>,
    ) -> Result<Response<pb::ResumeSubscriptionResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::subscription("name", &request.name).map_err(Failure::from)?;
        let change = self.0.store.resume_subscription(&tenant, &id, self.0.clock.now()).await;
        let subscription = changed(change.map_err(Failure::from)?, &FIELDS, request.name)?;
        self.0.nudge.deliveries_due();
        Ok(Response::new(pb::ResumeSubscriptionResponse { subscription }))
    }

    async fn enable_subscription(
        &self,
        request: Request<pb::EnableSubscriptionRequest>,
    ) -> Result<Response<pb::EnableSubscriptionResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::subscription("name", &request.name).map_err(Failure::from)?;
        let change = self.0.store.enable_subscription(&tenant, &id, self.0.clock.now()).await;
        let subscription = changed(change.map_err(Failure::from)?, &FIELDS, request.name)?;
        self.0.handshakes.due();
        self.0.nudge.deliveries_due();
        Ok(Response::new(pb::EnableSubscriptionResponse { subscription }))
    }

    async fn verify_subscription(
        &self,
        request: Request<pb::VerifySubscriptionRequest>,
    ) -> Result<Response<pb::VerifySubscriptionResponse>, Status> {
        Ok(Response::new(verify::verify(&self.0, request.into_inner()).await?))
    }

    async fn rotate_subscription_secret(
        &self,
        request: Request<pb::RotateSubscriptionSecretRequest>,
    ) -> Result<Response<pb::RotateSubscriptionSecretResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::subscription("name", &request.name).map_err(Failure::from)?;
        let keys = convert::signing::new_keys(&request.secret).map_err(Failure::from)?;
        let (secret, now) = (keys.secret().text(), self.0.clock.now());
        let starts_at =
            convert::signing::effective_time(request.effective_time, now).map_err(Failure::from)?;
        let takeover = Takeover { overlap: self.0.secret_overlap, starts_at };
        let rotation = self.0.store.rotate_secret(&tenant, &id, keys, takeover, now).await;
        match rotation.map_err(Failure::from)? {
            Rotation::Done(previous_expires_at) => {
                self.0.handshakes.due();
                Ok(Response::new(pb::RotateSubscriptionSecretResponse {
                    secret,
                    previous_expire_time: convert::to_timestamp(previous_expires_at),
                }))
            }
            Rotation::HandedOver => {
                let reason = "must be unset: the receiver changes over when it is handed the new secret by the `hook_secret` handshake";
                Err(Failure::from(Invalid::new("effective_time", reason)).into())
            }
            Rotation::NotFound => Err(Failure::NotFound { field: "name", name: request.name }.into()),
            Rotation::Unfit(reason) => Err(Failure::from(convert::signing::unfit(reason)).into()),
            Rotation::Same => {
                let reason = "is the current one already; leave it empty for a new one";
                Err(Failure::from(Invalid::new("secret", reason)).into())
            }
            Rotation::TooMany => {
                let message = format!(
                    "{MAX_IN_FORCE} secrets are in force already; wait until one of them has expired"
                );
                Err(Failure::WrongState(message).into())
            }
        }
    }

    async fn get_subscription_secret(
        &self,
        request: Request<pb::GetSubscriptionSecretRequest>,
    ) -> Result<Response<pb::GetSubscriptionSecretResponse>, Status> {
        let request = request.into_inner();
        let (tenant, id) = name::subscription("name", &request.name).map_err(Failure::from)?;
        let held = self.0.store.secret(&tenant, &id).await.map_err(Failure::from)?;
        let held = held.ok_or(Failure::NotFound { field: "name", name: request.name })?;
        Ok(Response::new(pb::GetSubscriptionSecretResponse {
            secret: held.secret.text(),
            effective_time: held.starts_at.and_then(convert::to_timestamp),
            public_key: held.key_pair.map(|pair| pair.public_text()).unwrap_or_default(),
        }))
    }

    async fn send_test_event(
        &self,
        request: Request<pb::SendTestEventRequest>,
    ) -> Result<Response<pb::SendTestEventResponse>, Status> {
        let trace = trace::of_call(request.metadata());
        let patience = deadline::of_call(request.metadata());
        Ok(Response::new(test_event::send(&self.0, request.into_inner(), trace, patience).await?))
    }

    async fn check_target(
        &self,
        request: Request<pb::CheckTargetRequest>,
    ) -> Result<Response<pb::CheckTargetResponse>, Status> {
        let patience = deadline::of_call(request.metadata());
        Ok(Response::new(check_target::check(&self.0, request.into_inner(), patience).await?))
    }

    async fn render_event(
        &self,
        request: Request<pb::RenderEventRequest>,
    ) -> Result<Response<pb::RenderEventResponse>, Status> {
        Ok(Response::new(preview::render(&self.0, request.into_inner()).await?))
    }
}
