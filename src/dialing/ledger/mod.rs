//! The ledger: the record of what was dialed, written before it is dialed.
//!
//! It answers one question that memory cannot: was this dialed already, by another tool call, another process, another
//! machine, or by a process that died before it could report? [`Ledger`] is the contract. [`sqlite`] keeps the ledger
//! in a file that the processes of one machine share, [`redis`] in a server that several machines share. Both pass one
//! test suite.
//!
//! The life of a record: [`Ledger::begin`] writes the intent in one atomic step, which also looks for an earlier
//! identical order and enforces the limits. Then exactly one of [`Ledger::record_placed`],
//! [`Ledger::record_not_placed`] and [`Ledger::record_unknown`] records the result of the request, and
//! [`Ledger::record_end`] the end of the call. A process that dies in between leaves an intent whose lease expires. A
//! process that finds it ([`EarlierDispatch::Unresolved`], [`Ledger::list_unresolved`]) takes it over with
//! [`Ledger::take_over`], searches for the call, and records the result.
//!
//! No method reads the clock: every time is an argument. Leases are measured by the clock of the machine, all else by the
//! dialing clock.

mod batch_record;
mod error;
mod ids;
mod location;
mod opt_out;
mod record;
pub mod redis;
pub mod sqlite;

#[cfg(test)]
mod batch_conformance;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod opt_out_conformance;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::batch_record::{
    ASKED_LIFETIME, BatchChange, BatchLookup, BatchRecord, BatchStart, BatchState, BatchTask,
    CreateBatchResult, PauseReason, Person, RetryPolicy, RowRecord, RowState, StopCondition,
};
pub use self::error::LedgerError;
pub(crate) use self::ids::compute_hmac;
pub use self::ids::{
    AccountId, AccountRef, ArgumentHashes, BatchId, DestinationHash, DispatchId, Fingerprint,
    IdempotencyKey, InvalidBatchId, InvalidIdempotencyKey, KeyHash, KeyRef, LedgerSecret,
};
pub use self::location::{LedgerLocation, open_ledger};
pub use self::opt_out::{
    MAX_TOOL_OPT_OUTS, OptOut, OptOutRemoval, OptOutSource, RecordOptOutResult,
};
pub use self::record::{
    Attempt, AttemptStop, BeginConstraints, BeginResult, Callee, ConfirmedBy, DispatchLookup,
    DispatchRecord, DispatchState, EarlierDispatch, LeaseRenewal, NewIntent, RecordChange,
    RecordCursor, RecordFilter,
};

use crate::dialing::call_outcome::CallEnd;
use crate::dialing::caller::CallerName;
use crate::dialing::clock::ClockReading;
use crate::dialing::limits::{CallLimits, Usage};
use callingbox::{E164, MilliCents};

/// The result of an operation of the ledger.
pub type Result<T, E = LedgerError> = std::result::Result<T, E>;

/// How long an idempotency key is honored.
pub const KEY_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// The most records that one list returns.
pub const MAX_PAGE: u32 = 1_000;
/// How many earlier batches with the same list are looked at.
const MAX_SAME: u32 = 32;
/// The most characters of a stored reason.
pub const MAX_REASON: usize = 300;

/// The operations of a ledger, in the order that the module's page describes.
///
/// # Errors
/// Every method fails with a [`LedgerError`] if the ledger cannot be read or written. Then the caller must not dial.
#[async_trait]
pub trait Ledger: BatchLedger + OptOutLedger + Send + Sync + std::fmt::Debug {
    /// Finds the earlier dispatch that blocks a new one. Writes nothing.
    ///
    /// In this order: a dispatch with the same idempotency key (within [`KEY_LIFETIME`]; if that one was a different
    /// order, the key conflicts), an identical order whose result is open (of any age, even with `allow_repeat`), an
    /// identical order that was placed within the window, and a call by the same agent to the same number within the
    /// window with other arguments, and an unfinished batch of the same agent in which the number waits (all unless
    /// `allow_repeat`). An order that was certainly not placed blocks nothing,
    /// even under the same key.
    async fn find_earlier(&self, lookup: DispatchLookup) -> Result<Option<EarlierDispatch>>;

    /// Writes the intent, unless the number is on the do-not-call list, an earlier dispatch blocks it, as
    /// [`Ledger::find_earlier`] does, or a limit is reached.
    /// An attempt of a batch begins only if its batch runs in the process of its generation, its window is open, and its
    /// row waits for this attempt; the row is then written too. An attempt whose dispatch was not placed may begin again,
    /// and the next one begins once that dispatch has its end. All this is one atomic step among all processes. After
    /// [`BeginResult::Begun`] the intent survives a crash.
    async fn begin(&self, intent: NewIntent, terms: BeginConstraints) -> Result<BeginResult>;

    /// Extends the lease of a dispatch right before its request is sent, unless its number is on the do-not-call list.
    /// After any other answer than [`LeaseRenewal::Renewed`] the caller must not dial.
    async fn renew_lease(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        generation: u32,
        now: ClockReading,
        lease_expires_at: Timestamp,
    ) -> Result<LeaseRenewal>;

    /// Changes a record in one atomic step. Returns it, and whether it changed.
    async fn change(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        change: RecordChange,
    ) -> Result<(DispatchRecord, bool)>;

    /// Takes over a record in [`DispatchState::Intent`] or [`DispatchState::Unknown`] whose lease has expired. If several
    /// processes try, one gets the record, with its new generation.
    async fn take_over(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        now: Timestamp,
        lease_expires_at: Timestamp,
    ) -> Result<Option<DispatchRecord>> {
        let take_over: RecordChange =
            Box::new(move |record| Ok(record.take_over(now, lease_expires_at)));
        let (record, is_taken) = self.change(account, dispatch, take_over).await?;
        Ok(is_taken.then_some(record))
    }

    /// Records the id of the call or number. Returns the updated record.
    async fn record_placed(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        id: &str,
    ) -> Result<DispatchRecord> {
        let id = id.to_owned();
        let set_placed: RecordChange = Box::new(move |record| record.set_placed(&id));
        Ok(self.change(account, dispatch, set_placed).await?.0)
    }

    /// Records that the order was certainly not placed. Returns the updated record.
    async fn record_not_placed(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        reason: &str,
    ) -> Result<DispatchRecord> {
        let reason = truncate_reason(reason);
        let set_not_placed: RecordChange =
            Box::new(move |record| Ok(record.set_not_placed(&reason)));
        Ok(self.change(account, dispatch, set_not_placed).await?.0)
    }

    /// Records that the result is unknown, and ends the lease, so that the next identical order may take it over.
    /// `is_absent` says that a complete search did not find the order.
    async fn record_unknown(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
        now: ClockReading,
        is_absent: bool,
    ) -> Result<DispatchRecord> {
        let set_unknown: RecordChange =
            Box::new(move |record| Ok(record.set_unknown(now, is_absent)));
        Ok(self.change(account, dispatch, set_unknown).await?.0)
    }

    /// Records the end of the call, or of the purchase, with this id. May be repeated: a later outcome replaces an earlier
    /// one, and an unknown cost keeps the known cost. Returns `None` if the ledger has no such call.
    async fn record_end(
        &self,
        account: &AccountId,
        id: &str,
        end: CallEnd,
    ) -> Result<Option<DispatchRecord>> {
        let Some(mut known) = self.find_by_remote_id(account, id).await? else { return Ok(None) };
        // Every read of an ended call comes here and nearly always changes nothing. No other process must wait for that.
        if !known.set_end(end) {
            return Ok(Some(known));
        }
        let set_end: RecordChange = Box::new(move |record| Ok(record.set_end(end)));
        Ok(Some(self.change(account, known.dispatch_id, set_end).await?.0))
    }

    /// Measures the usage against these limits.
    async fn measure_usage(
        &self,
        account: &AccountId,
        caller: &CallerName,
        callee: Option<&DestinationHash>,
        limits: &CallLimits,
        hold: MilliCents,
        now: Timestamp,
    ) -> Result<Usage>;

    /// Whether a call to this destination was ever placed.
    async fn is_known_destination(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
    ) -> Result<bool>;

    /// The records in [`DispatchState::Intent`] or [`DispatchState::Unknown`], oldest first, at most [`MAX_PAGE`].
    async fn list_unresolved(&self, account: &AccountId) -> Result<Vec<DispatchRecord>>;

    /// Finds a record by its dispatch id.
    async fn find(
        &self,
        account: &AccountId,
        dispatch: DispatchId,
    ) -> Result<Option<DispatchRecord>>;

    /// Finds a record by the id of its call or number.
    async fn find_by_remote_id(
        &self,
        account: &AccountId,
        id: &str,
    ) -> Result<Option<DispatchRecord>>;

    /// Checks that the ledger can be read, at the same cost however many records it holds.
    async fn check_readable(&self) -> Result<()> {
        let no_account = AccountId(String::new());
        self.find(&no_account, DispatchId::new()).await.map(|_| ())
    }

    /// The newest calls to this destination whose final result was not read, at most `limit`.
    async fn list_unread_calls(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
        limit: u32,
    ) -> Result<Vec<DispatchRecord>>;

    /// A page of records, newest first.
    async fn list_records(&self, filter: RecordFilter) -> Result<Vec<DispatchRecord>>;

    /// Redeems a confirmation token. Returns `true` once, before the token expires, and `false` otherwise.
    async fn redeem_token(
        &self,
        account: &AccountId,
        token_id: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool>;

    /// Whether a token with this id was redeemed and has not expired.
    async fn is_token_redeemed(
        &self,
        account: &AccountId,
        token_id: &str,
        now: Timestamp,
    ) -> Result<bool>;

    /// The account that a key belongs to, if it was recorded.
    async fn find_account_of_key(&self, key: &KeyHash) -> Result<Option<AccountId>>;

    /// Records the account that a key belongs to. A key never changes its organization.
    async fn record_account_of_key(&self, key: &KeyHash, account: &AccountId) -> Result<()>;

    /// The present time of the server that keeps the ledger; `None` if it is kept on this machine.
    async fn server_time(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    /// The secret of the ledger. It changes only if the ledger was removed and created again.
    async fn secret(&self) -> Result<LedgerSecret>;
}

/// The do-not-call list of each account: the numbers whose people asked not to be called again. Beside these operations,
/// [`Ledger::begin`] and [`Ledger::renew_lease`] check it in their atomic steps: after an opt-out was recorded, no call to
/// its number begins, and no request that has begun leaves.
///
/// # Errors
/// Every method fails with a [`LedgerError`] if the ledger cannot be read or written.
#[async_trait]
pub trait OptOutLedger {
    /// Writes an opt-out, unless its number is on the list at least as long, or a person has removed what this call said.
    /// Tools record at most [`MAX_TOOL_OPT_OUTS`] in 24 hours. This is one atomic step.
    async fn record_opt_out(&self, opt_out: OptOut) -> Result<RecordOptOutResult>;

    /// Removes a number from the list. Its entries are kept, with this reason. Returns how many were in force.
    async fn remove_opt_out(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
        now: Timestamp,
        reason: &str,
    ) -> Result<usize>;

    /// Every entry of one number, oldest first, with those that were removed or have expired.
    async fn list_opt_outs_of(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
    ) -> Result<Vec<OptOut>>;

    /// The entries of the next numbers after this one, in the order of the numbers; at most `limit` numbers.
    async fn list_opt_outs(
        &self,
        account: &AccountId,
        after: Option<&E164>,
        limit: u32,
    ) -> Result<Vec<OptOut>>;

    /// Which of these numbers must not be called at this time of the dialing clock, in their order.
    async fn are_opted_out(
        &self,
        account: &AccountId,
        callees: Vec<DestinationHash>,
        now: Timestamp,
    ) -> Result<Vec<bool>>;

    /// The entry for which a number must not be called at this time of the dialing clock: the one that lasts longest.
    async fn find_opt_out(
        &self,
        account: &AccountId,
        callee: &DestinationHash,
        now: Timestamp,
    ) -> Result<Option<OptOut>> {
        let entries = self.list_opt_outs_of(account, callee).await?;
        Ok(entries
            .into_iter()
            .filter(|entry| entry.is_in_force(now))
            .max_by_key(|entry| entry.holds_until()))
    }
}

/// The batches of a ledger. Beside these operations, [`Ledger::begin`] begins an attempt of a row.
///
/// # Errors
/// Every method fails with a [`LedgerError`] if the ledger cannot be read or written.
#[async_trait]
pub trait BatchLedger {
    /// Writes a batch in the state [`BatchState::Asked`], unless the same list is known already. This is one atomic step.
    async fn create_batch(
        &self,
        batch: BatchRecord,
        rows: Vec<RowRecord>,
        lookup: BatchLookup,
    ) -> Result<CreateBatchResult>;

    /// Changes a batch as [`BatchChange`] describes. In the same step, starting it refuses each waiting row whose number is
    /// in another unfinished batch, and canceling it ends each waiting row. Returns the batch, and whether it changed;
    /// `None` if there is no such batch.
    async fn change_batch(
        &self,
        account: &AccountId,
        batch: &BatchId,
        change: BatchChange,
    ) -> Result<Option<(BatchRecord, bool)>>;

    /// Writes what the process that runs the batch knows of a row: state, reason, attempts, next time, call and outcome.
    /// The rest of the row stays as it is. A row of a finished batch does not wait again. Returns `false` if another
    /// generation runs the batch.
    async fn update_row(
        &self,
        account: &AccountId,
        batch: &BatchId,
        generation: u32,
        row: RowRecord,
    ) -> Result<bool>;

    async fn find_batch(&self, account: &AccountId, batch: &BatchId)
    -> Result<Option<BatchRecord>>;

    /// The newest batches, at most [`MAX_PAGE`].
    async fn list_batches(&self, account: &AccountId, limit: u32) -> Result<Vec<BatchRecord>>;

    /// The rows of a batch in their order.
    async fn list_rows(&self, account: &AccountId, batch: &BatchId) -> Result<Vec<RowRecord>>;

    /// Erases the people of the batches whose time has come by the machine's clock, and the unconfirmed lists.
    async fn erase_expired(&self, account: &AccountId, now: Timestamp) -> Result<()>;

    /// Erases the people of one finished batch. Returns `false` if there is none, or if it is not finished.
    async fn forget_batch(&self, account: &AccountId, batch: &BatchId) -> Result<bool>;
}

fn to_json(record: &impl Serialize) -> Result<String> {
    serde_json::to_string(record).map_err(|error| LedgerError::Storage(error.to_string()))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| LedgerError::Damaged(describe_unreadable(&error)))
}

/// Where a record cannot be read. Its values are left out, because one may be a phone number.
fn describe_unreadable(error: &serde_json::Error) -> String {
    format!("a record cannot be read at character {}", error.column())
}

/// The reason on one line, with at most [`MAX_REASON`] characters.
fn truncate_reason(reason: &str) -> String {
    callingbox::shown_text::one_line(reason, MAX_REASON)
}
