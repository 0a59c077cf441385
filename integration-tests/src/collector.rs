//! A real OTLP collector: takes spans over gRPC and keeps them.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// A span, with ids in hexadecimal.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// `service.name` of the program that it comes from.
    pub service: String,
    /// Its trace.
    pub trace_id: String,
    /// Its id.
    pub span_id: String,
    /// The id of the span around it; empty if there is none.
    pub parent_id: String,
    /// Trace and span ids that it links to.
    pub links: Vec<(String, String)>,
    /// Its attributes as text.
    pub attributes: Vec<(String, String)>,
}

#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

/// A collector on loopback. Ends when dropped.
#[derive(Debug)]
pub struct Collector {
    /// What goes into `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: String,
    spans: Spans,
    serving: JoinHandle<()>,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let spans = Spans::default();
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(spans.clone()));
        let serving = async move { server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() };
        #[expect(clippy::disallowed_methods, reason = "aborted when the collector is dropped")]
        let serving = tokio::spawn(serving);
        Self { endpoint, spans, serving }
    }

    /// The spans of this name that have come in so far, in the order of their start.
    #[must_use]
    pub fn spans(&self, name: &str) -> Vec<Span> {
        self.spans.0.lock().unwrap().iter().filter(|span| span.name == name).cloned().collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap();
        for of_service in request.into_inner().resource_spans {
            let resource = of_service.resource.unwrap_or_default();
            let text = |value: Option<opentelemetry_proto::tonic::common::v1::AnyValue>| {
                value.and_then(|value| value.value).map_or_else(String::new, |value| match value {
                    Value::StringValue(text) => text,
                    other => format!("{other:?}"),
                })
            };
            let named = resource.attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let service = text(named.and_then(|attribute| attribute.value));
            for span in of_service.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                kept.push(Span {
                    name: span.name,
                    service: service.clone(),
                    trace_id: hex(&span.trace_id),
                    span_id: hex(&span.span_id),
                    parent_id: hex(&span.parent_span_id),
                    links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
                    attributes: span
                        .attributes
                        .into_iter()
                        .map(|attribute| (attribute.key, text(attribute.value)))
                        .collect(),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
