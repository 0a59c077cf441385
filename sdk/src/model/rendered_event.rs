//! What would be sent.

use bytes::Bytes;

use super::Header;

/// The request that an event would be sent with, as [`render_event`](crate::Subscriptions::render_event) shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RenderedEvent {
    /// The method; empty if there is a `template_error`.
    pub method: String,
    /// Where it would go.
    pub target_url: String,
    /// The headers, with `********` in the place of secrets and signatures.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Bytes,
    /// Why there is no request.
    pub template_error: Option<TemplateError>,
}

/// Why a template cannot be rendered for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateError {
    /// What is wrong.
    pub message: String,
    /// The line of the template, from 1; 0 if it is not about one.
    pub line: u32,
    /// The column, from 1; 0 if it is not about one.
    pub column: u32,
}
