//! What every route of the server has around it: the check of host and origin, CORS, the refusal of compressed bodies, the
//! answer to a panic, and the count of refusals.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use futures::FutureExt;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, ORIGIN};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer::error_response;
use super::origin::{self, HostPolicy};
use crate::telemetry::metrics;

/// Adds the layers to these routes. A path that is not among them is answered by 404 with the text `not_found`.
pub fn with_layers(routes: Router, not_found: &'static str, hosts: HostPolicy) -> Router {
    let count_refusals = async |State(hosts): State<Arc<HostPolicy>>, request: Request, next| {
        let response = check_and_run(&hosts, request, next).await;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            metrics::http_refusal(status);
        }
        response
    };
    routes
        .fallback(async move || error_response(StatusCode::NOT_FOUND, not_found))
        .layer(middleware::from_fn_with_state(Arc::new(hosts), count_refusals))
}

async fn check_and_run(hosts: &HostPolicy, request: Request, next: Next) -> Response {
    if let Err(refused) = hosts.check_request(request.uri(), request.headers()) {
        return *refused;
    }
    let origin = request.headers().get(ORIGIN).cloned();
    let mut response = match origin::preflight_response(request.method(), request.headers()) {
        Some(response) => response,
        None if is_encoded(request.headers()) => refuse_encoding(),
        None => run_route(request, next).await,
    };
    if let Some(origin) = origin {
        origin::add_cors_headers(origin, &mut response);
    }
    response
}

/// Whether the body has a content coding (RFC 9110 section 8.4), such as `gzip`.
fn is_encoded(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(CONTENT_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    codings.any(|coding| {
        let coding = coding.trim_ascii();
        !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
    })
}

/// RFC 9110 section 15.5.16. The rest of the body is not read.
fn refuse_encoding() -> Response {
    let text = "the body is compressed: send it without Content-Encoding";
    let mut response = error_response(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    let headers = response.headers_mut();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn run_route(request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_panic| {
        tracing::error!("a request handler panicked; answered with 500");
        error_response(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the server failed by a defect of its own",
        )
    })
}
