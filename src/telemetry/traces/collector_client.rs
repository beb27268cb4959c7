//! Sends the exporter's requests to the collector: one at a time, from the exporter's thread, by an HTTP client on this
//! process's runtime. Knows nothing about the content.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;
use url::Url;

use callingbox::error_ext::root_cause;
use callingbox::http_client::{is_loopback, read_body};

/// How long the collector may take to answer a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest response that is read, in bytes. It only says which spans the collector rejected.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Sends requests on a tokio runtime, for a thread outside of it.
#[derive(Debug)]
pub(super) struct CollectorClient {
    http: reqwest::Client,
    runtime: Handle,
    /// Whether the last attempt failed, so that a failure is logged once and not every five seconds.
    is_failing: AtomicBool,
}

impl CollectorClient {
    /// A client for this endpoint. Must be called within a tokio runtime.
    pub(super) fn new(endpoint: &str) -> Result<Self, String> {
        let url = Url::parse(endpoint).map_err(|error| format!("{endpoint}: {error}"))?;
        if !url.has_host() {
            return Err(format!("{endpoint}: the URL has no host"));
        }
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(callingbox::http_client::tls_config(
                url.scheme() == "https",
            )?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST_TIMEOUT);
        let builder = if is_loopback(&url) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| root_cause(&error))?;
        Ok(Self { http, runtime: Handle::current(), is_failing: AtomicBool::new(false) })
    }
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.runtime.spawn(send(self.http.clone(), request)).await;
        let sent = sent.unwrap_or_else(|error| Err(error.into()));
        let is_failing = !sent.as_ref().is_ok_and(|response| response.status().is_success());
        if self.is_failing.swap(is_failing, Ordering::Relaxed) != is_failing {
            match &sent {
                Err(error) => {
                    let error = root_cause(error.as_ref());
                    tracing::warn!(
                        error,
                        "traces: the collector cannot be reached; spans are lost"
                    );
                }
                Ok(response) if is_failing => {
                    tracing::warn!(status = %response.status(), "traces: the collector rejects the spans");
                }
                Ok(_) => tracing::info!("traces: the collector accepts spans again"),
            }
        }
        sent
    }
}

async fn send(
    http: reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let mut received = http.execute(request.try_into()?).await?;
    let mut response = Response::builder().status(received.status());
    if let Some(wait) = received.headers().get(RETRY_AFTER) {
        response = response.header(RETRY_AFTER, wait);
    }
    let body = read_body(&mut received, MAX_RESPONSE_BYTES).await?;
    Ok(response.body(body.ok_or("the collector's response is too large")?)?)
}
