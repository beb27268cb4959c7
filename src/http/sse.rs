//! The HTTP+SSE transport of 2024-11-05: one stream of events to the client, and a POST for each message from it. rmcp
//! no longer has it, but clients that get a bare URL still begin with it.
//!
//! The id of a session is part of a URL, because this transport has no other place for it. It grants nothing: every
//! POST is authenticated, and only the tenant that opened a session can use it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use rmcp::model::{ClientJsonRpcMessage, GetExtensions, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::SessionId;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::answer::error_response;
use super::auth::Principal;
use super::body;
use super::context::{RouteContext, SESSION_ID, no_sessions, too_many_sessions, too_many_streams};
use super::sessions::SessionPolicy;
use super::sse_channel::{PendingRequests, SEND_TIMEOUT, SseChannel, too_busy};
use super::tenant::Tenant;
use super::tool_filter::RequestToolFilter;
use crate::json_rpc;

/// Messages that wait for the client to read them.
const MAX_OUTGOING: usize = 64;
/// Messages of the client that wait for the server.
const MAX_INCOMING: usize = 16;
/// The open sessions of all tenants. [`super::sessions::Sessions`] knows which tenant each belongs to.
#[derive(Default)]
pub(super) struct SseSessions(Mutex<HashMap<SessionId, Inbox>>);

/// Takes the messages for one session.
#[derive(Clone)]
struct Inbox {
    to_server: mpsc::Sender<ClientJsonRpcMessage>,
    pending: PendingRequests,
}

impl SseSessions {
    /// `GET /sse`: opens a session.
    ///
    /// # Errors
    /// The response that refuses it.
    pub(super) async fn get_stream(
        self: &Arc<Self>,
        context: &RouteContext,
        request: Request,
    ) -> Result<Response, Box<Response>> {
        if context.is_stateless {
            let instead = "use streamable HTTP at /mcp";
            return Err(Box::new(no_sessions(StatusCode::NOT_FOUND, instead)));
        }
        let (head, _) = request.into_parts();
        let principal = context.authenticate(&head).await?;
        let filter = Arc::new(RequestToolFilter::from_headers(&head.headers, context.tools())?);
        let stream = principal.tenant.acquire_stream().ok_or_else(too_many_streams)?;
        let response = self.open(&principal, filter).await?;
        Ok(body::with_guard(response, stream))
    }

    /// `POST /messages`: takes one message for a session.
    ///
    /// # Errors
    /// The response that refuses it.
    pub(super) async fn post_message(
        &self,
        context: &RouteContext,
        request: Request,
    ) -> Result<Response, Box<Response>> {
        let (parts, body) = request.into_parts();
        let principal = context.authenticate(&parts).await?;
        let filter = RequestToolFilter::from_headers(&parts.headers, context.tools())?;
        let _stream = principal.tenant.acquire_stream().ok_or_else(too_many_streams)?;
        let (body, mut held) =
            body::read_body(body, context.body, principal.tenant.body_budget()).await?;
        let id = session_id_in(parts.uri.query().unwrap_or_default())?;
        let session = principal.tenant.sessions().acquire(&id).ok_or_else(no_such_session)?;
        session.extend_until(principal.expires_at);
        let (peek, prepared) = context.prepare_message(body).await?;
        held.shrink_to(prepared.len());
        context.check_scope(&principal, &peek)?;
        let mut message = json_rpc::parse_message(&prepared).map_err(body::invalid_message)?;
        let inbox = self.0.lock().get(id.as_str()).cloned().ok_or_else(no_such_session)?;
        // After this nothing waits, so a client that disconnects leaves nothing behind.
        let slot = match timeout(SEND_TIMEOUT, inbox.to_server.reserve()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_closed)) => return Err(no_such_session()),
            Err(_) => return Err(too_busy()),
        };
        if let JsonRpcMessage::Request(request) = &mut message {
            let acquire =
                || Some((principal.tenant.acquire_stream()?, held, context.in_flight.token()));
            inbox.pending.insert(&request.id, acquire)?;
            let caller = context.caller(&principal, &session.tool_filter(), &filter);
            request.request.extensions_mut().insert(caller);
        }
        slot.send(message);
        Ok(StatusCode::ACCEPTED.into_response())
    }

    /// Opens a session and answers with its stream.
    ///
    /// # Errors
    /// The response that refuses it.
    pub(super) async fn open(
        self: &Arc<Self>,
        principal: &Principal,
        tool_filter: Arc<RequestToolFilter>,
    ) -> Result<Response, Box<Response>> {
        let tenant = &principal.tenant;
        let permit = tenant.sessions().acquire_permit().await.map_err(too_many_sessions)?;
        let id: SessionId = Uuid::new_v4().simple().to_string().into();
        let (to_server, from_client) = mpsc::channel(MAX_INCOMING);
        let (to_client, from_server) = mpsc::channel(MAX_OUTGOING);
        let end = tenant.end.child_token();
        let pending = PendingRequests::default();
        let inbox = Inbox { to_server, pending: pending.clone() };
        self.0.lock().insert(Arc::clone(&id), inbox);
        let policy = SessionPolicy { expires_at: principal.expires_at, tool_filter };
        tenant.sessions().insert(Arc::clone(&id), permit, Some(end.clone()), policy);
        let guard = tenant.sessions().acquire(&id);
        let channel = SseChannel { from_client, to_client, pending };
        let (sessions, tenant) = (Arc::clone(self), Arc::clone(tenant));
        tokio::spawn(sessions.run_session(tenant, Arc::clone(&id), channel, end.clone()));
        let messages = OutgoingMessages { from_server, end: end.clone(), _guard: end.drop_guard() };
        Ok(body::with_guard(stream_response(&id, messages), guard))
    }

    async fn run_session(
        self: Arc<Self>,
        tenant: Arc<Tenant>,
        id: SessionId,
        channel: SseChannel,
        end: CancellationToken,
    ) {
        tenant.handler.serve_session(channel, end.clone()).await;
        end.cancel();
        self.0.lock().remove(&id);
        tenant.sessions().end(&id).await;
    }
}

fn stream_response(id: &SessionId, messages: OutgoingMessages) -> Response {
    let endpoint = Event::default().event("endpoint").data(format!("/messages?session_id={id}"));
    let messages = messages.into_stream().map(|message| {
        let event = Event::default().event("message");
        serde_json::to_string(&message).map(|text| event.data(text))
    });
    let events = stream::once(async { Ok(endpoint) }).chain(messages).boxed();
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    // Not for the client, but for a balancer that keeps the session at this replica.
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(SESSION_ID, id);
    }
    response
}

/// The messages to the client. The session ends when this is dropped, because the client has disconnected.
struct OutgoingMessages {
    from_server: mpsc::Receiver<ServerJsonRpcMessage>,
    end: CancellationToken,
    _guard: DropGuard,
}

impl OutgoingMessages {
    /// The messages up to the end of the session; those that were sent before the end still follow.
    fn into_stream(self) -> impl Stream<Item = ServerJsonRpcMessage> + Send {
        stream::unfold(self, |mut messages| async {
            let message = tokio::select! {
                biased;
                message = messages.from_server.recv() => message?,
                () = messages.end.cancelled() => return None,
            };
            Some((message, messages))
        })
    }
}

fn session_id_in(query: &str) -> Result<String, Box<Response>> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let id = pairs.find(|(name, _)| name == "session_id");
    id.map(|(_, id)| id.into_owned()).ok_or_else(|| {
        let text = "session_id is missing; use the address in the first event of the stream";
        Box::new(error_response(StatusCode::BAD_REQUEST, text))
    })
}

fn no_such_session() -> Box<Response> {
    let text = "no such session; GET /sse begins a new one";
    Box::new(error_response(StatusCode::NOT_FOUND, text))
}

#[cfg(test)]
mod tests {
    use rmcp::model::{RequestId, ServerResult};

    use super::*;

    #[tokio::test]
    async fn answers_sent_before_the_end_still_follow_and_then_the_stream_ends() {
        let (to_client, from_server) = mpsc::channel(MAX_OUTGOING);
        let end = CancellationToken::new();
        let _guard = end.clone().drop_guard();
        let messages = OutgoingMessages { from_server, end: end.clone(), _guard };
        for id in 0..3 {
            let answer = ServerResult::empty(());
            let answer = ServerJsonRpcMessage::response(answer, RequestId::Number(id));
            to_client.send(answer).await.unwrap();
        }
        end.cancel();
        // The sender is still alive, and does not keep the stream open.
        assert_eq!(messages.into_stream().count().await, 3);
        drop(to_client);
    }
}
