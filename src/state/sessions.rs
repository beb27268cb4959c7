//! Sessions that any replica may take up, as texts that are no matter here; and which replica holds a
//! stream that none but it can write to. All of it belongs to a scope, is bounded, and expires.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{AsyncCommands, Script};

use super::{Gone, LONG, ReplicaId, Scope, Shared, within};

/// The most bytes that are kept of a session.
pub const MOST_SESSION_BYTES: usize = 16 * 1024;
/// How long a replica is believed to hold a stream after it last said so.
const STREAM_LIFETIME: Duration = Duration::from_secs(60);
/// How often it is to say so.
pub const STREAM_RENEWAL: Duration = Duration::from_secs(20);

static STORE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("store.lua")));
static TOUCH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("touch.lua")));

fn session(id: &str) -> String {
    format!("session:{id}")
}

fn stream(id: &str) -> String {
    format!("stream:{id}")
}

/// Whether a text can be an id: what a server makes is short and plain.
fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl Shared {
    /// Keeps a session for `idle`, among at most `most` of its scope. Answers with those that had to
    /// make room for it.
    ///
    /// # Errors
    /// It is too large, or the state cannot be reached.
    pub async fn keep_session(
        &self,
        scope: &Scope,
        id: &str,
        text: &str,
        idle: Duration,
        most: usize,
    ) -> Result<Vec<String>, Gone> {
        if !is_id(id) || text.len() > MOST_SESSION_BYTES {
            return Err(Gone("the session is too large to be shared".to_owned()));
        }
        let mut link = self.link();
        let mut script = STORE.key(scope.key(&session(id)));
        script.key(scope.key("sessions")).key(scope.key(&session("")));
        script.arg(id).arg(text).arg(millis(idle)).arg(most.max(1));
        within(LONG, script.invoke_async(&mut link)).await
    }

    /// A session of this scope, if there is one.
    ///
    /// # Errors
    /// The state cannot be reached.
    pub async fn session(&self, scope: &Scope, id: &str) -> Result<Option<String>, Gone> {
        if !is_id(id) {
            return Ok(None);
        }
        let mut link = self.link();
        let text: Option<String> = within(LONG, link.get(scope.key(&session(id)))).await?;
        Ok(text.filter(|text| text.len() <= MOST_SESSION_BYTES))
    }

    /// Says that a session is in use: it is kept for `idle` from now on.
    ///
    /// # Errors
    /// The state cannot be reached.
    pub async fn touch_session(&self, scope: &Scope, id: &str, idle: Duration) -> Result<(), Gone> {
        let mut link = self.link();
        let mut script = TOUCH.key(scope.key(&session(id)));
        script.key(scope.key("sessions")).arg(id).arg(millis(idle));
        within(LONG, script.invoke_async(&mut link)).await
    }

    /// Forgets a session.
    ///
    /// # Errors
    /// The state cannot be reached.
    pub async fn end_session(&self, scope: &Scope, id: &str) -> Result<(), Gone> {
        if !is_id(id) {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        pipeline.del(scope.key(&session(id))).ignore();
        pipeline.zrem(scope.key("sessions"), id).ignore();
        let mut link = self.link();
        within(LONG, pipeline.query_async(&mut link)).await
    }

    /// Says that this replica holds a stream; to be said again every [`STREAM_RENEWAL`].
    ///
    /// # Errors
    /// The state cannot be reached.
    pub async fn hold_stream(&self, scope: &Scope, id: &str) -> Result<(), Gone> {
        let mut link = self.link();
        let (key, replica) = (scope.key(&stream(id)), self.replica().to_string());
        within(LONG, link.set_ex(key, replica, STREAM_LIFETIME.as_secs())).await
    }

    /// Says that it no longer does.
    ///
    /// # Errors
    /// The state cannot be reached.
    pub async fn release_stream(&self, scope: &Scope, id: &str) -> Result<(), Gone> {
        let mut link = self.link();
        within(LONG, link.del(scope.key(&stream(id)))).await
    }

    /// Who holds a stream of this scope, if anybody does.
    ///
    /// # Errors
    /// The state cannot be reached.
    pub async fn stream_holder(&self, scope: &Scope, id: &str) -> Result<Option<ReplicaId>, Gone> {
        if !is_id(id) {
            return Ok(None);
        }
        let mut link = self.link();
        let holder: Option<String> = within(LONG, link.get(scope.key(&stream(id)))).await?;
        Ok(holder.and_then(|holder| holder.parse().ok()))
    }
}
