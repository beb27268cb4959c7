//! What the routes for MCP clients have in common: authentication, the tools of a caller, and refusals.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::answer::{error_response, retry_after};
use super::auth::required_scope::required_scope;
use super::auth::{Authenticator, Principal};
use super::body::{self, BodyLimits};
use super::handler::HandlerFactory;
use super::sessions::SessionLimitReached;
use super::tenant::Tenants;
use super::tool_filter::RequestToolFilter;
use crate::json_rpc::JsonRpcPeek;
use crate::mcp::registry::index::ToolIndex;
use crate::mcp::registry::selection::Selection;
use crate::mcp::request::caller::Caller;

/// The header with the id of a session.
pub(super) const SESSION_ID: &str = "mcp-session-id";

/// A larger body is parsed on another thread, because one thread may serve all requests.
const LARGE_BODY_BYTES: usize = 32 * 1024;
/// How many large bodies are parsed at the same time.
pub(super) const MAX_LARGE_BODIES: usize = 2;

pub(super) struct RouteContext {
    /// `true`: no sessions, for clients of older protocol versions either.
    pub(super) is_stateless: bool,
    pub(super) body: BodyLimits,
    pub(super) large_bodies: Semaphore,
    /// The requests that a server which shuts down waits for.
    pub(super) in_flight: TaskTracker,
    pub(super) handlers: Arc<dyn HandlerFactory>,
    pub(super) selection: Arc<Selection>,
    pub(super) authenticator: Authenticator,
    pub(super) tenants: Arc<Tenants>,
}

impl RouteContext {
    pub(super) fn tools(&self) -> &ToolIndex {
        self.handlers.tools()
    }

    /// Authenticates a request and counts it.
    pub(super) async fn authenticate(&self, head: &Parts) -> Result<Principal, Box<Response>> {
        let principal =
            self.authenticator.authenticate(head, &self.tenants, &self.selection).await?;
        principal.tenant.count_request().await.map_err(|wait| {
            Box::new(retry_after(StatusCode::TOO_MANY_REQUESTS, "too many requests", wait))
        })?;
        Ok(principal)
    }

    /// The message as rmcp reads it, and its kind.
    pub(super) async fn prepare_message(
        &self,
        body: Bytes,
    ) -> Result<(JsonRpcPeek, Bytes), Box<Response>> {
        if body.len() <= LARGE_BODY_BYTES {
            return body::prepare_message(&body);
        }
        let _turn = self.large_bodies.acquire().await;
        let prepared = tokio::task::spawn_blocking(move || body::prepare_message(&body)).await;
        prepared.unwrap_or_else(|_panic| {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Err(Box::new(error_response(status, "the server failed by a defect of its own")))
        })
    }

    /// The tools that a request may use: those of its tenant, less what the caller was not granted, what the session
    /// excludes and what the request excludes.
    pub(super) fn caller(
        &self,
        principal: &Principal,
        session: &RequestToolFilter,
        request: &RequestToolFilter,
    ) -> Caller {
        let all = &principal.tenant.selection;
        let is_unfiltered = principal.scopes.is_none() && request.is_empty() && session.is_empty();
        let selection = if is_unfiltered {
            Arc::clone(all)
        } else {
            let tools = self.tools();
            let granted = all.narrowed(tools, |tool| principal.has_scope(tool.scope()));
            Arc::new(request.restrict(&session.restrict(&granted, tools), tools))
        };
        Caller {
            tenant: Arc::clone(&principal.tenant.name),
            name: principal.name.clone(),
            selection,
        }
    }

    /// Checks that the caller was granted the scope that the message requires.
    pub(super) fn check_scope(
        &self,
        principal: &Principal,
        message: &JsonRpcPeek,
    ) -> Result<(), Box<Response>> {
        if principal.scopes.is_none() {
            return Ok(());
        }
        match required_scope(message, self.tools(), &principal.tenant.selection)? {
            Some(scope) if !principal.has_scope(scope) => {
                let tenant = &principal.tenant.name;
                tracing::info!(%tenant, %scope, "the token lacks a scope; the request is refused");
                Err(Box::new(self.authenticator.insufficient_scope(scope)))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn too_many_streams() -> Box<Response> {
    let text = "this account has as many requests and streams open as it may have";
    Box::new(retry_after(StatusCode::TOO_MANY_REQUESTS, text, Duration::from_secs(5)))
}

pub(super) fn too_many_sessions(reached: SessionLimitReached) -> Box<Response> {
    let status = match reached {
        SessionLimitReached::Tenant => StatusCode::TOO_MANY_REQUESTS,
        SessionLimitReached::Server => StatusCode::SERVICE_UNAVAILABLE,
    };
    Box::new(retry_after(status, &reached.to_string(), Duration::from_secs(30)))
}

/// The answer where a session is needed and the server has none.
pub(super) fn no_sessions(status: StatusCode, instead: &str) -> Response {
    let text = format!("this server has no sessions (--stateless); {instead}");
    error_response(status, &text)
}
