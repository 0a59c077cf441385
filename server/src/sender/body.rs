//! The body of a request, with the headers that describe it. One file for each form; [`super::request`] puts the request together.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::{
    domain::{
        claim::Target,
        event::{Event, Payload},
        form::{BodyForm, CloudEventsMode, Form, TemplateForm},
    },
    template::Escaping,
};

mod cloudevents;
mod envelope;
mod raw;
mod slack;
mod template;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why there is no body. None but the last of these can happen to what the domain let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The event's time is outside the years 1 to 9999.
    #[error("the event's time cannot be written down")]
    Time(#[from] fmt::Error),
    /// A string did not become JSON.
    #[error("the body cannot be written down")]
    Json(#[from] serde_json::Error),
    /// A value does not fit in a header.
    #[error("a header cannot be written down")]
    Value(#[from] http::header::InvalidHeaderValue),
    /// A name does not fit in a header.
    #[error("a header cannot be named")]
    Name(#[from] http::header::InvalidHeaderName),
    /// The template made none. This can happen with every event.
    #[error(transparent)]
    Template(#[from] crate::template::Error),
}

/// What is sent, and what it is.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) content_type: HeaderValue,
    /// What else describes it.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Never empty: some receivers' libraries fail on an empty body (`CONTRACTS.md` A1).
    pub(super) bytes: Bytes,
}

impl Body {
    pub(super) fn json(bytes: impl Into<Bytes>) -> Self {
        Self { content_type: JSON, headers: Vec::new(), bytes: bytes.into() }
    }

    /// The data as it was published. Where there is none, an empty JSON object stands in.
    fn data(payload: &Payload) -> Result<Self, Error> {
        if payload.data.is_empty() {
            return Ok(Self::json(&b"{}"[..]));
        }
        let content_type = HeaderValue::from_str(&payload.content_type)?;
        Ok(Self { content_type, headers: Vec::new(), bytes: payload.data.clone() })
    }
}

/// Makes bodies. Those by templates are made elsewhere than on the threads that everybody waits for.
#[derive(Debug, Default)]
pub(super) struct Bodies(template::Renderer);

impl Bodies {
    /// Writes an event down in the form that the target asks for.
    pub(super) async fn make(
        &self,
        event: &Arc<Event>,
        target: &Target,
        form: Option<&Form>,
    ) -> Result<Body, Error> {
        match form.map(|form| &form.body) {
            None | Some(BodyForm::Envelope) => envelope::write(event),
            Some(BodyForm::Raw) => raw::write(event),
            Some(BodyForm::CloudEvents(CloudEventsMode::Binary)) => cloudevents::binary(event),
            Some(BodyForm::CloudEvents(CloudEventsMode::Structured)) => cloudevents::structured(event),
            Some(BodyForm::Template(TemplateForm { source, content_type })) => {
                let text = self.0.render(event, target, source, Escaping::None).await?;
                if text.is_empty() {
                    return Err(crate::template::Error::nothing().into());
                }
                let content_type = HeaderValue::from_str(content_type)?;
                Ok(Body { content_type, headers: Vec::new(), bytes: text.into() })
            }
            Some(BodyForm::Slack(text)) => {
                let source = text.as_deref().unwrap_or(slack::TEXT);
                slack::write(&self.0.render(event, target, source, Escaping::Mrkdwn).await?)
            }
        }
    }
}
