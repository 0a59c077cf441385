//! Makes handshakes ([`crate::domain::handshake`]): asks the receiver, and says whether it agrees.
//!
//! The exchange is like that of an attempt: the same guard, clients, credentials, certificates, proxy and deadline, and redirects are not
//! followed. Of the answer no more is read than any good one has.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header::CONTENT_TYPE};
use tokio::time::Instant;
use url::Url;

use super::{
    HttpSender,
    body::Body,
    phases::Phases,
    request::{self, BuildError, Prepared},
    response,
};
use crate::{
    dispatch,
    domain::{
        claim::Target,
        event::{Attributes, Event, EventContent, Payload},
        event_type::EventType,
        handling::Handling,
        handshake::{self, Answer, Challenge, Consent, Exchange, Question},
        id::EventId,
        secret::SigningSecret,
        settings::Settings,
        timestamp::Timestamp,
    },
};

/// The longest answer that is read.
const MAX_ANSWER: usize = 16 * 1024;
/// As what a signed question counts, where a signature tells a type.
const EVENT_TYPE: &str = "postrider.handshake";
const JSON: &str = "application/json";

impl HttpSender {
    /// Asks the receiver of a subscription whether it agrees to be sent events; if it does not, says why, for people.
    pub async fn shake_hands(
        &self,
        target: &Target,
        challenge: Challenge,
        now: Timestamp,
    ) -> Result<Consent, String> {
        let deadline = Instant::now() + dispatch::Sender::timeout(self, target);
        let settings = target.settings.as_ref().ok_or("the subscription's settings cannot be decrypted")?;
        let Some(handshake) = &settings.handshake else {
            return Err("the subscription has no handshake".to_owned());
        };
        self.0.policy.check_url(&target.url).map_err(|refused| refused.to_string())?;
        let secret = target.secrets.single(now).map(SigningSecret::text);
        let secret = secret.ok_or("the subscription has no signing secret in force")?;
        let exchange = Exchange { handshake, challenge, endpoint: target.url.as_str(), secret: &secret };
        let prepared = self.write_down(exchange.question(), target, settings, now);
        let prepared = prepared.map_err(|cause| cause.to_string())?;
        let phases = Phases::begin();
        let arrived = self.transmit(target, settings, prepared, now, deadline, &phases).await;
        let answer = arrived.map_err(|(_, message)| message)?;
        let (status, headers) = (answer.status().as_u16(), in_full(answer.headers()));
        let read = response::read_body(answer.into_body(), MAX_ANSWER, deadline).await;
        if read.timed_out {
            return Err("timed out while reading the response".to_owned());
        }
        exchange.judge(&Answer { status, headers, body: read.body })
    }

    fn write_down(
        &self,
        question: Question,
        target: &Target,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Prepared, BuildError> {
        let Question { method, query, headers, body, is_signed } = question;
        let user_agent = &self.0.user_agent;
        let method = method_of(method);
        let mut prepared = match body {
            Some(body) if is_signed => {
                let event = event(target, body, now);
                let body = Body::json(event.content.payload.data.clone());
                request::signed(method, &event, target, settings, body, now, user_agent)?
            }
            body => {
                let mut headers = request::headers(settings, user_agent)?;
                if body.is_some() {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
                }
                let uri = Uri::try_from(with_query(target.url.url(), &query).as_str())?;
                Prepared { method, uri, headers, body: Bytes::from(body.unwrap_or_default()) }
            }
        };
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(value)?;
            // It may be a secret.
            value.set_sensitive(true);
            prepared.headers.insert(HeaderName::from_static(name), value);
        }
        Ok(prepared)
    }
}

fn method_of(method: handshake::Method) -> Method {
    match method {
        handshake::Method::Get => Method::GET,
        handshake::Method::Head => Method::HEAD,
        handshake::Method::Options => Method::OPTIONS,
        handshake::Method::Post => Method::POST,
    }
}

/// The target with something added to its query, of which nothing else changes.
fn with_query(target: &Url, query: &[(&str, String)]) -> Url {
    let mut url = target.clone();
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// What is signed is signed as an event.
fn event(target: &Target, body: String, now: Timestamp) -> Event {
    Event {
        id: EventId::new(now),
        tenant: target.tenant.clone(),
        request_id: None,
        content: EventContent {
            event_type: EventType::from_stored(EVENT_TYPE),
            source: String::new(),
            subject: String::new(),
            time: None,
            payload: Payload { data: body.into(), content_type: JSON.to_owned() },
            attributes: Attributes::default(),
            handling: Handling::default(),
        },
        trace: None,
        created_at: now,
    }
}

/// All of them: the client bounds how many there are.
fn in_full(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_added_to_the_query_that_is_there() {
        let added = |target: &str, query: &[(&str, &str)]| {
            let query: Vec<_> = query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            with_query(&Url::parse(target).unwrap(), &query).to_string()
        };
        assert_eq!(
            added("https://a.com/?x=%20a+b&y", &[("hub.mode", "a&b")]),
            "https://a.com/?x=%20a+b&y&hub.mode=a%26b"
        );
        assert_eq!(added("https://a.com/h", &[("c", "1")]), "https://a.com/h?c=1");
        assert_eq!(added("https://a.com/h", &[]), "https://a.com/h");
    }
}
