//! Traces: one span for each tool call, with a child for each request to CallingBox that it makes. They
//! hold tool, outcome, tenant, method, route and status; never arguments, answers, ids, keys or numbers.
//!
//! With the cargo feature `otlp` they are sent by OTLP, and W3C trace context is taken from callers and
//! passed on to CallingBox. Without it, all that is here does nothing and takes no room.

#[cfg(feature = "otlp")]
mod sender;
#[cfg_attr(feature = "otlp", path = "on.rs")]
#[cfg_attr(not(feature = "otlp"), path = "off.rs")]
mod spans;

pub use spans::{Origin, ToolCall, Traces, begin, carried};

/// The variables that name a collector, the more particular one first (OpenTelemetry Protocol Exporter,
/// "Endpoint URLs for OTLP/HTTP").
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Traces cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be sent to the collector: {0}")]
pub struct TracesError(String);

/// The variable that asks for traces, with its value; none when traces are switched off.
fn asked() -> Option<(&'static str, String)> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if disabled || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none") {
        return None;
    }
    ENDPOINTS.into_iter().find_map(|name| set(name).map(|value| (name, value)))
}
