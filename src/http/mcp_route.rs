//! `/mcp`: streamable HTTP of all protocol versions.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, AUTHORIZATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use rmcp::model::{ConstString, ProtocolVersion, SubscriptionsListenRequestMethod};
use tokio::time::Instant;

use super::accept::{EVENT_STREAM, ResponseForm, accepts};
use super::answer::error_response;
use super::auth::Principal;
use super::body;
use super::context::{RouteContext, SESSION_ID, no_sessions, too_many_sessions, too_many_streams};
use super::sessions::{SessionGuard, SessionPolicy};
use super::sse::SseSessions;
use super::tool_filter::RequestToolFilter;
use crate::json_rpc::{self, JsonRpcPeek};
use crate::mcp::card;
use crate::mcp::request::peer::SingleAnswer;

const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// Stands for a time that is too far away for the clock.
const FAR_FUTURE: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Answers one request.
///
/// # Errors
/// The response that refuses it.
pub(super) async fn handle(
    context: &RouteContext,
    sse: &Arc<SseSessions>,
    request: Request,
) -> Result<Response, Box<Response>> {
    let (mut parts, body) = request.into_parts();
    let principal = context.authenticate(&parts).await?;
    // What the handlers do not have they cannot log.
    parts.headers.remove(AUTHORIZATION);
    let filter = Arc::new(RequestToolFilter::from_headers(&parts.headers, context.tools())?);
    if parts.method == Method::POST {
        return post_message(context, &principal, filter, parts, body).await;
    }
    if context.is_stateless {
        return Err(Box::new(post_only()));
    }
    if opens_sse_stream(&parts.method, &parts.headers) {
        let stream = principal.tenant.acquire_stream().ok_or_else(too_many_streams)?;
        let response = sse.open(&principal, filter).await?;
        return Ok(body::with_guard(response, stream));
    }
    let stream = principal.tenant.acquire_stream().ok_or_else(too_many_streams)?;
    let session = acquire_session(context, &principal, &parts.headers)?;
    let is_delete = parts.method == Method::DELETE;
    if accepts(&parts.headers, EVENT_STREAM) {
        ResponseForm::accept_both(&mut parts.headers);
    }
    let request = http::Request::from_parts(parts, Full::<Bytes>::default());
    let mut response = principal.tenant.streamable_http().handle_request(request).await;
    // The session has ended by now, and the Python SDK takes 202 for a failure.
    if is_delete && response.status() == StatusCode::ACCEPTED {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    Ok(body::with_guard(response, (stream, session)))
}

async fn post_message(
    context: &RouteContext,
    principal: &Principal,
    filter: Arc<RequestToolFilter>,
    mut parts: Parts,
    body: axum::body::Body,
) -> Result<Response, Box<Response>> {
    let form = ResponseForm::from_headers(&parts.headers)?;
    let tenant = &principal.tenant;
    let stream = tenant.acquire_stream().ok_or_else(too_many_streams)?;
    let session = acquire_session(context, principal, &parts.headers)?;
    let in_flight = context.in_flight.token();
    let (body, mut held) = body::read_body(body, context.body, tenant.body_budget()).await?;
    let (peek, body) = context.prepare_message(body).await?;
    held.shrink_to(body.len());
    context.check_scope(principal, &peek)?;
    check_form(form, &peek)?;
    let opens_session =
        peek.method.as_deref() == Some("initialize") && session.is_none() && !context.is_stateless;
    if opens_session {
        // rmcp acquires it again a moment later, but would answer a failure with 500.
        drop(tenant.sessions().acquire_permit().await.map_err(too_many_sessions)?);
    }
    let session_filter = session.as_ref().map(SessionGuard::tool_filter).unwrap_or_default();
    keep_known_headers(&mut parts.headers);
    parts.extensions.insert(context.caller(principal, &session_filter, &filter));
    if form == ResponseForm::Json {
        parts.extensions.insert(SingleAnswer);
    }
    // A request of a session goes on when its client disconnects, and counts as long as it goes on.
    let counted = Arc::new((stream, held));
    parts.extensions.insert(Arc::clone(&counted));
    let unanswered = tenant.track_answer();
    let request = http::Request::from_parts(parts, Full::new(body.clone()));
    let handler = match session.is_none() && reads_card(&peek) {
        true => tenant.sessionless_http(),
        false => tenant.streamable_http(),
    };
    let response = handler.handle_request(request).await;
    // rmcp answers a body that is not a message as one of an unknown media type.
    if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        json_rpc::parse_message(&body).map_err(body::invalid_message)?;
    }
    let expires_at = principal.expires_at;
    if opens_session && let Some(id) = response.headers().get(SESSION_ID) {
        // Before the client learns the id.
        let policy = SessionPolicy { expires_at, tool_filter: filter };
        tenant.sessions().set_policy(id.to_str().unwrap_or_default(), policy);
    }
    let response = form.convert(response).await;
    let ends_with_token = ends_with_token(context, &peek);
    let response = body::with_guard(response, (counted, session, in_flight, unanswered));
    Ok(match expires_at.filter(|_| ends_with_token) {
        None => response,
        Some(expires_at) => body::with_deadline(response, to_instant(expires_at)),
    })
}

/// Whether a message reads the call card, which needs no session: some clients fetch it outside of theirs.
fn reads_card(peek: &JsonRpcPeek) -> bool {
    peek.resource_uri().is_some_and(|uri| uri.starts_with(card::SCHEME))
}

/// Checks that the response to this message can have the form that the client accepts.
fn check_form(form: ResponseForm, peek: &JsonRpcPeek) -> Result<(), Box<Response>> {
    if form == ResponseForm::Json && is_subscription(peek) {
        let text = "the answer to subscriptions/listen is a stream; accept text/event-stream";
        return Err(Box::new(error_response(StatusCode::NOT_ACCEPTABLE, text)));
    }
    Ok(())
}

/// Removes the headers that are not read, because the rest live as long as the request, and names both forms of a response,
/// as rmcp wants it.
fn keep_known_headers(headers: &mut HeaderMap) {
    const KNOWN: [&str; 5] = ["content-type", "host", "last-event-id", "traceparent", "tracestate"];
    let is_known =
        |name: &HeaderName| name.as_str().starts_with("mcp-") || KNOWN.contains(&name.as_str());
    let kept = headers.iter().filter(|(name, _)| is_known(name));
    *headers = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    ResponseForm::accept_both(headers);
}

/// Whether the response is cut off when the token expires: a subscription or a reading tool. A tool that changes
/// something may finish.
fn ends_with_token(context: &RouteContext, peek: &JsonRpcPeek) -> bool {
    let tool = peek.tool_name().and_then(|name| context.tools().get(name));
    is_subscription(peek) || tool.is_some_and(|tool| tool.effect.is_read_only())
}

fn is_subscription(peek: &JsonRpcPeek) -> bool {
    peek.method.as_deref() == Some(SubscriptionsListenRequestMethod::VALUE)
}

/// The session that the request names, which is in use as long as the guard lives.
fn acquire_session(
    context: &RouteContext,
    principal: &Principal,
    headers: &HeaderMap,
) -> Result<Option<SessionGuard>, Box<Response>> {
    let Some(id) = session_id(context, headers) else { return Ok(None) };
    let guard = principal.tenant.sessions().acquire(id).ok_or_else(|| {
        let text = "no such session; begin a new one with initialize";
        Box::new(error_response(StatusCode::NOT_FOUND, text))
    })?;
    guard.extend_until(principal.expires_at);
    Ok(Some(guard))
}

/// The id of the session, for a protocol version that has sessions.
fn session_id<'a>(context: &RouteContext, headers: &'a HeaderMap) -> Option<&'a str> {
    let version = headers.get(PROTOCOL_VERSION).and_then(|version| version.to_str().ok());
    // Versions are ISO dates, which compare as texts.
    let is_sessionless =
        version.is_some_and(|version| version >= ProtocolVersion::V_2026_07_28.as_str());
    if is_sessionless || context.is_stateless {
        return None;
    }
    // No session has an id that is not text.
    headers.get(SESSION_ID).map(|id| id.to_str().unwrap_or_default())
}

/// Whether a client opens the stream of 2024-11-05 at `/mcp`. Every later client sends one of these headers.
fn opens_sse_stream(method: &Method, headers: &HeaderMap) -> bool {
    let accepts = headers.get(ACCEPT).and_then(|accepts| accepts.to_str().ok());
    method == Method::GET
        && [SESSION_ID, PROTOCOL_VERSION, "last-event-id"]
            .iter()
            .all(|name| !headers.contains_key(*name))
        && accepts.is_some_and(|accepts| accepts.contains("text/event-stream"))
}

fn post_only() -> Response {
    let instead = "use streamable HTTP, which is POST only then";
    let mut response = no_sessions(StatusCode::METHOD_NOT_ALLOWED, instead);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

/// The same time on the clock of the timers.
fn to_instant(time: Timestamp) -> Instant {
    let remaining = Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default();
    Instant::now() + remaining.min(FAR_FUTURE)
}
