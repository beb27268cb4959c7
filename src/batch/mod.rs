//! Batches: one agent calls a list of people after one yes, within the limits, the hours and the window of the list.
//!
//! - [`list`] checks what a client asks for; [`template`] fills in its instructions.
//! - [`prepare`] checks each row against the rules; [`plan`] estimates the duration and the cost, and
//!   [`preview`] shows it.
//! - `runner` starts the calls: each is claimed in the ledger and passes the same gates as any other call. `pauses` says when
//!   it starts none, and `run_clock` by which time it goes.
//! - [`report`] reads how far a batch got, whoever runs it; [`row_text`] writes its rows as text and as CSV.
//!
//! A batch belongs to the process that started or resumed it. If that process ends, the batch is interrupted and nothing
//! rings until it is resumed. Knows accounts and watchers, and neither MCP nor the command line.

pub mod list;
mod pauses;
pub mod plan;
pub mod prepare;
pub mod preview;
pub mod report;
pub mod row_text;
mod run_clock;
mod runner;
pub mod template;

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::list::ListProblems;
use self::prepare::PreparedBatch;
use self::run_clock::BatchLease;
use crate::account::{Account, MissingApiKey};
use crate::dialing::ledger::{
    AccountRef, BatchChange, BatchId, BatchLookup, BatchRecord, BatchStart, ConfirmedBy,
    CreateBatchResult, LedgerError, RowRecord,
};
use crate::dialing::organization::UnknownAccount;
use crate::dialing::outcome::DialError;

/// Why a batch was not prepared, started, resumed or found.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    #[error(transparent)]
    List(#[from] ListProblems),
    #[error("there is no batch {0}, or it was not confirmed within 15 minutes")]
    NotFound(String),
    #[error("the time of {0} is over")]
    WindowClosed(BatchId),
    #[error("the people of {0} were erased")]
    Erased(BatchId),
    /// Another batch has this idempotency key.
    #[error(
        "the idempotency_key was used for another list in the last 24 hours ({0}); use a new key for a new list"
    )]
    KeyConflict(BatchId),
    /// The state does not allow the change.
    #[error("{batch_id} is {state}", state = .state.as_str())]
    WrongState { batch_id: BatchId, state: crate::dialing::ledger::BatchState },
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    NoKey(#[from] MissingApiKey),
}

impl From<LedgerError> for BatchError {
    fn from(error: LedgerError) -> Self {
        Self::Dial(error.into())
    }
}

impl From<UnknownAccount> for BatchError {
    fn from(error: UnknownAccount) -> Self {
        Self::Dial(error.into())
    }
}

impl From<callingbox::Error> for BatchError {
    fn from(error: callingbox::Error) -> Self {
        Self::Dial(DialError::NotPlaced(error))
    }
}

/// What ends the run of a batch from outside.
#[derive(Debug, Clone)]
pub struct StopSignals {
    /// The process ends.
    pub draining: CancellationToken,
    /// The caller who started it may no longer use this server.
    pub revoked: CancellationToken,
}

/// Writes a prepared batch into the ledger, where it waits for its yes.
///
/// # Errors
/// The ledger cannot be written.
pub async fn create(
    account: &Account,
    prepared: &PreparedBatch,
) -> Result<CreateBatchResult, BatchError> {
    let dialer = account.dialer()?;
    let ledger = dialer.ledger().await?;
    let window = dialer.rules().repeat_window;
    let now = prepared.now;
    ledger.erase_expired(prepared.account.id(), now.machine).await?;
    let lookup = BatchLookup {
        now,
        repeats_since: now.dialing.checked_sub(window).unwrap_or(Timestamp::MIN),
        allow_repeat: prepared.record.task.as_ref().is_some_and(|task| task.allow_repeat),
    };
    let (record, rows) = (prepared.record.clone(), prepared.rows.clone());
    Ok(ledger.create_batch(record, rows, lookup).await?)
}

/// Starts a batch that was confirmed, and runs it in this process.
///
/// # Errors
/// The ledger cannot be written, or the batch is not in a state to start.
pub async fn start(
    account: &Arc<Account>,
    prepared: &PreparedBatch,
    confirmed_by: ConfirmedBy,
    stop: StopSignals,
) -> Result<BatchRecord, BatchError> {
    let (start, lease) = batch_start(account, prepared, confirmed_by).await?;
    begin(account, prepared, BatchChange::Start(start), lease, stop).await
}

/// Goes on with an interrupted or paused batch in this process. The rows are those of the ledger.
///
/// # Errors
/// The ledger cannot be written, or the batch is not in a state to resume.
pub async fn resume(
    account: &Arc<Account>,
    prepared: &PreparedBatch,
    confirmed_by: ConfirmedBy,
    stop: StopSignals,
) -> Result<BatchRecord, BatchError> {
    let (start, lease) = batch_start(account, prepared, confirmed_by).await?;
    begin(account, prepared, BatchChange::Resume(start), lease, stop).await
}

async fn batch_start(
    account: &Account,
    prepared: &PreparedBatch,
    confirmed_by: ConfirmedBy,
) -> Result<(BatchStart, BatchLease), BatchError> {
    let now = account.dialer()?.now().await?;
    let lease = BatchLease::new();
    let covered = prepared.record.covered.clone();
    Ok((BatchStart { now, lease_expires_at: lease.expires_at(), confirmed_by, covered }, lease))
}

async fn begin(
    account: &Arc<Account>,
    prepared: &PreparedBatch,
    change: BatchChange,
    lease: BatchLease,
    stop: StopSignals,
) -> Result<BatchRecord, BatchError> {
    let dialer = account.dialer()?;
    let ledger = dialer.ledger().await?;
    let id = &prepared.record.batch_id;
    let changed = ledger.change_batch(prepared.account.id(), id, change).await?;
    let Some((record, is_changed)) = changed else {
        return Err(BatchError::NotFound(id.to_string()));
    };
    if !is_changed {
        let state = record.state_at(Timestamp::now());
        return Err(BatchError::WrongState { batch_id: record.batch_id, state });
    }
    let mut rows = ledger.list_rows(prepared.account.id(), id).await?;
    // The rules were asked again right before.
    for row in &mut rows {
        if let Some(checked) = prepared.rows.iter().find(|checked| checked.row == row.row)
            && row.state == crate::dialing::ledger::RowState::Waiting
        {
            row.state = checked.state;
            row.reason.clone_from(&checked.reason);
            row.asked_by.clone_from(&checked.asked_by);
            row.call_id.clone_from(&checked.call_id);
        }
    }
    runner::spawn(account, prepared, record.clone(), rows, lease, stop)?;
    Ok(record)
}

/// Reads a batch and its rows.
///
/// # Errors
/// There is no such batch, or the ledger cannot be read.
pub async fn find(
    account: &Account,
    id: &BatchId,
) -> Result<(AccountRef, BatchRecord, Vec<RowRecord>), BatchError> {
    let dialer = account.dialer()?;
    let ledger = dialer.ledger().await?;
    let account_ref = dialer.account().await?;
    ledger.erase_expired(account_ref.id(), Timestamp::now()).await?;
    let not_found = || BatchError::NotFound(id.to_string());
    let record = ledger.find_batch(account_ref.id(), id).await?.ok_or_else(not_found)?;
    let rows = ledger.list_rows(account_ref.id(), id).await?;
    Ok((account_ref, record, rows))
}

/// Cancels a batch: after this has returned, no new request leaves. Calls in progress go on.
///
/// # Errors
/// There is no such batch, it is finished, or the ledger cannot be written.
pub async fn cancel(account: &Account, id: &BatchId) -> Result<BatchRecord, BatchError> {
    let dialer = account.dialer()?;
    let ledger = dialer.ledger().await?;
    let account_ref = dialer.account().await?;
    let now = dialer.now().await?;
    let erase_at = dialer.rules().people_erased_at(now.machine);
    let change = BatchChange::Cancel { now, erase_at };
    match ledger.change_batch(account_ref.id(), id, change).await? {
        None => Err(BatchError::NotFound(id.to_string())),
        Some((record, true)) => Ok(record),
        Some((record, false)) => Err(BatchError::WrongState {
            state: record.state_at(now.machine),
            batch_id: record.batch_id,
        }),
    }
}

/// Erases the numbers, names and facts of the people of a finished batch.
///
/// # Errors
/// There is no such batch, it is not finished, or the ledger cannot be written.
pub async fn forget(account: &Account, id: &BatchId) -> Result<(), BatchError> {
    let (account_ref, record, _) = find(account, id).await?;
    let dialer = account.dialer()?;
    if dialer.ledger().await?.forget_batch(account_ref.id(), id).await? {
        return Ok(());
    }
    let state = record.state_at(Timestamp::now());
    Err(BatchError::WrongState { batch_id: record.batch_id, state })
}

/// The newest batches with their rows, at most `limit`.
///
/// # Errors
/// The ledger cannot be read.
pub async fn list_newest(
    account: &Account,
    limit: u32,
) -> Result<Vec<(BatchRecord, Vec<RowRecord>)>, BatchError> {
    let dialer = account.dialer()?;
    let ledger = dialer.ledger().await?;
    let account_ref = dialer.account().await?;
    ledger.erase_expired(account_ref.id(), Timestamp::now()).await?;
    let mut batches = Vec::new();
    for record in ledger.list_batches(account_ref.id(), limit).await? {
        let rows = ledger.list_rows(account_ref.id(), &record.batch_id).await?;
        batches.push((record, rows));
    }
    Ok(batches)
}
