//! `RenderEvent`: what a request would be.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use postrider_proto::v1 as pb;

use super::{Parts, convert, failure::Failure, name, tried_target};
use crate::{
    domain::{
        claim::Target,
        event::{Event, NewEvent},
        form::MASK,
        id::{EventId, TenantId},
        invalid::Invalid,
        timestamp::Timestamp,
    },
    template,
};

/// Makes requests that are not sent.
pub trait Preview: Send + Sync + 'static {
    /// The request of an attempt at `now`.
    fn preview<'a>(
        &'a self,
        event: &'a Arc<Event>,
        target: &'a Target,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Request, Refusal>>;
}

/// A request that is not sent.
#[derive(Debug)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Where it would go.
    pub url: String,
    /// Its headers; those without a value are secret.
    pub headers: Vec<(String, Option<String>)>,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no request.
#[derive(Debug)]
pub enum Refusal {
    /// The template cannot be rendered.
    Template(template::Error),
    /// A defect of the server, in words.
    Defect(String),
}

pub(super) async fn render(
    api: &Parts,
    request: pb::RenderEventRequest,
) -> Result<pb::RenderEventResponse, Failure> {
    use pb::render_event_request::Receiver;
    let tenant = name::tenant("parent", &request.parent)?;
    let now = api.clock.now();
    let target = match request.receiver {
        None => {
            let reason = "is missing: set `subscription_name` or `subscription`";
            return Err(Invalid::new("receiver", reason).into());
        }
        Some(Receiver::SubscriptionName(name)) => tried_target::stored(api, &tenant, name).await?,
        Some(Receiver::Subscription(subscription)) => new_target(api, tenant.clone(), subscription, now)?,
    };
    let event = Arc::new(event(api, tenant, request.content, now).await?);
    let rendered = api.preview.preview(&event, &target, now).await;
    let target_url = target.url.as_str().to_owned();
    match rendered {
        Ok(request) => Ok(pb::RenderEventResponse {
            method: request.method,
            target_url: request.url,
            headers: request.headers.into_iter().map(header).collect(),
            body: request.body,
            template_error: None,
        }),
        Err(Refusal::Template(cause)) => {
            let (line, column) = cause.place.unwrap_or_default();
            let number = |number| i32::try_from(number).unwrap_or(i32::MAX);
            let error =
                pb::TemplateError { message: cause.message, line: number(line), column: number(column) };
            Ok(pb::RenderEventResponse {
                target_url,
                template_error: Some(error),
                ..pb::RenderEventResponse::default()
            })
        }
        Err(Refusal::Defect(cause)) => {
            tracing::error!(cause, "a request could not be shown");
            Err(Failure::Internal)
        }
    }
}

fn header((name, value): (String, Option<String>)) -> pb::Header {
    pb::Header { name, value: value.unwrap_or_else(|| MASK.to_owned()) }
}

fn new_target(
    api: &Parts,
    tenant: TenantId,
    mut subscription: pb::Subscription,
    now: Timestamp,
) -> Result<Target, Failure> {
    let id = tried_target::new_id(&tenant, &subscription.name)?;
    // They are not shown, and one that was read has nothing but masks.
    let headers = subscription.format.iter_mut().flat_map(|format| &mut format.headers);
    let headers = headers.filter(|header| header.secret).map(|header| &mut header.value);
    let authentication = subscription.authentication.iter_mut().filter_map(|own| own.method.as_mut());
    for secret in headers.chain(authentication.map(secret_of)).filter(|secret| *secret == MASK) {
        tried_target::NAMELESS.clone_into(secret);
    }
    // Nor does this change what is shown.
    subscription.tls = None;
    subscription.handshake = subscription.handshake.filter(is_told);
    let spec = convert::subscription::spec(&subscription, &api.limits)?;
    Ok(tried_target::new(tenant, id, spec, now))
}

fn secret_of(method: &mut pb::authentication::Method) -> &mut String {
    use pb::authentication::Method;
    match method {
        Method::Basic(basic) => &mut basic.password,
        Method::Bearer(bearer) => &mut bearer.token,
        Method::ApiKey(api_key) => &mut api_key.value,
        Method::ClientCredentials(client) => &mut client.client_secret,
    }
}

/// Whether callbacks tell of a handshake.
fn is_told(handshake: &pb::Handshake) -> bool {
    matches!(handshake.method, Some(pb::handshake::Method::CloudEvents(_)))
}

async fn event(
    api: &Parts,
    tenant: TenantId,
    content: Option<pb::render_event_request::Content>,
    now: Timestamp,
) -> Result<Event, Failure> {
    use pb::render_event_request::Content;
    const FIELD: &str = "event_name";
    let new = match content {
        Some(Content::EventName(name)) => {
            let (owner, id) = name::event(FIELD, &name)?;
            tried_target::check_owner(FIELD, &tenant, &owner)?;
            let found = api.store.event(&tenant, id).await?;
            let event = found.ok_or(Failure::NotFound { field: FIELD, name })?.event;
            // Nothing is not JSON: it is no longer kept.
            let payload = &event.content.payload;
            return if payload.is_json() && payload.data.is_empty() {
                Err(Failure::DataExpired)
            } else {
                Ok(event)
            };
        }
        Some(Content::Event(event)) => {
            let content = convert::event::imagined_event(event, api.max_data_bytes, now)?;
            NewEvent { tenant, request_id: None, content, trace: None }
        }
        None => convert::event::test_event(
            tenant,
            &pb::SendTestEventRequest::default(),
            None,
            api.max_data_bytes,
        )?,
    };
    let NewEvent { tenant, request_id, content, trace } = new;
    Ok(Event { id: EventId::new(now), tenant, request_id, content, trace, created_at: now })
}
