//! One attempt at a request over HTTP. Knows connections, headers and size limits, but not when a request is repeated.
//!
//! A POST must never be sent twice without the caller's knowledge. `reqwest`'s own retries are off. `hyper-util` still
//! sends a request again if a pooled connection was closed before the first byte of the request was written. That is
//! safe, but it makes no difference between the methods, so POSTs use new connections, which never come from a pool: no
//! POST is sent again, and none is lost to a connection that the server is just closing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{Instrument as _, Span, field};
use url::Url;

use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind, Phase};
use crate::error_ext::root_cause;
use crate::http_client::{read_body, tls_config};
use crate::operation::{ApiOperation, Method};
use crate::redact::sanitize_text;
use crate::response::ApiResponse;
use crate::send_guard::{GuardedBody, SendGuard};
use crate::{error_response, retry};

/// The largest part of an error response that is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// How long a connection stays in the pool without a request.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// A request, ready to be sent any number of times.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) operation: ApiOperation,
    pub(crate) url: Url,
    pub(crate) body: Option<Bytes>,
    /// Checks right before the body is written whether the request may be sent.
    pub(crate) guard: Option<SendGuard>,
}

#[derive(Debug)]
pub(crate) struct Transport {
    /// Reuses connections: for idempotent requests.
    pooled: reqwest::Client,
    /// Opens a connection for each request: for POST.
    unpooled: reqwest::Client,
    server_time: Mutex<Option<ServerTime>>,
}

/// The time of the API, to the second (the `Date` header, RFC 9110 section 6.6.1).
#[derive(Debug, Clone, Copy)]
pub struct ServerTime {
    /// The time in the response.
    pub date: Timestamp,
    /// When the response arrived.
    pub received_at: Instant,
}

impl ServerTime {
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(DATE)?.to_str().ok()?;
        let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
        Some(Self { date, received_at: Instant::now() })
    }
}

impl Transport {
    /// Loads TLS and the system's certificates, which takes a while.
    pub(crate) async fn load(config: &ClientConfig) -> Result<Self, String> {
        let config = config.clone();
        let loaded = tokio::task::spawn_blocking(move || Self::build(&config)).await;
        loaded.unwrap_or_else(|error| Err(format!("the HTTP client could not be created: {error}")))
    }

    fn build(config: &ClientConfig) -> Result<Self, String> {
        let is_loopback = config.base_url.is_loopback();
        let tls = tls_config(!is_loopback || config.base_url.is_https())?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", config.key.expose()))
            .map_err(|_| "the API key cannot be part of a header".to_owned())?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
        let builder = || {
            let builder = reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .user_agent(&config.user_agent)
                .default_headers(headers.clone())
                .connect_timeout(config.timeouts.connect)
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .tcp_nodelay(true);
            if is_loopback { builder.no_proxy() } else { builder }
        };
        let build = |builder: reqwest::ClientBuilder| builder.build().map_err(|e| describe(&e));
        Ok(Self {
            pooled: build(builder().pool_idle_timeout(POOL_IDLE_TIMEOUT))?,
            unpooled: build(builder().pool_max_idle_per_host(0))?,
            server_time: Mutex::default(),
        })
    }

    /// The time in the last response; `None` if it had none.
    pub(crate) fn server_time(&self) -> Option<ServerTime> {
        *self.server_time.lock()
    }

    /// Sends a request once, within a span of its own, and waits for the whole response until `deadline`.
    pub(crate) async fn send(
        &self,
        config: &ClientConfig,
        request: &Request,
        deadline: Instant,
    ) -> Result<ApiResponse, Error> {
        let operation = request.operation;
        let span = tracing::debug_span!(
            "callingbox_request",
            otel.name = %operation,
            otel.kind = "client",
            otel.status_code = field::Empty,
            http.request.method = operation.method().as_str(),
            url.template = operation.path(),
            http.response.status_code = field::Empty,
            error.type = field::Empty,
        );
        let sent = self.send_in_span(config, request, deadline);
        let result = sent.instrument(span.clone()).await;
        let result = result.map_err(|kind| Error::new(operation, kind));
        if let Err(error) = &result {
            span.record("otel.status_code", "ERROR");
            match error.status() {
                Some(status @ 400..) => span.record("error.type", status.to_string()),
                _ => span.record("error.type", "transport"),
            };
        }
        result
    }

    async fn send_in_span(
        &self,
        config: &ClientConfig,
        request: &Request,
        deadline: Instant,
    ) -> Result<ApiResponse, ErrorKind> {
        let (client, method) = match request.operation.method() {
            Method::Get => (&self.pooled, http::Method::GET),
            Method::Put => (&self.pooled, http::Method::PUT),
            Method::Patch => (&self.pooled, http::Method::PATCH),
            Method::Delete => (&self.pooled, http::Method::DELETE),
            Method::Post => (&self.unpooled, http::Method::POST),
        };
        let mut builder = client.request(method, request.url.clone());
        let withheld = Arc::new(AtomicBool::new(false));
        if let Some(body) = request.body.clone() {
            let body = match request.guard.clone() {
                None => body.into(),
                Some(guard) => {
                    reqwest::Body::wrap(GuardedBody::new(body, guard, Arc::clone(&withheld)))
                }
            };
            builder = builder.header(CONTENT_TYPE, "application/json").body(body);
        }
        if let Some(trace_headers) = config.trace_headers {
            builder = builder.headers(trace_headers());
        }
        let mut response = tokio::time::timeout_at(deadline, builder.send())
            .await
            .map_err(|_| timed_out(None))?
            .map_err(|error| match withheld.load(Ordering::Acquire) {
                true => ErrorKind::Withheld,
                false => classify_failure(&error, None),
            })?;
        *self.server_time.lock() = ServerTime::from_headers(response.headers());
        let status = response.status().as_u16();
        Span::current().record("http.response.status_code", status);
        if response.status().is_success() {
            let limit = config.max_response_bytes;
            let body = tokio::time::timeout_at(deadline, read_body(&mut response, limit))
                .await
                .map_err(|_| timed_out(Some(status)))?
                .map_err(|error| classify_failure(&error, Some(status)))?
                .ok_or(ErrorKind::TooLarge { status, limit })?;
            return Ok(ApiResponse { operation: request.operation, status, body });
        }
        // The status is known; a body that is missing does not change it.
        let retry_after = read_retry_after(response.headers());
        let body =
            tokio::time::timeout_at(deadline, read_body(&mut response, MAX_ERROR_BYTES)).await;
        let body = body.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let key = config.key.expose();
        Err(error_response::parse(request.operation, status, retry_after, &body, key))
    }
}

fn read_retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    retry::parse_retry_after(value, Timestamp::now())
}

fn timed_out(status: Option<u16>) -> ErrorKind {
    ErrorKind::Transport { phase: Phase::Timeout, status, detail: String::new() }
}

fn describe(error: &reqwest::Error) -> String {
    sanitize_text(&root_cause(error), "")
}

/// How far a failed request got.
fn classify_failure(error: &reqwest::Error, status: Option<u16>) -> ErrorKind {
    let detail = describe(error);
    let phase = if error.is_connect() {
        match (error.is_dns(), is_tls_error(error)) {
            (true, _) => Phase::Dns,
            (_, true) => Phase::Tls,
            _ => Phase::Connect,
        }
    } else if error.is_builder() {
        return ErrorKind::Unsendable { detail };
    } else if error.is_timeout() {
        Phase::Timeout
    } else if error.is_body() || error.is_decode() {
        Phase::Receive
    } else {
        Phase::Send
    };
    ErrorKind::Transport { phase, status, detail }
}

fn is_tls_error(error: &(dyn std::error::Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match inner {
        Some(inner) => is_tls_error(inner),
        None => error.source().is_some_and(is_tls_error),
    }
}
