//! Traces: a span for each tool call, and in it a span for each request to CallingBox that the call makes. Spans hold
//! tool, outcome, tenant, method, path template and status, but never arguments, results, ids, keys or numbers.
//!
//! With the cargo feature `otlp` the spans are exported by OTLP, and W3C trace context is read from callers and sent to
//! CallingBox. Without it the spans are not recorded.

#[cfg(feature = "otlp")]
mod collector_client;
#[cfg(feature = "otlp")]
mod otlp;

use http::HeaderMap;
use tracing::{Span, field};

#[cfg(feature = "otlp")]
pub(crate) use self::otlp::{TraceExporter, span_layer};

/// The name of a tool call's span within this program; the exported name has the tool in it.
const TOOL_CALL_SPAN: &str = "tool_call";

/// The variables that name a collector, the more specific one first (OpenTelemetry Protocol Exporter, "Endpoint URLs for
/// OTLP/HTTP").
const ENDPOINT_VARIABLES: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The longest value of a caller's trace context that is accepted, in bytes: what W3C Trace Context (section 3.3.1.5)
/// requires to be propagated.
#[cfg(feature = "otlp")]
const MAX_CONTEXT_BYTES: usize = 512;

/// Traces cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be sent to the collector: {0}")]
pub struct TracesError(String);

/// The trace that a request is part of. Empty without the feature `otlp`.
#[derive(Debug, Clone, Default)]
pub struct TraceContext(#[cfg(feature = "otlp")] opentelemetry::Context);

impl TraceContext {
    /// Reads `traceparent` and `tracestate` (W3C Trace Context) from a function that looks up values by name. A value is
    /// dropped if it is malformed, too long, or may hold a secret or a telephone number, because it is sent to the
    /// collector and to CallingBox.
    #[must_use]
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "nothing is read"))]
    pub fn from_lookup<'a>(look_up: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        #[cfg(feature = "otlp")]
        return Self(otlp::extract_context(|name| {
            look_up(name)
                .filter(|value| value.len() <= MAX_CONTEXT_BYTES && super::redact(value) == *value)
        }));
        #[cfg(not(feature = "otlp"))]
        Self()
    }
}

/// Opens the span of a tool call, by the semantic conventions of OpenTelemetry for MCP. Requests to CallingBox within it
/// are its children.
#[must_use]
pub fn tool_call_span(context: &TraceContext, tool: &'static str, tenant: Option<&str>) -> Span {
    let span = tracing::info_span!(
        TOOL_CALL_SPAN,
        otel.name = format!("tools/call {tool}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        mcp.method.name = "tools/call",
        gen_ai.operation.name = "execute_tool",
        gen_ai.tool.name = tool,
        callingbox.tenant = tenant,
        callingbox.outcome = field::Empty,
        error.type = field::Empty,
    );
    #[cfg(feature = "otlp")]
    otlp::set_parent(&span, &context.0);
    #[cfg(not(feature = "otlp"))]
    let _ = context;
    span
}

/// Records how a tool call ended.
pub fn record_outcome(span: &Span, outcome: &'static str, failed: bool) {
    span.record("callingbox.outcome", outcome);
    if failed {
        span.record("error.type", "tool_error");
        span.record("otel.status_code", "ERROR");
    }
}

/// Returns the headers that carry the trace context of the current span. `None` without the feature `otlp`.
pub(crate) const TRACE_HEADERS: Option<fn() -> HeaderMap> = {
    #[cfg(feature = "otlp")]
    let headers: Option<fn() -> HeaderMap> = Some(otlp::current_headers);
    #[cfg(not(feature = "otlp"))]
    let headers = None;
    headers
};

/// Warns if the environment names a collector and this program cannot export traces.
#[cfg(not(feature = "otlp"))]
pub(super) fn warn_if_requested() {
    if let Some((variable, _)) = requested_endpoint() {
        tracing::warn!(
            "{variable} is set, and this program was built without traces: build it with `--features otlp`"
        );
    }
}

/// The variable that names the collector, with its value. `None` if traces are off.
fn requested_endpoint() -> Option<(&'static str, String)> {
    let read = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let disabled =
        read("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if disabled || read("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none") {
        return None;
    }
    ENDPOINT_VARIABLES.into_iter().find_map(|name| read(name).map(|value| (name, value)))
}
