//! Error responses of the HTTP layer itself, all in one JSON shape. Knows nothing about MCP.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde_json::json;

#[must_use]
pub fn error_response(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// An error response with `Retry-After`, rounded up to whole seconds.
#[must_use]
pub fn retry_after(status: StatusCode, text: &str, wait: Duration) -> Response {
    let mut response = error_response(status, text);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}
