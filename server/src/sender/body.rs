//! The body of a request, with the headers that describe it. One file for each form; [`super::request`] puts the request together.

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::domain::{
    event::{Event, Payload},
    form::{BodyForm, CloudEventsMode},
};

mod cloudevents;
mod envelope;
mod raw;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why there is no body. None of these can happen to what the domain let in.
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
    fn json(bytes: impl Into<Bytes>) -> Self {
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

/// Writes an event down in this form.
pub(super) fn write(event: &Event, form: &BodyForm) -> Result<Body, Error> {
    match form {
        BodyForm::Envelope => envelope::write(event),
        BodyForm::Raw => raw::write(event),
        BodyForm::CloudEvents(CloudEventsMode::Binary) => cloudevents::binary(event),
        BodyForm::CloudEvents(CloudEventsMode::Structured) => cloudevents::structured(event),
    }
}

#[cfg(test)]
pub(super) mod fixtures;
