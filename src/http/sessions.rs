//! The sessions of one tenant, with limits: rmcp keeps sessions without one, and a client that disconnects without a
//! word leaves about 50 KB. There is one value for each tenant, so a tenant cannot find the sessions of another. A
//! session stays with the replica that opened it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::Stream;
use jiff::Timestamp;
use parking_lot::Mutex;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::WorkerTransport;
use rmcp::transport::common::server_side_http::ServerSseMessage;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, LocalSessionWorker,
};
use rmcp::transport::streamable_http_server::session::{SessionId, SessionManager};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cancel_on_close::CancelOnClose;
use super::tool_filter::RequestToolFilter;

/// How often an idle session is ended for a new one, whose permit another request may take first.
const MAX_EVICTIONS: usize = 8;

/// No session can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionLimitReached {
    #[error("this account has as many open sessions as it may have, and all are in use")]
    Tenant,
    #[error("this server holds as many sessions as it can")]
    Server,
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    LimitReached(#[from] SessionLimitReached),
    #[error(transparent)]
    Local(#[from] LocalSessionManagerError),
}

pub struct Sessions {
    local: LocalSessionManager,
    server_permits: Arc<Semaphore>,
    tenant_permits: Arc<Semaphore>,
    open: Mutex<HashMap<SessionId, OpenSession>>,
}

/// The right to one session: a permit of its tenant and one of the server.
pub type SessionPermit = [OwnedSemaphorePermit; 2];

struct OpenSession {
    last_used: Instant,
    /// Requests and streams of the session that are open.
    guards: usize,
    /// Ends an HTTP+SSE session. rmcp ends its own.
    end: Option<CancellationToken>,
    policy: SessionPolicy,
    _permit: SessionPermit,
}

/// How long a session lives and what it excludes.
#[derive(Debug, Clone, Default)]
pub struct SessionPolicy {
    /// When the last credential expires that the client has presented; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// The tools that the client excluded when it opened the session.
    pub tool_filter: Arc<RequestToolFilter>,
}

/// A request or a stream of a session. The session is not evicted while it lives.
#[derive(Debug)]
pub struct SessionGuard {
    sessions: Weak<Sessions>,
    id: SessionId,
}

impl Sessions {
    /// At most `max_sessions`, as far as `server_permits` allow. A session ends after `idle_timeout` without a message.
    #[must_use]
    pub fn new(
        server_permits: Arc<Semaphore>,
        max_sessions: usize,
        idle_timeout: Duration,
    ) -> Self {
        let mut local = LocalSessionManager::default();
        local.session_config.keep_alive = Some(idle_timeout);
        let tenant_permits = Arc::new(Semaphore::new(max_sessions));
        Self { local, server_permits, tenant_permits, open: Mutex::default() }
    }

    #[must_use]
    pub fn session_count(&self) -> usize {
        self.open.lock().len()
    }

    /// Marks a session as in use. `None`: this tenant has no such session.
    #[must_use]
    pub fn acquire(self: &Arc<Self>, id: &str) -> Option<SessionGuard> {
        let id: SessionId = id.into();
        let mut open = self.open.lock();
        let session = open.get_mut(&id)?;
        session.guards += 1;
        session.last_used = Instant::now();
        Some(SessionGuard { sessions: Arc::downgrade(self), id })
    }

    pub fn set_policy(&self, id: &str, policy: SessionPolicy) {
        if let Some(session) = self.open.lock().get_mut(id) {
            session.policy = policy;
        }
    }

    /// Ends the sessions whose credentials have expired.
    pub async fn end_expired(&self, now: Timestamp) {
        let is_expired = |session: &OpenSession| {
            session.policy.expires_at.is_some_and(|expires_at| expires_at <= now)
        };
        let expired: Vec<SessionId> = {
            let open = self.open.lock();
            open.iter()
                .filter(|(_, session)| is_expired(session))
                .map(|(id, _)| id.clone())
                .collect()
        };
        for id in expired {
            tracing::debug!("the token of a session expired; the session ends");
            self.end(&id).await;
        }
    }

    /// A permit for one more session. If there is none left, the tenant's session that has been idle for the longest
    /// time ends; its client gets 404 when it comes back, and initializes again.
    ///
    /// # Errors
    /// All sessions of the tenant are in use, or the server is full of sessions of other tenants.
    pub async fn acquire_permit(&self) -> Result<SessionPermit, SessionLimitReached> {
        for _ in 0..MAX_EVICTIONS {
            match self.try_acquire_permit() {
                Ok(permit) => return Ok(permit),
                Err(reached) if !self.evict_idle().await => return Err(reached),
                Err(_) => {}
            }
        }
        Err(SessionLimitReached::Server)
    }

    fn try_acquire_permit(&self) -> Result<SessionPermit, SessionLimitReached> {
        let acquire = |permits: &Arc<Semaphore>, reached| {
            Arc::clone(permits).try_acquire_owned().map_err(|_| reached)
        };
        let tenant = acquire(&self.tenant_permits, SessionLimitReached::Tenant)?;
        let server = acquire(&self.server_permits, SessionLimitReached::Server)?;
        Ok([tenant, server])
    }

    /// Ends the session that has been idle for the longest time. `false`: all are in use.
    async fn evict_idle(&self) -> bool {
        let longest_idle = {
            let open = self.open.lock();
            let idle = open.iter().filter(|(_, session)| session.guards == 0);
            idle.min_by_key(|(_, session)| session.last_used).map(|(id, _)| id.clone())
        };
        let Some(id) = longest_idle else { return false };
        tracing::debug!("the session limit is reached; an idle session ends for a new one");
        self.end(&id).await;
        true
    }

    /// Ends a session, if there is one with this id.
    pub async fn end(&self, id: &SessionId) {
        let ended = self.open.lock().remove(id);
        if let Some(end) = ended.and_then(|session| session.end) {
            end.cancel();
        } else if let Err(error) = self.local.close_session(id).await {
            tracing::debug!(%error, "a session could not be closed");
        }
    }

    /// Adds a session; an HTTP+SSE session, which `end` ends, or one of rmcp.
    pub fn insert(
        &self,
        id: SessionId,
        permit: SessionPermit,
        end: Option<CancellationToken>,
        policy: SessionPolicy,
    ) {
        let last_used = Instant::now();
        let session = OpenSession { last_used, guards: 0, end, policy, _permit: permit };
        self.open.lock().insert(id, session);
    }
}

impl SessionGuard {
    /// Extends the session to the expiry of another credential; `None`: it never expires.
    pub fn extend_until(&self, expires_at: Option<Timestamp>) {
        if let Some(sessions) = self.sessions.upgrade()
            && let Some(session) = sessions.open.lock().get_mut(&self.id)
        {
            let current = session.policy.expires_at;
            session.policy.expires_at = current.zip(expires_at).map(|(a, b)| a.max(b));
        }
    }

    /// The tools that the client excluded when it opened the session.
    #[must_use]
    pub fn tool_filter(&self) -> Arc<RequestToolFilter> {
        let sessions = self.sessions.upgrade();
        let open = sessions.as_ref().map(|sessions| sessions.open.lock());
        let session = open.as_ref().and_then(|open| open.get(&self.id));
        session.map(|session| Arc::clone(&session.policy.tool_filter)).unwrap_or_default()
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if let Some(sessions) = self.sessions.upgrade()
            && let Some(session) = sessions.open.lock().get_mut(&self.id)
        {
            session.guards = session.guards.saturating_sub(1);
            session.last_used = Instant::now();
        }
    }
}

impl SessionManager for Sessions {
    type Error = SessionError;
    type Transport = CancelOnClose<WorkerTransport<LocalSessionWorker>>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), SessionError> {
        let permit = self.acquire_permit().await?;
        let (id, transport) = self.local.create_session().await?;
        self.insert(id.clone(), permit, None, SessionPolicy::default());
        Ok((id, CancelOnClose::new(transport)))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, SessionError> {
        Ok(self.local.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, SessionError> {
        Ok(self.local.has_session(id).await?)
    }

    /// rmcp calls this when a session has ended for any reason.
    async fn close_session(&self, id: &SessionId) -> Result<(), SessionError> {
        self.open.lock().remove(id);
        Ok(self.local.close_session(id).await?)
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        Ok(self.local.create_stream(id, message).await?)
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), SessionError> {
        Ok(self.local.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        Ok(self.local.create_standalone_stream(id).await?)
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        Ok(self.local.resume(id, last_event_id).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(server: &Arc<Semaphore>, max_sessions: usize) -> Arc<Sessions> {
        Arc::new(Sessions::new(Arc::clone(server), max_sessions, Duration::from_secs(60)))
    }

    async fn open_until(
        sessions: &Sessions,
        id: &str,
        expires_at: Option<Timestamp>,
    ) -> CancellationToken {
        let end = CancellationToken::new();
        let permit = sessions.acquire_permit().await.unwrap();
        let policy = SessionPolicy { expires_at, ..SessionPolicy::default() };
        sessions.insert(id.into(), permit, Some(end.clone()), policy);
        tokio::time::advance(Duration::from_secs(1)).await;
        end
    }

    async fn open(sessions: &Sessions, id: &str) -> CancellationToken {
        open_until(sessions, id, None).await
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_session_is_evicted_and_a_session_in_use_never() {
        let server = Arc::new(Semaphore::new(10));
        let sessions = sessions(&server, 2);
        let first = open(&sessions, "first").await;
        let second = open(&sessions, "second").await;
        let guard = sessions.acquire("first").unwrap();
        let third = open(&sessions, "third").await;
        assert_eq!(
            [&first, &second, &third].map(CancellationToken::is_cancelled),
            [false, true, false]
        );
        assert!(sessions.acquire("second").is_none());
        let other_guard = sessions.acquire("third").unwrap();
        assert_eq!(sessions.acquire_permit().await.unwrap_err(), SessionLimitReached::Tenant);
        drop(other_guard);
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(guard);
        open(&sessions, "fourth").await;
        assert!(third.is_cancelled() && !first.is_cancelled());
        assert_eq!((sessions.session_count(), server.available_permits()), (2, 8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_the_last_token_presented_for_it_expires() {
        let server = Arc::new(Semaphore::new(10));
        let sessions = sessions(&server, 5);
        let kept = open(&sessions, "kept").await;
        let renewed = open_until(&sessions, "renewed", Some(at(60))).await;
        let short = open_until(&sessions, "short", Some(at(60))).await;
        let guard = sessions.acquire("renewed").unwrap();
        guard.extend_until(Some(at(120)));
        // An older token does not shorten the session.
        guard.extend_until(Some(at(30)));
        let ended = async |now| {
            sessions.end_expired(now).await;
            [&kept, &renewed, &short].map(CancellationToken::is_cancelled)
        };
        assert_eq!(ended(at(59)).await, [false, false, false]);
        assert_eq!(ended(at(60)).await, [false, false, true]);
        assert_eq!(ended(at(119)).await, [false, false, true]);
        assert_eq!(ended(at(120)).await, [false, true, true]);
        assert_eq!((sessions.session_count(), server.available_permits()), (1, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_without_expiry_ends_no_session() {
        let sessions = sessions(&Arc::new(Semaphore::new(10)), 5);
        let end = open_until(&sessions, "s", Some(at(60))).await;
        sessions.acquire("s").unwrap().extend_until(None);
        sessions.end_expired(at(1_000_000)).await;
        assert!(!end.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_never_ends_the_session_of_another() {
        let server = Arc::new(Semaphore::new(1));
        let (one, other) = (sessions(&server, 5), sessions(&server, 5));
        let kept = open(&one, "kept").await;
        assert_eq!(other.acquire_permit().await.unwrap_err(), SessionLimitReached::Server);
        assert!(other.acquire("kept").is_none());
        assert!(!kept.is_cancelled());
        one.end(&"kept".into()).await;
        assert!(other.acquire_permit().await.is_ok());
    }
}
