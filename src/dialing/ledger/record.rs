//! What the ledger keeps about one dispatch, and what goes in and comes out when one begins.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::LedgerError;
use super::ids::{AccountId, AccountRef, DestinationHash, DispatchId, Fingerprint, IdempotencyKey};
use crate::dialing::call_outcome::{CallEnd, CallOutcome};
use crate::dialing::limits::{CallLimits, LimitReached, OrderKind};
use callingbox::E164;
use callingbox::MilliCents;

/// How an order was confirmed before it was dispatched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmedBy {
    /// The calling rules required no confirmation.
    NotRequired,
    /// The user answered a question that their client displayed.
    User,
    /// The model returned a confirmation token.
    Token,
    /// The user answered at the terminal.
    Terminal,
}

impl ConfirmedBy {
    const ALL: [Self; 4] = [Self::NotRequired, Self::User, Self::Token, Self::Terminal];

    /// The word under which it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRequired => "not_required",
            Self::User => "user",
            Self::Token => "token",
            Self::Terminal => "terminal",
        }
    }

    /// The inverse of [`ConfirmedBy::as_str`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|confirmed_by| confirmed_by.as_str() == name)
    }
}

impl fmt::Display for ConfirmedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRequired => "not required",
            Self::User => "the user, in the client",
            Self::Token => "a confirmation token",
            Self::Terminal => "the user, at the terminal",
        })
    }
}

/// Where a dispatch stands.
///
/// Evidence only grows: a weaker fact never replaces a stronger one. The order of strength is
/// `Intent < Unknown < NotPlaced < Placed < Finished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DispatchState {
    /// About to be sent, or sent and not yet answered. Whoever works on it holds the record's lease;
    /// when the lease has run out, its owner is gone and the record waits to be reconciled.
    Intent,
    /// Sent, perhaps; searched for, and not found.
    Unknown,
    /// Certainly not dialed, nothing bought.
    NotPlaced {
        /// Why, for people.
        reason: String,
    },
    /// Dialed, or bought.
    Placed {
        /// The id of the call, or of the number.
        id: String,
    },
    /// Dialed, and ended.
    Finished {
        /// The id of the call, or of the number.
        id: String,
        /// How it ended.
        outcome: CallOutcome,
        /// The billed amount, once it is known.
        #[serde(rename = "cost_milli_cents")]
        cost: Option<MilliCents>,
    },
}

impl DispatchState {
    /// The word under which the state is stored and listed.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Unknown => "unknown",
            Self::NotPlaced { .. } => "not_placed",
            Self::Placed { .. } => "placed",
            Self::Finished { .. } => "finished",
        }
    }

    /// The same in one word for people: how it ended, once it has.
    #[must_use]
    pub const fn status(&self) -> DispatchStatus {
        match self {
            Self::Intent => DispatchStatus::Intent,
            Self::Unknown => DispatchStatus::Unknown,
            Self::NotPlaced { .. } => DispatchStatus::NotPlaced,
            Self::Placed { .. } => DispatchStatus::Placed,
            Self::Finished { outcome, .. } => DispatchStatus::Ended(*outcome),
        }
    }

    /// The id of the call or of the number, when there is one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Placed { id } | Self::Finished { id, .. } => Some(id),
            Self::Intent | Self::Unknown | Self::NotPlaced { .. } => None,
        }
    }
}

/// Where a dispatch stands, in one word: what is known of it, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DispatchStatus {
    /// About to be sent, or sent and not yet answered.
    Intent,
    /// Sent, perhaps; searched for, and not found.
    Unknown,
    /// Certainly not dialed, nothing bought.
    NotPlaced,
    /// Dialed, or bought, and not known to have ended.
    Placed,
    /// Ended so.
    Ended(CallOutcome),
}

impl DispatchStatus {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Unknown => "unknown",
            Self::NotPlaced => "not_placed",
            Self::Placed => "placed",
            Self::Ended(outcome) => outcome.as_str(),
        }
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let open = [Self::Intent, Self::Unknown, Self::NotPlaced, Self::Placed];
        open.into_iter().chain(CallOutcome::ENDED.map(Self::Ended))
    }
}

/// A destination as the ledger keeps it: masked for people, hashed for counting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callee {
    /// The number with its middle hidden.
    pub masked: String,
    /// The number's name within the account.
    pub hash: DestinationHash,
}

impl Callee {
    /// The destination, as this account sees it.
    #[must_use]
    pub fn new(account: &AccountRef, number: &E164) -> Self {
        Self { masked: number.masked(), hash: account.hash(number) }
    }
}

/// What is about to be done. Written before the first byte of it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIntent {
    /// A fresh id, which the request will carry.
    pub dispatch_id: DispatchId,
    /// Call or purchase.
    pub kind: OrderKind,
    /// On whose behalf.
    pub account_id: AccountId,
    /// What is asked for.
    pub fingerprint: Fingerprint,
    /// The caller's own name for the request.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Whom it rings; `None` for a purchase.
    pub callee: Option<Callee>,
    /// The agent that will speak.
    pub agent_id: Option<String>,
    /// The rule that decided, as the verdict names it.
    pub rule: String,
    /// How it was confirmed.
    pub confirmed_by: ConfirmedBy,
    /// The most that it can cost.
    pub hold: MilliCents,
}

/// On what terms it may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeginConstraints {
    /// The time of the intent.
    pub now: Timestamp,
    /// Until when the dispatch is surely alive without renewing its lease.
    pub lease_expires_at: Timestamp,
    /// An identical request that was placed after this time is answered with the first one.
    pub repeats_since: Timestamp,
    /// Ring again although the same was asked for a moment ago.
    pub allow_repeat: bool,
    /// The enforced limits.
    pub limits: CallLimits,
}

/// By what an earlier one of the same is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatchLookup {
    /// On whose behalf.
    pub account_id: AccountId,
    /// What is asked for.
    pub fingerprint: Fingerprint,
    /// The caller's own name for the request.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The time of the look.
    pub now: Timestamp,
    /// One that was placed after this time counts.
    pub repeats_since: Timestamp,
    /// One that was placed does not count, unless it has the same key.
    pub allow_repeat: bool,
}

impl DispatchLookup {
    /// What an intent is held against before it begins.
    #[must_use]
    pub(super) fn of(intent: &NewIntent, terms: &BeginConstraints) -> Self {
        Self {
            account_id: intent.account_id.clone(),
            fingerprint: intent.fingerprint.clone(),
            idempotency_key: intent.idempotency_key.clone(),
            now: terms.now,
            repeats_since: terms.repeats_since,
            allow_repeat: terms.allow_repeat,
        }
    }
}

/// An earlier one that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EarlierDispatch {
    /// The same was asked for and placed: answer with that one.
    Duplicate(DispatchRecord),
    /// The same is being dispatched at this moment by somebody alive: wait for it.
    InFlight(DispatchRecord),
    /// The same was dispatched and nobody knows what became of it: reconcile it first.
    Unresolved(DispatchRecord),
    /// The idempotency key was used for something else, which is this.
    KeyConflict(DispatchRecord),
}

/// What came of beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeginResult {
    /// The intent is on disk: dial.
    Begun(DispatchRecord),
    /// An earlier one stands in the way.
    Earlier(EarlierDispatch),
    /// A limit stands in the way.
    LimitReached(LimitReached),
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DispatchRecord {
    /// The dispatch.
    pub dispatch_id: DispatchId,
    /// Call or purchase.
    pub kind: OrderKind,
    /// On whose behalf.
    pub account_id: AccountId,
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// The caller's own name for the request.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Whom it rang; `None` for a purchase.
    pub callee: Option<Callee>,
    /// The agent that spoke.
    pub agent_id: Option<String>,
    /// The rule that decided.
    pub rule: String,
    /// How it was confirmed.
    pub confirmed_by: ConfirmedBy,
    /// When it was decided to dial, to the millisecond.
    pub created_at: Timestamp,
    /// Until when its dispatch is surely alive.
    pub lease_expires_at: Timestamp,
    /// Who works on it: 1 is the one who began, each take-over adds one.
    pub generation: u32,
    /// The most that it can cost.
    #[serde(rename = "hold_milli_cents")]
    pub hold: MilliCents,
    /// Where it stands.
    #[serde(flatten)]
    pub state: DispatchState,
}

impl DispatchRecord {
    /// The record of an intent that begins now.
    #[must_use]
    pub(super) fn begin(intent: NewIntent, terms: &BeginConstraints) -> Self {
        Self {
            dispatch_id: intent.dispatch_id,
            kind: intent.kind,
            account_id: intent.account_id,
            fingerprint: intent.fingerprint,
            idempotency_key: intent.idempotency_key,
            callee: intent.callee,
            agent_id: intent.agent_id,
            rule: intent.rule,
            confirmed_by: intent.confirmed_by,
            created_at: whole_millis(terms.now),
            lease_expires_at: whole_millis(terms.lease_expires_at),
            generation: 1,
            hold: intent.hold,
            state: DispatchState::Intent,
        }
    }

    /// How an earlier record answers an identical request, if it does: `None` lets it begin.
    pub(super) fn answers(self, now: Timestamp) -> Option<EarlierDispatch> {
        match self.state {
            DispatchState::NotPlaced { .. } => None,
            DispatchState::Placed { .. } | DispatchState::Finished { .. } => {
                Some(EarlierDispatch::Duplicate(self))
            }
            DispatchState::Intent | DispatchState::Unknown if self.lease_expires_at > now => {
                Some(EarlierDispatch::InFlight(self))
            }
            DispatchState::Intent | DispatchState::Unknown => {
                Some(EarlierDispatch::Unresolved(self))
            }
        }
    }
}

/// The steps of a record's life. Each says whether the record changed and must be written.
impl DispatchRecord {
    /// Extends the lease, for the one who holds it.
    pub(super) fn renew(&mut self, generation: u32, lease_expires_at: Timestamp) -> bool {
        let open = matches!(self.state, DispatchState::Intent | DispatchState::Unknown);
        let mine = open && self.generation == generation;
        if mine {
            self.lease_expires_at = whole_millis(lease_expires_at);
        }
        mine
    }

    /// Hands the lease to somebody else, once it has run out.
    pub(super) fn take_over(&mut self, now: Timestamp, lease_expires_at: Timestamp) -> bool {
        let open = matches!(self.state, DispatchState::Intent | DispatchState::Unknown);
        let abandoned = open && self.lease_expires_at <= now;
        if abandoned {
            self.generation = self.generation.saturating_add(1);
            self.lease_expires_at = whole_millis(lease_expires_at);
        }
        abandoned
    }

    /// The strongest fact but one: it was dialed, whatever was believed before.
    pub(super) fn placed(&mut self, id: String) -> Result<bool, LedgerError> {
        match self.state.id() {
            None => {
                self.state = DispatchState::Placed { id };
                Ok(true)
            }
            Some(recorded) if recorded == id => Ok(false),
            Some(recorded) => Err(LedgerError::PlacedTwice {
                dispatch: self.dispatch_id,
                recorded: recorded.to_owned(),
                reported: id,
            }),
        }
    }

    /// It was not dialed, unless it is known that it was.
    pub(super) fn not_placed(&mut self, reason: String) -> bool {
        let open = matches!(self.state, DispatchState::Intent | DispatchState::Unknown);
        if open {
            self.state = DispatchState::NotPlaced { reason };
        }
        open
    }

    /// Nobody can say, unless somebody could. The lease ends.
    pub(super) fn unknown(&mut self, now: Timestamp) -> bool {
        let open = matches!(self.state, DispatchState::Intent | DispatchState::Unknown);
        if open {
            self.state = DispatchState::Unknown;
            self.lease_expires_at = whole_millis(now);
        }
        open
    }

    /// It has ended. Only of what was placed.
    pub(super) fn finished(&mut self, end: CallEnd) -> bool {
        let (id, known) = match &self.state {
            DispatchState::Placed { id } => (id.clone(), None),
            DispatchState::Finished { id, cost, .. } => (id.clone(), *cost),
            DispatchState::Intent | DispatchState::Unknown | DispatchState::NotPlaced { .. } => {
                return false;
            }
        };
        let ended = DispatchState::Finished { id, outcome: end.outcome, cost: end.cost.or(known) };
        let news = self.state != ended;
        self.state = ended;
        news
    }
}

/// Which records to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFilter {
    /// Of one account, or of all.
    pub account_id: Option<AccountId>,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Those that stand so.
    pub status: Option<DispatchStatus>,
    /// Those older than this one: the last of the page before.
    pub before: Option<RecordCursor>,
    /// At most so many, and never more than [`super::MAX_PAGE`].
    pub limit: u32,
}

/// A place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordCursor {
    /// The record's time.
    pub created_at: Timestamp,
    /// The record's id.
    pub dispatch_id: DispatchId,
}

impl From<&DispatchRecord> for RecordCursor {
    fn from(record: &DispatchRecord) -> Self {
        Self { created_at: record.created_at, dispatch_id: record.dispatch_id }
    }
}

/// The instant without what is finer than a millisecond, which is how instants are stored.
pub(super) fn whole_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}
