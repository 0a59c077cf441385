//! What the server tells of itself: logs, spans and metrics.
//!
//! Logs go to standard error, for people on a terminal and as JSON otherwise. Spans go to an OTLP collector if one of the
//! standard `OTEL_*` variables names its endpoint. Metrics are scraped from the HTTP port.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{self, FilterExt, LevelFilter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::domain::invalid::Invalid;

pub mod metrics;
pub mod trace_context;

/// How logs are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// For whom.
    pub format: Format,
    /// What: a level, or directives such as `info,postrider_server=debug`.
    pub filter: String,
}

/// For whom logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `Text` if standard error is a terminal, `Json` otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Auto, filter: "info".to_owned() }
    }
}

impl Config {
    /// Checks the filter.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.env_filter().map(drop)
    }

    fn env_filter(&self) -> Result<EnvFilter, Invalid> {
        EnvFilter::try_new(&self.filter).map_err(|cause| Invalid::new("log.filter", cause.to_string()))
    }
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter cannot be read.
    #[error(transparent)]
    Filter(#[from] Invalid),
    /// The OTLP exporter does not take its `OTEL_*` variables.
    #[error("traces cannot be exported as the OTEL_* variables say")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Somebody in this process was there first.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends what is left when the process ends.
#[derive(Debug)]
pub struct Guard(Option<SdkTracerProvider>);

impl Guard {
    /// Sends the spans that are still here. Blocks for as long as the exporter's timeout.
    pub fn flush(self) {
        if let Some(provider) = self.0
            && let Err(cause) = provider.shutdown()
        {
            tracing::warn!(cause = &cause as &dyn std::error::Error, "the last spans could not be exported");
        }
    }
}

/// Sets up logs and spans for this process. Must be called within a tokio runtime.
pub fn init(config: &Config) -> Result<Guard, Error> {
    let json = match config.format {
        Format::Auto => !std::io::stderr().is_terminal(),
        Format::Text => false,
        Format::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = if json {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    let chosen = config.env_filter()?;
    // A line at `info` or above reads alone. Only those for debugging are read together with the span that they were written in, so
    // that only then spans are formatted: it would be a good part of what an event costs.
    let most = chosen.max_level_hint().unwrap_or(LevelFilter::TRACE);
    let with_spans = filter::filter_fn(move |metadata| most >= LevelFilter::DEBUG || metadata.is_event())
        // Without a hint every line and span of every library would be looked at, whatever its level.
        .with_max_level_hint(most);
    let registry = tracing_subscriber::registry().with(logs.with_filter(chosen.and(with_spans)));
    let provider = wants_traces().then(tracer_provider).transpose()?;
    match &provider {
        Some(provider) => {
            let spans = tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("postrider"))
                // Our own spans; a library's would tell of statements and connections.
                .with_filter(filter::Targets::new().with_target("postrider_server", LevelFilter::INFO));
            registry.with(spans).try_init()?;
        }
        // Not an optional layer: that wants every span there is, and the registry would make them for nobody.
        None => registry.try_init()?,
    }
    Ok(Guard(provider))
}

/// Whether the standard variables name a collector (OpenTelemetry specification, "OpenTelemetry Protocol Exporter").
#[expect(
    clippy::disallowed_methods,
    reason = "these variables are the OpenTelemetry specification's, not ours"
)]
fn wants_traces() -> bool {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let endpoint = !var("OTEL_EXPORTER_OTLP_ENDPOINT").is_empty()
        || !var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_empty();
    endpoint
        && var("OTEL_TRACES_EXPORTER") != "none"
        && !var("OTEL_SDK_DISABLED").eq_ignore_ascii_case("true")
}

fn tracer_provider() -> Result<SdkTracerProvider, opentelemetry_otlp::ExporterBuildError> {
    let exporter = SpanExporter::builder().with_tonic().build()?;
    // `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win over this name.
    let named = |key: &opentelemetry::Key| key.as_str() == "service.name";
    let resource = Resource::builder().build();
    let unnamed = resource
        .iter()
        .find(|(key, _)| named(key))
        .is_none_or(|(_, name)| name.as_str().starts_with("unknown_service"));
    let resource =
        if unnamed { Resource::builder().with_service_name("postrider").build() } else { resource };
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
