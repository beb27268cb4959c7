//! The client: from an operation and its arguments to a response. It builds the URL, keeps the deadline and repeats
//! attempts where [`retry`](crate::retry) allows it. The operations are in the files of their resources.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::config::{AttemptReport, ClientConfig};
use crate::error::{Effect, Error, ErrorKind};
use crate::ids::MAX_ID_LENGTH;
use crate::operation::ApiOperation;
use crate::response::ApiResponse;
use crate::retry::{FailedAttempt, wait_before_retry};
use crate::send_guard::SendGuard;
use crate::transport::{Request, ServerTime, Transport};

/// A client of the CallingBox API. Creating and cloning one is cheap: TLS and the system's certificates are loaded by
/// the first request, and clones share their connections.
#[derive(Clone, Debug)]
pub struct ApiClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ClientConfig,
    transport: OnceCell<Transport>,
    is_key_refused: AtomicBool,
}

/// Everything but the unreserved characters of RFC 3986 section 2.3.
const PATH_SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~').remove(b'.');

impl ApiClient {
    /// Creates a client. It loads, connects and sends nothing yet.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        let (transport, is_key_refused) = (OnceCell::new(), AtomicBool::new(false));
        Self { inner: Arc::new(Inner { config, transport, is_key_refused }) }
    }

    /// The configuration that the client was created with.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// Whether the API answered the last request with 401: the key is wrong, expired or revoked.
    #[must_use]
    pub fn is_key_refused(&self) -> bool {
        self.inner.is_key_refused.load(Ordering::Relaxed)
    }

    pub(crate) async fn get(
        &self,
        operation: ApiOperation,
        ids: &[&str],
        query: &impl Serialize,
    ) -> Result<ApiResponse, Error> {
        self.execute(self.build_request(operation, ids, query, None)?).await
    }

    pub(crate) async fn send(
        &self,
        operation: ApiOperation,
        ids: &[&str],
    ) -> Result<ApiResponse, Error> {
        self.execute(self.build_request(operation, ids, &(), None)?).await
    }

    pub(crate) async fn send_json(
        &self,
        operation: ApiOperation,
        ids: &[&str],
        body: &impl Serialize,
    ) -> Result<ApiResponse, Error> {
        self.send_guarded_json(operation, ids, body, None).await
    }

    /// Sends a request unless the guard withholds it.
    pub(crate) async fn send_guarded_json(
        &self,
        operation: ApiOperation,
        ids: &[&str],
        body: &impl Serialize,
        guard: Option<SendGuard>,
    ) -> Result<ApiResponse, Error> {
        let body = serde_json::to_vec(body).map_err(|error| unsendable(operation, &error))?;
        let request = self.build_request(operation, ids, &(), Some(body.into()))?;
        self.execute(Request { guard, ..request }).await
    }

    pub(crate) fn build_request(
        &self,
        operation: ApiOperation,
        ids: &[&str],
        query: &impl Serialize,
        body: Option<Bytes>,
    ) -> Result<Request, Error> {
        let path = build_path(operation, ids);
        let url = path.and_then(|path| self.inner.config.base_url.join(&path));
        let mut url = url.ok_or_else(|| invalid_id(operation))?;
        let query =
            serde_urlencoded::to_string(query).map_err(|error| unsendable(operation, &error))?;
        url.set_query(Some(&query).filter(|query| !query.is_empty()).map(String::as_str));
        Ok(Request { operation, url, body, guard: None })
    }

    /// Makes attempts until one succeeds, or no further one is allowed.
    async fn execute(&self, request: Request) -> Result<ApiResponse, Error> {
        let config = &self.inner.config;
        let deadline = Deadline::after(config.timeouts.total);
        // Loading must not shorten the first attempt.
        self.transport(request.operation).await?;
        let mut earlier_effect = Effect::Nothing;
        let mut number = 1;
        loop {
            let started = Instant::now();
            let attempt_deadline = deadline.monotonic.min(started + config.timeouts.request);
            let result = self.attempt(&request, attempt_deadline).await;
            self.report_attempt(request.operation, number, started.elapsed(), &result);
            let error = match result {
                Ok(response) => return Ok(response),
                Err(error) => error.with_earlier_effect(earlier_effect),
            };
            let attempt = FailedAttempt {
                idempotent: request.operation.method().is_idempotent(),
                outcome: error.attempt_outcome(),
                number,
                retry_after: error.retry_after(),
                remaining: deadline.remaining(),
            };
            match wait_before_retry(&attempt, &config.retry, rand::random()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            }
            if deadline.remaining().is_zero() {
                return Err(error);
            }
            earlier_effect = error.effect();
            number += 1;
        }
    }

    /// The time in the last response, a rejection's too; `None` if it had none.
    #[must_use]
    pub fn server_time(&self) -> Option<ServerTime> {
        self.inner.transport.get()?.server_time()
    }

    pub(crate) async fn attempt(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> Result<ApiResponse, Error> {
        let transport = self.transport(request.operation).await?;
        transport.send(&self.inner.config, request, deadline).await
    }

    async fn transport(&self, operation: ApiOperation) -> Result<&Transport, Error> {
        let Inner { config, transport, .. } = &*self.inner;
        let loaded = transport.get_or_try_init(|| Transport::load(config)).await;
        loaded.map_err(|detail| Error::new(operation, ErrorKind::Unsendable { detail }))
    }

    /// Reports an attempt to the log and to the configured observer: never bodies, keys, ids or numbers.
    fn report_attempt(
        &self,
        operation: ApiOperation,
        number: u32,
        duration: Duration,
        result: &Result<ApiResponse, Error>,
    ) {
        let (status, phase) = match result {
            Ok(response) => (Some(response.status), None),
            Err(error) => (error.status(), error.transport_phase()),
        };
        if let Some(status @ (200..300 | 401)) = status {
            self.inner.is_key_refused.store(status == 401, Ordering::Relaxed);
        }
        tracing::debug!(
            method = operation.method().as_str(),
            path = operation.path(),
            attempt = number,
            status,
            phase = phase.map(tracing::field::debug),
            took_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            "API request"
        );
        if let Some(observe) = self.inner.config.observe_attempt {
            observe(&AttemptReport { operation, number, status, duration });
        }
    }
}

/// The end of all attempts, on two clocks: one stands still while the machine sleeps, and the other can be set. After
/// the deadline another process may take the request over, so neither clock may have passed it.
struct Deadline {
    monotonic: Instant,
    wall: Option<Timestamp>,
}

impl Deadline {
    fn after(total: Duration) -> Self {
        let wall = Timestamp::now().saturating_add(total).ok();
        Self { monotonic: Instant::now() + total, wall }
    }

    fn remaining(&self) -> Duration {
        let wall =
            self.wall.map_or(SignedDuration::ZERO, |end| end.duration_since(Timestamp::now()));
        let wall = Duration::try_from(wall).unwrap_or(Duration::ZERO);
        self.monotonic.saturating_duration_since(Instant::now()).min(wall)
    }
}

/// Fills the `{…}` of the path's template with one encoded segment for each id. `None` if an id cannot be a segment:
/// `.` and `..` name other paths even if they are percent-encoded (WHATWG URL section 4.1), and so does an empty one.
fn build_path(operation: ApiOperation, ids: &[&str]) -> Option<String> {
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
        path.extend(utf8_percent_encode(id, PATH_SEGMENT));
    }
    Some(path)
}

fn unsendable(operation: ApiOperation, error: &impl ToString) -> Error {
    Error::new(operation, ErrorKind::Unsendable { detail: error.to_string() })
}

/// The error for an id that no record can have. Nothing is sent, because the request could reach another path.
fn invalid_id(operation: ApiOperation) -> Error {
    let message = "no record can have this id".to_owned();
    Error::new(operation, ErrorKind::NotFound { message })
}
