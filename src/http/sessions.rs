//! The sessions of one tenant, capped: rmcp keeps them without a limit, and clients that go away
//! without a word leave about 50 KB each. Knows whom they belong to by standing once for each tenant:
//! the sessions of another are not in it.
//!
//! Where replicas share their sessions, one that another replica opened is taken up here when a
//! request of it comes, and what is meant for the other is passed on (see [`super::replicas`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use http::HeaderMap;
use jiff::Timestamp;
use rmcp::model::{
    CancelledNotificationParam, ClientJsonRpcMessage, ClientNotification, JsonRpcMessage,
    ServerJsonRpcMessage,
};
use rmcp::transport::WorkerTransport;
use rmcp::transport::common::server_side_http::ServerSseMessage;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, LocalSessionWorker,
};
use rmcp::transport::streamable_http_server::session::{RestoreOutcome, SessionId, SessionManager};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::auth::narrowing::Narrowing;
use super::leaving::Leaving;
use super::replicas::{Instance, Sharing, Told, Way};
use crate::state::{Gone, To};

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
    /// It is for another replica, which cannot be told.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The stream is another replica's.
    #[error("this stream is not to be resumed here")]
    NotHere,
}

/// The sessions of one tenant.
pub struct Sessions {
    local: LocalSessionManager,
    server: Arc<Semaphore>,
    tenant: Arc<Semaphore>,
    live: Mutex<HashMap<SessionId, Live>>,
    serials: AtomicU64,
    sharing: Option<Arc<Sharing>>,
}

/// The room that one session takes, given back when dropped.
#[derive(Debug)]
pub struct Room {
    _tenant: OwnedSemaphorePermit,
    _server: OwnedSemaphorePermit,
}

struct Live {
    /// Tells it from one with the same id that ended before and was taken up again.
    serial: u64,
    used: Instant,
    /// Requests and streams that are open.
    open: usize,
    /// What ends a session of the HTTP+SSE transport; rmcp's own are closed by rmcp.
    end: Option<CancellationToken>,
    terms: Terms,
    /// Its terms are known here. Those of one that was taken up are not at first, and without them nobody
    /// may use it.
    settled: bool,
    /// Its mark, where replicas share sessions.
    instance: Option<Instance>,
    /// It is being taken up from another replica, and cannot be used yet.
    restoring: bool,
    /// It goes on for those who use it, and for nobody else.
    last: bool,
    /// When the others were last told that it is in use.
    touched: Instant,
    _room: Room,
}

/// On what terms a session was opened.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// From when on nothing that its client showed counts any more; none: for as long as it likes.
    pub until: Option<Timestamp>,
    /// What its client asked not to be offered.
    pub narrowing: Arc<Narrowing>,
}

/// A request or a stream of a session: as long as it lives, the session makes room for nobody.
#[derive(Debug)]
pub struct Use {
    sessions: std::sync::Weak<Sessions>,
    id: SessionId,
    serial: u64,
}

impl Sessions {
    /// No session yet, of at most `most`, within what is left of `server`; each ends after `idle`
    /// without a message.
    #[must_use]
    pub fn new(server: Arc<Semaphore>, most: usize, idle: Duration) -> Self {
        let mut local = LocalSessionManager::default();
        local.session_config.keep_alive = Some(idle);
        let tenant = Arc::new(Semaphore::new(most));
        let (live, serials) = (Mutex::default(), AtomicU64::new(0));
        Self { local, server, tenant, live, serials, sharing: None }
    }

    /// The same, shared with other replicas.
    #[must_use]
    pub fn shared(mut self, sharing: Option<Arc<Sharing>>) -> Self {
        self.sharing = sharing;
        self
    }

    /// How they are shared, if they are.
    #[must_use]
    pub fn sharing(&self) -> Option<&Arc<Sharing>> {
        self.sharing.as_ref()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<SessionId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live().len()
    }

    /// Whether there is such a session here, be it one that is only being taken up.
    #[must_use]
    pub fn is_here(&self, id: &str) -> bool {
        self.live().contains_key(id)
    }

    /// Begins to use a session; none when this tenant has no such session, or its terms are not known here.
    #[must_use]
    pub fn enter(self: &Arc<Self>, id: &str) -> Option<Use> {
        let id: SessionId = id.into();
        let mut live = self.live();
        let usable = |session: &&mut Live| session.settled && (!session.last || session.open > 0);
        let session = live.get_mut(&id).filter(usable)?;
        session.open += 1;
        session.used = Instant::now();
        if let Some(sharing) = self.sharing.as_ref().filter(|_| session.end.is_none())
            && session.touched.elapsed() >= sharing.touch_every()
        {
            session.touched = session.used;
            sharing.touch_soon(&id);
        }
        let serial = session.serial;
        Some(Use { sessions: Arc::downgrade(self), id, serial })
    }

    /// What a session asked not to be offered that another replica knows, so that it can be taken up
    /// here; none if none does.
    ///
    /// # Errors
    /// It cannot be learned now.
    pub async fn elsewhere(&self, id: &str) -> Result<Option<HeaderMap>, Gone> {
        match &self.sharing {
            Some(sharing) => sharing.narrowing(id).await,
            None => Ok(None),
        }
    }

    /// Takes an answer that a client gave to another replica.
    pub async fn take_answer(&self, id: &SessionId, answer: ClientJsonRpcMessage) {
        let Ok(Some(instance)) = self.instance(id) else { return };
        match instance.way(answer) {
            Way::Here(answer) => self.pass(id, *answer).await,
            Way::There(..) | Way::Nowhere => {
                tracing::debug!("an answer from another replica answers nothing");
            }
        }
    }

    /// Takes the taking back of a request that a client told another replica.
    pub async fn take_cancel(&self, id: &SessionId, message: ClientJsonRpcMessage) {
        if matches!(self.instance(id), Ok(Some(_))) && canceled(&message).is_some() {
            self.pass(id, message).await;
        }
    }

    /// Ends a session that all replicas have forgotten; unless `at_once`, those who use it may go on.
    pub async fn end_elsewhere(&self, id: &SessionId, at_once: bool) {
        let ends = {
            let mut live = self.live();
            let Some(session) = live.get_mut(id) else { return };
            session.last = true;
            at_once || session.open == 0
        };
        if ends {
            self.end(id).await;
        }
    }

    /// Those that are in use.
    #[must_use]
    pub fn in_use(&self) -> Vec<SessionId> {
        let live = self.live();
        let used = live.iter().filter(|(_, session)| session.open > 0 && session.end.is_none());
        used.map(|(id, _)| SessionId::clone(id)).collect()
    }

    async fn pass(&self, id: &SessionId, message: ClientJsonRpcMessage) {
        if let Err(error) = self.local.accept_message(id, message).await {
            tracing::debug!(%error, "a message from another replica came too late");
        }
    }

    /// The mark of a session; none where nothing is shared. Where something is, nothing goes out or
    /// comes in without one.
    fn instance(&self, id: &SessionId) -> Result<Option<Instance>, SessionError> {
        if self.sharing.is_none() {
            return Ok(None);
        }
        let instance = self.live().get(id).and_then(|session| session.instance);
        let gone = || LocalSessionManagerError::SessionNotFound(SessionId::clone(id));
        Ok(Some(instance.ok_or_else(gone)?))
    }

    /// Writes down on what terms a session was opened.
    pub fn settle(&self, id: &str, terms: Terms) {
        if let Some(session) = self.live().get_mut(id) {
            session.terms = terms;
            session.settled = true;
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
        self.insert(id, room, Some(end), false);
    }

    fn insert(&self, id: SessionId, room: Room, end: Option<CancellationToken>, restoring: bool) {
        let instance = match (&self.sharing, &end) {
            (Some(sharing), None) => Some(Instance::new(sharing.replica())),
            _ => None,
        };
        let now = Instant::now();
        let session = Live {
            serial: self.serials.fetch_add(1, Ordering::Relaxed),
            used: now,
            open: 0,
            end,
            terms: Terms::default(),
            settled: !restoring,
            instance,
            restoring,
            last: false,
            touched: now,
            _room: room,
        };
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
                // Without an end nothing is later; and one that was just taken up has none only because
                // nothing was shown for it yet.
                (_, until) => until,
            };
        }
    }

    /// What the session's client asked not to be offered when it opened it.
    #[must_use]
    pub fn narrowing(&self) -> Arc<Narrowing> {
        let sessions = self.sessions.upgrade();
        let live = sessions.as_ref().map(|sessions| sessions.live());
        let session = live.as_ref().and_then(|live| live.get(&self.id));
        session.map(|session| Arc::clone(&session.terms.narrowing)).unwrap_or_default()
    }
}

/// Events of a session, marked for the client.
fn marked(
    instance: Option<Instance>,
    events: impl Stream<Item = ServerSseMessage> + Send + Sync + 'static,
) -> impl Stream<Item = ServerSseMessage> + Send + Sync + 'static {
    events.map(move |event| match &instance {
        Some(instance) => instance.outgoing(event),
        None => event,
    })
}

/// What a client takes back, as short as it can be told; none if the message is something else.
fn canceled(message: &ClientJsonRpcMessage) -> Option<ClientJsonRpcMessage> {
    let JsonRpcMessage::Notification(notification) = message else { return None };
    let ClientNotification::CancelledNotification(canceled) = &notification.notification else {
        return None;
    };
    let mut short = canceled.clone();
    short.params = CancelledNotificationParam::new(canceled.params.request_id.clone(), None);
    Some(ClientJsonRpcMessage::notification(ClientNotification::CancelledNotification(short)))
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(sessions) = self.sessions.upgrade()
            && let Some(session) = sessions.live().get_mut(&self.id)
            && session.serial == self.serial
        {
            session.open = session.open.saturating_sub(1);
            session.used = Instant::now();
        }
    }
}

impl SessionManager for Sessions {
    type Error = SessionError;
    type Transport = Leaving<WorkerTransport<LocalSessionWorker>>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), SessionError> {
        let room = self.make_room().await?;
        let (id, transport) = self.local.create_session().await?;
        self.insert(id.clone(), room, None, false);
        Ok((id, Leaving::new(transport)))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, SessionError> {
        Ok(self.local.initialize_session(id, message).await?)
    }

    /// One that is being taken up is not there yet: rmcp then waits for it.
    async fn has_session(&self, id: &SessionId) -> Result<bool, SessionError> {
        if self.live().get(id).is_some_and(|session| session.restoring) {
            return Ok(false);
        }
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
        let instance = self.instance(id)?;
        Ok(marked(instance, self.local.create_stream(id, message).await?))
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), SessionError> {
        let (Some(sharing), Some(instance)) = (&self.sharing, self.instance(id)?) else {
            return Ok(self.local.accept_message(id, message).await?);
        };
        let (scope, session) = (sharing.scope().clone(), id.to_string());
        let message = match instance.way(message) {
            Way::Here(message) => *message,
            Way::There(replica, message) => {
                let message = serde_json::to_value(&message).unwrap_or_default();
                let told = Told::Answer { scope, session, message };
                if !sharing.tell(To::One(replica), told).await? {
                    tracing::debug!("the replica that asked a question is gone");
                }
                return Ok(());
            }
            Way::Nowhere => {
                tracing::debug!("an answer to a question that was not asked");
                return Ok(());
            }
        };
        let canceled = canceled(&message);
        let initialized = matches!(&message, JsonRpcMessage::Notification(notification)
            if matches!(notification.notification, ClientNotification::InitializedNotification(_)));
        self.local.accept_message(id, message).await?;
        if initialized && let Some(session) = self.live().get_mut(id) {
            session.restoring = false;
        }
        if let Some(canceled) = canceled {
            let message = serde_json::to_value(canceled).unwrap_or_default();
            let told = Told::Canceled { scope, session, message };
            if let Err(error) = sharing.tell(To::All, told).await {
                tracing::warn!(%error, "other replicas were not told that a request was taken back");
            }
        }
        Ok(())
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        let instance = self.instance(id)?;
        Ok(marked(instance, self.local.create_standalone_stream(id).await?))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        let instance = self.instance(id)?;
        let last = match &instance {
            None => last_event_id,
            Some(instance) => {
                instance.resumed(&last_event_id).ok_or(SessionError::NotHere)?.to_owned()
            }
        };
        Ok(marked(instance, self.local.resume(id, last).await?))
    }

    async fn restore_session(
        &self,
        id: SessionId,
    ) -> Result<RestoreOutcome<Self::Transport>, SessionError> {
        let room = self.make_room().await?;
        Ok(match self.local.restore_session(id.clone()).await? {
            RestoreOutcome::Restored(transport) => {
                self.insert(id, room, None, true);
                RestoreOutcome::Restored(Leaving::new(transport))
            }
            RestoreOutcome::AlreadyPresent => RestoreOutcome::AlreadyPresent,
            _ => RestoreOutcome::NotSupported,
        })
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
        // One of which nothing is known yet ends with what is shown first.
        used.keep_until(Some(at(120)));
        sessions.expire(at(120)).await;
        assert!(end.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn who_used_a_session_that_ended_does_not_stop_using_its_successor() {
        let server = Arc::new(Semaphore::new(10));
        let sessions = sessions(&server, 1);
        open(&sessions, "same").await;
        let before = sessions.enter("same").unwrap();
        sessions.end(&"same".into()).await;
        let successor = open(&sessions, "same").await;
        let _used = sessions.enter("same").unwrap();
        drop(before);
        assert_eq!(sessions.make_room().await.unwrap_err(), Full::Tenant);
        assert!(!successor.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_others_ended_goes_on_for_those_who_use_it() {
        let server = Arc::new(Semaphore::new(10));
        let sessions = sessions(&server, 2);
        let (used, idle) = (open(&sessions, "used").await, open(&sessions, "idle").await);
        let using = sessions.enter("used").unwrap();
        for id in ["used", "idle"] {
            sessions.end_elsewhere(&id.into(), false).await;
        }
        assert_eq!((used.is_cancelled(), idle.is_cancelled()), (false, true));
        let also = sessions.enter("used");
        assert!(also.is_some());
        drop((using, also));
        assert!(sessions.enter("used").is_none());
        sessions.end_elsewhere(&"used".into(), true).await;
        assert!(used.is_cancelled());
    }

    #[tokio::test]
    async fn nobody_uses_a_session_that_was_taken_up_before_its_terms_are_known() {
        let sessions = sessions(&Arc::new(Semaphore::new(1)), 1);
        let taken_up = sessions.restore_session("s".into()).await.unwrap();
        assert!(matches!(taken_up, RestoreOutcome::Restored(_)));
        // Who comes meanwhile needs no room for it.
        assert!(sessions.enter("s").is_none() && sessions.is_here("s"));
        sessions.settle("s", Terms::default());
        assert!(sessions.enter("s").is_some());
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
