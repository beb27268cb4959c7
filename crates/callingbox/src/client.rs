//! One request: path, key, attempts, deadline, size limit. The endpoints stand in the resource files.
//!
//! A POST is never sent twice under the hood. `reqwest`'s own retries are switched off. What is left is
//! `hyper-util`, which sends a request again when a pooled connection closed before the first byte of
//! it was written; it hands the request back only then, so nothing can arrive twice, and it does so
//! only on connections taken from the pool. POSTs therefore travel on connections of their own, which
//! are never taken from a pool: no such path is left, and no POST is lost to a connection that the
//! other side was just closing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::redirect;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use url::Url;

use super::config::ClientConfig;
use super::error::{Effect, Error, ErrorKind, Phase};
use super::ids::MAX_ID_LENGTH;
use super::operation::{ApiOperation, Method};
use super::page::Page;
use super::probe;
use super::refusal;
use super::retry::{self, Attempt, Decision};
use crate::error_ext::innermost;
use crate::http_client::body_up_to;
use tracing::{Instrument as _, Span, field};

/// A client of the CallingBox API. Cheap to make and to clone; TLS and certificates are loaded at the
/// first request.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ClientConfig,
    http: OnceCell<Http>,
}

/// The two ways to the API.
#[derive(Debug)]
struct Http {
    /// Keeps connections, for requests that may arrive twice.
    pooled: reqwest::Client,
    /// A new connection each time, for those that must not.
    fresh: reqwest::Client,
}

/// A success and its body.
pub(super) struct Answer {
    operation: ApiOperation,
    status: u16,
    body: Bytes,
}

/// Everything but letters, digits, `-`, `_`, `~` and `.` (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~').remove(b'.');

/// The most of a refusal's body that is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

impl Client {
    /// Makes a client. Nothing is loaded, connected or sent yet.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self { inner: Arc::new(Inner { config, http: OnceCell::new() }) }
    }

    /// What the client was made from.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    pub(super) async fn get(
        &self,
        operation: ApiOperation,
        ids: &[&str],
        query: &[(&'static str, String)],
    ) -> Result<Answer, Error> {
        self.run(operation, ids, query, None).await
    }

    pub(super) async fn send(
        &self,
        operation: ApiOperation,
        ids: &[&str],
    ) -> Result<Answer, Error> {
        self.run(operation, ids, &[], None).await
    }

    pub(super) async fn send_json(
        &self,
        operation: ApiOperation,
        ids: &[&str],
        body: &impl Serialize,
    ) -> Result<Answer, Error> {
        let body = serde_json::to_vec(body).map_err(|error| {
            Error::new(operation, ErrorKind::Unsendable { detail: error.to_string() })
        })?;
        self.run(operation, ids, &[], Some(body)).await
    }

    async fn run(
        &self,
        operation: ApiOperation,
        ids: &[&str],
        query: &[(&'static str, String)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Error> {
        let config = &self.inner.config;
        let mut url = path(operation, ids)
            .and_then(|path| config.base_url.join(&path))
            .ok_or_else(|| refusal::impossible_id(operation))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let total = config.timeouts.total;
        let (deadline, until) = (Instant::now() + total, Timestamp::now().saturating_add(total));
        // One clock stands still while the machine sleeps, and the other may be set. Somebody else may take
        // over what this one asks for by the second: neither may have passed.
        let left = || -> Duration {
            let until = until
                .as_ref()
                .map_or(SignedDuration::ZERO, |at| at.duration_since(Timestamp::now()));
            let until = Duration::try_from(until).unwrap_or(Duration::ZERO);
            deadline.saturating_duration_since(Instant::now()).min(until)
        };
        let http = self.http(operation).await?;
        let body = body.map(Bytes::from);
        let mut earlier = Effect::Nothing;
        let mut number = 1;
        loop {
            let begun = Instant::now();
            let end = deadline.min(begun + config.timeouts.request);
            let result =
                self.attempt(http, operation, url.clone(), body.clone(), end, &mut |_| {}).await;
            let error = match result {
                Ok(answer) => {
                    trace(operation, number, begun.elapsed(), Some(answer.status), None);
                    return Ok(answer);
                }
                Err(error) => error.after(earlier),
            };
            trace(operation, number, begun.elapsed(), error.status(), Some(error.kind()));
            let attempt = Attempt {
                idempotent: operation.method().is_idempotent(),
                outcome: error.outcome(),
                number,
                retry_after: error.retry_after(),
                left: left(),
            };
            match retry::decide(&attempt, &config.retry, rand::random()) {
                Decision::Stop => return Err(error),
                Decision::After(wait) => tokio::time::sleep(wait).await,
            }
            if left().is_zero() {
                return Err(error);
            }
            earlier = error.effect();
            number += 1;
        }
    }

    /// Asks once for one number, and notes the time that the answer carries, whatever it is.
    pub(super) async fn look(&self, date: &mut Option<Timestamp>) -> Result<(), Error> {
        let config = &self.inner.config;
        let mut url = config
            .base_url
            .join(ApiOperation::ListNumbers.path())
            .ok_or_else(|| refusal::impossible_id(ApiOperation::ListNumbers))?;
        url.query_pairs_mut().append_pair("limit", "1");
        let http = self.http(ApiOperation::ListNumbers).await?;
        let end = Instant::now() + config.timeouts.request;
        let mut heard = |headers: &HeaderMap| *date = probe::date(headers);
        self.attempt(http, ApiOperation::ListNumbers, url, None, end, &mut heard)
            .await?
            .page::<Value>()?;
        Ok(())
    }

    /// Sends once within a span of its own, and hands on the headers of whatever answers. No answer is waited for after `end`.
    async fn attempt(
        &self,
        http: &Http,
        operation: ApiOperation,
        url: Url,
        body: Option<Bytes>,
        end: Instant,
        heard: &mut (dyn FnMut(&HeaderMap) + Send),
    ) -> Result<Answer, Error> {
        let method = operation.method().as_str();
        let span = tracing::debug_span!(
            "callingbox_request",
            otel.name = format!("{method} {}", operation.path()),
            otel.kind = "client",
            otel.status_code = field::Empty,
            http.request.method = method,
            url.template = operation.path(),
            http.response.status_code = field::Empty,
            error.type = field::Empty,
        );
        let result =
            self.send_once(http, operation, url, body, end, heard).instrument(span.clone()).await;
        if let Err(error) = &result {
            span.record("otel.status_code", "ERROR");
            match error.status() {
                Some(status @ 400..) => span.record("error.type", status.to_string()),
                _ => span.record("error.type", "transport"),
            };
        }
        result
    }

    async fn send_once(
        &self,
        http: &Http,
        operation: ApiOperation,
        url: Url,
        body: Option<Bytes>,
        end: Instant,
        heard: &mut (dyn FnMut(&HeaderMap) + Send),
    ) -> Result<Answer, Error> {
        let config = &self.inner.config;
        let (client, method) = match operation.method() {
            Method::Get => (&http.pooled, http::Method::GET),
            Method::Put => (&http.pooled, http::Method::PUT),
            Method::Patch => (&http.pooled, http::Method::PATCH),
            Method::Delete => (&http.pooled, http::Method::DELETE),
            Method::Post => (&http.fresh, http::Method::POST),
        };
        let mut builder = client.request(method, url);
        if let Some(body) = body {
            builder = builder.header(CONTENT_TYPE, "application/json").body(body);
        }
        let span = Span::current();
        if let Some(trace_headers) = config.trace_headers {
            builder = builder.headers(trace_headers());
        }
        let timeout =
            |status| Error::new(operation, transport(Phase::Timeout, status, String::new()));

        let mut response = tokio::time::timeout_at(end, builder.send())
            .await
            .map_err(|_| timeout(None))?
            .map_err(|error| Error::new(operation, failure(error, None)))?;
        heard(response.headers());
        let status = response.status().as_u16();
        span.record("http.response.status_code", status);
        if response.status().is_success() {
            let limit = config.max_response_bytes;
            let body = tokio::time::timeout_at(end, body_up_to(&mut response, limit))
                .await
                .map_err(|_| timeout(Some(status)))?
                .map_err(|error| Error::new(operation, failure(error, Some(status))))?
                .ok_or_else(|| Error::new(operation, ErrorKind::TooLarge { status, limit }))?;
            return Ok(Answer { operation, status, body });
        }
        // The status has been said; what its body lacks does not change it.
        let retry_after = retry_after(response.headers());
        let body = tokio::time::timeout_at(end, body_up_to(&mut response, MAX_REFUSAL_BYTES)).await;
        let body = body.ok().and_then(Result::ok).flatten().unwrap_or_default();
        Err(Error::new(
            operation,
            refusal::read(operation, status, retry_after, &body, config.key.expose()),
        ))
    }

    /// The HTTP clients, made at the first request: reading the system's certificates takes a while.
    async fn http(&self, operation: ApiOperation) -> Result<&Http, Error> {
        let inner = &self.inner;
        inner
            .http
            .get_or_try_init(|| async {
                let config = inner.config.clone();
                match tokio::task::spawn_blocking(move || Http::build(&config)).await {
                    Ok(built) => built.map_err(|detail| unsendable(operation, &detail)),
                    Err(_) => Err(unsendable(operation, "the HTTP client could not be made")),
                }
            })
            .await
    }
}

impl Http {
    fn build(config: &ClientConfig) -> Result<Self, String> {
        // This machine itself is reached over plain http.
        let here = config.base_url.is_loopback() && !config.base_url.is_https();
        let tls = crate::tls::client(!here)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", config.key.expose()))
            .map_err(|_| "the key cannot stand in a header".to_owned())?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
        let builder = || {
            let builder = reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .user_agent(&config.user_agent)
                .default_headers(headers.clone())
                .connect_timeout(config.timeouts.connect)
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .tcp_nodelay(true);
            if config.base_url.is_loopback() { builder.no_proxy() } else { builder }
        };
        let built =
            |builder: reqwest::ClientBuilder| builder.build().map_err(|error| cause(&error));
        Ok(Self {
            pooled: built(builder().pool_idle_timeout(Duration::from_secs(20)))?,
            fresh: built(builder().pool_max_idle_per_host(0))?,
        })
    }
}

impl Answer {
    /// The record in the body, bare or under `data`.
    pub(super) fn one<T: DeserializeOwned>(self) -> Result<T, Error> {
        // Nearly always bare, and then nothing need be read twice.
        if let Ok(record) = serde_json::from_str(self.text()?) {
            return Ok(record);
        }
        let body = self.json()?;
        let enveloped = body.get("data").and_then(|record| T::deserialize(record).ok());
        enveloped.ok_or_else(|| self.unreadable("it holds no such record"))
    }

    /// The record in the body, if it is this one: where the body is not documented it may be another.
    pub(super) fn the<T: DeserializeOwned>(self, is: impl FnOnce(&T) -> bool) -> Result<T, Error> {
        let other = self.unreadable("it holds another record");
        self.one().and_then(|record| if is(&record) { Ok(record) } else { Err(other) })
    }

    /// The record in the body, when there is one.
    pub(super) fn any<T: DeserializeOwned>(self) -> Option<T> {
        self.one().ok()
    }

    /// The list in the body, in any of its envelopes. One of which nothing can be read is not empty.
    pub(super) fn page<T: DeserializeOwned>(self) -> Result<Page<T>, Error> {
        let page = Page::read(self.json()?).ok_or_else(|| self.unreadable("it holds no list"))?;
        if page.skipped > 0 {
            let (path, skipped) = (self.operation.path(), page.skipped);
            if page.data.is_empty() {
                let none = format!("none of the {skipped} items in it is such a record");
                return Err(self.unreadable(&none));
            }
            tracing::warn!(path, skipped, "items of a list are not records and were left out");
        }
        Ok(page)
    }

    /// The body as the text that JSON is. Held against UTF-8 as a whole, which is much cheaper than
    /// each of its names and texts by itself.
    fn text(&self) -> Result<&str, Error> {
        str::from_utf8(&self.body).map_err(|error| self.unreadable(&error.to_string()))
    }

    fn json(&self) -> Result<Value, Error> {
        serde_json::from_str(self.text()?).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            self.unreadable(&format!("not JSON at line {line}, column {column}"))
        })
    }

    fn unreadable(&self, detail: &str) -> Error {
        let (status, detail) = (self.status, detail.to_owned());
        Error::new(self.operation, ErrorKind::Unreadable { status, detail })
    }
}

/// Fills the template's `{…}` with one encoded segment for each id, in order. Nothing when an id
/// cannot be one: `.` and `..` climb even when percent-encoded (WHATWG URL section 4.1), and an empty
/// one would be another path.
fn path(operation: ApiOperation, ids: &[&str]) -> Option<String> {
    let mut ids = ids.iter();
    let mut path = String::with_capacity(operation.path().len() + 64);
    for segment in operation.path().split('/').skip(1) {
        path.push('/');
        if !segment.starts_with('{') {
            path.push_str(segment);
            continue;
        }
        let id = *ids.next()?;
        if matches!(id, "" | "." | "..") || id.len() > MAX_ID_LENGTH {
            return None;
        }
        path.extend(utf8_percent_encode(id, SEGMENT));
    }
    Some(path)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    retry::parse_retry_after(value, Timestamp::now())
}

fn unsendable(operation: ApiOperation, detail: &str) -> Error {
    Error::new(operation, ErrorKind::Unsendable { detail: detail.to_owned() })
}

fn transport(phase: Phase, status: Option<u16>, detail: String) -> ErrorKind {
    ErrorKind::Transport { phase, status, detail }
}

fn cause(error: &reqwest::Error) -> String {
    refusal::clean(&innermost(error), "")
}

/// How far a failed request got.
fn failure(error: reqwest::Error, status: Option<u16>) -> ErrorKind {
    let detail = cause(&error);
    let phase = if error.is_connect() {
        match (error.is_dns(), is_tls(&error)) {
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
    transport(phase, status, detail)
}

fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match inner {
        Some(inner) => is_tls(inner),
        None => error.source().is_some_and(is_tls),
    }
}

/// One event for each attempt: never bodies, keys, ids or numbers.
fn trace(
    operation: ApiOperation,
    attempt: u32,
    took: Duration,
    status: Option<u16>,
    error: Option<&ErrorKind>,
) {
    let phase = match error {
        Some(ErrorKind::Transport { phase, .. }) => Some(*phase),
        _ => None,
    };
    crate::metrics::api_request(operation.method().as_str(), operation.path(), status, took);
    tracing::debug!(
        method = operation.method().as_str(),
        path = operation.path(),
        attempt,
        status,
        phase = phase.map(tracing::field::debug),
        took_ms = took.as_millis() as u64,
        "API request"
    );
}
