//! What a waiter holds: the newest snapshot of a call and the wait for the next one. Knows nothing of polling or
//! webhooks.

use std::sync::Arc;

use schemars::JsonSchema;
use scopeguard::ScopeGuard;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use callingbox::{Call, Error, TranscriptSegment};

/// How long a tool waits for a call to end: the section `[wait]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WaitLimits {
    /// Seconds to wait if the caller names none. Keep it below 60: Claude Desktop gives up then.
    pub default_seconds: u64,
    /// The most seconds that a caller may ask for without following progress.
    pub max_seconds: u64,
}

impl Default for WaitLimits {
    fn default() -> Self {
        Self { default_seconds: 45, max_seconds: 300 }
    }
}

/// The limits within which the calls of one account are watched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchSettings {
    /// The most requests in any one second. The default of 16 leaves a margin below 20 for requests that the network
    /// delivers in bunches.
    pub requests_per_second: u32,
    /// The most calls that are watched at the same time.
    pub max_live: usize,
    /// How many times faster than real time the API's time runs: 1 for the real API, the clock's speed for a
    /// simulator. Below 1 counts as 1.
    pub speed: f64,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self { requests_per_second: 16, max_live: 10_000, speed: 1.0 }
    }
}

/// Why a call cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The account's limit is reached.
    #[error(
        "the account already follows {limit} live calls, which is the limit; the call goes on, and its state can \
         be read without waiting"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// What a follower needs besides the call's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchOptions {
    /// The transcript: its lines while they are spoken, and all of them at the end.
    pub transcript: bool,
}

/// Whether more snapshots will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WatchStatus {
    /// The call is watched.
    #[default]
    Watching,
    /// The call is over. No more snapshots will come.
    Finished,
    /// The API knows no call with this id (404). No more snapshots will come.
    NotFound,
    /// The API rejects the key (401), or the key may not read the call (403). No more snapshots will come.
    Unauthorized,
}

impl WatchStatus {
    /// Whether the watch is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        self != Self::Watching
    }
}

/// What is known of a call. All its followers share it.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The record, once the API has answered.
    pub call: Option<Arc<Call>>,
    /// The lines spoken so far, if a follower wants them. Their number only grows.
    pub segments: Arc<[TranscriptSegment]>,
    /// Whether `segments` was read after the conversation ended, and is therefore complete.
    pub segments_final: bool,
    /// Whether more snapshots will come.
    pub state: WatchStatus,
    /// Why the last poll of the record failed; `None` once the API answers again. The watch goes on unless `state`
    /// says otherwise.
    pub trouble: Option<Arc<Error>>,
    /// The same for `segments`. The record may be up to date nevertheless.
    pub segments_trouble: Option<Arc<Error>>,
    /// When the API last answered. A change of this field alone wakes no follower.
    pub seen_at: Option<Instant>,
}

/// One who waits for a call. Dropping it ends its subscription, and dropping the last one ends the watch.
#[derive(Debug)]
pub struct Follower {
    pub(super) receiver: watch::Receiver<Arc<Snapshot>>,
    /// `None` for a call that had already finished.
    pub(super) _guard: Option<SubscriptionGuard>,
}

impl Follower {
    /// The newest snapshot. Read it before the first [`Follower::changed`].
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.receiver.borrow().clone()
    }

    /// Waits for a snapshot that this follower has not seen; `None` when no more will come. Changes in quick
    /// succession may arrive as one. Cancel safe.
    pub async fn changed(&mut self) -> Option<Arc<Snapshot>> {
        self.receiver.changed().await.ok()?;
        Some(self.receiver.borrow_and_update().clone())
    }

    /// Waits until the watch is over and returns the last snapshot, whose state is [`WatchStatus::Watching`] only if
    /// the process is shutting down. Cancel safe.
    pub async fn finished(&mut self) -> Arc<Snapshot> {
        while !self.snapshot().state.is_over() && self.changed().await.is_some() {}
        self.snapshot()
    }
}

/// Runs an action when it is dropped: the end of a subscription.
pub(super) type SubscriptionGuard = ScopeGuard<(), Box<dyn FnOnce(()) + Send + Sync>>;
