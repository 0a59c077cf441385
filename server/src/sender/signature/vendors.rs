//! The schemes of vendors whose receivers are all over the world. All of them key on the secret's text.

use http::HeaderName;

use super::{
    Pen, Unsigned,
    mac::{base64, hex, hmac},
};
use crate::domain::{
    secret::SigningSecret,
    signing::{Algorithm, Shopify},
};

/// `Stripe-Signature: t=…,v1=…`, with a `v1` for each secret in force.
pub(super) fn stripe(pen: &mut Pen<'_>) -> Result<(), Unsigned> {
    let timestamp = pen.seconds();
    let mut value = format!("t={timestamp}");
    for key in pen.secrets.in_force(pen.message.now).map(SigningSecret::text) {
        let parts = [timestamp.as_bytes(), b".", pen.message.body];
        value.push_str(",v1=");
        value.push_str(&hex(&hmac(Algorithm::Sha256, key.as_bytes(), &parts)?));
    }
    pen.write_signature(HeaderName::from_static("stripe-signature"), value)
}

/// `X-Hub-Signature-256: sha256=…` over the body; the event's type and its id as a UUID beside it.
pub(super) fn github(pen: &mut Pen<'_>, legacy_sha1: bool) -> Result<(), Unsigned> {
    let (key, body) = (pen.key()?, pen.message.body);
    let sha256 = hex(&hmac(Algorithm::Sha256, key.as_bytes(), &[body])?);
    pen.write_signature(HeaderName::from_static("x-hub-signature-256"), format!("sha256={sha256}"))?;
    if legacy_sha1 {
        let sha1 = hex(&hmac(Algorithm::Sha1, key.as_bytes(), &[body])?);
        pen.write_signature(HeaderName::from_static("x-hub-signature"), format!("sha1={sha1}"))?;
    }
    let event = pen.message.event;
    pen.write("x-github-event", event.content.event_type.as_str())?;
    pen.write("x-github-delivery", event.id.uuid().to_string())
}

/// `X-Shopify-Hmac-Sha256` over the body, and what Shopify's libraries require beside it.
pub(super) fn shopify(pen: &mut Pen<'_>, shopify: &Shopify) -> Result<(), Unsigned> {
    let signature = base64(&hmac(Algorithm::Sha256, pen.key()?.as_bytes(), &[pen.message.body])?);
    pen.write_signature(HeaderName::from_static("x-shopify-hmac-sha256"), signature)?;
    let event = pen.message.event;
    let id = event.id.uuid().to_string();
    pen.write("x-shopify-topic", shopify.topic_of(&event.content.event_type))?;
    pen.write("x-shopify-shop-domain", shopify.shop_domain())?;
    pen.write("x-shopify-api-version", shopify.api_version())?;
    pen.write("x-shopify-webhook-id", id.as_str())?;
    pen.write("x-shopify-event-id", id)?;
    let mut triggered_at = String::new();
    std::fmt::write(&mut triggered_at, format_args!("{}", event.time()))?;
    pen.write("x-shopify-triggered-at", triggered_at)
}

/// `X-Slack-Signature: v0=…` over `v0:timestamp:body`.
pub(super) fn slack(pen: &mut Pen<'_>) -> Result<(), Unsigned> {
    let timestamp = pen.seconds();
    let parts = [b"v0:", timestamp.as_bytes(), b":", pen.message.body];
    let signature = hex(&hmac(Algorithm::Sha256, pen.key()?.as_bytes(), &parts)?);
    pen.write_signature(HeaderName::from_static("x-slack-signature"), format!("v0={signature}"))?;
    pen.write("x-slack-request-timestamp", timestamp)
}

/// `x-square-hmacsha256-signature` over the URL and the body.
pub(super) fn square(pen: &mut Pen<'_>) -> Result<(), Unsigned> {
    let parts = [pen.url.as_str().as_bytes(), pen.message.body];
    let signature = base64(&hmac(Algorithm::Sha256, pen.key()?.as_bytes(), &parts)?);
    pen.write_signature(HeaderName::from_static("x-square-hmacsha256-signature"), signature)
}

/// `X-HubSpot-Signature-v3` over method, URL, body and the time in milliseconds.
pub(super) fn hubspot(pen: &mut Pen<'_>) -> Result<(), Unsigned> {
    let timestamp = pen.milliseconds();
    let message = pen.message;
    let parts =
        [message.method.as_str().as_bytes(), pen.url.as_str().as_bytes(), message.body, timestamp.as_bytes()];
    let signature = base64(&hmac(Algorithm::Sha256, pen.key()?.as_bytes(), &parts)?);
    pen.write_signature(HeaderName::from_static("x-hubspot-signature-v3"), signature)?;
    pen.write("x-hubspot-request-timestamp", timestamp)
}
