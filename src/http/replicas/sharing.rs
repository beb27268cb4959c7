//! The sessions of one tenant as all replicas share them. Kept of each is what a client said of itself
//! when it began, as far as a handler needs it: the version, what it can do, its name, and what it asked
//! not to be offered. Nothing that was said since, no key and no token.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue};
use rmcp::model::{Implementation, InitializeRequestParams};
use rmcp::transport::streamable_http_server::session::{
    SessionState, SessionStore, SessionStoreError,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::auth::narrowing::Narrowing;
use super::Told;
use crate::state::{Counted, Gone, ReplicaId, STREAM_RENEWAL, Scope, Shared, To};

/// How long what was learned of the room for requests is believed.
const ROOM_LASTS: Duration = Duration::from_secs(10);
/// The longest name or version of a client that is kept, in characters.
const LONGEST_NAME: usize = 100;

tokio::task_local! {
    /// What the client of this request asked not to be offered: the library's store is not told.
    static ASKED: Arc<Narrowing>;
}

/// How one tenant shares its sessions and its limits.
#[derive(Debug, Clone)]
pub struct Sharing {
    shared: Shared,
    scope: Scope,
    most: usize,
    idle: Duration,
    room: Arc<Mutex<Room>>,
}

/// For how many more requests there was room when one was counted last, less those since.
#[derive(Debug, Default)]
struct Room {
    left: u32,
    learned: Option<Instant>,
}

impl Sharing {
    /// At most `most` sessions of this scope in all replicas together, each kept for `idle` without a
    /// message.
    #[must_use]
    pub fn new(shared: Shared, scope: Scope, most: usize, idle: Duration) -> Self {
        Self { shared, scope, most, idle, room: Arc::default() }
    }

    /// Whose they are.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Which replica this is.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.shared.replica()
    }

    /// How long a session may be in use before the others are told again.
    #[must_use]
    pub fn touch_every(&self) -> Duration {
        self.idle / 10
    }

    /// Tells all, or one, something about a session. `false`: surely nobody heard it.
    ///
    /// # Errors
    /// It cannot be told now.
    pub async fn tell(&self, to: To, told: Told) -> Result<bool, Gone> {
        super::tell(&self.shared, to, told).await
    }

    /// What a session asked not to be offered, as headers; none if no replica knows it.
    ///
    /// # Errors
    /// It cannot be learned now.
    pub async fn narrowing(&self, id: &str) -> Result<Option<HeaderMap>, Gone> {
        let text = self.shared.session(&self.scope, id).await?;
        Ok(text.map(|text| {
            let Ok(kept) = serde_json::from_str::<Narrowed>(&text) else { return HeaderMap::new() };
            let headers = kept.narrowing.into_iter().filter_map(|(name, value)| {
                Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
            });
            headers.collect()
        }))
    }

    /// Says that a session is in use.
    pub async fn touch(&self, id: &str) {
        let Self { shared, scope, idle, .. } = self;
        if let Err(error) = shared.touch_session(scope, id, *idle).await {
            tracing::debug!(%error, "that a session is in use was not shared");
        }
    }

    /// Says so, and does not wait for it to be heard.
    pub fn touch_soon(&self, id: &str) {
        let (sharing, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move { sharing.touch(&id).await });
    }

    /// Counts a request of the tenant at all replicas together. Answers with how long to wait if there
    /// were too many. What cannot be counted is not held against the caller.
    ///
    /// Far from the limit nobody waits to be counted: that may let through up to a quarter of a burst
    /// too many at each replica.
    pub async fn count_request(
        self: &Arc<Self>,
        per_second: NonZeroU32,
        burst: NonZeroU32,
    ) -> Option<Duration> {
        if self.has_room(burst) {
            let sharing = Arc::clone(self);
            tokio::spawn(async move { sharing.count_now(per_second, burst).await });
            return None;
        }
        self.count_now(per_second, burst).await
    }

    /// Whether a request is far from the limit; then it takes of the room.
    fn has_room(&self, burst: NonZeroU32) -> bool {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = room.learned.is_some_and(|at| at.elapsed() < ROOM_LASTS);
        let has = fresh && u64::from(room.left) * 4 > u64::from(burst.get()) * 3;
        room.left = room.left.saturating_sub(1);
        has
    }

    async fn count_now(&self, per_second: NonZeroU32, burst: NonZeroU32) -> Option<Duration> {
        let counted = self.shared.count_request(&self.scope, per_second, burst).await;
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        match counted {
            Ok(Counted::Room(left)) => {
                *room = Room { left, learned: Some(Instant::now()) };
                None
            }
            Ok(Counted::TooMany(wait)) => {
                *room = Room::default();
                Some(wait)
            }
            Err(error) => {
                tracing::debug!(%error, "a request was counted by this replica alone");
                *room = Room::default();
                None
            }
        }
    }

    /// Who holds the stream of a session of the HTTP+SSE transport.
    ///
    /// # Errors
    /// It cannot be learned now.
    pub async fn stream_holder(&self, id: &str) -> Result<Option<ReplicaId>, Gone> {
        self.shared.stream_holder(&self.scope, id).await
    }

    /// Says that this replica holds a stream.
    pub async fn hold_stream(&self, id: &str) {
        if let Err(error) = self.shared.hold_stream(&self.scope, id).await {
            tracing::warn!(%error, "messages to a stream are taken by its own replica alone");
        }
    }

    /// Says so again and again until it `ended`.
    pub async fn keep_holding_stream(self: Arc<Self>, id: String, ended: impl Future<Output = ()>) {
        tokio::pin!(ended);
        loop {
            tokio::select! {
                () = &mut ended => break,
                () = tokio::time::sleep(STREAM_RENEWAL) => self.hold_stream(&id).await,
            }
        }
        if let Err(error) = self.shared.release_stream(&self.scope, &id).await {
            tracing::debug!(%error, "that a stream ended was not shared");
        }
    }
}

/// Does the work of a request whose client asked not to be offered something: a session that it opens is
/// kept with that, in one write, so that no replica ever takes it up without.
pub async fn asking<T>(narrowing: Arc<Narrowing>, work: impl Future<Output = T>) -> T {
    ASKED.scope(narrowing, work).await
}

/// The part of a kept session that rmcp does not know.
#[derive(Serialize, Deserialize)]
struct Narrowed {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    narrowing: BTreeMap<String, String>,
}

/// A session as it is kept.
#[derive(Serialize)]
struct Kept {
    #[serde(flatten)]
    said: InitializeRequestParams,
    #[serde(flatten)]
    narrowed: Narrowed,
}

/// What is kept of what a client said of itself and asked not to be offered.
fn kept(said: &InitializeRequestParams) -> Kept {
    let short = |text: &str| text.chars().take(LONGEST_NAME).collect::<String>();
    let client =
        Implementation::new(short(&said.client_info.name), short(&said.client_info.version));
    let said = InitializeRequestParams::new(said.capabilities.clone(), client)
        .with_protocol_version(said.protocol_version.clone());
    let asked = ASKED.try_with(|asked| asked.headers()).unwrap_or_default();
    let narrowing = asked.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Kept { said, narrowed: Narrowed { narrowing } }
}

#[async_trait]
impl SessionStore for Sharing {
    async fn load(&self, id: &str) -> Result<Option<SessionState>, SessionStoreError> {
        let text = self.shared.session(&self.scope, id).await?;
        let read = |text: String| match serde_json::from_str(&text) {
            Ok(said) => Some(SessionState::new(said)),
            Err(error) => {
                tracing::warn!(%error, "a shared session cannot be read, and is taken for none");
                None
            }
        };
        Ok(text.and_then(read))
    }

    /// A session that cannot be shared goes on where it began.
    async fn store(&self, id: &str, state: &SessionState) -> Result<(), SessionStoreError> {
        let text = serde_json::to_string(&kept(&state.initialize_params))?;
        let Self { shared, scope, most, idle, .. } = self;
        let kept = async {
            for session in shared.keep_session(scope, id, &text, *idle, *most).await? {
                let told = Told::Ended { scope: scope.clone(), session, at_once: false };
                self.tell(To::All, told).await?;
            }
            Ok::<_, Gone>(())
        };
        // Said here, because rmcp would name the session.
        if let Err(error) = kept.await {
            tracing::warn!(%error, "a session is not shared");
        }
        Ok(())
    }

    async fn delete(&self, id: &str) -> Result<(), SessionStoreError> {
        self.shared.end_session(&self.scope, id).await?;
        let session = id.to_owned();
        self.tell(To::All, Told::Ended { scope: self.scope.clone(), session, at_once: true })
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::auth::narrowing::{READONLY, TOOLSETS};
    use super::*;
    use crate::mcp::catalogue::Catalogue;

    #[tokio::test]
    async fn what_is_kept_is_small_and_holds_nothing_that_a_client_put_beside() {
        let said: InitializeRequestParams = serde_json::from_value(json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {
                "name": "x".repeat(5_000),
                "version": "1",
                "description": "secret",
                "websiteUrl": "https://example.com/secret",
            },
            "_meta": {"token": "secret"},
            "narrowing": {"x-mcp-tools": "place_call"},
        }))
        .unwrap();
        let mut expected = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "x".repeat(LONGEST_NAME), "version": "1"},
        });
        assert_eq!(serde_json::to_value(kept(&said)).unwrap(), expected);

        let headers = HeaderMap::from_iter([
            (HeaderName::from_static(TOOLSETS), HeaderValue::from_static("calls,agents")),
            (HeaderName::from_static(READONLY), HeaderValue::from_static("yes")),
        ]);
        let asked = Narrowing::of(&headers, Catalogue::new().index()).unwrap();
        let kept = asking(Arc::new(asked), async { kept(&said) }).await;
        expected["narrowing"] = json!({"x-mcp-toolsets": "calls,agents", "x-mcp-readonly": "true"});
        assert_eq!(serde_json::to_value(kept).unwrap(), expected);
    }
}
