//! Receives the webhook deliveries of CallingBox. Accepts only those that are signed, fresh and new, answers
//! immediately, and passes the events to a [`CallEventHandler`] afterwards.
//!
//! Knows the API's records and HTTP, but not what the events are for.

mod replay;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use self::replay::SeenEvents;
use crate::state::SharedState;
use callingbox::webhook_signature::{SignatureError, SigningSecrets, check_headers};
use callingbox::{Call, CallId};

/// The path of deliveries.
pub const PATH: &str = "/webhooks/callingbox";
/// The largest delivery, in bytes. A call with its results is far smaller.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How long a delivery may take to arrive. CallingBox gives up after 10 s.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How many deliveries are read concurrently. CallingBox sends one within milliseconds; another sender may take as long
/// as it likes.
const MAX_CONCURRENT_READS: usize = 32;
/// `Retry-After` of a delivery that is rejected because the receiver is busy, in seconds.
const BUSY_RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// How many events may wait for the handler.
const MAX_QUEUED_EVENTS: usize = 1_024;

/// Handles the events of calls.
#[async_trait]
pub trait CallEventHandler: Send + Sync {
    /// Handles a verified event about a call. `call` is its record, if it could be read.
    async fn handle_event(&self, call_id: CallId, call: Option<Call>);
}

/// Why a delivery was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rejection {
    /// It has no signature, a malformed one, or one made with an unknown secret.
    Forged,
    /// It was signed too long ago, or in the future.
    Stale,
    /// The event was seen before. The answer is 200, so that the sender does not repeat it again.
    Replayed,
    /// It is too large.
    Oversized,
    /// It is signed, but the body is not an event, or did not arrive as a whole.
    Unreadable,
    /// Too many deliveries are being read or handled. CallingBox delivers it again later.
    Busy,
}

impl Rejection {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::Forged, Self::Stale, Self::Replayed, Self::Oversized, Self::Unreadable, Self::Busy];

    /// The reason in one word, for metrics, logs and the response.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Oversized => "oversized",
            Self::Unreadable => "unreadable",
            Self::Busy => "busy",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Forged => StatusCode::UNAUTHORIZED,
            Self::Stale | Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::Replayed => StatusCode::OK,
            Self::Oversized => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// How many deliveries were accepted and rejected.
#[derive(Debug, Default)]
pub struct DeliveryCounts {
    accepted: AtomicU64,
    rejected: [AtomicU64; Rejection::ALL.len()],
}

impl DeliveryCounts {
    /// The number of accepted deliveries.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The number of deliveries rejected for this reason.
    #[must_use]
    pub fn rejected(&self, reason: Rejection) -> u64 {
        self.counter(reason).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn counter(&self, reason: Rejection) -> Option<&AtomicU64> {
        Rejection::ALL
            .iter()
            .zip(&self.rejected)
            .find(|(known, _)| **known == reason)
            .map(|(_, n)| n)
    }

    fn count_rejection(&self, reason: Rejection) {
        if let Some(counter) = self.counter(reason) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Receives deliveries. Dropping it stops the handling of events.
pub struct WebhookReceiver {
    secrets: SigningSecrets,
    seen: SeenEvents,
    counts: DeliveryCounts,
    reads: Semaphore,
    queue: mpsc::Sender<(CallId, Option<Call>)>,
    worker: JoinHandle<()>,
}

#[derive(Deserialize)]
struct Event {
    id: String,
    data: EventData,
}

#[derive(Deserialize)]
struct EventData {
    call: Value,
}

impl WebhookReceiver {
    /// Accepts deliveries signed with one of `secrets` and passes their events to `handler`; with `shared`, only events
    /// that no other replica has seen. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(
        secrets: SigningSecrets,
        handler: Arc<dyn CallEventHandler>,
        shared: Option<SharedState>,
    ) -> Arc<Self> {
        let (queue, mut events) = mpsc::channel(MAX_QUEUED_EVENTS);
        let worker = tokio::spawn(async move {
            while let Some((call_id, call)) = events.recv().await {
                handler.handle_event(call_id, call).await;
            }
        });
        let (seen, counts) = (SeenEvents::new(shared), DeliveryCounts::default());
        let reads = Semaphore::new(MAX_CONCURRENT_READS);
        Arc::new(Self { secrets, seen, counts, reads, queue, worker })
    }

    /// The route of deliveries.
    pub fn routes(self: &Arc<Self>) -> Router {
        let handle = async |State(receiver): State<Arc<Self>>, request: Request| {
            let (parts, body) = request.into_parts();
            match receiver.accept(&parts.headers, body).await {
                Ok(()) => StatusCode::OK.into_response(),
                Err(reason) => receiver.reject(reason),
            }
        };
        Router::new().route(PATH, post(handle)).with_state(Arc::clone(self))
    }

    /// The numbers of accepted and rejected deliveries.
    #[must_use]
    pub fn counts(&self) -> &DeliveryCounts {
        &self.counts
    }

    fn reject(&self, reason: Rejection) -> Response {
        self.counts.count_rejection(reason);
        tracing::warn!(reason = reason.as_str(), "webhook delivery rejected");
        let mut response = (reason.status(), reason.as_str()).into_response();
        if reason == Rejection::Busy {
            response.headers_mut().insert(RETRY_AFTER, BUSY_RETRY_AFTER);
        }
        response
    }

    async fn accept(self: &Arc<Self>, headers: &HeaderMap, body: Body) -> Result<(), Rejection> {
        // The headers are checked before the body takes any memory.
        check_headers(headers, Timestamp::now()).map_err(Rejection::from)?;
        let _permit = self.reads.try_acquire().map_err(|_| Rejection::Busy)?;
        let body = read_body(body).await?;
        self.accept_body(headers, &body, Timestamp::now()).await
    }

    async fn accept_body(
        self: &Arc<Self>,
        headers: &HeaderMap,
        body: &Bytes,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        self.secrets.verify(headers, body, now).map_err(Rejection::from)?;
        let event: Event = serde_json::from_slice(body).map_err(|_| Rejection::Unreadable)?;
        let id = event.data.call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        let call_id = CallId::new(id.ok_or(Rejection::Unreadable)?);
        // A record that cannot be read is still news about the call.
        let call = serde_json::from_value(event.data.call).ok();
        let permit = self.queue.clone().try_reserve_owned().map_err(|_| Rejection::Busy)?;
        // In a task of its own, because a remembered event must be handled even if its sender disconnects.
        let receiver = Arc::clone(self);
        let accepted = tokio::spawn(async move {
            if !receiver.seen.insert(&event.id, now).await {
                return Err(Rejection::Replayed);
            }
            permit.send((call_id, call));
            receiver.counts.accepted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        accepted.await.unwrap_or(Err(Rejection::Busy))
    }
}

impl Drop for WebhookReceiver {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl From<SignatureError> for Rejection {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::Stale => Self::Stale,
            SignatureError::Missing | SignatureError::Malformed | SignatureError::Mismatch => {
                Self::Forged
            }
        }
    }
}

async fn read_body(body: Body) -> Result<Bytes, Rejection> {
    match tokio::time::timeout(READ_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Rejection::Oversized),
        Ok(Err(_)) | Err(_) => Err(Rejection::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::json;
    use tower_service::Service as _;

    use callingbox::webhook_signature::sign;

    use super::*;

    struct Recorder(mpsc::UnboundedSender<(CallId, bool)>);

    #[async_trait]
    impl CallEventHandler for Recorder {
        async fn handle_event(&self, call_id: CallId, call: Option<Call>) {
            self.0.send((call_id, call.is_some())).unwrap();
        }
    }

    const SECRETS: [&str; 2] = ["whsec_old", "whsec_new"];

    async fn deliver(
        receiver: &Arc<WebhookReceiver>,
        signature: Option<String>,
        body: String,
    ) -> u16 {
        let mut request = http::Request::post(PATH);
        if let Some(signature) = signature {
            request = request.header("callingbox-signature", signature);
        }
        let request = request.body(Body::from(body)).unwrap();
        receiver.routes().into_service().call(request).await.unwrap().status().as_u16()
    }

    fn event(id: &str) -> String {
        json!({"id": id, "type": "call.ringing", "data": {"call": {"id": "call-1"}}}).to_string()
    }

    #[tokio::test]
    async fn only_signed_fresh_new_and_readable_events_are_handled() {
        let (events, mut handled) = mpsc::unbounded_channel();
        let secrets = SigningSecrets::new(SECRETS.map(str::to_owned)).unwrap();
        let receiver = WebhookReceiver::new(secrets, Arc::new(Recorder(events)), None);
        let now = Timestamp::now().as_second();
        let by = |secret: &str, at: i64, body: &str| Some(sign(secret, at, body.as_bytes()));
        let large = format!("{}{}", event("l"), " ".repeat(MAX_BODY_BYTES));
        for (signature, body, status) in [
            (by("whsec_new", now, &event("a")), event("a"), 200),
            (by("whsec_old", now, &event("b")), event("b"), 200),
            (by("whsec_new", now, &event("a")), event("a"), 200),
            (None, event("c"), 401),
            (Some("t=1".to_owned()), event("c"), 401),
            (by("whsec_other", now, &event("c")), event("c"), 401),
            (by("whsec_new", now, &event("c")), event("d"), 401),
            (by("whsec_new", now - 320, &event("c")), event("c"), 400),
            (by("whsec_new", now + 320, &event("c")), event("c"), 400),
            (by("whsec_new", now, "not json"), "not json".to_owned(), 400),
            (by("whsec_new", now, "{}"), "{}".to_owned(), 400),
            (by("whsec_new", now, &large), large, 413),
        ] {
            assert_eq!(deliver(&receiver, signature, body.clone()).await, status, "{body:.60}");
        }
        let counts = Rejection::ALL.map(|reason| receiver.counts().rejected(reason));
        assert_eq!((receiver.counts().accepted(), counts), (2, [4, 2, 1, 1, 2, 0]));
        for _ in 0..2 {
            assert_eq!(handled.recv().await.unwrap(), (CallId::new("call-1"), true));
        }
        drop(receiver);
        assert!(handled.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_delivery_rejected_as_busy_is_new_when_it_returns() {
        struct Stuck;
        #[async_trait]
        impl CallEventHandler for Stuck {
            async fn handle_event(&self, _: CallId, _: Option<Call>) {
                std::future::pending().await
            }
        }
        let secrets = SigningSecrets::new(SECRETS.map(str::to_owned)).unwrap();
        let receiver = WebhookReceiver::new(secrets, Arc::new(Stuck), None);
        let now = Timestamp::now().as_second();
        let mut statuses = Vec::new();
        for number in 0..MAX_QUEUED_EVENTS + 3 {
            let body = event(&number.to_string());
            let signature = Some(sign("whsec_new", now, body.as_bytes()));
            statuses.push(deliver(&receiver, signature.clone(), body.clone()).await);
        }
        assert!(statuses.ends_with(&[503]), "{:?}", statuses.last());
        let body = event(&(MAX_QUEUED_EVENTS + 2).to_string());
        let again = Some(sign("whsec_new", now, body.as_bytes()));
        assert_eq!(deliver(&receiver, again, body).await, 503);
        assert_eq!(receiver.counts().rejected(Rejection::Replayed), 0);
    }

    #[tokio::test]
    async fn bodies_are_read_for_few_signed_deliveries_at_a_time() {
        let (events, _handled) = mpsc::unbounded_channel();
        let secrets = SigningSecrets::new(SECRETS.map(str::to_owned)).unwrap();
        let receiver = WebhookReceiver::new(secrets, Arc::new(Recorder(events)), None);
        let headers = |signature: &str| {
            let value = HeaderValue::from_str(signature).unwrap();
            HeaderMap::from_iter([(http::HeaderName::from_static("callingbox-signature"), value)])
        };
        let never =
            || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        for (headers, reason) in
            [(HeaderMap::new(), Rejection::Forged), (headers("t=1,v1=00"), Rejection::Forged)]
        {
            let rejected = receiver.accept(&headers, never()).now_or_never();
            assert_eq!(rejected, Some(Err(reason)));
        }
        let signed = headers(&sign("whsec_new", Timestamp::now().as_second(), b"x"));
        let mut reads: Vec<_> = (0..MAX_CONCURRENT_READS)
            .map(|_| Box::pin(receiver.accept(&signed, never())))
            .collect();
        for read in &mut reads {
            assert_eq!(read.now_or_never(), None);
        }
        let one_more = || receiver.accept(&signed, never()).now_or_never();
        assert_eq!(one_more(), Some(Err(Rejection::Busy)));
        drop(reads.pop());
        assert_eq!(one_more(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_handled_if_its_sender_disconnects_during_the_replay_check() {
        // A Redis that accepts the connection and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let shared =
            SharedState::open(&format!("redis://{}/", silent.local_addr().unwrap())).unwrap();
        let (events, mut handled) = mpsc::unbounded_channel();
        let secrets = SigningSecrets::new(SECRETS.map(str::to_owned)).unwrap();
        let receiver = WebhookReceiver::new(secrets, Arc::new(Recorder(events)), Some(shared));
        let body = event("a");
        let now = Timestamp::now().as_second();
        let signature = Some(sign("whsec_new", now, body.as_bytes()));
        let disconnected = deliver(&receiver, signature.clone(), body.clone()).now_or_never();
        assert_eq!(disconnected, None);
        assert_eq!(deliver(&receiver, signature, body).await, 200);
        let event_handled = tokio::time::timeout(Duration::from_secs(60), handled.recv()).await;
        assert_eq!(event_handled.unwrap(), Some((CallId::new("call-1"), true)));
        let counts = receiver.counts();
        assert_eq!((counts.accepted(), counts.rejected(Rejection::Replayed)), (1, 1));
    }
}
