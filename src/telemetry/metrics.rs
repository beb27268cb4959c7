//! Metrics for Prometheus. Labels come from closed lists (tools, outcomes, statuses, path templates), never from callers.
//! Without an installed [`Exporter`] counting costs next to nothing.

use std::time::Duration;

use callingbox::AttemptReport;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

const API_REQUESTS: &str = "callingbox_mcp_api_requests_total";
const API_SECONDS: &str = "callingbox_mcp_api_request_seconds";
const TOOL_CALLS: &str = "callingbox_mcp_tool_calls_total";
const TOOL_SECONDS: &str = "callingbox_mcp_tool_call_seconds";
const DIALING: &str = "callingbox_mcp_dialing_decisions_total";
const BATCH_ROWS: &str = "callingbox_mcp_batch_rows_total";
const CARD_READS: &str = "callingbox_mcp_card_reads_total";
const WEBHOOKS: &str = "callingbox_mcp_webhook_deliveries_total";
const HTTP_REFUSALS: &str = "callingbox_mcp_http_refusals_total";
const SESSIONS: &str = "callingbox_mcp_sessions";
const TENANTS: &str = "callingbox_mcp_tenants";
const WATCHED: &str = "callingbox_mcp_watched_calls";
const SHARED_STATE: &str = "callingbox_mcp_shared_state_up";

/// The buckets of durations in seconds, up to the longest wait.
const DURATION_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 45.0, 120.0, 600.0];

/// Counts a tool call that has ended.
pub fn tool_call(tool: &'static str, outcome: &'static str, took: Duration) {
    counter!(TOOL_CALLS, "tool" => tool, "outcome" => outcome).increment(1);
    histogram!(TOOL_SECONDS, "tool" => tool).record(took);
}

/// Counts an attempt at a request to CallingBox.
pub fn api_attempt(attempt: &AttemptReport) {
    let status = match attempt.status {
        None => "none",
        Some(200..300) => "2xx",
        Some(300..400) => "3xx",
        Some(429) => "429",
        Some(400..500) => "4xx",
        Some(_) => "5xx",
    };
    let (method, path) = (attempt.operation.method().as_str(), attempt.operation.path());
    counter!(API_REQUESTS, "method" => method, "path" => path, "status" => status).increment(1);
    histogram!(API_SECONDS, "method" => method).record(attempt.duration);
}

/// Counts a decision whether to place a call or to buy a number.
pub fn dialing_decision(decision: &'static str) {
    counter!(DIALING, "decision" => decision).increment(1);
}

/// Counts a row of a batch that has its end.
pub fn batch_row(state: &'static str) {
    counter!(BATCH_ROWS, "state" => state).increment(1);
}

/// Counts a read of the call card's document.
pub fn card_read() {
    counter!(CARD_READS).increment(1);
}

/// Counts an HTTP response with a status of 400 or above.
pub fn http_refusal(status: http::StatusCode) {
    counter!(HTTP_REFUSALS, "status" => status.as_str().to_owned()).increment(1);
}

/// The values that are read when the metrics are rendered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// The number of open sessions.
    pub sessions: usize,
    /// The number of known tenants.
    pub tenants: usize,
    /// The number of live calls that are watched.
    pub watched: usize,
    /// Whether the shared state of the replicas is reachable. `None` if none is shared.
    pub shared_state: Option<bool>,
    /// The number of webhook deliveries by outcome.
    pub deliveries: Vec<(&'static str, u64)>,
}

/// Keeps the metrics and renders them.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

/// The metrics recorder cannot be installed.
#[derive(Debug, thiserror::Error)]
#[error("the metrics recorder cannot be installed: {0}")]
pub struct MetricsError(#[from] metrics_exporter_prometheus::BuildError);

impl Exporter {
    /// Installs the recorder of the process.
    ///
    /// # Errors
    /// The process has a recorder already.
    pub fn install() -> Result<Self, MetricsError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)?
            .install_recorder()?;
        describe_counter!(TOOL_CALLS, "Tool calls, by tool and outcome.");
        describe_histogram!(TOOL_SECONDS, "How long tool calls took, in seconds.");
        describe_counter!(API_REQUESTS, "Attempts at requests to CallingBox, by status.");
        describe_histogram!(API_SECONDS, "How long requests to CallingBox took, in seconds.");
        describe_counter!(DIALING, "Decisions whether to call or to buy.");
        describe_counter!(BATCH_ROWS, "Rows of batches that have their end, by state.");
        describe_counter!(CARD_READS, "Reads of the call card's document.");
        describe_counter!(WEBHOOKS, "Webhook deliveries, by what became of them.");
        describe_counter!(HTTP_REFUSALS, "HTTP requests that were refused, by status.");
        describe_gauge!(SESSIONS, "Open sessions.");
        describe_gauge!(TENANTS, "Accounts that are remembered.");
        describe_gauge!(WATCHED, "Live calls that are followed.");
        describe_gauge!(SHARED_STATE, "1 while the state that replicas share is there, else 0.");
        Ok(Self(handle))
    }

    /// Moves recent samples into their buckets. Must be called every few seconds, because samples take memory until then.
    pub fn tidy(&self) {
        self.0.run_upkeep();
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self, moment: &Moment) -> String {
        // u32 converts to f64 without loss.
        let figure = |count: usize| u32::try_from(count).map_or(f64::INFINITY, f64::from);
        gauge!(SESSIONS).set(figure(moment.sessions));
        gauge!(TENANTS).set(figure(moment.tenants));
        gauge!(WATCHED).set(figure(moment.watched));
        if let Some(up) = moment.shared_state {
            gauge!(SHARED_STATE).set(if up { 1.0 } else { 0.0 });
        }
        for (outcome, count) in &moment.deliveries {
            counter!(WEBHOOKS, "outcome" => *outcome).absolute(*count);
        }
        self.0.render()
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}
