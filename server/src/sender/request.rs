//! The request of one attempt: the headers of the contract (`CONTRACTS.md` A1), those that the subscription sets, and the signature
//! over whatever [`body`] goes out.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT},
};

use super::{
    body::{self, Body},
    signature::{self, Message, Unsigned},
};
use crate::domain::{
    attempt::Failure,
    claim::Target,
    event::Event,
    form::{self, Form, StaticHeader, Value},
    settings::Settings,
    timestamp::Timestamp,
    trace_context::TraceContext,
};
use crate::template;

/// A request that is ready to be sent.
#[derive(Debug)]
pub struct Prepared {
    /// The method.
    pub method: Method,
    /// Where it is sent: the target, or what a signature scheme makes of it.
    pub uri: Uri,
    /// The headers, of which those that hold secrets or signatures are marked as sensitive.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub enum Unprepared {
    /// This node lacks a key.
    #[error("the subscription's settings cannot be decrypted")]
    Settings,
    /// The template of the subscription cannot be rendered for this event.
    #[error("{0}")]
    Template(template::Error),
    /// Something that the domain should not have let in, or a secret that should be there.
    #[error("{0}")]
    Defect(String),
}

impl Unprepared {
    /// As which an attempt fails.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Template(_) => Failure::Template,
            Self::Settings | Self::Defect(_) => Failure::Internal,
        }
    }
}

impl From<body::Error> for Unprepared {
    fn from(cause: body::Error) -> Self {
        match cause {
            body::Error::Template(cause) => Self::Template(cause),
            other => Self::Defect(other.to_string()),
        }
    }
}

impl From<BuildError> for Unprepared {
    fn from(cause: BuildError) -> Self {
        Self::Defect(cause.to_string())
    }
}

/// Why headers cannot be made. None of these can happen to what the domain let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    /// It cannot be signed.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    /// A value does not fit in a header.
    #[error("a header cannot be written down")]
    Value(#[from] http::header::InvalidHeaderValue),
    /// A name does not fit in a header.
    #[error("a header cannot be named")]
    Name(#[from] http::header::InvalidHeaderName),
    /// The type of the body does not fit in a header.
    #[error("the content type cannot be written down")]
    ContentType(#[from] http::header::ToStrError),
    /// The target cannot be requested.
    #[error("the target url cannot be requested")]
    Uri(#[from] http::uri::InvalidUri),
}

/// The request of an attempt that begins at `now`.
pub(super) fn build(
    event: &Event,
    target: &Target,
    settings: &Settings,
    body: Body,
    trace: Option<&TraceContext>,
    now: Timestamp,
    user_agent: &HeaderValue,
) -> Result<Prepared, BuildError> {
    let form = settings.form.as_ref();
    let method = method(form);
    let id = event.id.to_string();

    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    // What comes back is kept as it is; nothing is ever unpacked.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, user_agent.clone());
    // After what they may replace and before what they may not.
    for header in form.iter().flat_map(|form| form.headers.iter()) {
        add_static(&mut headers, header)?;
    }
    headers.insert(CONTENT_TYPE, body.content_type.clone());
    headers.insert(HeaderName::from_static("webhook-id"), HeaderValue::try_from(&id)?);
    headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(now.unix_seconds()));
    headers.extend(body.headers);
    let message = Message {
        event,
        id: &id,
        method: &method,
        url: target.url.url(),
        content_type: body.content_type.to_str()?,
        body: &body.bytes,
        now,
    };
    let url = signature::sign(settings.signing.as_ref(), &target.secrets, &message, &mut headers)?;
    let uri = Uri::try_from(url.as_ref().unwrap_or(target.url.url()).as_str())?;
    if let Some(trace) = trace {
        add_trace(&mut headers, trace);
    }
    Ok(Prepared { method, uri, headers, body: body.bytes })
}

/// The method that a subscription asks for.
fn method(form: Option<&Form>) -> Method {
    match form.map(|form| form.method) {
        None | Some(form::Method::Post) => Method::POST,
        Some(form::Method::Put) => Method::PUT,
    }
}

/// Secrets are marked as such: they stay out of compression tables and are not shown.
pub(super) fn add_static(headers: &mut HeaderMap, header: &StaticHeader) -> Result<(), BuildError> {
    let mut value = HeaderValue::from_str(header.value.expose())?;
    value.set_sensitive(matches!(header.value, Value::Secret(_)));
    headers.insert(HeaderName::try_from(&header.name)?, value);
    Ok(())
}

/// A trace context that does not fit in headers is left out: tracing must not keep an event from its receiver.
fn add_trace(headers: &mut HeaderMap, trace: &TraceContext) {
    let Ok(traceparent) = HeaderValue::from_str(trace.traceparent()) else {
        return;
    };
    headers.insert(HeaderName::from_static("traceparent"), traceparent);
    match HeaderValue::from_str(trace.tracestate()) {
        Ok(tracestate) if !tracestate.is_empty() => {
            headers.insert(HeaderName::from_static("tracestate"), tracestate);
        }
        Ok(_) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{super::body::Bodies, *};
    use crate::domain::{
        fixtures::{NOW, event, target},
        form::{BodyForm, CloudEventsMode, Headers, MASK},
        secret::{SecretInForce, SecretSet, SigningSecret},
    };

    fn secrets(ends: &[Option<Timestamp>]) -> SecretSet {
        let held = |(at, end): (usize, &Option<Timestamp>)| SecretInForce {
            secret: SigningSecret::from_bytes(vec![u8::try_from(at).unwrap(); 32]),
            key_pair: None,
            starts_at: None,
            expires_at: *end,
        };
        SecretSet::newest_first(ends.iter().enumerate().map(held).collect())
    }

    fn build_with(trace: Option<&TraceContext>, secrets: SecretSet) -> Result<Prepared, BuildError> {
        build_as(None, trace, secrets)
    }

    fn build_as(
        form: Option<Form>,
        trace: Option<&TraceContext>,
        secrets: SecretSet,
    ) -> Result<Prepared, BuildError> {
        let event = std::sync::Arc::new(event(b"{}", ""));
        let bodies = Bodies::default();
        let (target, settings) = (Target { secrets, ..target() }, Settings { form, ..Settings::default() });
        let body =
            futures_util::FutureExt::now_or_never(bodies.make(&event, &target, settings.form.as_ref()));
        let agent = HeaderValue::from_static("Postrider/test");
        build(&event, &target, &settings, body.unwrap().unwrap(), trace, NOW, &agent)
    }

    #[test]
    fn the_headers_are_those_of_the_contract() {
        let trace =
            TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1").unwrap();
        let headers = build_with(Some(&trace), secrets(&[None])).unwrap().headers;
        let get = |name| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(get("content-type"), Some("application/json"));
        assert_eq!(get("accept"), Some("*/*"));
        assert_eq!(get("accept-encoding"), Some("identity"));
        assert_eq!(get("user-agent"), Some("Postrider/test"));
        assert!(get("webhook-id").unwrap().starts_with("evt_"));
        assert_eq!(get("webhook-timestamp"), Some("1732186800"));
        assert_eq!(get("traceparent"), Some(trace.traceparent()));
        assert_eq!(get("tracestate"), Some("a=1"));
        assert_eq!(headers.len(), 9);
    }

    #[test]
    fn a_trace_without_state_or_with_a_broken_one_sends_no_tracestate() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for state in ["", "a=\n"] {
            let trace = TraceContext::from_stored(parent.to_owned(), state.to_owned());
            let headers = build_with(Some(&trace), secrets(&[None])).unwrap().headers;
            assert!(headers.contains_key("traceparent"));
            assert!(!headers.contains_key("tracestate"));
        }
        let trace = TraceContext::from_stored("\n".to_owned(), "a=1".to_owned());
        let headers = build_with(Some(&trace), secrets(&[None])).unwrap().headers;
        assert!(!headers.contains_key("tracestate"), "a state without its parent says nothing");
    }

    #[test]
    fn during_a_rotation_both_secrets_sign_in_one_line() {
        let ends = [None, Some(NOW + std::time::Duration::from_secs(1))];
        let headers = build_with(None, secrets(&ends)).unwrap().headers;
        let line = headers["webhook-signature"].to_str().unwrap();
        assert_eq!(headers.get_all("webhook-signature").iter().count(), 1);
        let signatures: Vec<_> = line.split(' ').collect();
        assert_eq!(signatures.len(), 2);
        assert!(signatures.iter().all(|one| one.starts_with("v1,") && one.len() == 47));
    }

    #[test]
    fn without_a_secret_in_force_there_is_no_request() {
        let none = build_with(None, secrets(&[Some(NOW)]));
        assert!(matches!(none, Err(BuildError::Unsigned(Unsigned::NoSecret))));
    }

    #[test]
    fn a_receivers_headers_are_sent_and_its_secrets_are_marked() {
        let header = |name, value, secret| StaticHeader::parse(name, value, secret).unwrap();
        let headers = vec![
            header("X-Api-Key", "hidden", true),
            header("X-Version", "2", false),
            header("User-Agent", "Acme", false),
        ];
        let body = BodyForm::CloudEvents(CloudEventsMode::Binary);
        let form = Form { body, method: form::Method::Put, headers: Headers::parse(headers).unwrap() };
        assert_eq!((method(Some(&form)), method(None)), (Method::PUT, Method::POST));
        let shown = format!("{form:?}");
        let Prepared { headers, body, .. } = build_as(Some(form), None, secrets(&[None])).unwrap();
        assert_eq!(&body[..], b"{}");
        assert_eq!(headers["x-api-key"], "hidden");
        assert!(headers["x-api-key"].is_sensitive() && headers["webhook-signature"].is_sensitive());
        assert!(!format!("{headers:?} {shown}").contains("hidden"));
        assert_eq!(
            (&headers["x-version"], &headers["user-agent"]),
            (&"2".parse().unwrap(), &"Acme".parse().unwrap())
        );
        assert_eq!(headers["ce-type"], "order.created");
        assert!(StaticHeader::parse("x", MASK, false).is_err(), "a mask is no value");
    }
}
