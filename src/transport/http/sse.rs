//! The transport of 2024-11-05: one stream of events to the client, and a POST for each message from
//! it. rmcp no longer has it; clients that are given a bare URL still begin with it.
//!
//! The session's id stands in a URL because that transport has no other place. It opens nothing by
//! itself: each POST is authenticated too, and only the tenant that opened the session finds it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use http::StatusCode;
use rmcp::model::{ClientJsonRpcMessage, GetExtensions, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::service::{RoleServer, serve_server_with_ct};
use rmcp::transport::Transport;
use rmcp::transport::streamable_http_server::session::SessionId;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use super::answer;
use super::sessions::{Full, Terms};
use super::tenant::Tenant;
use crate::mcp::caller::Caller;

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

/// One token for each request that has no answer yet: a server that ends waits for them.
type Pending = Arc<Mutex<Vec<TaskTrackerToken>>>;

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
    let pending = Pending::default();
    let inbox = Inbox { to_server, pending: Arc::clone(&pending) };
    inboxes.with(|inboxes| inboxes.insert(Arc::clone(&id), inbox));
    tenant.sessions().adopt(Arc::clone(&id), room, end.clone());
    tenant.sessions().settle(&id, terms);
    let channel = Channel { from_client, to_client, activity: activity.clone(), pending };
    let session =
        serve(Arc::clone(inboxes), Arc::clone(tenant), Arc::clone(&id), channel, end.clone());
    tokio::spawn(session);
    let endpoint = Event::default().event("endpoint").data(format!("/messages?session_id={id}"));
    let open = tenant.sessions().enter(&id);
    let ended = end.clone();
    let messages = Messages { from_server, _end: end.drop_guard() };
    let messages = stream::unfold(messages, |mut messages| async {
        let message = messages.from_server.recv().await?;
        let text = serde_json::to_string(&message).unwrap_or_default();
        Some((Event::default().event("message").data(text), messages))
    });
    let events = stream::once(async { endpoint })
        .chain(messages)
        .take_until(ended.cancelled_owned())
        .map(Ok::<_, Infallible>);
    let response = Sse::new(boxed(events)).keep_alive(KeepAlive::default()).into_response();
    Ok(super::body::hold(response, open))
}

fn boxed(
    events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
) -> stream::BoxStream<'static, Result<Event, Infallible>> {
    events.boxed()
}

/// What goes out; when the client is gone, the session ends with it.
struct Messages {
    from_server: mpsc::Receiver<ServerJsonRpcMessage>,
    _end: DropGuard,
}

async fn serve(
    inboxes: Arc<Inboxes>,
    tenant: Arc<Tenant>,
    id: SessionId,
    channel: Channel,
    end: CancellationToken,
) {
    match serve_server_with_ct(tenant.server(), channel, end.clone()).await {
        Ok(session) => {
            if let Err(error) = session.waiting().await {
                tracing::debug!(%error, "a session of the SSE transport ended badly");
            }
        }
        Err(error) => tracing::debug!(%error, "a session of the SSE transport did not begin"),
    }
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
        Box::new(answer::error(StatusCode::BAD_REQUEST, text))
    })
}

/// Takes one message of `caller` for a session that is theirs.
pub async fn accept(inboxes: &Inboxes, id: &str, caller: Caller, body: &[u8]) -> Response {
    let gone = || answer::error(StatusCode::NOT_FOUND, "there is no such session");
    let Some(inbox) = inboxes.with(|inboxes| inboxes.get(id).cloned()) else { return gone() };
    let busy = || {
        let text = "the session has too much to do";
        answer::later(StatusCode::TOO_MANY_REQUESTS, text, PATIENCE)
    };
    if inbox.pending.lock().unwrap_or_else(PoisonError::into_inner).len() >= MOST_PENDING {
        return busy();
    }
    let mut message: ClientJsonRpcMessage = match serde_json::from_slice(body) {
        Ok(message) => message,
        Err(error) => {
            let text = format!("the body is not a message of MCP: {error}");
            return answer::error(StatusCode::BAD_REQUEST, &text);
        }
    };
    if let JsonRpcMessage::Request(request) = &mut message {
        request.request.extensions_mut().insert(caller);
    }
    match inbox.to_server.send_timeout(message, PATIENCE).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(mpsc::error::SendTimeoutError::Closed(_)) => gone(),
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => busy(),
    }
}

/// rmcp's end of a session.
struct Channel {
    from_client: mpsc::Receiver<ClientJsonRpcMessage>,
    to_client: mpsc::Sender<ServerJsonRpcMessage>,
    activity: TaskTracker,
    pending: Pending,
}

impl Transport<RoleServer> for Channel {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let to_client = self.to_client.clone();
        let pending = Arc::clone(&self.pending);
        async move {
            let answers = matches!(message, JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_));
            let sent = to_client.send(message).await;
            if answers {
                pending.lock().unwrap_or_else(PoisonError::into_inner).pop();
            }
            sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        let message = self.from_client.recv().await?;
        if matches!(message, JsonRpcMessage::Request(_)) {
            let token = self.activity.token();
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).push(token);
        }
        Some(message)
    }

    async fn close(&mut self) -> io::Result<()> {
        self.from_client.close();
        Ok(())
    }
}
