//! The ledger: what was dialed, written down before it is dialed.
//!
//! It answers one question that memory cannot: *has this been dialed already?* - by another tool call,
//! another process, another machine, or by a process that died before it could say so. [`Ledger`] is
//! the contract; [`sqlite`] keeps it in a file that several processes share, [`redis`] in a server that
//! several machines share. Both pass one suite of tests.
//!
//! The life of a record: [`Ledger::begin`] writes the intent in one atomic step that also looks for
//! repetitions and enforces the limits. Then exactly one of [`Ledger::record_placed`],
//! [`Ledger::record_not_placed`] or [`Ledger::record_unknown`] says what came of the request, and
//! [`Ledger::record_end`] how the call ended. A process that dies in between leaves an intent whose lease
//! runs out; whoever finds it ([`EarlierDispatch::Unresolved`], [`Ledger::list_unresolved`]) takes it over with
//! [`Ledger::take_over`], searches for the call, and settles it.
//!
//! No method reads the clock: every time is an argument, so that tests move it.

mod error;
mod ids;
mod location;
mod record;
pub mod redis;
pub mod sqlite;

#[cfg(test)]
mod conformance;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

pub use self::error::LedgerError;
pub use self::ids::{
    AccountId, AccountRef, DestinationHash, DispatchId, Fingerprint, IdempotencyKey,
    InvalidIdempotencyKey,
};
pub use self::location::{LedgerLocation, open_ledger};
pub use self::record::{
    BeginConstraints, BeginResult, Callee, ConfirmedBy, DispatchLookup, DispatchRecord,
    DispatchState, DispatchStatus, EarlierDispatch, NewIntent, RecordCursor, RecordFilter,
};

use crate::dialing::call_outcome::CallEnd;
use crate::dialing::limits::{CallLimits, Usage};
use callingbox::MilliCents;

/// How long an idempotency key is honored.
pub const KEY_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// The most records that one answer holds.
pub const MAX_PAGE: u32 = 1_000;
/// The longest reason that is kept, in characters.
pub const MAX_REASON: usize = 300;

/// What every ledger can do. See the module's page for the order of the steps.
///
/// # Errors
/// Every method fails with a [`LedgerError`] when the ledger cannot be read or written. Whoever gets
/// one must not dial.
#[async_trait]
pub trait Ledger: Send + Sync + std::fmt::Debug {
    /// The earlier one that stands in the way, if any. Only looks, so that it may be asked before anybody
    /// has judged.
    ///
    /// In this order: the idempotency key (within [`KEY_LIFETIME`]; a key that named something else
    /// is a conflict), an identical request whose fate is open (of any age, even with
    /// `allow_repeat`), an identical request placed within the window (unless `allow_repeat`).
    ///
    /// An identical request that was certainly not placed stands in nobody's way, even under the same
    /// key.
    async fn find_earlier(
        &self,
        lookup: DispatchLookup,
    ) -> Result<Option<EarlierDispatch>, LedgerError>;

    /// Writes the intent, unless an earlier one stands in the way, as [`Ledger::find_earlier`] would say, or a
    /// limit. One atomic step among all processes; on [`BeginResult::Begun`] the intent survives a crash.
    async fn begin(
        &self,
        intent: NewIntent,
        terms: BeginConstraints,
    ) -> Result<BeginResult, LedgerError>;

    /// Extends the lease of a dispatch that is alive. `false` means that somebody else has taken it
    /// over or settled it: stop, and do not dial.
    async fn renew_lease(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        generation: u32,
        lease_expires_at: Timestamp,
    ) -> Result<bool, LedgerError>;

    /// Becomes the one who settles a record in [`DispatchState::Intent`] or [`DispatchState::Unknown`] whose lease has
    /// run out. Of several who try, one gets the record, with its new generation.
    async fn take_over(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        now: Timestamp,
        lease_expires_at: Timestamp,
    ) -> Result<Option<DispatchRecord>, LedgerError>;

    /// It was dialed (or bought), and this is its id. Answers with the record as it then stands.
    async fn record_placed(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        id: &str,
    ) -> Result<DispatchRecord, LedgerError>;

    /// It was certainly not dialed. Answers with the record as it then stands.
    async fn record_not_placed(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        reason: &str,
    ) -> Result<DispatchRecord, LedgerError>;

    /// Nobody can say. Ends the lease, so that the next identical request may take it over.
    async fn record_unknown(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        now: Timestamp,
    ) -> Result<DispatchRecord, LedgerError>;

    /// The call (or purchase) with this id has ended. May be repeated when more is known: a later
    /// outcome replaces the earlier, a missing cost keeps the known one. `None` when the ledger has
    /// no such call.
    async fn record_end(
        &self,
        account: &AccountId,
        id: &str,
        end: CallEnd,
    ) -> Result<Option<DispatchRecord>, LedgerError>;

    /// What has been used, measured against these limits.
    async fn measure_usage(
        &self,
        account: &AccountId,
        callee: Option<&DestinationHash>,
        limits: &CallLimits,
        hold: MilliCents,
        now: Timestamp,
    ) -> Result<Usage, LedgerError>;

    /// Whether this destination was ever called: a call to it was placed.
    async fn is_known_destination(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
    ) -> Result<bool, LedgerError>;

    /// The records in [`DispatchState::Intent`] or [`DispatchState::Unknown`], oldest first, at most [`MAX_PAGE`].
    async fn list_unresolved(
        &self,
        account: &AccountId,
    ) -> Result<Vec<DispatchRecord>, LedgerError>;

    /// One record by its dispatch id.
    async fn find(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
    ) -> Result<Option<DispatchRecord>, LedgerError>;

    /// One record by the id of its call or number.
    async fn find_by_remote_id(
        &self,
        account: &AccountId,
        id: &str,
    ) -> Result<Option<DispatchRecord>, LedgerError>;

    /// Whether it can be read now: looks for one record, which is not there, however many are.
    async fn check_readable(&self) -> Result<(), LedgerError> {
        let nobody = AccountId(String::new());
        self.find(&nobody, DispatchId::new()).await.map(|_| ())
    }

    /// A page of records, newest first.
    async fn list_records(&self, filter: RecordFilter) -> Result<Vec<DispatchRecord>, LedgerError>;

    /// Uses a confirmation token up. `true` the first time and before it expires, else `false`.
    async fn redeem_token(
        &self,
        account: &AccountId,
        token_id: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, LedgerError>;

    /// A random key, made once per ledger and shared by all who open it.
    async fn secret(&self) -> Result<[u8; 32], LedgerError>;
}

/// A reason as it is kept: one line, bounded.
fn short(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}
