//! The HTTP server: its settings, its routes, and its shutdown.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, get, post};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::auth::Authenticator;
use super::body::BodyLimits;
use super::context::{MAX_LARGE_BODIES, RouteContext};
use super::handler::HandlerFactory;
use super::health::{self, Health};
use super::layers::with_layers;
use super::listener::{self, ConnectionLimits};
use super::mcp_route;
use super::origin::HostPolicy;
use super::sse::SseSessions;
use super::tenant::{TenantLimits, Tenants};
use crate::mcp::registry::selection::Selection;
use crate::mcp::server::ServerOptions;
use crate::state::SharedState;

/// How often sessions with expired tokens are ended.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long connections may take to close at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The hosts and the web pages that may use the server.
    pub allowed: HostPolicy,
    /// No sessions, for clients of older protocol versions either.
    pub stateless: bool,
    pub tenants: TenantLimits,
    pub connections: ConnectionLimits,
    pub body: BodyLimits,
    /// How long requests in flight may take at shutdown.
    pub grace: Duration,
    /// Log the arguments of tool calls, masked.
    pub log_arguments: bool,
    /// The state that is shared with other replicas.
    pub shared: Option<SharedState>,
    /// Requests in flight, and other work that must finish before shutdown.
    pub in_flight: TaskTracker,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            allowed: HostPolicy::default(),
            stateless: false,
            tenants: TenantLimits::default(),
            connections: ConnectionLimits::default(),
            body: BodyLimits { max_bytes: 512 * 1024, timeout: Duration::from_secs(30) },
            grace: Duration::from_secs(25),
            log_arguments: false,
            shared: None,
            in_flight: TaskTracker::new(),
        }
    }
}

pub struct HttpServer {
    context: RouteContext,
    sse: Arc<SseSessions>,
    health: Health,
    allowed: HostPolicy,
    connections: ConnectionLimits,
    grace: Duration,
    /// Makes every wait answer with the present state.
    draining: CancellationToken,
    /// Ends every stream and session.
    end: CancellationToken,
}

impl HttpServer {
    /// A server that offers the callers that `authenticator` accepts at most `selection`.
    #[must_use]
    pub fn new(
        settings: HttpSettings,
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
                .with_shared_state(settings.shared);
        let context = RouteContext {
            is_stateless: settings.stateless,
            body: settings.body,
            large_bodies: Semaphore::new(MAX_LARGE_BODIES),
            in_flight: settings.in_flight,
            handlers,
            selection,
            authenticator,
            tenants: Arc::new(tenants),
        };
        let HttpSettings { allowed, connections, grace, .. } = settings;
        let sse = Arc::default();
        Arc::new(Self { context, sse, health, allowed, connections, grace, draining, end })
    }

    #[must_use]
    pub fn tenants(&self) -> &Arc<Tenants> {
        &self.context.tenants
    }

    /// The routes for MCP clients and `other` routes, with the layers of all routes.
    pub fn routes(self: &Arc<Self>, other: Router) -> Router {
        type ServerState = State<Arc<HttpServer>>;
        let mcp = async |State(server): ServerState, request: Request| {
            into_response(mcp_route::handle(&server.context, &server.sse, request).await)
        };
        let sse = async |State(server): ServerState, request: Request| {
            into_response(server.sse.get_stream(&server.context, request).await)
        };
        let messages = async |State(server): ServerState, request: Request| {
            into_response(server.sse.post_message(&server.context, request).await)
        };
        // People and programs add a slash to the end of an address.
        let routes = Router::new()
            .route("/mcp", any(mcp))
            .route("/mcp/", any(mcp))
            .route("/sse", get(sse))
            .route("/sse/", get(sse))
            .route("/messages", post(messages))
            .with_state(Arc::clone(self))
            .merge(other);
        with_layers(routes, "there is nothing here; MCP is at /mcp", self.allowed.clone())
    }

    /// `/healthz` and `/readyz`.
    pub fn probe_routes(self: &Arc<Self>) -> Router {
        let ready = async |State(server): State<Arc<Self>>| {
            server.health.readiness_response(&server.context.authenticator).await
        };
        Router::new()
            .route("/healthz", get(health::liveness_response))
            .route("/readyz", get(ready))
            .with_state(Arc::clone(self))
    }

    /// Serves until `stop`. Then it reports not ready and accepts no more connections, waits are answered with the
    /// present state of their calls, other requests have the grace period to finish, and streams and sessions are
    /// closed. `admin` answers until the end.
    pub async fn serve(
        self: &Arc<Self>,
        public: (TcpListener, Router),
        admin: Option<(TcpListener, Router)>,
        stop: impl Future<Output = ()>,
    ) {
        let limits = self.connections;
        let mut servers = JoinSet::new();
        servers.spawn(listener::serve(public.0, public.1, limits, self.draining.clone()));
        if let Some((listener, router)) = admin {
            servers.spawn(listener::serve(listener, router, limits, self.end.clone()));
        }
        let expiry = end_expired_sessions(Arc::clone(self));
        let expiry = AbortOnDropHandle::new(tokio::spawn(expiry));
        stop.await;
        self.health.set_stopping();
        self.draining.cancel();
        let in_flight = &self.context.in_flight;
        in_flight.close();
        if timeout(self.grace, in_flight.wait()).await.is_err() {
            let requests = in_flight.len();
            tracing::warn!(requests, "the grace period is over; requests in flight are cut off");
        }
        drop(expiry);
        self.end.cancel();
        let all_closed = async { while servers.join_next().await.is_some() {} };
        if timeout(CLOSE_TIMEOUT, all_closed).await.is_err() {
            tracing::debug!("connections did not close in time; they are cut off");
        }
    }
}

fn into_response(result: Result<Response, Box<Response>>) -> Response {
    result.unwrap_or_else(|refused| *refused)
}

async fn end_expired_sessions(server: Arc<HttpServer>) {
    let RouteContext { authenticator, tenants, .. } = &server.context;
    loop {
        sleep(EXPIRY_INTERVAL).await;
        authenticator.end_refused(tenants);
        tenants.end_expired_sessions(Timestamp::now()).await;
    }
}
