//! The record of one dispatch, the steps of its life, and the arguments and results of beginning one.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Result;
use super::error::LedgerError;
use super::ids::{
    AccountId, AccountRef, ArgumentHashes, BatchId, DestinationHash, DispatchId, Fingerprint,
    IdempotencyKey,
};
use crate::dialing::call_outcome::{CallEnd, CallOutcome};
use crate::dialing::caller::CallerName;
use crate::dialing::clock::ClockReading;
use crate::dialing::limits::{
    CallLimits, LimitReached, MAX_CALL_DURATION, MAX_UNKNOWN_AFTER_SEARCH, OrderKind,
};
use callingbox::E164;
use callingbox::MilliCents;

/// How an order was confirmed before it was dispatched. `Display` is the text for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmedBy {
    /// The calling rules required no confirmation.
    NotRequired,
    /// The user answered a question that their client displayed.
    User,
    /// The user answered in the call card, which their client displayed.
    Card,
    /// The model returned a confirmation token.
    Token,
    /// The user answered at the terminal.
    Terminal,
    /// A command had the flag that stands for the user's answer.
    Flag,
}

impl fmt::Display for ConfirmedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRequired => "not required",
            Self::User => "the user, in the client",
            Self::Card => "the user, in the card",
            Self::Token => "a confirmation token",
            Self::Terminal => "the user, at the terminal",
            Self::Flag => "a flag, in a script",
        })
    }
}

/// The state of a dispatch.
///
/// Evidence only grows: a weaker fact never replaces a stronger one. The order of strength is
/// `Intent < Unknown < NotPlaced < Placed < Finished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DispatchState {
    /// The request is about to be sent, or was sent and not answered yet. The process that works on it holds the
    /// record's lease. When the lease has expired, that process is gone and the dispatch must be resolved.
    Intent,
    /// The request may have been sent, and the order was not found.
    Unknown {
        /// When a complete search first did not find the order; `None` if no search was complete.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        absent_since: Option<Timestamp>,
    },
    /// Nothing was dialed or bought.
    NotPlaced { reason: String },
    /// The call was placed, or the number bought.
    Placed {
        /// The id of the call or of the number.
        id: String,
    },
    /// The call has ended, or the purchase is complete.
    Finished {
        /// The id of the call or of the number.
        id: String,
        outcome: CallOutcome,
        /// The billed amount, once it is known.
        #[serde(rename = "cost_milli_cents")]
        cost: Option<MilliCents>,
    },
}

impl DispatchState {
    /// The words of [`DispatchState::as_str`].
    pub fn words() -> impl Iterator<Item = &'static str> {
        let before_the_end = ["intent", "unknown", "not_placed", "placed"];
        before_the_end.into_iter().chain(CallOutcome::ENDED.map(CallOutcome::as_str))
    }

    /// The state in one word for people, which is the outcome of a call that has ended.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Unknown { .. } => "unknown",
            Self::NotPlaced { .. } => "not_placed",
            Self::Placed { .. } => "placed",
            Self::Finished { outcome, .. } => outcome.as_str(),
        }
    }

    /// The id of the call or of the number, if there is one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Placed { id } | Self::Finished { id, .. } => Some(id),
            Self::Intent | Self::Unknown { .. } | Self::NotPlaced { .. } => None,
        }
    }

    /// Whether the result of the request is not known.
    const fn is_open(&self) -> bool {
        matches!(self, Self::Intent | Self::Unknown { .. })
    }
}

/// A destination as the ledger stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callee {
    /// The number with its middle digits hidden, for people.
    pub masked: String,
    /// The hash by which calls to the number are counted.
    pub hash: DestinationHash,
}

impl Callee {
    #[must_use]
    pub fn new(account: &AccountRef, number: &E164) -> Self {
        Self { masked: number.masked(), hash: account.hash(number) }
    }
}

/// The attempt that a dispatch is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub batch_id: BatchId,
    pub row: u32,
    /// From 1.
    pub attempt: u32,
    /// The generation of the process that runs the batch.
    pub generation: u32,
}

/// Why an attempt did not begin, or its request was withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptStop {
    /// The batch was canceled, interrupted or resumed elsewhere, or it pauses.
    BatchStopped,
    /// The window of the batch is over.
    WindowClosed,
    /// The attempt began before, or the one before it has no end yet.
    AttemptTaken,
}

/// An order that is about to be dispatched. Written before the first byte of the request is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIntent {
    /// A new id, which the request will carry.
    pub dispatch_id: DispatchId,
    pub kind: OrderKind,
    pub account_id: AccountId,
    /// Who asked for the order.
    pub caller: CallerName,
    pub fingerprint: Fingerprint,
    pub arguments: ArgumentHashes,
    pub idempotency_key: Option<IdempotencyKey>,
    /// `None` for a purchase.
    pub callee: Option<Callee>,
    pub agent_id: Option<String>,
    /// The calling rule that decided.
    pub rule: String,
    pub confirmed_by: ConfirmedBy,
    /// The most that the order can cost.
    pub hold: MilliCents,
    /// The attempt of a batch that the call is.
    pub attempt: Option<Attempt>,
}

impl NewIntent {
    /// The agent and the destination of a call.
    pub(super) fn pair(&self) -> Option<(String, DestinationHash)> {
        self.agent_id.clone().zip(self.callee.as_ref().map(|callee| callee.hash.clone()))
    }
}

/// The conditions under which an order may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeginConstraints {
    pub now: ClockReading,
    /// Until then the dispatch counts as alive without renewing its lease.
    pub lease_expires_at: Timestamp,
    /// An identical order that was placed after this time answers the new one.
    pub repeats_since: Timestamp,
    /// Place the order even if an identical one was placed a moment ago.
    pub allow_repeat: bool,
    /// The limits to enforce.
    pub limits: CallLimits,
}

/// Finds an earlier identical order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatchLookup {
    pub account_id: AccountId,
    pub fingerprint: Fingerprint,
    pub idempotency_key: Option<IdempotencyKey>,
    /// The agent and the destination of a call.
    pub pair: Option<(String, DestinationHash)>,
    pub now: ClockReading,
    /// Only an order that was placed after this time is a repetition.
    pub repeats_since: Timestamp,
    /// An order that was placed is no repetition, unless it has the same idempotency key.
    pub allow_repeat: bool,
    /// The number of the attempt, for a call of a batch. Such a call waits for every open call to its number, and only a
    /// first attempt can repeat an earlier call.
    pub attempt: Option<u32>,
}

impl DispatchLookup {
    #[must_use]
    pub(super) fn from_intent(intent: &NewIntent, constraints: &BeginConstraints) -> Self {
        Self {
            account_id: intent.account_id.clone(),
            fingerprint: intent.fingerprint.clone(),
            idempotency_key: intent.idempotency_key.clone(),
            pair: intent.pair(),
            now: constraints.now,
            repeats_since: constraints.repeats_since,
            allow_repeat: constraints.allow_repeat,
            attempt: intent.attempt.as_ref().map(|attempt| attempt.attempt),
        }
    }

    /// Whether an earlier call by the same agent to the same number, in whatever words, blocks this one.
    pub(super) fn is_blocked_by_pair(&self) -> bool {
        !self.allow_repeat && self.attempt.is_none_or(|attempt| attempt == 1)
    }
}

/// An earlier dispatch that blocks a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EarlierDispatch {
    /// An identical order was placed; it answers the new one.
    Duplicate(DispatchRecord),
    /// Another process is placing an identical order: wait for it.
    InFlight(DispatchRecord),
    /// An identical order was dispatched, and its result is not known: resolve it first.
    Unresolved(DispatchRecord),
    /// The idempotency key belongs to this other order.
    KeyConflict(DispatchRecord),
    /// The same agent called the same number within the window, with other arguments.
    SimilarCall(DispatchRecord),
    /// The number waits in this unfinished batch of the same agent.
    WaitsInBatch(BatchId),
}

/// The result of [`super::Ledger::begin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeginResult {
    /// The intent is on disk: dial.
    Begun(DispatchRecord),
    /// An earlier dispatch blocks the order.
    Earlier(EarlierDispatch),
    LimitReached(LimitReached),
    /// The number is on the do-not-call list.
    OptedOut,
    /// The attempt of a batch may not begin.
    Stopped(AttemptStop),
}

/// The result of renewing the lease of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseRenewal {
    Renewed,
    /// Another process has taken the dispatch over, or recorded its result.
    Lost,
    /// The number is on the do-not-call list.
    OptedOut,
    /// The batch of the attempt has stopped, or its window is over.
    Stopped(AttemptStop),
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DispatchRecord {
    pub dispatch_id: DispatchId,
    pub kind: OrderKind,
    pub account_id: AccountId,
    /// Who asked for the order.
    pub caller: CallerName,
    pub fingerprint: Fingerprint,
    pub arguments: ArgumentHashes,
    pub idempotency_key: Option<IdempotencyKey>,
    /// `None` for a purchase.
    pub callee: Option<Callee>,
    pub agent_id: Option<String>,
    /// The calling rule that decided.
    pub rule: String,
    pub confirmed_by: ConfirmedBy,
    /// When the intent was written, by the dialing clock, to the millisecond.
    pub created_at: Timestamp,
    /// The same moment by the clock of the machine that wrote it.
    pub written_at: Timestamp,
    /// Until then the dispatch counts as alive, by the machine's clock.
    pub lease_expires_at: Timestamp,
    /// The number of processes that have held the lease: 1 is the process that began, and each take-over adds one.
    pub generation: u32,
    /// The most that the order can cost.
    #[serde(rename = "hold_milli_cents")]
    pub hold: MilliCents,
    /// The attempt of a batch that the call is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// Whether the final result of the call was read, with what it says of calling again.
    #[serde(default)]
    pub is_result_read: bool,
    #[serde(flatten)]
    pub state: DispatchState,
}

impl DispatchRecord {
    #[must_use]
    pub(super) fn from_intent(intent: NewIntent, constraints: &BeginConstraints) -> Self {
        Self {
            dispatch_id: intent.dispatch_id,
            kind: intent.kind,
            account_id: intent.account_id,
            caller: intent.caller,
            fingerprint: intent.fingerprint,
            arguments: intent.arguments,
            idempotency_key: intent.idempotency_key,
            callee: intent.callee,
            agent_id: intent.agent_id,
            rule: intent.rule,
            confirmed_by: intent.confirmed_by,
            created_at: truncate_to_millis(constraints.now.dialing),
            written_at: truncate_to_millis(constraints.now.machine),
            lease_expires_at: truncate_to_millis(constraints.lease_expires_at),
            generation: 1,
            hold: intent.hold,
            attempt: intent.attempt,
            is_result_read: false,
            state: DispatchState::Intent,
        }
    }

    /// Until when the call counts as in progress, if its end is not learned before; `None` if it does not count.
    pub(super) fn in_progress_until(&self) -> Option<Timestamp> {
        if self.kind != OrderKind::Call {
            return None;
        }
        let end = |from: Timestamp, duration| from.checked_add(duration).unwrap_or(Timestamp::MAX);
        let longest = end(self.created_at, MAX_CALL_DURATION);
        match self.state {
            DispatchState::Intent => {
                let lease = self.lease_expires_at.duration_since(self.written_at);
                Some(end(self.created_at, lease))
            }
            DispatchState::Unknown { absent_since: None } | DispatchState::Placed { .. } => {
                Some(longest)
            }
            DispatchState::Unknown { absent_since: Some(since) } => {
                Some(longest.min(end(since, MAX_UNKNOWN_AFTER_SEARCH)))
            }
            DispatchState::NotPlaced { .. } | DispatchState::Finished { .. } => None,
        }
    }

    /// How this record blocks an identical order at this time of the machine; `None` if it does not.
    pub(super) fn into_earlier(self, now: Timestamp) -> Option<EarlierDispatch> {
        match self.state {
            DispatchState::NotPlaced { .. } => None,
            DispatchState::Placed { .. } | DispatchState::Finished { .. } => {
                Some(EarlierDispatch::Duplicate(self))
            }
            DispatchState::Intent | DispatchState::Unknown { .. }
                if self.lease_expires_at > now =>
            {
                Some(EarlierDispatch::InFlight(self))
            }
            DispatchState::Intent | DispatchState::Unknown { .. } => {
                Some(EarlierDispatch::Unresolved(self))
            }
        }
    }
}

/// A step of a record's life. It returns whether the record changed and must be written, and may be called again, if
/// another process has changed the record meanwhile.
pub type RecordChange = Box<dyn Fn(&mut DispatchRecord) -> Result<bool> + Send + Sync>;

/// The steps of a record's life. Each returns whether the record changed and must be written.
impl DispatchRecord {
    /// Extends the lease for the process that holds it.
    pub(super) fn renew_lease(&mut self, generation: u32, expires_at: Timestamp) -> bool {
        let holds_lease = self.state.is_open() && self.generation == generation;
        if holds_lease {
            self.lease_expires_at = truncate_to_millis(expires_at);
        }
        holds_lease
    }

    /// Gives the lease to another process, if it has expired.
    pub(super) fn take_over(&mut self, now: Timestamp, expires_at: Timestamp) -> bool {
        let is_abandoned = self.state.is_open() && self.lease_expires_at <= now;
        if is_abandoned {
            self.generation = self.generation.saturating_add(1);
            self.lease_expires_at = truncate_to_millis(expires_at);
        }
        is_abandoned
    }

    /// The order was placed. This replaces every weaker fact.
    pub(super) fn set_placed(&mut self, id: &str) -> Result<bool> {
        match self.state.id() {
            None => {
                self.state = DispatchState::Placed { id: id.to_owned() };
                Ok(true)
            }
            Some(recorded) if recorded == id => Ok(false),
            Some(recorded) => Err(LedgerError::PlacedTwice {
                dispatch: self.dispatch_id,
                recorded: recorded.to_owned(),
                reported: id.to_owned(),
            }),
        }
    }

    /// The order was not placed, unless the record says that it was.
    pub(super) fn set_not_placed(&mut self, reason: &str) -> bool {
        let is_open = self.state.is_open();
        if is_open {
            self.state = DispatchState::NotPlaced { reason: reason.to_owned() };
        }
        is_open
    }

    /// The result is unknown, unless it is recorded. Ends the lease. `is_absent` says that a complete search did not find
    /// the order.
    pub(super) fn set_unknown(&mut self, now: ClockReading, is_absent: bool) -> bool {
        let is_open = self.state.is_open();
        if is_open {
            let absent_since = truncate_to_millis(now.dialing);
            let known = match self.state {
                DispatchState::Unknown { absent_since } => absent_since,
                _ => None,
            };
            self.state = DispatchState::Unknown {
                absent_since: known.or(is_absent.then_some(absent_since)),
            };
            self.lease_expires_at = truncate_to_millis(now.machine);
        }
        is_open
    }

    /// The call has ended. Changes only an order that was placed.
    pub(super) fn set_end(&mut self, end: CallEnd) -> bool {
        let (id, known_cost) = match &self.state {
            DispatchState::Placed { id } => (id.clone(), None),
            DispatchState::Finished { id, cost, .. } => (id.clone(), *cost),
            DispatchState::Intent
            | DispatchState::Unknown { .. }
            | DispatchState::NotPlaced { .. } => {
                return false;
            }
        };
        let CallEnd { outcome, cost, is_result_final } = end;
        let finished = DispatchState::Finished { id, outcome, cost: cost.or(known_cost) };
        let is_result_read = self.is_result_read || is_result_final;
        let has_changed = self.state != finished || self.is_result_read != is_result_read;
        self.state = finished;
        self.is_result_read = is_result_read;
        has_changed
    }
}

/// Selects the records to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// `None` lists the records of all accounts.
    pub account_id: Option<AccountId>,
    /// The oldest time.
    pub since: Option<Timestamp>,
    /// One of [`DispatchState::words`].
    pub status: Option<&'static str>,
    pub caller: Option<CallerName>,
    pub batch_id: Option<BatchId>,
    /// Only records older than this one, the last of the previous page.
    pub before: Option<RecordCursor>,
    /// At most [`super::MAX_PAGE`].
    pub limit: u32,
}

/// A position in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordCursor {
    pub created_at: Timestamp,
    pub dispatch_id: DispatchId,
}

impl From<&DispatchRecord> for RecordCursor {
    fn from(record: &DispatchRecord) -> Self {
        Self { created_at: record.created_at, dispatch_id: record.dispatch_id }
    }
}

/// The precision at which ledgers store instants.
pub(super) fn truncate_to_millis(instant: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(instant.as_millisecond()).unwrap_or(instant)
}
