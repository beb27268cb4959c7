//! Webhooks in: takes CallingBox's deliveries, believes only those that are signed, fresh and new,
//! answers at once and works them off afterwards.
//!
//! Knows the API's models and HTTP; whoever wants to hear of calls is a [`Hears`].

mod replay;
pub mod signature;

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
pub use self::signature::{Secrets, Unsigned};
use crate::state::SharedState;
use callingbox::{Call, CallId};

/// Where deliveries arrive.
pub const PATH: &str = "/webhooks/callingbox";
/// The most bytes of a delivery. A call with its results is far below.
const MOST_BYTES: usize = 1024 * 1024;
/// How long a delivery may take to arrive; CallingBox gives up after 10 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// Deliveries that are read at once. CallingBox's take milliseconds; a stranger's as long as they like.
const READ_AT_ONCE: usize = 32;
/// When a delivery that found no room may come again, in seconds.
const COME_AGAIN: HeaderValue = HeaderValue::from_static("5");
/// Deliveries that wait to be worked off.
const WAITING: usize = 1_024;

/// Hears of calls.
#[async_trait]
pub trait Hears: Send + Sync {
    /// A verified delivery told of this call, perhaps with its record.
    async fn hear(&self, call_id: CallId, call: Option<Call>);
}

/// Why a delivery was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refused {
    /// No signature, an unreadable one, or one by nobody we know.
    Forged,
    /// Signed too long ago, or in the future.
    Stale,
    /// Seen before. Answered with 200 all the same: who delivers twice need not deliver again.
    Replayed,
    /// Too large.
    Oversized,
    /// Signed, but not an event.
    Unreadable,
    /// Too many wait or are being read; CallingBox delivers it again later.
    Busy,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Forged, Self::Stale, Self::Replayed, Self::Oversized, Self::Unreadable, Self::Busy];

    /// One word.
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

/// How many deliveries came to what.
#[derive(Debug, Default)]
pub struct Counts {
    accepted: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
}

impl Counts {
    /// How many were believed.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many were refused for this reason.
    #[must_use]
    pub fn refused(&self, reason: Refused) -> u64 {
        self.counter(reason).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn counter(&self, reason: Refused) -> Option<&AtomicU64> {
        Refused::ALL.iter().zip(&self.refused).find(|(known, _)| **known == reason).map(|(_, n)| n)
    }

    fn count(&self, reason: Refused) {
        if let Some(counter) = self.counter(reason) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What takes deliveries. Dropping it ends the work on them.
pub struct Receiver {
    secrets: Secrets,
    seen: SeenEvents,
    counts: Counts,
    reading: Semaphore,
    work: mpsc::Sender<(CallId, Option<Call>)>,
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

impl Receiver {
    /// Believes what is signed with one of `secrets`, and tells `hears`; with `shared` only what no
    /// other replica was told before. To be called within a tokio runtime.
    #[must_use]
    pub fn new(secrets: Secrets, hears: Arc<dyn Hears>, shared: Option<SharedState>) -> Arc<Self> {
        let (work, mut waiting) = mpsc::channel(WAITING);
        let worker = tokio::spawn(async move {
            while let Some((call_id, call)) = waiting.recv().await {
                hears.hear(call_id, call).await;
            }
        });
        let (seen, counts) = (SeenEvents::new(shared), Counts::default());
        let reading = Semaphore::new(READ_AT_ONCE);
        Arc::new(Self { secrets, seen, counts, reading, work, worker })
    }

    /// The route.
    pub fn routes(self: &Arc<Self>) -> Router {
        let take = async |State(receiver): State<Arc<Self>>, request: Request| {
            let (parts, body) = request.into_parts();
            match receiver.take(&parts.headers, body).await {
                Ok(()) => StatusCode::OK.into_response(),
                Err(reason) => receiver.refuse(reason),
            }
        };
        Router::new().route(PATH, post(take)).with_state(Arc::clone(self))
    }

    /// What became of the deliveries so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn refuse(&self, reason: Refused) -> Response {
        self.counts.count(reason);
        tracing::warn!(reason = reason.as_str(), "a webhook delivery was refused");
        let mut response = (reason.status(), reason.as_str()).into_response();
        if reason == Refused::Busy {
            response.headers_mut().insert(RETRY_AFTER, COME_AGAIN);
        }
        response
    }

    async fn take(self: &Arc<Self>, headers: &HeaderMap, body: Body) -> Result<(), Refused> {
        // Before the body takes any memory.
        signature::glance(headers, Timestamp::now()).map_err(unbelieved)?;
        let _reading = self.reading.try_acquire().map_err(|_| Refused::Busy)?;
        let body = read(body).await?;
        self.verify(headers, &body, Timestamp::now()).await
    }

    async fn verify(
        self: &Arc<Self>,
        headers: &HeaderMap,
        body: &Bytes,
        now: Timestamp,
    ) -> Result<(), Refused> {
        self.secrets.verify(headers, body, now).map_err(unbelieved)?;
        let event: Event = serde_json::from_slice(body).map_err(|_| Refused::Unreadable)?;
        let id = event.data.call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        let call_id = CallId::new(id.ok_or(Refused::Unreadable)?);
        // A record that cannot be read still says that there is something to look at.
        let call = serde_json::from_value(event.data.call).ok();
        let room = self.work.clone().try_reserve_owned().map_err(|_| Refused::Busy)?;
        // A task of its own: an event that is remembered is heard, though its sender leaves meanwhile.
        let receiver = Arc::clone(self);
        let heard = tokio::spawn(async move {
            if !receiver.seen.insert(&event.id, now).await {
                return Err(Refused::Replayed);
            }
            room.send((call_id, call));
            receiver.counts.accepted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        heard.await.unwrap_or(Err(Refused::Busy))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

fn unbelieved(unsigned: Unsigned) -> Refused {
    match unsigned {
        Unsigned::Stale => Refused::Stale,
        Unsigned::Missing | Unsigned::Unreadable | Unsigned::Wrong => Refused::Forged,
    }
}

async fn read(body: Body) -> Result<Bytes, Refused> {
    match tokio::time::timeout(PATIENCE, Limited::new(body, MOST_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refused::Oversized),
        Ok(Err(_)) | Err(_) => Err(Refused::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::json;
    use tower_service::Service as _;

    use super::*;

    struct Ears(mpsc::UnboundedSender<(CallId, bool)>);

    #[async_trait]
    impl Hears for Ears {
        async fn hear(&self, call_id: CallId, call: Option<Call>) {
            self.0.send((call_id, call.is_some())).unwrap();
        }
    }

    const SECRETS: [&str; 2] = ["whsec_old", "whsec_new"];

    async fn deliver(receiver: &Arc<Receiver>, signature: Option<String>, body: String) -> u16 {
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
    async fn only_what_is_signed_fresh_new_and_readable_is_heard() {
        let (ears, mut heard) = mpsc::unbounded_channel();
        let secrets = Secrets::new(SECRETS.map(str::to_owned)).unwrap();
        let receiver = Receiver::new(secrets, Arc::new(Ears(ears)), None);
        let now = Timestamp::now().as_second();
        let by =
            |secret: &str, at: i64, body: &str| Some(signature::sign(secret, at, body.as_bytes()));
        let large = format!("{}{}", event("l"), " ".repeat(MOST_BYTES));
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
        let counts = Refused::ALL.map(|reason| receiver.counts().refused(reason));
        assert_eq!((receiver.counts().accepted(), counts), (2, [4, 2, 1, 1, 2, 0]));
        for _ in 0..2 {
            assert_eq!(heard.recv().await.unwrap(), (CallId::new("call-1"), true));
        }
        drop(receiver);
        assert!(heard.recv().await.is_none());
    }

    #[tokio::test]
    async fn when_too_many_wait_they_are_asked_to_come_again_and_then_are_new() {
        struct Deaf;
        #[async_trait]
        impl Hears for Deaf {
            async fn hear(&self, _: CallId, _: Option<Call>) {
                std::future::pending().await
            }
        }
        let secrets = Secrets::new(SECRETS.map(str::to_owned)).unwrap();
        let receiver = Receiver::new(secrets, Arc::new(Deaf), None);
        let now = Timestamp::now().as_second();
        let mut statuses = Vec::new();
        for number in 0..WAITING + 3 {
            let body = event(&number.to_string());
            let signature = Some(signature::sign("whsec_new", now, body.as_bytes()));
            statuses.push(deliver(&receiver, signature.clone(), body.clone()).await);
        }
        assert!(statuses.ends_with(&[503]), "{:?}", statuses.last());
        let body = event(&(WAITING + 2).to_string());
        let again = Some(signature::sign("whsec_new", now, body.as_bytes()));
        assert_eq!(deliver(&receiver, again, body).await, 503);
        assert_eq!(receiver.counts().refused(Refused::Replayed), 0);
    }

    #[tokio::test]
    async fn a_body_is_read_for_few_at_a_time_and_for_no_stranger() {
        let (ears, _heard) = mpsc::unbounded_channel();
        let secrets = Secrets::new(SECRETS.map(str::to_owned)).unwrap();
        let receiver = Receiver::new(secrets, Arc::new(Ears(ears)), None);
        let headers = |signature: &str| {
            let value = HeaderValue::from_str(signature).unwrap();
            HeaderMap::from_iter([(http::HeaderName::from_static("callingbox-signature"), value)])
        };
        let never =
            || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        for (unsigned, reason) in
            [(HeaderMap::new(), Refused::Forged), (headers("t=1,v1=00"), Refused::Forged)]
        {
            let told = receiver.take(&unsigned, never()).now_or_never();
            assert_eq!(told, Some(Err(reason)));
        }
        let signed = headers(&signature::sign("whsec_new", Timestamp::now().as_second(), b"x"));
        let mut reading: Vec<_> =
            (0..READ_AT_ONCE).map(|_| Box::pin(receiver.take(&signed, never()))).collect();
        for one in &mut reading {
            assert_eq!(one.now_or_never(), None);
        }
        let one_more = || receiver.take(&signed, never()).now_or_never();
        assert_eq!(one_more(), Some(Err(Refused::Busy)));
        drop(reading.pop());
        assert_eq!(one_more(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_heard_though_its_sender_leaves_while_the_others_are_asked() {
        // It takes the connection and says nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let shared =
            SharedState::open(&format!("redis://{}/", silent.local_addr().unwrap())).unwrap();
        let (ears, mut heard) = mpsc::unbounded_channel();
        let secrets = Secrets::new(SECRETS.map(str::to_owned)).unwrap();
        let receiver = Receiver::new(secrets, Arc::new(Ears(ears)), Some(shared));
        let body = event("a");
        let now = Timestamp::now().as_second();
        let signature = Some(signature::sign("whsec_new", now, body.as_bytes()));
        let left = deliver(&receiver, signature.clone(), body.clone()).now_or_never();
        assert_eq!(left, None);
        assert_eq!(deliver(&receiver, signature, body).await, 200);
        let soon = tokio::time::timeout(Duration::from_secs(60), heard.recv()).await;
        assert_eq!(soon.unwrap(), Some((CallId::new("call-1"), true)));
        let counts = receiver.counts();
        assert_eq!((counts.accepted(), counts.refused(Refused::Replayed)), (1, 1));
    }
}
