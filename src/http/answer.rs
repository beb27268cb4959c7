//! The answers of the HTTP layer itself, before MCP has a say: one shape for all of them.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde_json::json;

/// A refusal in words.
#[must_use]
pub fn error(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// A refusal that may be tried again after `wait`, rounded up to whole seconds.
#[must_use]
pub fn later(status: StatusCode, text: &str, wait: Duration) -> Response {
    let mut response = error(status, text);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}
