//! Receives the webhook deliveries of CallingBox. Accepts only those that are signed, fresh and new, answers
//! immediately, and passes the events to a [`CallEventHandler`] afterwards.
//!
//! Knows the API's records and HTTP, but not what the events are for.

mod outcome;
mod reads;
mod replay;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::reads::BodyReads;
use self::replay::SeenEvents;
use crate::peer_address::PeerAddress;
use crate::state::SharedState;
use callingbox::json_text::read_leniently;
use callingbox::webhook_signature::{SignatureError, SigningSecrets, check_headers};
use callingbox::{Call, CallId};

pub use self::outcome::{DeliveryCounts, Rejection};

/// The path of deliveries.
pub const PATH: &str = "/webhooks/callingbox";
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

/// Receives deliveries. Dropping it stops the handling of events.
pub struct WebhookReceiver {
    secrets: SigningSecrets,
    seen: SeenEvents,
    counts: DeliveryCounts,
    reads: BodyReads,
    queue: mpsc::Sender<(CallId, Option<Call>)>,
    _worker: AbortOnDropHandle<()>,
}

/// An event of a call.
struct Event {
    id: String,
    call_id: CallId,
    call: Value,
}

impl Event {
    /// Reads a signed body. An event without an id is known by its content. `None`: it is not about a call.
    fn parse(body: &[u8]) -> Option<Self> {
        let mut event: Value = read_leniently(body).ok()?;
        let call = event.get_mut("data")?.get_mut("call")?.take();
        let call_id = CallId::deserialize(call.get("id")?).ok()?;
        let id = match event.get("id") {
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => String::from_utf8_lossy(body).into_owned(),
        };
        Some(Self { id, call_id, call })
    }
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
        let worker = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some((call_id, call)) = events.recv().await {
                handler.handle_event(call_id, call).await;
            }
        }));
        let (seen, counts) = (SeenEvents::new(shared), DeliveryCounts::default());
        let reads = BodyReads::default();
        Arc::new(Self { secrets, seen, counts, reads, queue, _worker: worker })
    }

    /// The route of deliveries.
    pub fn routes(self: &Arc<Self>) -> Router {
        let handle = async |State(receiver): State<Arc<Self>>, request: Request| {
            let (parts, body) = request.into_parts();
            let peer = PeerAddress::from_extensions(&parts.extensions);
            match receiver.accept(&parts.headers, peer, body).await {
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
        self.counts.record_rejection(reason);
        let mut response = (reason.status(), reason.as_str()).into_response();
        let headers = response.headers_mut();
        if reason == Rejection::Busy {
            headers.insert(RETRY_AFTER, BUSY_RETRY_AFTER);
        }
        // The rest of a body that was not read would be taken for the next request.
        if matches!(reason, Rejection::Busy | Rejection::Oversized | Rejection::Unreadable) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn accept(
        self: &Arc<Self>,
        headers: &HeaderMap,
        peer: PeerAddress,
        body: Body,
    ) -> Result<(), Rejection> {
        // The headers are checked before the body takes any memory.
        check_headers(headers, Timestamp::now()).map_err(Rejection::from)?;
        let body = self.reads.read(peer, body).await?;
        self.accept_body(headers, &body, Timestamp::now()).await
    }

    async fn accept_body(
        self: &Arc<Self>,
        headers: &HeaderMap,
        body: &Bytes,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        self.secrets.verify(headers, body, now).map_err(Rejection::from)?;
        let Event { id, call_id, call } = Event::parse(body).ok_or(Rejection::Unknown)?;
        // A record that cannot be read is still news about the call.
        let call = serde_json::from_value(call).ok();
        let permit = self.queue.clone().try_reserve_owned().map_err(|_| Rejection::Busy)?;
        // In a task of its own, because a remembered event must be handled even if its sender disconnects.
        let receiver = Arc::clone(self);
        let accepted = tokio::spawn(async move {
            if !receiver.seen.insert(&id, now).await {
                return Err(Rejection::Replayed);
            }
            permit.send((call_id, call));
            receiver.counts.record_accepted();
            Ok(())
        });
        accepted.await.unwrap_or(Err(Rejection::Busy))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    const TEST_EVENT: &str = r#"{"id":"evt","type":"endpoint.test","data":{}}"#;
    const NUMBERED: &str = "{\"id\":7,\"data\":{\"call\":{\"id\":8,\"note\":\"\\ud83d\"}}}";
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
        let large = format!("{}{}", event("l"), " ".repeat(reads::MAX_BODY_BYTES));
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
            (by("whsec_new", now, "not json"), "not json".to_owned(), 200),
            (by("whsec_new", now, "{}"), "{}".to_owned(), 200),
            (by("whsec_new", now, TEST_EVENT), TEST_EVENT.to_owned(), 200),
            (by("whsec_new", now, NUMBERED), NUMBERED.to_owned(), 200),
            (by("whsec_new", now, &large), large, 413),
        ] {
            assert_eq!(deliver(&receiver, signature, body.clone()).await, status, "{body:.60}");
        }
        let counts = Rejection::ALL.map(|reason| receiver.counts().rejected(reason));
        assert_eq!((receiver.counts().accepted(), counts), (3, [4, 2, 1, 1, 0, 3, 0]));
        for _ in 0..2 {
            assert_eq!(handled.recv().await.unwrap(), (CallId::new("call-1"), true));
        }
        assert_eq!(handled.recv().await.unwrap(), (CallId::new("8"), true));
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
