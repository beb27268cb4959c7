//! The records of a batch and of its rows as a ledger keeps them, and the steps of a batch's life. A batch is a list of
//! people whom one agent calls after one yes; a row is one person. Knows no scheduler and no storage.
//!
//! A batch belongs to one process, which renews its lease. [`BatchRecord::apply`] is the only place that changes a batch,
//! so every ledger changes it alike.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids::{AccountId, BatchId, DispatchId, Fingerprint, IdempotencyKey};
use super::record::{AttemptStop, Callee, ConfirmedBy, truncate_to_millis};
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::caller::CallerName;
use crate::dialing::clock::ClockReading;
use callingbox::{CallId, E164};

/// How long a list is kept that nobody has confirmed.
pub const ASKED_LIFETIME: SignedDuration = SignedDuration::from_mins(15);

/// The state of a batch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// It waits for the user's yes. Nothing rings.
    Asked,
    /// Its process starts calls.
    Running,
    /// Its process starts no calls for now, for a [`PauseReason`].
    Paused,
    /// Its process has ended. Nothing rings until the batch is resumed.
    Interrupted,
    /// It was canceled. No more calls start.
    Canceled,
    /// Every row has its end.
    Ended,
}

impl BatchState {
    /// The word under which the state is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Interrupted => "interrupted",
            Self::Canceled => "canceled",
            Self::Ended => "ended",
        }
    }

    /// Whether rows may still be called: by its process, or after it is resumed.
    #[must_use]
    pub const fn is_unfinished(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Interrupted)
    }
}

/// Why a batch starts no calls for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// The clocks disagree.
    Clock,
    /// The account has too little credit.
    Credit,
    /// CallingBox fails or cannot be reached.
    Api,
    /// CallingBox rejects the key.
    Key,
    /// The agent is not the one that was confirmed.
    Agent,
    /// The caller who started the batch may no longer use this server.
    Caller,
}

impl PauseReason {
    /// The cause, and what ends the pause.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Clock => {
                "the clock of this machine jumped; the calls go on once the clocks agree for a minute"
            }
            Self::Credit => {
                "the account has too little credit; one row is tried again every five minutes"
            }
            Self::Api => "CallingBox could not place five calls in a row; it is tried again later",
            Self::Key => "CallingBox rejects the API key; a person must set another one",
            Self::Agent => "the agent was changed; going on with it needs a new yes",
            Self::Caller => "the access of whoever started it was revoked",
        }
    }
}

/// When a row is called again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all.
    pub max_attempts: u32,
    /// Minutes between the end of one attempt and the next.
    pub after_minutes: u32,
    /// The outcomes after which a row is called again.
    pub on: Vec<CallOutcome>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 1, after_minutes: 30, on: Vec::new() }
    }
}

/// When no more calls start: once `count` results have this value in this field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopCondition {
    pub field: String,
    pub equals: Value,
    pub count: u32,
}

/// What all calls of a batch have in common. Erased with the people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchTask {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_number: Option<E164>,
    /// The instructions, with placeholders such as `{name}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    #[serde(default)]
    pub retry: RetryPolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_when: Option<StopCondition>,
    /// Call numbers that the agent called a moment ago.
    #[serde(default)]
    pub allow_repeat: bool,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchRecord {
    pub batch_id: BatchId,
    pub account_id: AccountId,
    /// Who asked for it.
    pub caller: CallerName,
    /// The list, whatever the order of its rows.
    pub fingerprint: Fingerprint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
    pub agent_id: String,
    /// `None` once it is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<BatchTask>,
    /// How many rows it has.
    pub size: u32,
    pub state: BatchState,
    /// Of a paused batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseReason>,
    /// `None` until it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_by: Option<ConfirmedBy>,
    /// A hash of everything that the yes covers.
    pub covered: String,
    /// When it was written, by the dialing clock.
    pub created_at: Timestamp,
    /// The window in which calls start, by the dialing clock.
    pub start_at: Timestamp,
    pub end_by: Timestamp,
    /// When it ended or was canceled, by the dialing clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// When the list (of an asked batch) or its people (of a finished one) are erased, by the machine's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erase_at: Option<Timestamp>,
    /// Until then its process is alive, by the machine's clock.
    pub lease_expires_at: Timestamp,
    /// How many processes have run it.
    pub generation: u32,
}

/// How a batch is confirmed and started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchStart {
    pub now: ClockReading,
    pub lease_expires_at: Timestamp,
    pub confirmed_by: ConfirmedBy,
    /// A hash of everything that the yes covers.
    pub covered: String,
}

/// A change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchChange {
    /// Starts an asked batch.
    Start(BatchStart),
    /// The process that runs it is alive, and starts calls or pauses.
    Renew {
        generation: u32,
        now: ClockReading,
        lease_expires_at: Timestamp,
        pause: Option<PauseReason>,
    },
    /// Another process goes on with it.
    Resume(BatchStart),
    /// The process that runs it ends.
    Interrupt { generation: u32 },
    /// No more calls start. `erase_at` is when its people are erased.
    Cancel { now: ClockReading, erase_at: Timestamp },
    /// Every row has its end.
    End { generation: u32, now: ClockReading, erase_at: Timestamp },
    /// Its people are erased.
    Forget,
}

impl BatchRecord {
    /// The state as others see it: a running batch whose lease has expired is interrupted.
    #[must_use]
    pub fn state_at(&self, machine: Timestamp) -> BatchState {
        match self.state {
            BatchState::Running | BatchState::Paused if self.lease_expires_at <= machine => {
                BatchState::Interrupted
            }
            state => state,
        }
    }

    /// Whether it started before.
    #[must_use]
    pub const fn has_started(&self) -> bool {
        self.confirmed_by.is_some()
    }

    /// Whether its list may be erased now.
    #[must_use]
    pub fn is_erasable(&self, machine: Timestamp) -> bool {
        self.erase_at.is_some_and(|erase_at| erase_at <= machine)
    }

    /// Whether the process of this generation may start calls.
    #[must_use]
    pub fn is_held(&self, generation: u32, machine: Timestamp) -> bool {
        self.generation == generation
            && matches!(self.state_at(machine), BatchState::Running | BatchState::Paused)
    }

    /// Applies a change. Returns whether the record changed; if not, the change no longer fits the batch.
    pub(super) fn apply(&mut self, change: BatchChange) -> bool {
        match change {
            BatchChange::Start(start) => {
                let is_asked =
                    self.state == BatchState::Asked && !self.is_erasable(start.now.machine);
                is_asked && self.start(start)
            }
            BatchChange::Resume(start) => {
                let state = self.state_at(start.now.machine);
                let is_resumable = matches!(state, BatchState::Interrupted | BatchState::Paused);
                is_resumable && self.start(start)
            }
            BatchChange::Renew { generation, now, lease_expires_at, pause } => {
                let is_held = self.is_held(generation, now.machine);
                if is_held {
                    self.lease_expires_at = truncate_to_millis(lease_expires_at);
                    self.state =
                        if pause.is_some() { BatchState::Paused } else { BatchState::Running };
                    self.pause = pause;
                }
                is_held
            }
            BatchChange::Interrupt { generation } => {
                let is_held = self.generation == generation
                    && matches!(self.state, BatchState::Running | BatchState::Paused);
                if is_held {
                    self.state = BatchState::Interrupted;
                }
                is_held
            }
            BatchChange::Cancel { now, erase_at } => {
                let is_open = self.state == BatchState::Asked || self.state.is_unfinished();
                is_open && self.close(BatchState::Canceled, now.dialing, erase_at)
            }
            BatchChange::End { generation, now, erase_at } => {
                let is_held = self.generation == generation
                    && matches!(self.state, BatchState::Running | BatchState::Paused);
                is_held && self.close(BatchState::Ended, now.dialing, erase_at)
            }
            BatchChange::Forget => {
                let is_open = self.state == BatchState::Asked || self.state.is_unfinished();
                if !is_open {
                    self.task = None;
                    self.erase_at = None;
                }
                !is_open
            }
        }
    }

    fn start(&mut self, start: BatchStart) -> bool {
        self.state = BatchState::Running;
        self.pause = None;
        self.confirmed_by = Some(start.confirmed_by);
        self.covered = start.covered;
        self.lease_expires_at = truncate_to_millis(start.lease_expires_at);
        self.generation = self.generation.saturating_add(1);
        self.erase_at = None;
        true
    }

    fn close(&mut self, state: BatchState, now: Timestamp, erase_at: Timestamp) -> bool {
        self.state = state;
        self.pause = None;
        self.ended_at = Some(truncate_to_millis(now));
        self.erase_at = Some(truncate_to_millis(erase_at));
        true
    }
}

/// The state of a row.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// It is called later.
    Waiting,
    /// A call is on its way or in progress.
    Calling,
    /// The last call has ended.
    Done,
    /// The calling rules, an earlier call or CallingBox refuse it.
    Refused,
    /// It is not called: the batch was canceled, the time ran out, or enough results were found.
    NotCalled,
    /// It may have been called. It is not called again.
    Unknown,
}

impl RowState {
    /// The word under which the state is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Calling => "calling",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::NotCalled => "not_called",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the row may still be called, or is.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Calling)
    }
}

/// The person of a row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Person {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// A row of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowRecord {
    /// Its position in the list, from 1.
    pub row: u32,
    pub callee: Callee,
    /// `None` once it is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<E164>,
    /// `None` once it is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
    pub state: RowState,
    /// Why it waits, is refused or is not called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rule that asks for this row, as the person saw it before the yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// How many attempts have begun.
    pub attempts: u32,
    /// When the next attempt may start, by the dialing clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// The dispatch of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch_id: Option<DispatchId>,
    /// The call of the last attempt, or the call for which the row is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
    /// The outcome of the last call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<CallOutcome>,
}

impl RowRecord {
    /// The row while this attempt calls its number.
    #[must_use]
    pub fn in_attempt(&self, attempt: u32, dispatch: DispatchId) -> Self {
        Self {
            state: RowState::Calling,
            reason: None,
            attempts: attempt,
            due_at: None,
            dispatch_id: Some(dispatch),
            call_id: None,
            ..self.clone()
        }
    }

    /// Removes what identifies the person; the mask stays.
    pub(super) fn erase(&mut self) {
        self.number = None;
        self.person = None;
    }

    /// The row is refused because its number is in another unfinished batch.
    pub(super) fn refuse_for_batch(&mut self, other: &BatchId) {
        self.state = RowState::Refused;
        self.reason = Some(format!("this number is in the unfinished batch {other}"));
    }
}

impl BatchRecord {
    /// Why no attempt of this batch may begin or be sent now; `None` if one may.
    pub(super) fn attempt_stop(&self, generation: u32, now: ClockReading) -> Option<AttemptStop> {
        if !self.is_held(generation, now.machine) {
            Some(AttemptStop::BatchStopped)
        } else if now.dialing >= self.end_by {
            Some(AttemptStop::WindowClosed)
        } else {
            None
        }
    }
}

/// The result of [`super::BatchLedger::create_batch`].
#[derive(Debug, Clone, PartialEq)]
pub enum CreateBatchResult {
    Created,
    /// The same list is asked about, unfinished, or was started a moment ago.
    Duplicate(BatchRecord),
    /// The idempotency key belongs to this other batch.
    KeyConflict(BatchRecord),
}

/// Finds earlier batches with the same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLookup {
    pub now: ClockReading,
    /// A finished batch that was created after this time is a repetition.
    pub repeats_since: Timestamp,
    /// Only an asked batch is a repetition.
    pub allow_repeat: bool,
}

impl BatchLookup {
    /// Whether this batch with the same list answers a new request.
    pub(super) fn is_answered_by(&self, earlier: &BatchRecord) -> bool {
        match earlier.state {
            BatchState::Asked => !earlier.is_erasable(self.now.machine),
            _ if self.allow_repeat => false,
            state => state.is_unfinished() || earlier.created_at > self.repeats_since,
        }
    }
}
