//! What someone who waits for a call holds: the newest snapshot and the wait for the next one.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::watchers::Interest;
use callingbox::{Call, Error, TranscriptSegment};

/// What a follower needs besides the call's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Want {
    /// What was said, while it is said and whole at the end.
    pub transcript: bool,
}

/// Whether more will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// The call is followed.
    #[default]
    Watching,
    /// The call is over. Nothing more will come.
    Finished,
    /// The API knows no call with this id (404). Nothing more will come.
    NotFound,
    /// The API no longer takes the key (401). Nothing more will come.
    Unauthorized,
}

impl State {
    /// Whether the watch is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        self != Self::Watching
    }
}

/// What is known of a call. Shared by everyone who waits for it.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The record, once the API has answered.
    pub call: Option<Arc<Call>>,
    /// What was said so far, when a follower wants it. Only ever grows in number.
    pub segments: Arc<[TranscriptSegment]>,
    /// Whether `segments` was read after the conversation's end, and so is all that was said.
    pub segments_final: bool,
    /// Whether more will come.
    pub state: State,
    /// Why the last look at the record failed; nothing once the API answers again. The wait goes on
    /// unless `state` says otherwise.
    pub trouble: Option<Arc<Error>>,
    /// The same of `segments`. The record may be as new as can be all the same.
    pub segments_trouble: Option<Arc<Error>>,
    /// When the API last answered. It moves without waking anyone.
    pub seen_at: Option<Instant>,
}

/// One who waits for a call. Dropping it ends the interest, and the last one to go ends the watch.
#[derive(Debug)]
pub struct Follower {
    receiver: watch::Receiver<Arc<Snapshot>>,
    /// Nothing for a call that was finished already.
    _interest: Option<Interest>,
}

impl Follower {
    pub(super) fn new(
        receiver: watch::Receiver<Arc<Snapshot>>,
        interest: Option<Interest>,
    ) -> Self {
        Self { receiver, _interest: interest }
    }

    /// What is known now. Look at it before the first [`Follower::changed`].
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.receiver.borrow().clone()
    }

    /// Waits for a snapshot that differs from the last one seen here. Nothing when no more will come.
    /// Changes in quick succession may be seen as one. Cancel safe.
    pub async fn changed(&mut self) -> Option<Arc<Snapshot>> {
        self.receiver.changed().await.ok()?;
        Some(self.receiver.borrow_and_update().clone())
    }

    /// Waits until the watch is over and gives the last snapshot. It still says
    /// [`State::Watching`] only when the process is shutting down. Cancel safe.
    pub async fn finished(&mut self) -> Arc<Snapshot> {
        while !self.snapshot().state.is_over() && self.changed().await.is_some() {}
        self.snapshot()
    }
}
