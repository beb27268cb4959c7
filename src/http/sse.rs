//! The transport of 2024-11-05: one stream of events to the client, and a POST for each message from
//! it. rmcp no longer has it; clients that are given a bare URL still begin with it.
//!
//! The session's id stands in a URL because that transport has no other place. It opens nothing by
//! itself: each POST is authenticated too, and only the tenant that opened the session finds it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use http::{HeaderValue, StatusCode};
use rmcp::model::{
    ClientJsonRpcMessage, GetExtensions, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::service::RoleServer;
use rmcp::transport::Transport;
use rmcp::transport::streamable_http_server::session::SessionId;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use super::sessions::{Full, Terms};
use super::tenant::Tenant;
use super::{SESSION_ID, answer, body, cancel_on_close};
use crate::mcp::request::caller::Caller;

/// Messages to the client that wait for it to read.
const OUTGOING: usize = 64;
/// Messages of the client that wait for the server.
const INCOMING: usize = 16;
/// Requests of one session that have no answer yet.
const MOST_PENDING: usize = 128;
/// How long a message may wait for the server.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way into each open session of all tenants. That one is of the right tenant is for
/// [`super::sessions::Sessions::enter`] to say.
#[derive(Debug, Default)]
pub struct Inboxes(Mutex<HashMap<SessionId, Inbox>>);

/// The way into one session.
#[derive(Debug, Clone)]
struct Inbox {
    to_server: mpsc::Sender<ClientJsonRpcMessage>,
    pending: Pending,
}

/// The requests of a session that have no answer yet. Each takes a place of its tenant's, and has a token:
/// a server that ends waits for them.
#[derive(Debug, Clone)]
struct Pending {
    requests: Arc<Mutex<HashMap<RequestId, UnderWay>>>,
    activity: TaskTracker,
}

/// What a request holds until it is answered.
type UnderWay = (OwnedSemaphorePermit, TaskTrackerToken);

/// Why a request is not taken.
enum NotTaken {
    /// Too many have no answer yet.
    Full,
    /// One of the same id has none.
    Twice,
}

impl Pending {
    fn new(activity: &TaskTracker) -> Self {
        Self { requests: Arc::default(), activity: activity.clone() }
    }

    fn begin(&self, id: &RequestId, tenant: &Tenant) -> Result<(), NotTaken> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.contains_key(id) {
            return Err(NotTaken::Twice);
        }
        let room = requests.len() < MOST_PENDING;
        let place = tenant.open_stream().filter(|_| room).ok_or(NotTaken::Full)?;
        requests.insert(id.clone(), (place, self.activity.token()));
        Ok(())
    }

    fn end(&self, id: &RequestId) -> Option<UnderWay> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
}

impl Inboxes {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<SessionId, Inbox>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Opens a session and answers with its stream.
///
/// # Errors
/// There is no room for one more.
pub async fn open(
    inboxes: &Arc<Inboxes>,
    tenant: &Arc<Tenant>,
    activity: &TaskTracker,
    terms: Terms,
) -> Result<Response, Full> {
    let room = tenant.sessions().make_room().await?;
    let id: SessionId = Uuid::new_v4().simple().to_string().into();
    let (to_server, from_client) = mpsc::channel(INCOMING);
    let (to_client, from_server) = mpsc::channel(OUTGOING);
    let end = tenant.end().child_token();
    let pending = Pending::new(activity);
    let inbox = Inbox { to_server, pending: pending.clone() };
    inboxes.with(|inboxes| inboxes.insert(Arc::clone(&id), inbox));
    tenant.sessions().adopt(Arc::clone(&id), room, end.clone());
    tenant.sessions().settle(&id, terms);
    let channel = Channel { from_client, to_client, pending };
    let session =
        serve(Arc::clone(inboxes), Arc::clone(tenant), Arc::clone(&id), channel, end.clone());
    tokio::spawn(session);
    let endpoint = Event::default().event("endpoint").data(format!("/messages?session_id={id}"));
    let open = tenant.sessions().enter(&id);
    let messages = Messages { from_server, ended: end.clone(), _end: end.drop_guard() };
    let messages = messages.told().map(|message| {
        let text = serde_json::to_string(&message).unwrap_or_default();
        Event::default().event("message").data(text)
    });
    let events = stream::once(async { endpoint }).chain(messages).map(Ok::<_, Infallible>);
    let mut response = Sse::new(boxed(events)).keep_alive(KeepAlive::default()).into_response();
    // Not for the client, but for a balancer that keeps the session at this replica.
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(SESSION_ID, id);
    }
    Ok(body::with_guard(response, open))
}

fn boxed(
    events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
) -> stream::BoxStream<'static, Result<Event, Infallible>> {
    events.boxed()
}

/// What goes out; when the client is gone, the session ends with it.
struct Messages {
    from_server: mpsc::Receiver<ServerJsonRpcMessage>,
    ended: CancellationToken,
    _end: DropGuard,
}

impl Messages {
    /// Each message, up to the end of the session; those of before the end are still told after it.
    fn told(self) -> impl Stream<Item = ServerJsonRpcMessage> + Send {
        stream::unfold(self, |mut messages| async {
            let message = tokio::select! {
                biased;
                message = messages.from_server.recv() => message?,
                () = messages.ended.cancelled() => return None,
            };
            Some((message, messages))
        })
    }
}

async fn serve(
    inboxes: Arc<Inboxes>,
    tenant: Arc<Tenant>,
    id: SessionId,
    channel: Channel,
    end: CancellationToken,
) {
    tenant.handler().serve_session(channel, end.clone()).await;
    end.cancel();
    inboxes.with(|inboxes| inboxes.remove(&id));
    tenant.sessions().end(&id).await;
}

/// The session that a message is for, by the query of its address.
///
/// # Errors
/// The answer, 400: it names none.
pub fn session_named(query: &str) -> Result<String, Box<Response>> {
    let named =
        url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "session_id");
    named.map(|(_, id)| id.into_owned()).ok_or_else(|| {
        let text = "session_id is missing; use the address that the stream's first event names";
        Box::new(answer::error_response(StatusCode::BAD_REQUEST, text))
    })
}

/// The answer to a message of a session that is not there.
#[must_use]
pub fn no_such_session() -> Response {
    answer::error_response(
        StatusCode::NOT_FOUND,
        "there is no such session; GET /sse begins a new one",
    )
}

/// Gives a message of `caller` to its session.
pub async fn accept(
    inboxes: &Inboxes,
    tenant: &Tenant,
    id: &str,
    caller: Caller,
    bytes: &[u8],
) -> Response {
    let mut message = match body::parse_message(bytes) {
        Ok(message) => message,
        Err(refused) => return *refused,
    };
    let Some(inbox) = inboxes.with(|inboxes| inboxes.get(id).cloned()) else {
        return no_such_session();
    };
    let busy = || {
        let text = "the session, or its account, has too much to do";
        answer::retry_after(StatusCode::TOO_MANY_REQUESTS, text, PATIENCE)
    };
    // First the room: from there on nothing waits, and so nothing is left behind by who leaves meanwhile.
    let room = match tokio::time::timeout(PATIENCE, inbox.to_server.reserve()).await {
        Ok(Ok(room)) => room,
        Ok(Err(_closed)) => return no_such_session(),
        Err(_) => return busy(),
    };
    if let JsonRpcMessage::Request(request) = &mut message {
        match inbox.pending.begin(&request.id, tenant) {
            Ok(()) => {}
            Err(NotTaken::Full) => return busy(),
            Err(NotTaken::Twice) => {
                let text = "a request with this id has no answer yet; give each its own";
                return answer::error_response(StatusCode::BAD_REQUEST, text);
            }
        }
        request.request.extensions_mut().insert(caller);
    }
    room.send(message);
    StatusCode::ACCEPTED.into_response()
}

/// rmcp's end of a session.
pub struct Channel {
    from_client: mpsc::Receiver<ClientJsonRpcMessage>,
    to_client: mpsc::Sender<ServerJsonRpcMessage>,
    pending: Pending,
}

impl Transport<RoleServer> for Channel {
    type Error = Infallible;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Infallible>> + Send + 'static {
        let (to_client, pending) = (self.to_client.clone(), self.pending.clone());
        let answered = cancel_on_close::answered_request_id(&message).cloned();
        async move {
            let room = to_client.reserve().await;
            // Until there is room the request counts: a client that reads nothing is not to have more of
            // them. After it the client may use the id again.
            let ended = answered.and_then(|id| pending.end(&id));
            match room {
                Ok(room) => room.send(message),
                Err(_closed) => tracing::debug!("the client was gone before its answer"),
            }
            drop(ended);
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        let message = self.from_client.recv().await?;
        if let Some(id) = cancel_on_close::cancelled_request_id(&message) {
            self.pending.end(id);
        }
        Some(message)
    }

    async fn close(&mut self) -> Result<(), Infallible> {
        self.from_client.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::ServerResult;

    use super::*;

    #[tokio::test]
    async fn answers_of_before_the_end_are_told_and_then_the_stream_ends() {
        let (to_client, from_server) = mpsc::channel(OUTGOING);
        let end = CancellationToken::new();
        let messages = Messages { from_server, ended: end.clone(), _end: end.clone().drop_guard() };
        for id in 0..3 {
            let answer = ServerResult::empty(());
            let answer = ServerJsonRpcMessage::response(answer, RequestId::Number(id));
            to_client.send(answer).await.unwrap();
        }
        end.cancel();
        // Whoever still holds the other end does not keep it open.
        assert_eq!(messages.told().count().await, 3);
        drop(to_client);
    }
}
