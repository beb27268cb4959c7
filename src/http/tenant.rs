//! The tenants of the server, each with its account, its sessions and its limits. A tenant sees nothing of another. The
//! number of tenants is limited, and an idle one is removed for a new one.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::body_budget::BodyBudget;
use super::handler::{DynStreamableHttp, HandlerContext, HandlerFactory, McpHandler};
use super::rate::RequestRate;
use super::sessions::Sessions;
use crate::account::Account;
use crate::mcp::registry::selection::Selection;
use crate::mcp::server::ServerOptions;
use crate::state::{SharedState, StateNamespace};

/// How long the requests of a tenant that ends may take to be answered before their connections are cut.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
pub struct TenantLimits {
    /// Tenants in memory.
    pub tenants: usize,
    /// Sessions of all tenants together.
    pub sessions: usize,
    /// Sessions of one tenant.
    pub sessions_per_tenant: usize,
    /// How long a session is kept without a message.
    pub session_idle: Duration,
    /// Requests and streams of one tenant that are open at the same time.
    pub streams_per_tenant: usize,
    /// Requests of one tenant in a second, on average; a burst may be ten times as many.
    pub requests_per_second: NonZeroU32,
    /// Bytes of request bodies of one tenant that are in memory at the same time.
    pub body_bytes_per_tenant: usize,
    /// The same of all tenants together.
    pub body_bytes: usize,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            tenants: 1_000,
            sessions: 2_000,
            sessions_per_tenant: 1_500,
            session_idle: Duration::from_secs(900),
            streams_per_tenant: 4_000,
            requests_per_second: NonZeroU32::MIN.saturating_add(99),
            body_bytes_per_tenant: 16 * 1024 * 1024,
            body_bytes: 64 * 1024 * 1024,
        }
    }
}

/// The identity of a caller: the SHA-256 of its credential, which does not reveal the credential. The time of a look-up
/// in a map depends on the hash and not on the secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Every caller, where callers are not authenticated.
    pub const ANYONE: Self = Self([0; 32]);

    #[must_use]
    pub fn from_parts(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0[..6]))
    }
}

pub struct Tenant {
    identity: Identity,
    /// A short name for logs, which reveals nothing about the tenant.
    pub(super) name: Arc<str>,
    pub account: Arc<Account>,
    /// The tools that the tenant may use.
    pub(super) selection: Arc<Selection>,
    pub(super) handler: Box<dyn McpHandler>,
    sessions: Arc<Sessions>,
    streamable_http: Box<dyn DynStreamableHttp>,
    sessionless_http: Box<dyn DynStreamableHttp>,
    streams: Arc<Semaphore>,
    max_streams: usize,
    rate: RequestRate,
    body_budget: BodyBudget,
    /// Cancelled when the tenant is removed or the server ends.
    pub(super) end: CancellationToken,
    unanswered: TaskTracker,
    last_used: Mutex<Instant>,
}

impl Tenant {
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Answers requests without a session, of older protocol versions too.
    #[must_use]
    pub fn sessionless_http(&self) -> &dyn DynStreamableHttp {
        &*self.sessionless_http
    }

    #[must_use]
    pub fn streamable_http(&self) -> &dyn DynStreamableHttp {
        &*self.streamable_http
    }

    /// Marks a request as unanswered until the token is dropped. When the tenant ends, its streams are
    /// closed after its requests have been answered.
    pub fn track_answer(&self) -> TaskTrackerToken {
        self.unanswered.token()
    }

    /// Counts a request against the request rate.
    ///
    /// # Errors
    /// Too many requests; how long to wait.
    pub async fn count_request(&self) -> Result<(), Duration> {
        *self.last_used.lock() = Instant::now();
        self.rate.count_request().await
    }

    /// A permit for one more open request or stream; `None` if the limit is reached.
    #[must_use]
    pub fn acquire_stream(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }

    #[must_use]
    pub fn body_budget(&self) -> &BodyBudget {
        &self.body_budget
    }

    fn is_idle(&self) -> bool {
        let runs_batch = self.account.dialer().is_ok_and(|dialer| dialer.batches().is_running());
        self.sessions.session_count() == 0
            && self.streams.available_permits() == self.max_streams
            && !runs_batch
    }

    fn last_used(&self) -> Instant {
        *self.last_used.lock()
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Closes the sessions and streams of a tenant that has ended. Its handlers see the end first and answer
/// what is under way: rmcp's transport answers such a request with an empty 500.
async fn close_after_answers(
    end: CancellationToken,
    unanswered: TaskTracker,
    transport_end: CancellationToken,
) {
    end.cancelled().await;
    unanswered.close();
    if tokio::time::timeout(MAX_ANSWER_TIME, unanswered.wait()).await.is_err() {
        let requests = unanswered.len();
        tracing::warn!(
            requests,
            "a tenant was removed before its requests were answered; they are cut off"
        );
    }
    transport_end.cancel();
}

/// The server is full of tenants that are all in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this server serves as many accounts as it can")]
pub struct TooManyTenants;

pub struct Tenants {
    handlers: Arc<dyn HandlerFactory>,
    limits: TenantLimits,
    stateless: bool,
    options: ServerOptions,
    session_permits: Arc<Semaphore>,
    body_bytes: Arc<Semaphore>,
    end: CancellationToken,
    known: Mutex<HashMap<Identity, Arc<Tenant>>>,
    shared: Option<SharedState>,
}

impl Tenants {
    /// No tenants yet. All of them end with `end`. With `stateless` they have no sessions.
    #[must_use]
    pub fn new(
        handlers: Arc<dyn HandlerFactory>,
        limits: TenantLimits,
        stateless: bool,
        end: CancellationToken,
    ) -> Self {
        let session_permits = Arc::new(Semaphore::new(limits.sessions));
        let body_bytes = Arc::new(Semaphore::new(limits.body_bytes));
        let (known, options, shared) = Default::default();
        Self {
            handlers,
            limits,
            stateless,
            options,
            session_permits,
            body_bytes,
            end,
            known,
            shared,
        }
    }

    /// Counts requests over all replicas with this state.
    #[must_use]
    pub fn with_shared_state(mut self, shared: Option<SharedState>) -> Self {
        self.shared = shared;
        self
    }

    #[must_use]
    pub fn with_options(mut self, options: ServerOptions) -> Self {
        self.options = options;
        self
    }

    #[must_use]
    pub fn get(&self, identity: &Identity) -> Option<Arc<Tenant>> {
        self.known.lock().get(identity).cloned()
    }

    /// The tenant with this identity. A new tenant gets this account and these tools.
    ///
    /// # Errors
    /// The server is full of tenants that are all in use.
    pub fn get_or_create(
        &self,
        identity: Identity,
        account: &Arc<Account>,
        selection: &Arc<Selection>,
    ) -> Result<Arc<Tenant>, TooManyTenants> {
        let mut known = self.known.lock();
        if let Some(tenant) = known.get(&identity) {
            return Ok(Arc::clone(tenant));
        }
        if known.len() >= self.limits.tenants {
            let idle = known.values().filter(|tenant| tenant.is_idle());
            let longest_idle =
                idle.min_by_key(|tenant| tenant.last_used()).map(|tenant| tenant.identity);
            let longest_idle = longest_idle.ok_or(TooManyTenants)?;
            known.remove(&longest_idle);
        }
        let tenant = Arc::new(self.create_tenant(identity, account, selection));
        known.insert(identity, Arc::clone(&tenant));
        Ok(tenant)
    }

    fn create_tenant(
        &self,
        identity: Identity,
        account: &Arc<Account>,
        selection: &Arc<Selection>,
    ) -> Tenant {
        let limits = &self.limits;
        let end = self.end.child_token();
        let handler = Arc::clone(&self.handlers).create_handler(HandlerContext {
            selection: Arc::clone(selection),
            account: Arc::clone(account),
            options: ServerOptions { ended: end.clone(), ..self.options.clone() },
        });
        let unanswered = TaskTracker::new();
        let transport_end = CancellationToken::new();
        tokio::spawn(close_after_answers(end.clone(), unanswered.clone(), transport_end.clone()));
        let (max_sessions, idle) = (limits.sessions_per_tenant, limits.session_idle);
        let permits = Arc::clone(&self.session_permits);
        let sessions = Arc::new(Sessions::new(permits, max_sessions, idle));
        let mut config = StreamableHttpServerConfig::default()
            // Host, Origin and size were checked before, on every route alike.
            .disable_allowed_hosts()
            .disable_allowed_origins()
            .with_legacy_session_mode(!self.stateless)
            .with_json_response(true)
            .with_cancellation_token(transport_end);
        config.max_request_body_bytes = usize::MAX;
        let without_sessions = config.clone().with_legacy_session_mode(false);
        let sessionless_http = handler.streamable_http(Arc::clone(&sessions), without_sessions);
        let streamable_http = handler.streamable_http(Arc::clone(&sessions), config);
        let shared = self.shared.clone().map(|state| (state, state_namespace(&identity, account)));
        Tenant {
            identity,
            name: format!("{identity:?}").into(),
            account: Arc::clone(account),
            selection: Arc::clone(selection),
            handler,
            sessions,
            streamable_http,
            sessionless_http,
            streams: Arc::new(Semaphore::new(limits.streams_per_tenant)),
            max_streams: limits.streams_per_tenant,
            rate: RequestRate::new(limits.requests_per_second, shared),
            body_budget: BodyBudget::new(
                limits.body_bytes_per_tenant,
                Arc::clone(&self.body_bytes),
            ),
            end,
            unanswered,
            last_used: Mutex::new(Instant::now()),
        }
    }

    /// Removes every tenant whose identity is not valid; its sessions and streams end.
    pub fn retain(&self, is_valid: impl Fn(&Identity) -> bool) {
        self.known.lock().retain(|identity, tenant| {
            let is_valid = is_valid(identity);
            if !is_valid {
                tenant.end.cancel();
            }
            is_valid
        });
    }

    /// Removes a tenant; its sessions and streams end.
    pub fn remove(&self, identity: &Identity) {
        self.retain(|known| known != identity);
    }

    /// Removes the tenants whose keys CallingBox no longer accepts.
    pub fn end_with_refused_keys(&self) {
        let all = self.all();
        let refused = all.iter().filter(|tenant| tenant.account.is_key_refused());
        refused.for_each(|tenant| self.remove(&tenant.identity));
    }

    /// Ends the sessions whose credentials have expired.
    pub async fn end_expired_sessions(&self, now: Timestamp) {
        for tenant in self.all() {
            tenant.sessions.end_expired(now).await;
        }
    }

    #[must_use]
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        self.known.lock().values().cloned().collect()
    }

    /// The number of open sessions of all tenants.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.limits.sessions.saturating_sub(self.session_permits.available_permits())
    }
}

/// The namespace of a tenant in the shared state: one identity of one account.
fn state_namespace(identity: &Identity, account: &Account) -> StateNamespace {
    let name = account.dialer().map(|dialer| dialer.key().tag(&["namespace"]));
    StateNamespace::new(&[b"tenant", &identity.0, name.unwrap_or_default().as_bytes()])
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::mcp::catalogue::Catalogue;
    use crate::watch::WaitLimits;

    fn tenants(limits: TenantLimits) -> Tenants {
        Tenants::new(Arc::new(Catalogue::new()), limits, false, CancellationToken::new())
    }

    fn create(tenants: &Tenants, name: &str) -> Result<Arc<Tenant>, TooManyTenants> {
        let account = Arc::new(Account::without_key(WaitLimits::default()));
        tenants.get_or_create(Identity::from_parts(&[name.as_bytes()]), &account, &Arc::default())
    }

    async fn initialize(tenant: &Tenant) -> u16 {
        let message = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"0"}}}"#;
        let request = http::Request::post("/mcp")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(Full::new(bytes::Bytes::from(message)))
            .unwrap();
        let response = tenant.streamable_http().handle_request(request).await;
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        status
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_session_ends_and_returns_its_permit() {
        let tenants = tenants(TenantLimits {
            session_idle: Duration::from_secs(60),
            ..TenantLimits::default()
        });
        let tenant = create(&tenants, "a").unwrap();
        assert_eq!(initialize(&tenant).await, 200);
        assert_eq!((tenant.sessions().session_count(), tenants.session_count()), (1, 1));
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(tenant.sessions().session_count(), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((tenant.sessions().session_count(), tenants.session_count()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_tenant_is_removed_for_a_new_one_and_a_tenant_in_use_never() {
        let tenants = tenants(TenantLimits { tenants: 2, ..TenantLimits::default() });
        let busy = create(&tenants, "busy").unwrap();
        assert_eq!(initialize(&busy).await, 200);
        let idle = create(&tenants, "idle").unwrap();
        let third = create(&tenants, "third").unwrap();
        assert!(tenants.get(&idle.identity).is_none());
        let _stream = third.acquire_stream().unwrap();
        assert_eq!(create(&tenants, "fourth").unwrap_err(), TooManyTenants);
        assert!(tenants.get(&busy.identity).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_is_removed_loses_its_sessions() {
        let tenants = tenants(TenantLimits::default());
        let (removed, kept) =
            (create(&tenants, "removed").unwrap(), create(&tenants, "kept").unwrap());
        for tenant in [&removed, &kept] {
            assert_eq!(initialize(tenant).await, 200);
        }
        tenants.retain(|identity| *identity == kept.identity);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((removed.sessions().session_count(), kept.sessions().session_count()), (0, 1));
        assert!(removed.end.is_cancelled() && !kept.end.is_cancelled());
    }
}
