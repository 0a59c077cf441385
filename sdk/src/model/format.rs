//! In what form events are sent.

use std::fmt;

use postrider_proto::v1 as pb;

use super::Secret;

/// In what form events are sent to a subscription's target: what the body is, by which method, with which further headers.
///
/// ```
/// use postrider_sdk::{
///     Subscription,
///     model::{CloudEventsMode, Format, Method},
/// };
///
/// let format = Format::cloud_events(CloudEventsMode::Structured)
///     .method(Method::Put)
///     .header("X-Api-Version", "2")
///     .secret_header("X-Api-Key", "s3cret");
/// let new = Subscription::to("https://example.com/hooks").event_types(["order.*"]).format(format);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Format {
    /// What the body is.
    pub body: BodyFormat,
    /// The method of the request.
    pub method: Method,
    /// Headers that each request carries, beside those of the server.
    pub headers: Vec<StaticHeader>,
}

/// What the body of a callback is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BodyFormat {
    /// `{"type": …, "timestamp": …, "data": …}`, as Standard Webhooks recommends it.
    #[default]
    Envelope,
    /// The event's data as it was published, with its content type. Data of no bytes is sent as `{}`.
    Raw,
    /// A CloudEvent 1.0.
    CloudEvents(CloudEventsMode),
    /// What a template makes of the event.
    #[non_exhaustive]
    Template {
        /// The template.
        source: String,
        /// The media type of what it makes; `application/json` if empty.
        content_type: String,
    },
    /// A message for an incoming webhook of Slack.
    #[non_exhaustive]
    Slack {
        /// A template of the text; if empty: the type, the subject and the beginning of the data.
        text: String,
    },
    /// A form newer than this SDK.
    Unrecognized,
}

/// Where the attributes of a CloudEvent are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum CloudEventsMode {
    /// In `ce-` headers; the body is the event's data.
    #[default]
    Binary,
    /// In the body.
    Structured,
    /// A mode newer than this SDK, with its number.
    Unrecognized(i32),
}

/// The method of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum Method {
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
    /// A method newer than this SDK, with its number.
    Unrecognized(i32),
}

/// A header that is the same in each callback.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaticHeader {
    /// The name; in lower case as the server shows it.
    pub name: String,
    /// The value.
    pub value: HeaderValue,
}

/// The value of a header. `Debug` does not show a secret one.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderValue {
    /// Can be read back.
    Open(String),
    /// Is never shown again.
    Secret(Secret),
    /// A secret as the server shows it: in an update it keeps what is set for the name.
    Kept,
}

/// What the server shows in the place of a secret.
const MASK: &str = "********";

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(value) => value.fmt(f),
            Self::Secret(_) => f.write_str("[redacted]"),
            Self::Kept => f.write_str(MASK),
        }
    }
}

impl Format {
    /// The envelope of Standard Webhooks, which is the default: for a method or headers.
    #[must_use]
    pub fn envelope() -> Self {
        Self::default()
    }

    /// The event's data as it was published.
    #[must_use]
    pub fn raw() -> Self {
        Self { body: BodyFormat::Raw, ..Self::default() }
    }

    /// A CloudEvent 1.0 by the HTTP protocol binding.
    #[must_use]
    pub fn cloud_events(mode: CloudEventsMode) -> Self {
        Self { body: BodyFormat::CloudEvents(mode), ..Self::default() }
    }

    /// JSON that a template makes of the event, in the language of Jinja2; [`content_type`](Self::content_type) makes it something else.
    ///
    /// ```
    /// use postrider_sdk::model::Format;
    ///
    /// let ticket = Format::template(r#"{"title": {{ ("Order " ~ data.id) | tojson }}, "kind": "{{ type }}"}"#);
    /// let form = Format::template("id={{ id | urlencode }}").content_type("application/x-www-form-urlencoded");
    /// ```
    #[must_use]
    pub fn template(source: impl Into<String>) -> Self {
        let body = BodyFormat::Template { source: source.into(), content_type: String::new() };
        Self { body, ..Self::default() }
    }

    /// The media type of what a template makes.
    #[must_use]
    pub fn content_type(mut self, media_type: impl Into<String>) -> Self {
        if let BodyFormat::Template { content_type, .. } = &mut self.body {
            *content_type = media_type.into();
        }
        self
    }

    /// A message for an incoming webhook of Slack: the type, the subject and the beginning of the data.
    ///
    /// ```
    /// use postrider_sdk::model::Format;
    ///
    /// let message = Format::slack();
    /// let own = Format::slack_text("*{{ data.title }}* <{{ data.url }}|open>");
    /// ```
    #[must_use]
    pub fn slack() -> Self {
        Self::slack_text("")
    }

    /// The same with a text that a template makes. What it writes of the event is escaped.
    #[must_use]
    pub fn slack_text(template: impl Into<String>) -> Self {
        Self { body: BodyFormat::Slack { text: template.into() }, ..Self::default() }
    }

    /// Sends by this method.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// Sends this header with each request.
    #[must_use]
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(name.into(), HeaderValue::Open(value.into()))
    }

    /// Sends this header with each request, and never shows its value. `********` keeps what is set for the name.
    #[must_use]
    pub fn secret_header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(name.into(), HeaderValue::Secret(Secret::new(value.into())))
    }

    fn with(mut self, name: String, value: HeaderValue) -> Self {
        self.headers.push(StaticHeader { name, value });
        self
    }

    pub(crate) fn to_pb(&self) -> pb::Format {
        let body = match &self.body {
            BodyFormat::Envelope => Some(pb::format::Body::Envelope(pb::EnvelopeFormat {})),
            BodyFormat::Raw => Some(pb::format::Body::Raw(pb::RawFormat {})),
            BodyFormat::CloudEvents(mode) => {
                let mode = match mode {
                    CloudEventsMode::Binary => pb::CloudEventsMode::Binary.into(),
                    CloudEventsMode::Structured => pb::CloudEventsMode::Structured.into(),
                    CloudEventsMode::Unrecognized(mode) => *mode,
                };
                Some(pb::format::Body::CloudEvents(pb::CloudEventsFormat { mode }))
            }
            BodyFormat::Template { source, content_type } => {
                let (source, content_type) = (source.clone(), content_type.clone());
                Some(pb::format::Body::Template(pb::TemplateFormat { source, content_type }))
            }
            BodyFormat::Slack { text } => {
                Some(pb::format::Body::Slack(pb::SlackFormat { text: text.clone() }))
            }
            BodyFormat::Unrecognized => None,
        };
        let method = match self.method {
            Method::Post => pb::CallbackMethod::Post.into(),
            Method::Put => pb::CallbackMethod::Put.into(),
            Method::Unrecognized(method) => method,
        };
        pb::Format { body, method, headers: self.headers.iter().map(StaticHeader::to_pb).collect() }
    }

    pub(crate) fn from_pb(format: pb::Format) -> Self {
        let body = match format.body {
            None => BodyFormat::Unrecognized,
            Some(pb::format::Body::Envelope(pb::EnvelopeFormat {})) => BodyFormat::Envelope,
            Some(pb::format::Body::Raw(pb::RawFormat {})) => BodyFormat::Raw,
            Some(pb::format::Body::Template(pb::TemplateFormat { source, content_type })) => {
                BodyFormat::Template { source, content_type }
            }
            Some(pb::format::Body::Slack(pb::SlackFormat { text })) => BodyFormat::Slack { text },
            Some(pb::format::Body::CloudEvents(format)) => {
                BodyFormat::CloudEvents(match pb::CloudEventsMode::try_from(format.mode) {
                    Ok(pb::CloudEventsMode::Binary | pb::CloudEventsMode::Unspecified) => {
                        CloudEventsMode::Binary
                    }
                    Ok(pb::CloudEventsMode::Structured) => CloudEventsMode::Structured,
                    Err(_) => CloudEventsMode::Unrecognized(format.mode),
                })
            }
        };
        let method = match pb::CallbackMethod::try_from(format.method) {
            Ok(pb::CallbackMethod::Post | pb::CallbackMethod::Unspecified) => Method::Post,
            Ok(pb::CallbackMethod::Put) => Method::Put,
            Err(_) => Method::Unrecognized(format.method),
        };
        Self { body, method, headers: format.headers.into_iter().map(StaticHeader::from_pb).collect() }
    }
}

impl StaticHeader {
    fn to_pb(&self) -> pb::StaticHeader {
        let (value, secret) = match &self.value {
            HeaderValue::Open(value) => (value.clone(), false),
            HeaderValue::Secret(value) => (value.expose().to_owned(), true),
            HeaderValue::Kept => (MASK.to_owned(), true),
        };
        pb::StaticHeader { name: self.name.clone(), value, secret }
    }

    fn from_pb(header: pb::StaticHeader) -> Self {
        let value = if header.secret { HeaderValue::Kept } else { HeaderValue::Open(header.value) };
        Self { name: header.name, value }
    }
}
