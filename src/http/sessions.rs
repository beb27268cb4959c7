//! The sessions of one tenant, capped: rmcp keeps them without a limit, and clients that go away
//! without a word leave about 50 KB each. Knows whom they belong to by standing once for each tenant:
//! the sessions of another are not in it.
//! A session stays with the replica that opened it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use jiff::Timestamp;
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

use super::auth::tool_filter::RequestToolFilter;
use super::cancel_on_close::CancelOnClose;

/// No session can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// This tenant has as many as one may have, and all are in use.
    #[error("this account has as many open sessions as it may have, and all are in use")]
    Tenant,
    /// The server has as many as it can hold.
    #[error("this server holds as many sessions as it can")]
    Server,
}

/// Why a session did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no room.
    #[error(transparent)]
    Full(#[from] Full),
    /// rmcp says so.
    #[error(transparent)]
    Local(#[from] LocalSessionManagerError),
}

/// The sessions of one tenant.
pub struct Sessions {
    local: LocalSessionManager,
    server: Arc<Semaphore>,
    tenant: Arc<Semaphore>,
    live: Mutex<HashMap<SessionId, Live>>,
}

/// The room that one session takes, given back when dropped.
#[derive(Debug)]
pub struct Room {
    _tenant: OwnedSemaphorePermit,
    _server: OwnedSemaphorePermit,
}

struct Live {
    used: Instant,
    /// Requests and streams that are open.
    open: usize,
    /// What ends a session of the HTTP+SSE transport; rmcp's own are closed by rmcp.
    end: Option<CancellationToken>,
    terms: Terms,
    _room: Room,
}

/// On what terms a session was opened.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// From when on nothing that its client showed counts any more; none: for as long as it likes.
    pub until: Option<Timestamp>,
    /// What its client asked not to be offered.
    pub narrowing: Arc<RequestToolFilter>,
}

/// A request or a stream of a session: as long as it lives, the session makes room for nobody.
#[derive(Debug)]
pub struct Use {
    sessions: std::sync::Weak<Sessions>,
    id: SessionId,
}

impl Sessions {
    /// No session yet, of at most `most`, within what is left of `server`; each ends after `idle`
    /// without a message.
    #[must_use]
    pub fn new(server: Arc<Semaphore>, most: usize, idle: Duration) -> Self {
        let mut local = LocalSessionManager::default();
        local.session_config.keep_alive = Some(idle);
        let tenant = Arc::new(Semaphore::new(most));
        Self { local, server, tenant, live: Mutex::default() }
    }

    fn live(&self) -> MutexGuard<'_, HashMap<SessionId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live().len()
    }

    /// Begins to use a session; none when this tenant has no such session.
    #[must_use]
    pub fn enter(self: &Arc<Self>, id: &str) -> Option<Use> {
        let id: SessionId = id.into();
        let mut live = self.live();
        let session = live.get_mut(&id)?;
        session.open += 1;
        session.used = Instant::now();
        Some(Use { sessions: Arc::downgrade(self), id })
    }

    /// Writes down on what terms a session was opened.
    pub fn settle(&self, id: &str, terms: Terms) {
        if let Some(session) = self.live().get_mut(id) {
            session.terms = terms;
        }
    }

    /// Ends the sessions for which nothing counts any more that their clients showed.
    pub async fn expire(&self, now: Timestamp) {
        let over = |session: &Live| session.terms.until.is_some_and(|until| until <= now);
        let expired: Vec<SessionId> = {
            let live = self.live();
            live.iter().filter(|(_, session)| over(session)).map(|(id, _)| id.clone()).collect()
        };
        for id in expired {
            tracing::debug!("a session ends with the token that it was opened with");
            self.end(&id).await;
        }
    }

    /// Room for one more session. When there is none, the tenant's own session that nobody has used
    /// for the longest time is ended: its client, should it come back, is told to begin anew (404).
    ///
    /// # Errors
    /// All of the tenant's are in use, or the server is full of other tenants' sessions.
    pub async fn make_room(&self) -> Result<Room, Full> {
        // Closing gives room back at once, so twice is enough; others may have taken it.
        for _ in 0..8 {
            match self.room() {
                Ok(room) => return Ok(room),
                Err(full) => {
                    let idlest = {
                        let live = self.live();
                        let idle = live.iter().filter(|(_, session)| session.open == 0);
                        idle.min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone())
                    };
                    let Some(idlest) = idlest else { return Err(full) };
                    tracing::debug!("an idle session makes room for a new one");
                    self.end(&idlest).await;
                }
            }
        }
        Err(Full::Server)
    }

    fn room(&self) -> Result<Room, Full> {
        let tenant = Arc::clone(&self.tenant).try_acquire_owned().map_err(|_| Full::Tenant)?;
        let server = Arc::clone(&self.server).try_acquire_owned().map_err(|_| Full::Server)?;
        Ok(Room { _tenant: tenant, _server: server })
    }

    /// Ends a session; nothing when there is none.
    pub async fn end(&self, id: &SessionId) {
        let ended = self.live().remove(id);
        if let Some(end) = ended.and_then(|session| session.end) {
            end.cancel();
        } else if let Err(error) = self.local.close_session(id).await {
            tracing::debug!(%error, "a session did not end well");
        }
    }

    /// Takes in a session of the HTTP+SSE transport, which `end` ends.
    pub fn adopt(&self, id: SessionId, room: Room, end: CancellationToken) {
        self.insert(id, room, Some(end));
    }

    fn insert(&self, id: SessionId, room: Room, end: Option<CancellationToken>) {
        let terms = Terms::default();
        let session = Live { used: Instant::now(), open: 0, end, terms, _room: room };
        self.live().insert(id, session);
    }
}

impl Use {
    /// The session goes on at least until then, or without an end: its client showed something that
    /// counts so long.
    pub fn keep_until(&self, until: Option<Timestamp>) {
        if let Some(sessions) = self.sessions.upgrade()
            && let Some(session) = sessions.live().get_mut(&self.id)
        {
            session.terms.until = match (session.terms.until, until) {
                (Some(before), Some(until)) => Some(before.max(until)),
                // Without an end nothing is later.
                _ => None,
            };
        }
    }

    /// What the session's client asked not to be offered when it opened it.
    #[must_use]
    pub fn narrowing(&self) -> Arc<RequestToolFilter> {
        let sessions = self.sessions.upgrade();
        let live = sessions.as_ref().map(|sessions| sessions.live());
        let session = live.as_ref().and_then(|live| live.get(&self.id));
        session.map(|session| Arc::clone(&session.terms.narrowing)).unwrap_or_default()
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(sessions) = self.sessions.upgrade()
            && let Some(session) = sessions.live().get_mut(&self.id)
        {
            session.open = session.open.saturating_sub(1);
            session.used = Instant::now();
        }
    }
}

impl SessionManager for Sessions {
    type Error = SessionError;
    type Transport = CancelOnClose<WorkerTransport<LocalSessionWorker>>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), SessionError> {
        let room = self.make_room().await?;
        let (id, transport) = self.local.create_session().await?;
        self.insert(id.clone(), room, None);
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

    /// rmcp calls it when a session has ended, for whatever reason.
    async fn close_session(&self, id: &SessionId) -> Result<(), SessionError> {
        self.live().remove(id);
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

    fn sessions(server: &Arc<Semaphore>, most: usize) -> Arc<Sessions> {
        Arc::new(Sessions::new(Arc::clone(server), most, Duration::from_secs(60)))
    }

    async fn open(sessions: &Sessions, id: &str) -> CancellationToken {
        let end = CancellationToken::new();
        let room = sessions.make_room().await.unwrap();
        sessions.adopt(id.into(), room, end.clone());
        tokio::time::advance(Duration::from_secs(1)).await;
        end
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_session_makes_room_and_one_in_use_never() {
        let server = Arc::new(Semaphore::new(10));
        let sessions = sessions(&server, 2);
        let first = open(&sessions, "first").await;
        let second = open(&sessions, "second").await;
        let used = sessions.enter("first").unwrap();
        let third = open(&sessions, "third").await;
        assert_eq!(
            [&first, &second, &third].map(CancellationToken::is_cancelled),
            [false, true, false]
        );
        assert!(sessions.enter("second").is_none());
        let also = sessions.enter("third").unwrap();
        assert_eq!(sessions.make_room().await.unwrap_err(), Full::Tenant);
        drop(also);
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(used);
        open(&sessions, "fourth").await;
        assert!(third.is_cancelled() && !first.is_cancelled());
        assert_eq!((sessions.count(), server.available_permits()), (2, 8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_with_the_last_token_that_was_shown_for_it() {
        let server = Arc::new(Semaphore::new(10));
        let sessions = sessions(&server, 5);
        let at = |second: i64| Timestamp::from_second(1_000 + second).unwrap();
        let until = |second| Terms { until: Some(at(second)), ..Terms::default() };
        let (kept, renewed) = (open(&sessions, "kept").await, open(&sessions, "renewed").await);
        let short = open(&sessions, "short").await;
        sessions.settle("renewed", until(60));
        sessions.settle("short", until(60));
        let used = sessions.enter("renewed").unwrap();
        used.keep_until(Some(at(120)));
        // An older token takes nothing away.
        used.keep_until(Some(at(30)));
        let ended = async |now| {
            sessions.expire(now).await;
            [&kept, &renewed, &short].map(CancellationToken::is_cancelled)
        };
        assert_eq!(ended(at(59)).await, [false, false, false]);
        assert_eq!(ended(at(60)).await, [false, false, true]);
        assert_eq!(ended(at(119)).await, [false, false, true]);
        assert_eq!(ended(at(120)).await, [false, true, true]);
        assert_eq!((sessions.count(), server.available_permits()), (1, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_without_an_end_ends_no_session() {
        let server = Arc::new(Semaphore::new(10));
        let sessions = sessions(&server, 5);
        let at = |second: i64| Timestamp::from_second(1_000 + second).unwrap();
        let end = open(&sessions, "s").await;
        sessions.settle("s", Terms { until: Some(at(60)), ..Terms::default() });
        let used = sessions.enter("s").unwrap();
        used.keep_until(None);
        sessions.expire(at(1_000_000)).await;
        assert!(!end.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn one_tenant_never_ends_another_ones_session() {
        let server = Arc::new(Semaphore::new(1));
        let (one, other) = (sessions(&server, 5), sessions(&server, 5));
        let kept = open(&one, "kept").await;
        assert_eq!(other.make_room().await.unwrap_err(), Full::Server);
        assert!(other.enter("kept").is_none());
        assert!(!kept.is_cancelled());
        one.end(&"kept".into()).await;
        assert!(other.make_room().await.is_ok());
    }
}
