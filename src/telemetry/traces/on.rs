//! Traces by OTLP. Spans are named as the semantic conventions of OpenTelemetry want it: those for MCP
//! (tool calls) and those for HTTP clients (requests to CallingBox).
//!
//! Only what a tool call asks for itself is a child of it. A watcher of a live call asks for everyone who
//! waits, so its requests are of no one's trace; the metrics count them.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderInjector;
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use super::sender::Sender;
use super::{TracesError, asked};
use crate::telemetry::redact;

/// The most of a caller's trace context that is taken: what W3C Trace Context (section 3.3.1.5) wants
/// everyone to pass on.
const MOST: usize = 512;

/// How long the end waits for spans that are still to be sent.
const LAST: Duration = Duration::from_secs(2);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// What sends the spans, from a thread and a bounded queue of its own.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

/// Begins to send traces, where the environment names a collector. To be called within a tokio runtime.
///
/// Beside the endpoint it follows `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`,
/// `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and `OTEL_BSP_*`.
///
/// # Errors
/// The environment says something that cannot be done.
pub fn begin() -> Result<Traces, TracesError> {
    let Some((_, endpoint)) = asked() else { return Ok(Traces(None)) };
    let failed = |error: &dyn std::fmt::Display| TracesError(error.to_string());
    let sender = Sender::new(&endpoint).map_err(|error| failed(&error))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(sender)
        .build()
        .map_err(|error| failed(&error))?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(env!("CARGO_PKG_NAME"));
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.with_attribute(version).build())
        .with_batch_exporter(exporter)
        .build();
    let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
    TRACER.set(tracer).map_err(|_| failed(&"they are sent already"))?;
    Ok(Traces(Some(provider)))
}

impl Traces {
    /// Sends what is still to be sent, but waits no more than two seconds for it.
    pub async fn end(self) {
        let Some(provider) = self.0 else { return };
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST));
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::warn!("the last traces were not delivered");
        }
    }
}

/// What a request says of its caller's trace.
#[derive(Debug, Clone, Default)]
pub struct Origin(Context);

impl Origin {
    /// Reads it from whatever finds values by these names: `traceparent` and `tracestate` (W3C Trace
    /// Context). What is no trace context is taken for none.
    #[must_use]
    pub fn of<'a>(find: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        let found = ["traceparent", "tracestate"].into_iter().filter_map(|name| {
            // It will be sent on: to the collector and to CallingBox.
            let value =
                find(name).filter(|value| value.len() <= MOST && redact(value) == *value)?;
            Some((name.to_owned(), value.to_owned()))
        });
        let found: HashMap<String, String> = found.collect();
        Self(TraceContextPropagator::new().extract_with_context(&Context::new(), &found))
    }

    /// Begins the span of a tool call.
    #[must_use]
    pub fn tool_call(&self, tool: &'static str, tenant: Option<&str>) -> ToolCall {
        // Without a tracer the caller's own context is passed on.
        let Some(tracer) = TRACER.get() else { return ToolCall(self.0.clone()) };
        let tenant = tenant.map(|tenant| KeyValue::new("callingbox.tenant", tenant.to_owned()));
        let attributes = [
            KeyValue::new("mcp.method.name", "tools/call"),
            KeyValue::new("gen_ai.operation.name", "execute_tool"),
            KeyValue::new("gen_ai.tool.name", tool),
        ];
        let span = tracer
            .span_builder(format!("tools/call {tool}"))
            .with_kind(SpanKind::Server)
            .with_attributes(attributes.into_iter().chain(tenant))
            .start_with_context(tracer, &self.0);
        ToolCall(self.0.with_span(span))
    }
}

/// The span of a tool call.
#[derive(Debug)]
pub struct ToolCall(Context);

impl ToolCall {
    /// Work whose requests are children of this call.
    pub fn carry<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.with_context(self.0.clone())
    }

    /// Ends it.
    pub fn end(self, outcome: &'static str, failed: bool) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("callingbox.outcome", outcome));
        if failed {
            span.set_attribute(KeyValue::new("error.type", "tool_error"));
            span.set_status(Status::error(outcome));
        }
        span.end();
    }
}

/// Work that is handed to another task, and still belongs to the tool call of this one.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    work.with_current_context()
}
