//! The way of spans to the collector: one request at a time, from the thread of the exporter, over an
//! HTTP client of this process's runtime. Knows nothing of what it sends.

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

/// How long the collector may take over one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most of an answer that is read, in bytes; it says at most which spans were not taken.
const MOST_BYTES: usize = 64 * 1024;

/// Sends requests on a tokio runtime, for a thread that is not of it.
#[derive(Debug)]
pub(super) struct Sender {
    http: reqwest::Client,
    runtime: Handle,
    /// The last attempt failed: that is told once, not every five seconds.
    failing: AtomicBool,
}

impl Sender {
    /// A sender to this endpoint. To be called within a tokio runtime.
    pub(super) fn new(endpoint: &str) -> Result<Self, String> {
        let url = Url::parse(endpoint).map_err(|error| format!("{endpoint}: {error}"))?;
        if !url.has_host() {
            return Err(format!("{endpoint}: it names no host"));
        }
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(callingbox::http_client::tls_config(
                url.scheme() == "https",
            )?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE);
        let builder = if is_loopback(&url) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| root_cause(&error))?;
        Ok(Self { http, runtime: Handle::current(), failing: AtomicBool::new(false) })
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.runtime.spawn(send(self.http.clone(), request)).await;
        let sent = sent.unwrap_or_else(|error| Err(error.into()));
        let failing = !sent.as_ref().is_ok_and(|answer| answer.status().is_success());
        if self.failing.swap(failing, Ordering::Relaxed) != failing {
            match &sent {
                Err(error) => {
                    let error = root_cause(error.as_ref());
                    tracing::warn!(error, "the collector of traces cannot be reached");
                }
                Ok(answer) if failing => {
                    tracing::warn!(status = %answer.status(), "the collector does not take the traces");
                }
                Ok(_) => tracing::info!("the collector takes the traces again"),
            }
        }
        sent
    }
}

async fn send(
    http: reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let mut answer = http.execute(request.try_into()?).await?;
    let mut response = Response::builder().status(answer.status());
    if let Some(wait) = answer.headers().get(RETRY_AFTER) {
        response = response.header(RETRY_AFTER, wait);
    }
    let body = read_body(&mut answer, MOST_BYTES).await?;
    Ok(response.body(body.ok_or("the collector's answer is too long")?)?)
}
