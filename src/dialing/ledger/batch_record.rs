//! The records of a batch and of its rows as a ledger keeps them, and the steps of a batch's life. A batch is a list of
//! people whom one agent calls after one yes; a row is one person. Knows no scheduler and no storage.
//!
//! A batch belongs to one process, which renews its lease. Whatever is decided about a batch, a row or an attempt is
//! decided here; a ledger reads the records, asks, and writes the result in the same atomic step.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_with::skip_serializing_none;

use super::KEY_LIFETIME;
use super::ids::{AccountId, BatchId, DispatchId, Fingerprint, IdempotencyKey};
use super::record::{
    Attempt, AttemptStop, Callee, ConfirmedBy, DispatchRecord, DispatchState, truncate_to_millis,
};
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::caller::CallerName;
use crate::dialing::clock::ClockReading;
use crate::dialing::policy::MetadataSource;
use callingbox::{CallId, E164};

/// How long an unconfirmed list is kept.
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

    /// Whether it has ended or was canceled.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Canceled | Self::Ended)
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
                "the clock of this machine jumped, disagrees with others, or cannot be read; the calls go on once the clocks agree for a minute"
            }
            Self::Credit => {
                "the account has too little credit; one row is tried again every five minutes"
            }
            Self::Api => "five calls in a row could not be placed; it is tried again later",
            Self::Key => "CallingBox rejects the API key; a person must set another one",
            Self::Agent => "the agent was changed; going on with it needs a new yes",
            Self::Caller => "the access of the caller who started it was revoked",
        }
    }

    /// Whether the batch goes on without a person.
    #[must_use]
    pub const fn ends_by_itself(self) -> bool {
        matches!(self, Self::Clock | Self::Credit | Self::Api)
    }

    /// Whether a call is tried meanwhile, to learn whether the cause is gone.
    #[must_use]
    pub const fn allows_trial(self) -> bool {
        matches!(self, Self::Credit | Self::Api)
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

impl StopCondition {
    /// Whether a result has the value.
    #[must_use]
    pub fn fits(&self, result: Option<&Map<String, Value>>) -> bool {
        let value = result.and_then(|result| result.get(&self.field));
        // 2 and 2.0 are the same number.
        let number = value.and_then(Value::as_f64);
        value == Some(&self.equals) || number.is_some() && number == self.equals.as_f64()
    }
}

/// What all calls of a batch have in common. Erased with the people.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchTask {
    pub from_number: Option<E164>,
    /// The instructions, with placeholders such as `{name}`.
    pub instructions: Option<String>,
    pub webhook_url: Option<String>,
    #[serde(default)]
    pub retry: RetryPolicy,
    pub stop_when: Option<StopCondition>,
    /// Call numbers that the agent called a moment ago.
    #[serde(default)]
    pub allow_repeat: bool,
    /// Who wrote the metadata of the people.
    #[serde(default)]
    pub metadata_source: MetadataSource,
}

/// A batch.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchRecord {
    pub batch_id: BatchId,
    pub account_id: AccountId,
    /// Who asked for it.
    pub caller: CallerName,
    /// The list, whatever the order of its rows.
    pub fingerprint: Fingerprint,
    pub idempotency_key: Option<IdempotencyKey>,
    pub agent_id: String,
    /// `None` once it is erased.
    pub task: Option<BatchTask>,
    /// How many rows it has.
    pub size: u32,
    pub state: BatchState,
    /// Of a paused batch.
    pub pause: Option<PauseReason>,
    /// `None` until it starts.
    pub confirmed_by: Option<ConfirmedBy>,
    /// A hash of everything that the yes covers.
    pub covered: String,
    /// When it was written, by the dialing clock.
    pub created_at: Timestamp,
    /// The window in which calls start, by the dialing clock.
    pub start_at: Timestamp,
    pub end_by: Timestamp,
    /// When it was first started, by the dialing clock.
    pub started_at: Option<Timestamp>,
    /// When it ended or was canceled, by the dialing clock.
    pub ended_at: Option<Timestamp>,
    /// When the list (of an asked batch) or its people (of a finished one) are erased, by the machine's clock.
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
        /// When the process wrote its lease, plus the time that has passed since then on its monotonic clock.
        /// `lease_expires_at` goes by the machine's clock, which may have jumped.
        now: Timestamp,
        lease_expires_at: Timestamp,
        pause: Option<PauseReason>,
    },
    /// Another process goes on with it.
    Resume(BatchStart),
    /// The process that runs it ends.
    Interrupt { generation: u32 },
    /// No more calls start, and each waiting row ends. `erase_at` is when its people are erased.
    Cancel { now: ClockReading, erase_at: Timestamp },
    /// Every row has its end.
    End { generation: u32, now: ClockReading, erase_at: Timestamp },
}

impl BatchChange {
    /// Whether the change depends on the rows, or changes them with the batch.
    pub(super) const fn concerns_rows(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Cancel { .. } | Self::End { .. })
    }
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

    /// Whether the process of this generation runs it.
    #[must_use]
    pub fn is_held(&self, generation: u32, machine: Timestamp) -> bool {
        self.generation == generation
            && matches!(self.state_at(machine), BatchState::Running | BatchState::Paused)
    }

    /// Applies a change. `rows` are all its rows if the change concerns them; then each row is to follow
    /// ([`RowRecord::follow`]). Returns whether the batch changed; if not, the change no longer fits.
    pub(super) fn apply(&mut self, change: BatchChange, rows: &[RowRecord]) -> bool {
        let is_open = matches!(self.state, BatchState::Running | BatchState::Paused);
        match change {
            BatchChange::Start(start) => {
                let fits = self.state == BatchState::Asked && !self.is_erasable(start.now.machine);
                fits && self.start(start)
            }
            BatchChange::Resume(start) => {
                let state = self.state_at(start.now.machine);
                let fits = matches!(state, BatchState::Interrupted | BatchState::Paused);
                fits && self.start(start)
            }
            BatchChange::Renew { generation, now, lease_expires_at, pause } => {
                let fits = self.is_held(generation, now);
                if fits {
                    self.lease_expires_at = truncate_to_millis(lease_expires_at);
                    self.state =
                        if pause.is_some() { BatchState::Paused } else { BatchState::Running };
                    self.pause = pause;
                }
                fits
            }
            BatchChange::Interrupt { generation } => {
                let fits = is_open && self.generation == generation;
                if fits {
                    self.state = BatchState::Interrupted;
                    self.pause = None;
                }
                fits
            }
            BatchChange::Cancel { now, erase_at } => {
                let fits = !self.state.is_finished();
                // An unconfirmed list is not kept longer for being canceled.
                let erase_at = self.erase_at.map_or(erase_at, |sooner| sooner.min(erase_at));
                fits && self.close(BatchState::Canceled, now.dialing, erase_at)
            }
            BatchChange::End { generation, now, erase_at } => {
                let has_ended = rows.iter().all(|row| !row.state.is_open());
                let fits = is_open && self.generation == generation && has_ended;
                fits && self.close(BatchState::Ended, now.dialing, erase_at)
            }
        }
    }

    /// Removes what the people are called for; the rows lose the people ([`RowRecord::erase`]). Returns `false` if the
    /// batch is not finished.
    pub(super) fn erase(&mut self) -> bool {
        let is_finished = self.state.is_finished();
        if is_finished {
            self.task = None;
            self.erase_at = None;
        }
        is_finished
    }

    fn start(&mut self, start: BatchStart) -> bool {
        self.state = BatchState::Running;
        self.pause = None;
        self.confirmed_by = Some(start.confirmed_by);
        self.started_at = self.started_at.or(Some(truncate_to_millis(start.now.dialing)));
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
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Person {
    pub name: Option<String>,
    pub context: Option<Map<String, Value>>,
    pub metadata: Option<Map<String, Value>>,
}

/// A row of a batch.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowRecord {
    /// Its position in the list, from 1.
    pub row: u32,
    pub callee: Callee,
    /// `None` once it is erased.
    pub number: Option<E164>,
    /// `None` once it is erased.
    pub person: Option<Person>,
    pub state: RowState,
    /// Why it waits, is refused or is not called.
    pub reason: Option<String>,
    /// The rule that asks for this row, as the person saw it before the yes.
    pub asked_by: Option<String>,
    /// How many attempts have begun.
    pub attempts: u32,
    /// When the next attempt may start, by the dialing clock.
    pub due_at: Option<Timestamp>,
    /// The dispatch of the last attempt.
    pub dispatch_id: Option<DispatchId>,
    /// The call of the last attempt, or the call for which the row is refused.
    pub call_id: Option<CallId>,
    /// The outcome of the last call.
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

    /// The row as the process that runs the batch reports it. Who is called and the dispatch of the last attempt are the
    /// ledger's own.
    pub(super) fn with_report(&self, report: Self) -> Self {
        Self {
            row: self.row,
            callee: self.callee.clone(),
            number: self.number.clone(),
            person: self.person.clone(),
            dispatch_id: self.dispatch_id,
            ..report
        }
    }

    /// The row after a change of its batch or of itself. It does not wait for a batch that is finished, nor if its number
    /// is in another unfinished batch.
    pub fn follow(&mut self, batch: &BatchRecord, other: Option<&BatchId>) {
        if self.state != RowState::Waiting {
            return;
        }
        if batch.state.is_finished() {
            let was_called = self.attempts > 0;
            self.state = if was_called { RowState::Done } else { RowState::NotCalled };
            self.reason = Some("the batch was canceled".to_owned());
            self.due_at = None;
        } else if let Some(other) = other.filter(|_| batch.state.is_unfinished()) {
            self.state = RowState::Refused;
            self.reason = Some(format!("this number is in the unfinished batch {other}"));
            self.due_at = None;
        }
    }

    /// Removes who the person is; the mask stays.
    pub(super) fn erase(&mut self) {
        self.number = None;
        self.person = None;
    }
}

impl Attempt {
    /// Whether its batch lets it begin, or be sent, now.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn check(
        &self,
        batch: Option<&BatchRecord>,
        now: ClockReading,
    ) -> Result<(), AttemptStop> {
        let is_held = |batch: &&BatchRecord| {
            batch.is_held(self.generation, now.machine)
                && batch.pause.is_none_or(PauseReason::allows_trial)
        };
        let batch = batch.filter(is_held).ok_or(AttemptStop::BatchStopped)?;
        if now.dialing >= batch.end_by { Err(AttemptStop::WindowClosed) } else { Ok(()) }
    }

    /// Its row once the attempt has begun with this dispatch. `earlier` are all dispatches of the row.
    ///
    /// # Errors
    /// The row does not wait for this attempt, or an earlier dispatch may be a call: an attempt is repeated only if it was
    /// proved that it was not placed, and followed only if it has its end.
    pub(super) fn claim(
        &self,
        dispatch: DispatchId,
        row: Option<&RowRecord>,
        earlier: &[DispatchRecord],
    ) -> Result<RowRecord, AttemptStop> {
        let is_over = |earlier: &DispatchRecord| {
            let attempt = earlier.attempt.as_ref().map(|attempt| attempt.attempt);
            match earlier.state {
                DispatchState::NotPlaced { .. } => attempt <= Some(self.attempt),
                DispatchState::Finished { .. } => attempt < Some(self.attempt),
                DispatchState::Intent
                | DispatchState::Unknown { .. }
                | DispatchState::Placed { .. } => false,
            }
        };
        let waits = |row: &&RowRecord| {
            row.state == RowState::Waiting
                && row.attempts.checked_add(1) == Some(self.attempt)
                && earlier.iter().all(is_over)
        };
        let row = row.filter(waits).ok_or(AttemptStop::AttemptTaken)?;
        Ok(row.in_attempt(self.attempt, dispatch))
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
    /// A finished batch that was started after this time is a repetition.
    pub repeats_since: Timestamp,
    /// Only an asked batch is a repetition.
    pub allow_repeat: bool,
}

impl BatchLookup {
    /// The answer that the batch with the same idempotency key gives; `None` if the key is free again.
    pub(super) fn answer_of_key(
        &self,
        new: &BatchRecord,
        earlier: BatchRecord,
    ) -> Option<CreateBatchResult> {
        let is_honored = self.now.dialing.duration_since(earlier.created_at) < KEY_LIFETIME;
        if !is_honored || self.has_lapsed(&earlier) {
            None
        } else if earlier.fingerprint == new.fingerprint {
            Some(CreateBatchResult::Duplicate(earlier))
        } else {
            Some(CreateBatchResult::KeyConflict(earlier))
        }
    }

    /// The answer that a batch with the same list gives; `None` if it is no repetition.
    pub(super) fn answer_of_list(&self, earlier: BatchRecord) -> Option<CreateBatchResult> {
        let is_repetition = match earlier.started_at {
            None => !self.has_lapsed(&earlier),
            Some(_) if self.allow_repeat => false,
            Some(started_at) => {
                // A list may be confirmed, and its window begin, long after it was written.
                let began_at = started_at.max(earlier.start_at);
                let began_at = earlier.ended_at.map_or(began_at, |ended_at| began_at.min(ended_at));
                earlier.state.is_unfinished() || began_at > self.repeats_since
            }
        };
        is_repetition.then_some(CreateBatchResult::Duplicate(earlier))
    }

    /// Whether the list was never started, and can no longer be.
    fn has_lapsed(&self, earlier: &BatchRecord) -> bool {
        earlier.started_at.is_none()
            && (earlier.state != BatchState::Asked || earlier.is_erasable(self.now.machine))
    }
}
