//! Export of spans by OTLP, through `tracing-opentelemetry`.
//!
//! Only the requests that a tool call makes itself are exported, as its children. The watcher of a live call polls for
//! everyone who waits for the call, so its requests belong to no trace; the metrics count them.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderInjector;
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::collector_client::CollectorClient;
use super::{TOOL_CALL_SPAN, TracesError, requested_endpoint};

/// The name of the API client's span for a request.
const API_REQUEST_SPAN: &str = "callingbox_request";

/// How long the end of the process waits for spans that are not sent yet.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Exports spans from a bounded queue, in a thread of its own. Without a collector it exports none.
#[derive(Debug)]
pub(crate) struct TraceExporter(Option<SdkTracerProvider>);

impl TraceExporter {
    /// Exports to the collector that the environment names, if any. Must be called within a tokio runtime.
    ///
    /// It follows `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`
    /// and `OTEL_BSP_*` too.
    ///
    /// # Errors
    /// The endpoint is not a URL, or the exporter cannot be built.
    pub(crate) fn from_environment() -> Result<Self, TracesError> {
        let Some((_, endpoint)) = requested_endpoint() else { return Ok(Self(None)) };
        let client = CollectorClient::new(&endpoint).map_err(TracesError)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .build()
            .map_err(|error| TracesError(error.to_string()))?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(env!("CARGO_PKG_NAME"));
        }
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.with_attribute(version).build())
            .with_batch_exporter(exporter)
            .build();
        Ok(Self(Some(provider)))
    }

    /// Exports the remaining spans, for at most two seconds.
    pub(crate) async fn shut_down(self) {
        let Some(provider) = self.0 else { return };
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::warn!("traces: the last spans were not delivered to the collector");
        }
    }
}

/// Turns the spans of tool calls, and of the requests within them, into spans of OpenTelemetry. Events are left to the
/// log. Without a collector the caller's own context is passed on.
pub(crate) fn span_layer<S>(exporter: &TraceExporter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let filter = dynamic_filter_fn(|metadata, context| match metadata.name() {
        TOOL_CALL_SPAN => metadata.is_span(),
        API_REQUEST_SPAN => metadata.is_span() && context.lookup_current().is_some(),
        _ => false,
    });
    match &exporter.0 {
        Some(provider) => {
            let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
            plain(tracing_opentelemetry::layer().with_tracer(tracer)).with_filter(filter).boxed()
        }
        None => plain(tracing_opentelemetry::layer()).with_filter(filter).boxed(),
    }
}

/// A layer whose spans have only the attributes that the spans name.
fn plain<S, T>(layer: OpenTelemetryLayer<S, T>) -> OpenTelemetryLayer<S, T>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    T: opentelemetry::trace::Tracer + 'static,
    T::Span: Send + Sync,
{
    layer
        .with_location(false)
        .with_threads(false)
        .with_level(false)
        .with_target(false)
        .with_tracked_inactivity(false)
}

pub(super) fn extract_context<'a>(look_up: impl Fn(&'static str) -> Option<&'a str>) -> Context {
    let values: HashMap<String, String> = ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), look_up(name)?.to_owned())))
        .collect();
    TraceContextPropagator::new().extract_with_context(&Context::new(), &values)
}

/// Makes a span part of the caller's trace. Without a subscriber there is no trace, and nothing to do.
pub(super) fn set_parent(span: &Span, context: &Context) {
    let _ = span.set_parent(context.clone());
}

pub(super) fn current_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(&mut headers));
    if headers.get("tracestate").is_some_and(http::HeaderValue::is_empty) {
        headers.remove("tracestate");
    }
    headers
}
