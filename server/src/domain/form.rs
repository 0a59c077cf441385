//! In what form events are sent to a receiver: what the body is, by which method, with which further headers.
//!
//! Here is what may be asked for; [`sender`](crate::sender) makes it.

use serde::{Deserialize, Serialize};

pub use header::{Headers, MASK, SecretText, StaticHeader, Value, is_of_signatures};

mod header;

/// The form of a subscription's requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Form {
    /// What the body is.
    pub body: BodyForm,
    /// The method of the request.
    pub method: Method,
    /// Headers that each request carries.
    pub headers: Headers,
}

/// What the body of a request is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyForm {
    /// `{"type": …, "timestamp": …, "data": …}`.
    #[default]
    Envelope,
    /// The data as it was published.
    Raw,
    /// A CloudEvent.
    CloudEvents(CloudEventsMode),
    /// What a template makes of the event.
    Template(TemplateForm),
    /// A message for an incoming webhook of Slack. Its text is what this template makes of the event, or the default one.
    Slack(Option<String>),
}

/// A body by a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateForm {
    /// The template, which compiles.
    pub source: String,
    /// The media type of what it makes.
    pub content_type: String,
}

/// Where the attributes of a CloudEvent are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloudEventsMode {
    /// In headers.
    #[default]
    Binary,
    /// In the body.
    Structured,
}

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
}
