//! The trace that a call belongs to, in the form of [W3C Trace Context](https://www.w3.org/TR/trace-context/).
//!
//! Only the two headers are written here; there is no tracer and no exporter in the SDK.

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt},
};
use tonic::metadata::MetadataMap;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The span that calls are made in, if there is one that OpenTelemetry knows.
#[derive(Debug, Clone)]
pub(crate) struct TraceContext(SpanContext);

impl TraceContext {
    /// From the current `tracing` span, or from OpenTelemetry itself in programs that do without `tracing`.
    pub(crate) fn current() -> Self {
        let context = tracing::Span::current().context();
        let span = context.span().span_context().clone();
        if span.is_valid() {
            return Self(span);
        }
        Self(Context::current().span().span_context().clone())
    }

    /// The two headers, both empty if there is no span.
    pub(crate) fn headers(&self) -> (String, String) {
        let Self(span) = self;
        if !span.is_valid() {
            return (String::new(), String::new());
        }
        let traceparent =
            format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8());
        (traceparent, span.trace_state().header())
    }

    pub(crate) fn inject(&self, metadata: &mut MetadataMap) {
        let (traceparent, tracestate) = self.headers();
        if !traceparent.is_empty()
            && let Ok(value) = traceparent.parse()
        {
            metadata.insert("traceparent", value);
        }
        if !tracestate.is_empty()
            && let Ok(value) = tracestate.parse()
        {
            metadata.insert("tracestate", value);
        }
    }
}
