//! Trace contexts on their way through: from a producer's call into the event, from the event to each attempt, and from there to
//! the receiver.
//!
//! ```text
//!  producer's span ─> publish span ─────────────┬─ attempt 1 ─> receiver
//!                          ^ stored with event   └─ attempt 2 ─> receiver
//!                          └──────── links ──────────┘  └─ links to attempt 1 too
//! ```
//!
//! All of it is one trace, so that a dashboard shows an event's whole way. If the server exports no traces, no span has a
//! context, and the receiver gets what the producer sent.

use std::str::FromStr;

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::domain::{
    attempt::{Attempt, Outcome},
    claim::Claim,
    delivery::Settlement,
    trace_context::TraceContext,
};

/// Makes `span` a child of the span that called us.
pub fn continue_from(span: &Span, caller: &TraceContext) {
    if let Some(context) = span_context(caller) {
        // Fails only where no tracer is at work, and then there is nothing to do.
        let _ = span.set_parent(Context::new().with_remote_span_context(context));
    }
}

/// The context of a span; none if no tracer is at work.
#[must_use]
pub fn of_span(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let own = span.span_context();
    own.is_valid().then(|| {
        let traceparent =
            format!("00-{}-{}-{:02x}", own.trace_id(), own.span_id(), own.trace_flags().to_u8());
        TraceContext::from_stored(traceparent, own.trace_state().header())
    })
}

/// The span of one attempt: in the trace of the publish, and linked to it and to the attempt before.
#[must_use]
pub fn attempt_span(claim: &Claim) -> Span {
    let span = tracing::info_span!(
        "delivery.attempt",
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = "POST",
        http.response.status_code = Empty,
        server.address = claim.target.url.url().host_str().unwrap_or_default(),
        tenant.id = %claim.target.tenant,
        event.id = %claim.event.id,
        event.type = %claim.event.content.event_type,
        subscription.id = %claim.target.id,
        delivery.id = %claim.delivery,
        attempt.number = claim.attempt.get(),
        attempt.outcome = Empty,
        error.type = Empty,
        settlement = Empty,
    );
    if let Some(publish) = claim.event.trace.as_ref().and_then(span_context) {
        let _ = span.set_parent(Context::new().with_remote_span_context(publish.clone()));
        span.add_link(publish);
    }
    if let Some(previous) = claim.previous_span.as_ref().and_then(span_context) {
        span.add_link(previous);
    }
    span
}

/// Writes down on the span what the attempt came to and what follows, and logs it.
pub fn record_outcome(span: &Span, attempt: &Attempt, settlement: Settlement) {
    let _entered = span.enter();
    if let Some(response) = &attempt.response {
        span.record("http.response.status_code", response.status);
    }
    let outcome = match &attempt.outcome {
        Outcome::Acknowledged { .. } => "acknowledged",
        Outcome::Rejected { .. } => "rejected",
        Outcome::Failed { failure, message } => {
            span.record("error.type", tracing::field::debug(failure));
            tracing::debug!(cause = message, "an attempt failed");
            "failed"
        }
    };
    span.record("attempt.outcome", outcome);
    if outcome != "acknowledged" {
        span.record("otel.status_code", "ERROR");
    }
    span.record("settlement", tracing::field::debug(settlement));
    tracing::debug!(duration_ms = attempt.timings.total.as_millis(), "an attempt was made");
}

fn span_context(context: &TraceContext) -> Option<SpanContext> {
    let mut parts = context.traceparent().split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?);
    let state = TraceState::from_str(context.tracestate()).unwrap_or_default();
    Some(SpanContext::new(trace, span, flags, true, state))
}
