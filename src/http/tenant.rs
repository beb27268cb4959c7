//! The tenants of the server: who has come, each with its account, its sessions and its limits, and
//! nothing of one visible to another. Bounded: a tenant that is idle makes room for a new one.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::handler::{DynStreamableHttp, HandlerContext, HandlerFactory, McpHandler};
use super::rate::RequestRate;
use super::sessions::Sessions;
use crate::account::Account;
use crate::mcp::registry::selection::Selection;
use crate::mcp::server::ServerOptions;
use crate::state::{SharedState, StateNamespace};

/// How long the requests of a tenant that ends may take to be answered before their connections are cut.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(5);

/// How much the tenants may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tenants that are remembered at once.
    pub tenants: usize,
    /// Sessions of all tenants together.
    pub sessions: usize,
    /// Sessions of one tenant.
    pub sessions_per_tenant: usize,
    /// How long a session is kept without a message.
    pub session_idle: Duration,
    /// Requests and streams of one tenant that are open at once.
    pub streams_per_tenant: usize,
    /// Requests of one tenant in a second, on average; ten times as many at once.
    pub requests_per_second: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tenants: 1_000,
            sessions: 2_000,
            sessions_per_tenant: 1_500,
            session_idle: Duration::from_secs(900),
            streams_per_tenant: 4_000,
            requests_per_second: NonZeroU32::MIN.saturating_add(99),
        }
    }
}

/// Who somebody is, from which no key or token can be found: the SHA-256 of what they showed.
///
/// Looking it up in a map takes a time that depends on the hash, not on the secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Everybody, where nobody is asked who they are.
    pub const ANYONE: Self = Self([0; 32]);

    /// Who shows this.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
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

/// One tenant.
pub struct Tenant {
    identity: Identity,
    name: Arc<str>,
    account: Arc<Account>,
    selection: Arc<Selection>,
    handler: Box<dyn McpHandler>,
    sessions: Arc<Sessions>,
    streamable: Box<dyn DynStreamableHttp>,
    streams: Arc<Semaphore>,
    most_streams: usize,
    rate: RequestRate,
    end: CancellationToken,
    answering: TaskTracker,
    used: Mutex<Instant>,
}

impl Tenant {
    /// A short name for logs, from which nothing about the tenant can be found.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it is offered at most.
    #[must_use]
    pub fn selection(&self) -> &Arc<Selection> {
        &self.selection
    }

    /// On whose behalf it acts.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Its sessions.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// What serves it.
    #[must_use]
    pub fn handler(&self) -> &dyn McpHandler {
        &*self.handler
    }

    /// rmcp's streamable HTTP for it.
    #[must_use]
    pub fn streamable(&self) -> &dyn DynStreamableHttp {
        &*self.streamable
    }

    /// Canceled when the tenant is sent away or the server ends.
    #[must_use]
    pub fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// Marks a request as unanswered until the token is dropped. When the tenant ends, its streams are
    /// closed after its requests have been answered.
    pub fn answering(&self) -> TaskTrackerToken {
        self.answering.token()
    }

    /// Counts a request, at all replicas together where they share their state. While that cannot be
    /// reached, each counts alone.
    ///
    /// # Errors
    /// There were too many; how long to wait.
    pub async fn count_request(&self) -> Result<(), Duration> {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.rate.count().await
    }

    /// A place for one more open request or stream; none when all are taken.
    #[must_use]
    pub fn open_stream(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }

    fn is_idle(&self) -> bool {
        self.sessions.count() == 0 && self.streams.available_permits() == self.most_streams
    }

    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
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
    answering: TaskTracker,
    transport_end: CancellationToken,
) {
    end.cancelled().await;
    answering.close();
    if tokio::time::timeout(MAX_ANSWER_TIME, answering.wait()).await.is_err() {
        let requests = answering.len();
        tracing::warn!(requests, "the requests of an account that ended were cut off");
    }
    transport_end.cancel();
}

/// All tenants are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this server serves as many accounts as it can")]
pub struct TooManyTenants;

/// The tenants of one server.
pub struct Tenants {
    handlers: Arc<dyn HandlerFactory>,
    limits: Limits,
    stateless: bool,
    options: ServerOptions,
    sessions: Arc<Semaphore>,
    end: CancellationToken,
    known: Mutex<HashMap<Identity, Arc<Tenant>>>,
    shared: Option<SharedState>,
}

impl Tenants {
    /// None yet. All of them end with `end`; `stateless` gives none of them sessions.
    #[must_use]
    pub fn new(
        handlers: Arc<dyn HandlerFactory>,
        limits: Limits,
        stateless: bool,
        end: CancellationToken,
    ) -> Self {
        let sessions = Arc::new(Semaphore::new(limits.sessions));
        let (known, options, shared) = Default::default();
        Self { handlers, limits, stateless, options, sessions, end, known, shared }
    }

    /// The same, sharing with other replicas what is shared.
    #[must_use]
    pub fn sharing(mut self, shared: Option<SharedState>) -> Self {
        self.shared = shared;
        self
    }

    /// The same, whose servers have these options.
    #[must_use]
    pub fn with_options(mut self, options: ServerOptions) -> Self {
        self.options = options;
        self
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Identity, Arc<Tenant>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenant with this identity, if it has come before.
    #[must_use]
    pub fn get(&self, identity: &Identity) -> Option<Arc<Tenant>> {
        self.known().get(identity).cloned()
    }

    /// The tenant with this identity; a new one gets this account and these tools.
    ///
    /// # Errors
    /// The server is full of tenants that are all in use.
    pub fn enter(
        &self,
        identity: Identity,
        account: &Arc<Account>,
        selection: &Arc<Selection>,
    ) -> Result<Arc<Tenant>, TooManyTenants> {
        let mut known = self.known();
        if let Some(tenant) = known.get(&identity) {
            return Ok(Arc::clone(tenant));
        }
        if known.len() >= self.limits.tenants {
            let idle = known.values().filter(|tenant| tenant.is_idle());
            let idlest = idle.min_by_key(|tenant| tenant.used()).map(|tenant| tenant.identity);
            let idlest = idlest.ok_or(TooManyTenants)?;
            known.remove(&idlest);
        }
        let tenant = Arc::new(self.make(identity, account, selection));
        known.insert(identity, Arc::clone(&tenant));
        Ok(tenant)
    }

    fn make(
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
        let answering = TaskTracker::new();
        let transport_end = CancellationToken::new();
        tokio::spawn(close_after_answers(end.clone(), answering.clone(), transport_end.clone()));
        let (most, idle) = (limits.sessions_per_tenant, limits.session_idle);
        let sessions = Arc::new(Sessions::new(Arc::clone(&self.sessions), most, idle));
        let mut config = StreamableHttpServerConfig::default()
            // Host, Origin and size were checked before, on every route alike.
            .disable_allowed_hosts()
            .disable_allowed_origins()
            .with_legacy_session_mode(!self.stateless)
            .with_json_response(true)
            .with_cancellation_token(transport_end);
        config.max_request_body_bytes = usize::MAX;
        let streamable = handler.streamable_http(Arc::clone(&sessions), config);
        let shared = self.shared.clone().map(|state| (state, namespace(&identity, account)));
        Tenant {
            identity,
            name: format!("{identity:?}").into(),
            account: Arc::clone(account),
            selection: Arc::clone(selection),
            handler,
            sessions,
            streamable,
            streams: Arc::new(Semaphore::new(limits.streams_per_tenant)),
            most_streams: limits.streams_per_tenant,
            rate: RequestRate::new(limits.requests_per_second, shared),
            end,
            answering,
            used: Mutex::new(Instant::now()),
        }
    }

    /// Sends away every tenant that `stays` does not keep: its sessions and streams end.
    pub fn retain(&self, stays: impl Fn(&Identity) -> bool) {
        self.known().retain(|identity, tenant| {
            let stays = stays(identity);
            if !stays {
                tenant.end.cancel();
            }
            stays
        });
    }

    /// Ends the sessions for which nothing counts any more that their clients showed.
    pub async fn expire(&self, now: Timestamp) {
        for tenant in self.all() {
            tenant.sessions.expire(now).await;
        }
    }

    /// Every tenant.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        self.known().values().cloned().collect()
    }

    /// How many sessions are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.limits.sessions.saturating_sub(self.sessions.available_permits())
    }
}

/// The tenant in the shared state: one identity, on behalf of one account.
fn namespace(identity: &Identity, account: &Account) -> StateNamespace {
    let name = account.dialer().map(|dialer| dialer.account().id().as_str().to_owned());
    StateNamespace::new(&[b"tenant", &identity.0, name.unwrap_or_default().as_bytes()])
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::mcp::catalogue::Catalogue;
    use crate::watch::WaitLimits;

    fn tenants(limits: Limits) -> Tenants {
        Tenants::new(Arc::new(Catalogue::new()), limits, false, CancellationToken::new())
    }

    fn enter(tenants: &Tenants, name: &str) -> Result<Arc<Tenant>, TooManyTenants> {
        let account = Arc::new(Account::live(None, WaitLimits::default()));
        tenants.enter(Identity::of(&[name.as_bytes()]), &account, &Arc::default())
    }

    async fn initialize(tenant: &Tenant) -> u16 {
        let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"0"}}}"#;
        let request = http::Request::post("/mcp")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(Full::new(bytes::Bytes::from(hello)))
            .unwrap();
        let response = tenant.streamable().handle_request(request).await;
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        status
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_nobody_uses_ends_and_gives_its_room_back() {
        let tenants =
            tenants(Limits { session_idle: Duration::from_secs(60), ..Limits::default() });
        let tenant = enter(&tenants, "a").unwrap();
        assert_eq!(initialize(&tenant).await, 200);
        assert_eq!((tenant.sessions().count(), tenants.sessions()), (1, 1));
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(tenant.sessions().count(), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((tenant.sessions().count(), tenants.sessions()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_tenant_makes_room_and_one_with_a_session_never() {
        let tenants = tenants(Limits { tenants: 2, ..Limits::default() });
        let busy = enter(&tenants, "busy").unwrap();
        assert_eq!(initialize(&busy).await, 200);
        let idle = enter(&tenants, "idle").unwrap();
        let third = enter(&tenants, "third").unwrap();
        assert!(tenants.get(&idle.identity).is_none());
        let _stream = third.open_stream().unwrap();
        assert_eq!(enter(&tenants, "fourth").unwrap_err(), TooManyTenants);
        assert!(tenants.get(&busy.identity).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_sent_away_loses_their_sessions() {
        let tenants = tenants(Limits::default());
        let (gone, stays) = (enter(&tenants, "gone").unwrap(), enter(&tenants, "stays").unwrap());
        for tenant in [&gone, &stays] {
            assert_eq!(initialize(tenant).await, 200);
        }
        tenants.retain(|identity| *identity == stays.identity);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((gone.sessions().count(), stays.sessions().count()), (0, 1));
        assert!(gone.end().is_cancelled() && !stays.end().is_cancelled());
    }
}
