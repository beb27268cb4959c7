//! Metrics of the client, by the `metrics` facade: they cost next to nothing where no recorder is installed. Labels
//! come from closed lists (methods, templates of paths, classes of statuses), never from an answer.

use std::time::Duration;

use metrics::{counter, histogram};

/// The counter of attempts at requests, with the labels `method`, `path` and `status`.
pub const API_REQUESTS: &str = "callingbox_mcp_api_requests_total";
/// The histogram of their durations in seconds, with the label `method`.
pub const API_SECONDS: &str = "callingbox_mcp_api_request_seconds";

/// An attempt at a request to the API has ended; without a status, it never got an answer.
pub(crate) fn api_request(
    method: &'static str,
    path: &'static str,
    status: Option<u16>,
    took: Duration,
) {
    let status = match status {
        None => "none",
        Some(200..300) => "2xx",
        Some(300..400) => "3xx",
        Some(429) => "429",
        Some(400..500) => "4xx",
        Some(_) => "5xx",
    };
    counter!(API_REQUESTS, "method" => method, "path" => path, "status" => status).increment(1);
    histogram!(API_SECONDS, "method" => method).record(took);
}
