//! The trace that calls belong to.

use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use postrider_sdk::Event;
use tracing::{Instrument, info_span, subscriber::DefaultGuard};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

use crate::fake::{Fake, unavailable};

/// Traces what this thread does; tests run on one thread each.
fn traced() -> (SdkTracerProvider, DefaultGuard) {
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    (provider, tracing::subscriber::set_default(tracing_subscriber::registry().with(layer)))
}

fn traceparent(span: &tracing::Span) -> String {
    let context = span.context();
    let span = context.span().span_context().clone();
    format!("00-{}-{}-01", span.trace_id(), span.span_id())
}

#[tokio::test]
async fn every_try_belongs_to_the_current_span() {
    let _traced = traced();
    let server = Fake::start().await;
    server.fail_next([unavailable()]);
    let span = info_span!("checkout");
    server.client().publish(Event::new("order.created")).instrument(span.clone()).await.unwrap();
    let calls = server.calls();
    assert_eq!(calls.len(), 2);
    for call in calls {
        assert_eq!(call.header("traceparent"), Some(traceparent(&span).as_str()));
    }
}

#[tokio::test]
async fn a_stream_belongs_to_the_span_in_which_the_publisher_was_made() {
    let _traced = traced();
    let server = Fake::start().await;
    let span = info_span!("import");
    let publisher = span.in_scope(|| server.client().publisher());
    publisher.publish(Event::new("order.created")).await.unwrap().await.unwrap();
    assert_eq!(server.calls()[0].header("traceparent"), Some(traceparent(&span).as_str()));
}

#[tokio::test]
async fn a_span_that_opentelemetry_entered_without_tracing_is_found_too() {
    use opentelemetry::{
        Context,
        trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState},
    };

    let remote = SpanContext::new(
        TraceId::from_hex("4bf92f3577b34da6a3ce929d0e0e4736").unwrap(),
        SpanId::from_hex("00f067aa0ba902b7").unwrap(),
        TraceFlags::default(),
        true,
        TraceState::from_key_value([("vendor", "value")]).unwrap(),
    );
    let server = Fake::start().await;
    let client = server.client();
    let _entered = Context::new().with_remote_span_context(remote).attach();
    client.publish(Event::new("order.created")).await.unwrap();
    let call = &server.calls()[0];
    assert_eq!(call.header("traceparent"), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"));
    assert_eq!(call.header("tracestate"), Some("vendor=value"));
}

#[tokio::test]
async fn a_call_outside_of_any_trace_says_nothing_of_one() {
    let server = Fake::start().await;
    server.client().publish(Event::new("order.created")).await.unwrap();
    assert_eq!(server.calls()[0].header("traceparent"), None);
    assert_eq!(server.calls()[0].header("tracestate"), None);
}
