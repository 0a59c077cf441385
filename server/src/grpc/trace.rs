//! A span for every call, in its caller's trace.

use http::{HeaderMap, Request};
use postrider_proto::v1 as pb;
use tonic::metadata::MetadataMap;
use tracing::Span;

use crate::{domain::trace_context::TraceContext, telemetry::trace_context};

/// Makes the span of a call; the server enters it for as long as the call is handled.
pub(super) fn span(request: &Request<()>) -> Span {
    let path = request.uri().path().trim_start_matches('/');
    let (service, method) = path.split_once('/').unwrap_or((path, ""));
    let span = tracing::info_span!(
        "rpc",
        otel.name = path,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
    );
    if let Some(caller) = of_headers(request.headers()) {
        trace_context::continue_from(&span, &caller);
    }
    span
}

/// What an event published by this call is traced back to: our own span if we trace, else the caller's.
pub(super) fn of_call(metadata: &MetadataMap) -> Option<TraceContext> {
    trace_context::of_span(&Span::current()).or_else(|| of_headers(metadata.as_ref()))
}

/// What an event is traced back to that belongs to another trace than the call that carries it.
pub(super) fn of_item(item: &pb::PublishItem) -> Option<TraceContext> {
    let caller = TraceContext::parse(&item.traceparent, &item.tracestate)?;
    let span = tracing::info_span!(parent: None, "event.publish", otel.kind = "server");
    trace_context::continue_from(&span, &caller);
    trace_context::of_span(&span).or(Some(caller))
}

fn of_headers(headers: &HeaderMap) -> Option<TraceContext> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    TraceContext::parse(text("traceparent")?, text("tracestate").unwrap_or_default())
}
