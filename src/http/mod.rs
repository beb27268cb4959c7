//! MCP over HTTP for many: streamable HTTP in both eras, the older HTTP+SSE, and what keeps callers
//! apart and within bounds. What a message means is for [`crate::mcp`] to say.
//!
//! The way of a request: host and origin ([`origin`]), who is calling ([`auth`]), that tenant's limits
//! ([`tenant`]), the body within its size and time ([`body`]), its session ([`sessions`]), and then
//! rmcp's streamable HTTP or [`sse`]. Nothing is held in common by two tenants but the limits of the
//! whole server.

pub mod answer;
pub mod auth;
pub mod body;
pub mod call_events;
pub mod cancel_on_close;
pub mod handler;
pub mod health;
pub mod listener;
pub mod origin;
pub mod rate;
pub mod sessions;
pub mod sse;
pub mod tenant;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get, post};
use bytes::Bytes;
use futures::FutureExt;
use http::header::{ACCEPT, ALLOW, AUTHORIZATION, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use rmcp::model::{ConstString, ProtocolVersion, SubscriptionsListenRequestMethod};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use self::auth::required_scope::required_scope;
use self::auth::tool_filter::RequestToolFilter;
use self::auth::{Authenticator, Principal};
use self::body::JsonRpcPeek;
use self::handler::HandlerFactory;
use self::health::Health;
use self::origin::HostPolicy;
use self::sessions::{Full as NoRoom, Terms, Use};
use self::tenant::Tenants;
use crate::mcp::registry::index::ToolIndex;
use crate::mcp::registry::selection::Selection;
use crate::mcp::request::caller::Caller;
use crate::mcp::server::ServerOptions;
use crate::state::SharedState;
use crate::telemetry::metrics;

/// The header that names a session.
const SESSION_ID: &str = "mcp-session-id";
/// What is said of a stream or a session where there are none.
const WITHOUT_SESSIONS: &str = "this server has no sessions (--stateless)";
/// How often it is looked whether something that was shown no longer counts.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// The header that names the version of the protocol.
const PROTOCOL_VERSION: &str = "mcp-protocol-version";

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For which hosts and from which pages requests are taken.
    pub allowed: HostPolicy,
    /// No sessions: only what 2026-07-28 can do, for older clients too.
    pub stateless: bool,
    /// What tenants may take.
    pub tenants: tenant::Limits,
    /// What connections may take.
    pub connections: listener::Limits,
    /// The most bytes of a body.
    pub body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_time: Duration,
    /// How long what is under way may take when the server is told to end.
    pub grace: Duration,
    /// Whether the arguments of tool calls are logged, masked.
    pub log_arguments: bool,
    /// What is shared with other replicas, if anything is.
    pub shared: Option<SharedState>,
    /// Requests that somebody waits for, and whatever else is to be finished before the end.
    pub under_way: TaskTracker,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allowed: HostPolicy::default(),
            stateless: false,
            tenants: tenant::Limits::default(),
            connections: listener::Limits::default(),
            body_bytes: 4 * 1024 * 1024,
            body_time: Duration::from_secs(30),
            grace: Duration::from_secs(25),
            log_arguments: false,
            shared: None,
            under_way: TaskTracker::new(),
        }
    }
}

/// The server.
pub struct Service {
    settings: Settings,
    handlers: Arc<dyn HandlerFactory>,
    selection: Arc<Selection>,
    authenticator: Authenticator,
    tenants: Arc<Tenants>,
    inboxes: Arc<sse::Inboxes>,
    health: Health,
    /// Makes whatever waits answer with what is known.
    draining: CancellationToken,
    /// Ends every stream and session.
    end: CancellationToken,
}

impl Service {
    /// A server that lets callers in by `authenticator`, and offers them at most `selection`.
    #[must_use]
    pub fn new(
        settings: Settings,
        handlers: Arc<dyn HandlerFactory>,
        selection: Arc<Selection>,
        authenticator: Authenticator,
        health: Health,
    ) -> Arc<Self> {
        let (draining, end) = (CancellationToken::new(), CancellationToken::new());
        let log_arguments = settings.log_arguments;
        let options =
            ServerOptions { log_arguments, draining: draining.clone(), ..ServerOptions::default() };
        let tenants =
            Tenants::new(Arc::clone(&handlers), settings.tenants, settings.stateless, end.clone())
                .with_options(options)
                .sharing(settings.shared.clone());
        Arc::new(Self {
            settings,
            handlers,
            selection,
            authenticator,
            tenants: Arc::new(tenants),
            inboxes: Arc::default(),
            health,
            draining,
            end,
        })
    }

    /// Who has come.
    #[must_use]
    pub fn tenants(&self) -> &Arc<Tenants> {
        &self.tenants
    }

    /// The routes for clients, and `also`, all behind the check of host and origin.
    pub fn routes(self: &Arc<Self>, also: Router) -> Router {
        let mcp = async |State(service): State<Arc<Self>>, request: Request| {
            service.mcp(request).await.unwrap_or_else(|refused| *refused)
        };
        let sse = async |State(service): State<Arc<Self>>, headers: HeaderMap| {
            service.sse(headers).await.unwrap_or_else(|refused| *refused)
        };
        let messages = async |State(service): State<Arc<Self>>, request: Request| {
            service.messages(request).await.unwrap_or_else(|refused| *refused)
        };
        let routes = Router::new()
            .route("/mcp", any(mcp))
            .route("/sse", get(sse))
            .route("/messages", post(messages))
            .with_state(Arc::clone(self))
            .merge(also);
        guarded(routes, "there is nothing here; MCP is at /mcp", self.settings.allowed.clone())
    }

    /// `/healthz` and `/readyz`.
    pub fn probes(self: &Arc<Self>) -> Router {
        let ready = async |State(service): State<Arc<Self>>| {
            service.health.readiness_response(&service.authenticator).await
        };
        Router::new()
            .route("/healthz", get(health::liveness_response))
            .route("/readyz", get(ready))
            .with_state(Arc::clone(self))
    }

    /// Serves until `stop`. Then: not ready, no new connections, what waits for a call is answered with
    /// its present state, whatever else is under way is finished within the grace period, streams and
    /// sessions are closed.
    ///
    /// `admin` goes on answering until the end.
    pub async fn serve(
        self: &Arc<Self>,
        public: (TcpListener, Router),
        admin: Option<(TcpListener, Router)>,
        stop: impl Future<Output = ()>,
    ) {
        let limits = self.settings.connections;
        let mut servers = JoinSet::new();
        servers.spawn(listener::serve(public.0, public.1, limits, self.draining.clone()));
        if let Some((listener, router)) = admin {
            servers.spawn(listener::serve(listener, router, limits, self.end.clone()));
        }
        let expiring = AbortOnDropHandle::new(tokio::spawn(expire(Arc::clone(&self.tenants))));
        stop.await;
        self.health.set_stopping();
        self.draining.cancel();
        self.settings.under_way.close();
        if tokio::time::timeout(self.settings.grace, self.settings.under_way.wait()).await.is_err()
        {
            tracing::warn!(under_way = self.settings.under_way.len(), "the grace period is over");
        }
        drop(expiring);
        self.end.cancel();
        let ended = async { while servers.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(2), ended).await.is_err() {
            tracing::debug!("connections that were still open are cut");
        }
    }

    async fn admit(&self, headers: &HeaderMap) -> Result<Principal, Box<Response>> {
        let principal =
            self.authenticator.authenticate(headers, &self.tenants, &self.selection).await?;
        principal.tenant.count_request().await.map_err(|wait| {
            let text = "too many requests";
            Box::new(answer::retry_after(StatusCode::TOO_MANY_REQUESTS, text, wait))
        })?;
        Ok(principal)
    }

    fn tools(&self) -> &ToolIndex {
        self.handlers.tools()
    }

    /// What this request may use: of what its tenant is offered, what was granted to the caller, what
    /// the session's client asked for when it opened it, and what the request asks for.
    fn caller(
        &self,
        principal: &Principal,
        before: &RequestToolFilter,
        asked: &RequestToolFilter,
    ) -> Caller {
        let most = principal.tenant.selection();
        let selection = if principal.scopes.is_none() && asked.is_empty() && before.is_empty() {
            Arc::clone(most)
        } else {
            Arc::new(most.narrowed(self.tools(), |tool| {
                principal.has_scope(tool.scope()) && before.allows(tool) && asked.allows(tool)
            }))
        };
        Caller { tenant: Arc::clone(principal.tenant.name()), selection }
    }

    /// Checks that the caller was granted what the message takes, where things are granted one by one.
    fn permit(&self, principal: &Principal, message: &JsonRpcPeek) -> Result<(), Box<Response>> {
        if principal.scopes.is_none() {
            return Ok(());
        }
        match required_scope(message, self.tools(), principal.tenant.selection())? {
            Some(lacking) if !principal.has_scope(lacking) => {
                let tenant = principal.tenant.name();
                tracing::info!(%tenant, scope = %lacking, "a scope is missing");
                Err(Box::new(self.authenticator.insufficient_scope(lacking)))
            }
            _ => Ok(()),
        }
    }

    async fn mcp(&self, request: Request) -> Result<Response, Box<Response>> {
        let (mut parts, body) = request.into_parts();
        let principal = self.admit(&parts.headers).await?;
        let tenant = &principal.tenant;
        // Nothing behind this line needs it, and what it does not have it cannot log.
        parts.headers.remove(AUTHORIZATION);
        let asked = Arc::new(RequestToolFilter::from_headers(&parts.headers, self.tools())?);
        let place = tenant.open_stream().ok_or_else(too_many_streams)?;
        let named = self.session_named(&parts.headers).map(str::to_owned);
        let session = match &named {
            Some(id) => Some(tenant.sessions().enter(id).ok_or_else(no_such_session)?),
            None => None,
        };
        let before = session.as_ref().map(Use::narrowing).unwrap_or_default();
        if let Some(session) = &session {
            session.keep_until(principal.expires_at);
        }
        if parts.method != Method::POST {
            if self.settings.stateless {
                return Err(without_sessions());
            }
            if self.is_older_stream(&parts.method, &parts.headers) {
                let terms = Terms { until: principal.expires_at, narrowing: asked };
                let opened =
                    sse::open(&self.inboxes, tenant, &self.settings.under_way, terms).await;
                return Ok(body::with_guard(opened.map_err(no_room)?, place));
            }
            let ends = parts.method == Method::DELETE;
            let request = http::Request::from_parts(parts, Full::<Bytes>::default());
            let mut response = tenant.streamable().handle_request(request).await;
            // The session has ended by now; the Python SDK takes 202 for a failure.
            if ends && response.status() == StatusCode::ACCEPTED {
                *response.status_mut() = StatusCode::NO_CONTENT;
            }
            return Ok(body::with_guard(response, (place, session)));
        }
        let activity = self.settings.under_way.token();
        let body = body::read_body(body, self.settings.body_bytes, self.settings.body_time).await?;
        let peek = JsonRpcPeek::parse(&body)?;
        self.permit(&principal, &peek)?;
        let opens_session = peek.method.as_deref() == Some("initialize")
            && named.is_none()
            && !self.settings.stateless;
        if opens_session {
            // Only looked for: rmcp takes it a moment later.
            drop(tenant.sessions().make_room().await.map_err(no_room)?);
        }
        parts.extensions.insert(self.caller(&principal, &before, &asked));
        // It stands beside the request for as long as that is worked on: one of a session goes on when its
        // client leaves.
        let place = Arc::new(place);
        parts.extensions.insert(Arc::clone(&place));
        let answering = tenant.answering();
        let request = http::Request::from_parts(parts, Full::new(body.clone()));
        let response = tenant.streamable().handle_request(request).await;
        // To rmcp a body that is no message is one of another kind.
        if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            body::parse_message(&body)?;
        }
        let until = principal.expires_at;
        if opens_session && let Some(id) = response.headers().get(SESSION_ID) {
            // Before the client learns of it.
            let id = id.to_str().unwrap_or_default();
            tenant.sessions().settle(id, Terms { until, narrowing: asked });
        }
        // What ends its session ends the others too. What changes something is let finish.
        let tool = peek.tool_name().and_then(|name| self.tools().get(name));
        let cut = peek.method.as_deref() == Some(SubscriptionsListenRequestMethod::VALUE)
            || tool.is_some_and(|tool| tool.effect.is_read_only());
        let response = body::with_guard(response, (place, session, activity, answering));
        Ok(match principal.expires_at.filter(|_| cut) {
            None => response,
            Some(until) => body::with_deadline(response, instant(until)),
        })
    }

    /// The session that a request is for, in the era that has sessions.
    fn session_named<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let version = headers.get(PROTOCOL_VERSION).and_then(|version| version.to_str().ok());
        // ISO dates compare as texts in the order of time.
        let has_none =
            version.is_some_and(|version| version >= ProtocolVersion::V_2026_07_28.as_str());
        if has_none || self.settings.stateless {
            return None;
        }
        // An id that is no text is the id of no session.
        headers.get(SESSION_ID).map(|id| id.to_str().unwrap_or_default())
    }

    /// Whether a client opens the stream of 2024-11-05 at `/mcp`: that one knows neither sessions nor
    /// versions in headers. All later ones name one or the other.
    fn is_older_stream(&self, method: &Method, headers: &HeaderMap) -> bool {
        let names = |name| headers.contains_key(name);
        let accepts = headers.get(ACCEPT).and_then(|accepts| accepts.to_str().ok());
        method == Method::GET
            && !names(SESSION_ID)
            && !names(PROTOCOL_VERSION)
            && !names("last-event-id")
            && accepts.is_some_and(|accepts| accepts.contains("text/event-stream"))
    }

    async fn sse(&self, headers: HeaderMap) -> Result<Response, Box<Response>> {
        if self.settings.stateless {
            let text = format!("{WITHOUT_SESSIONS}; use streamable HTTP at /mcp");
            return Err(Box::new(answer::error_response(StatusCode::NOT_FOUND, &text)));
        }
        let principal = self.admit(&headers).await?;
        let narrowing = Arc::new(RequestToolFilter::from_headers(&headers, self.tools())?);
        let place = principal.tenant.open_stream().ok_or_else(too_many_streams)?;
        let terms = Terms { until: principal.expires_at, narrowing };
        let opened =
            sse::open(&self.inboxes, &principal.tenant, &self.settings.under_way, terms).await;
        Ok(body::with_guard(opened.map_err(no_room)?, place))
    }

    async fn messages(&self, request: Request) -> Result<Response, Box<Response>> {
        let (parts, body) = request.into_parts();
        let principal = self.admit(&parts.headers).await?;
        let asked = RequestToolFilter::from_headers(&parts.headers, self.tools())?;
        let _place = principal.tenant.open_stream().ok_or_else(too_many_streams)?;
        let body = body::read_body(body, self.settings.body_bytes, self.settings.body_time).await?;
        let id = sse::session_named(parts.uri.query().unwrap_or_default())?;
        let (tenant, until) = (&principal.tenant, principal.expires_at);
        let session =
            tenant.sessions().enter(&id).ok_or_else(|| Box::new(sse::no_such_session()))?;
        session.keep_until(until);
        if principal.scopes.is_some() {
            self.permit(&principal, &JsonRpcPeek::parse(&body)?)?;
        }
        let caller = self.caller(&principal, &session.narrowing(), &asked);
        Ok(sse::accept(&self.inboxes, tenant, &id, caller, &body).await)
    }
}

/// Ends sessions when what their clients showed no longer counts, for as long as it is polled.
async fn expire(tenants: Arc<Tenants>) {
    loop {
        tokio::time::sleep(EXPIRE_EVERY).await;
        tenants.expire(Timestamp::now()).await;
    }
}

/// A time of the day on the clock that timers go by.
fn instant(until: Timestamp) -> Instant {
    let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
    // What is too far away to be told is as good as a year.
    Instant::now() + left.min(Duration::from_secs(365 * 24 * 3_600))
}

/// Puts routes behind the check of host and origin, lets pages that are allowed read answers, and counts
/// what is refused. A path that is none of them is answered with 404 and `nowhere`, a defect in a route
/// with 500.
pub fn guarded(routes: Router, nowhere: &'static str, allowed: HostPolicy) -> Router {
    let check = async |State(allowed): State<Arc<HostPolicy>>, request: Request, next: Next| {
        let response = checked(&allowed, request, next).await;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            metrics::http_refusal(status);
        }
        response
    };
    routes
        .fallback(async move || answer::error_response(StatusCode::NOT_FOUND, nowhere))
        .layer(middleware::from_fn_with_state(Arc::new(allowed), check))
}

async fn checked(allowed: &HostPolicy, request: Request, next: Next) -> Response {
    if let Err(refused) = allowed.check_request(request.uri(), request.headers()) {
        return *refused;
    }
    let origin = request.headers().get(ORIGIN).cloned();
    let mut response = match origin::preflight_response(request.method(), request.headers()) {
        Some(response) => response,
        None => std::panic::AssertUnwindSafe(next.run(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_panic| {
                tracing::error!("a request failed by a defect of this server");
                let text = "the server failed by a defect of its own";
                answer::error_response(StatusCode::INTERNAL_SERVER_ERROR, text)
            }),
    };
    if let Some(origin) = origin {
        origin::add_cors_headers(origin, &mut response);
    }
    response
}

fn too_many_streams() -> Box<Response> {
    let text = "this account has as many requests and streams open as it may have";
    Box::new(answer::retry_after(StatusCode::TOO_MANY_REQUESTS, text, Duration::from_secs(5)))
}

/// The answer to what is neither a message nor of a session, where there are none.
fn without_sessions() -> Box<Response> {
    let text = format!("{WITHOUT_SESSIONS}; use streamable HTTP, which is POST alone then");
    let mut response = answer::error_response(StatusCode::METHOD_NOT_ALLOWED, &text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    Box::new(response)
}

fn no_such_session() -> Box<Response> {
    let text = "there is no such session; begin a new one with initialize";
    Box::new(answer::error_response(StatusCode::NOT_FOUND, text))
}

fn no_room(full: NoRoom) -> Box<Response> {
    let status = match full {
        NoRoom::Tenant => StatusCode::TOO_MANY_REQUESTS,
        NoRoom::Server => StatusCode::SERVICE_UNAVAILABLE,
    };
    Box::new(answer::retry_after(status, &full.to_string(), Duration::from_secs(30)))
}
