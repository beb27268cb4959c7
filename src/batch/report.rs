//! How far a batch got: its rows with the results of their calls, read from CallingBox where this process has not seen
//! them. Does not know how a report is shown.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{BatchError, find};
use crate::account::Account;
use crate::dialing::batch_table::CallResult;
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::dialer::Dialer;
use crate::dialing::ledger::{
    AccountRef, BatchId, BatchRecord, BatchState, DispatchRecord, DispatchState, RowRecord,
    RowState,
};
use callingbox::{Call, CallId, MilliCents, PageCursor, PageRequest};

/// How many pages of calls are read for the results of one report.
const MAX_PAGES: usize = 5;
/// How many calls are read one by one if no page has them.
const MAX_SINGLE_READS: usize = 20;

/// A row and what its call brought.
#[derive(Debug, Clone, PartialEq)]
pub struct RowReport {
    pub record: RowRecord,
    pub result: Option<Arc<CallResult>>,
}

/// A batch as it is now.
#[derive(Debug, Clone)]
pub struct BatchReport {
    pub account: AccountRef,
    pub record: BatchRecord,
    pub state: BatchState,
    pub rows: Vec<RowReport>,
    /// The present time by the dialing clock.
    pub now: Timestamp,
    /// Whether this process runs it.
    pub is_own: bool,
}

impl BatchReport {
    /// How many rows are in each state, in the order of the states.
    #[must_use]
    pub fn counts(&self) -> Vec<(RowState, usize)> {
        use RowState::{Calling, Done, NotCalled, Refused, Unknown, Waiting};
        [Waiting, Calling, Done, Refused, NotCalled, Unknown]
            .into_iter()
            .map(|state| (state, self.rows.iter().filter(|row| row.record.state == state).count()))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// How many rows have each outcome.
    #[must_use]
    pub fn outcomes(&self) -> Vec<(CallOutcome, usize)> {
        let mut outcomes: Vec<(CallOutcome, usize)> = Vec::new();
        for outcome in self.rows.iter().filter_map(|row| row.record.outcome) {
            match outcomes.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, count)) => *count += 1,
                None => outcomes.push((outcome, 1)),
            }
        }
        outcomes
    }

    /// What the calls have cost, as far as it is known.
    #[must_use]
    pub fn cost(&self) -> MilliCents {
        let costs = self.rows.iter().filter_map(|row| row.result.as_ref()?.cost);
        costs.fold(MilliCents::ZERO, MilliCents::saturating_add)
    }

    /// Whether nothing changes by itself: it has ended, or it needs a person.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self.state {
            BatchState::Running => false,
            BatchState::Canceled => self.is_finished() || !self.is_own,
            _ => true,
        }
    }

    /// Whether everybody was called, or enough results were found.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let stop = self.record.task.as_ref().and_then(|task| task.stop_when.as_ref());
        let is_enough = stop.is_some_and(|stop| {
            let results = self.rows.iter().filter_map(|row| row.result.as_ref());
            let matches = results.filter(|result| stop.fits(result.result.as_ref()));
            matches.count() >= stop.count as usize
        });
        self.rows.iter().all(|row| match row.record.state {
            RowState::Done => true,
            RowState::NotCalled => is_enough,
            _ => false,
        })
    }

    /// Whether no row will change any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.state, BatchState::Ended | BatchState::Canceled)
            && self.rows.iter().all(|row| row.record.state != RowState::Calling)
    }
}

/// Reads a batch with the results of its calls.
///
/// # Errors
/// There is no such batch, or the ledger cannot be read. Results that CallingBox does not return are left out.
pub async fn load_report(account: &Account, id: &BatchId) -> Result<BatchReport, BatchError> {
    let (account_ref, record, mut rows) = find(account, id).await?;
    let dialer = account.dialer()?;
    let is_own = dialer.batches().changes(id).is_some();
    // A clock that jumps does not end the lease of the process that holds it, which is about to renew it.
    let state = if is_own { record.state } else { record.state_at(Timestamp::now()) };
    if !is_own {
        update_from_dispatches(account, &record, &mut rows).await?;
        update_from_calls(account, &mut rows).await;
    }
    let results = load_results(account, dialer, &rows).await;
    let rows = rows
        .into_iter()
        .map(|record| {
            let result = record.call_id.as_ref().and_then(|id| results.get(id)).cloned();
            let is_own_call = record.state != RowState::Refused;
            RowReport { result: result.filter(|_| is_own_call), record }
        })
        .collect();
    // Without a clock, every row that waits says until when.
    let now = account.now().await.unwrap_or(record.created_at);
    Ok(BatchReport { account: account_ref, record, state, rows, now, is_own })
}

/// What is known of the calls of a batch that this process does not run.
async fn update_from_dispatches(
    account: &Account,
    batch: &BatchRecord,
    rows: &mut [RowRecord],
) -> Result<(), BatchError> {
    let ledger = account.dialer()?.ledger().await?;
    for row in rows.iter_mut().filter(|row| row.state == RowState::Calling) {
        let Some(dispatch) = row.dispatch_id else { continue };
        let Some(mut record) = ledger.find(&batch.account_id, dispatch).await? else { continue };
        let is_canceled = batch.state == BatchState::Canceled;
        if is_canceled {
            record = search_for_attempt(account, record).await?;
        }
        row.call_id = record.state.id().map(CallId::new).or_else(|| row.call_id.take());
        match record.state {
            DispatchState::Finished { outcome, .. } => {
                row.state = RowState::Done;
                row.outcome = Some(outcome);
            }
            DispatchState::Unknown { .. } if is_canceled => {
                row.state = RowState::Unknown;
                row.outcome = Some(CallOutcome::Unknown);
                row.reason = Some("it may have been called: it was not found".to_owned());
            }
            DispatchState::NotPlaced { .. } if is_canceled => {
                row.attempts = row.attempts.saturating_sub(1);
                row.state = RowState::Waiting;
                row.follow(batch, None);
            }
            _ => {}
        }
        if is_canceled && row.state != RowState::Calling {
            let (account, id) = (&batch.account_id, &batch.batch_id);
            ledger.update_row(account, id, batch.generation, row.clone()).await?;
        }
    }
    Ok(())
}

/// Searches for an attempt of a canceled batch. Its process may have ended, and a canceled batch is never resumed, so
/// nothing else searches for it.
async fn search_for_attempt(
    account: &Account,
    mut record: DispatchRecord,
) -> Result<DispatchRecord, BatchError> {
    let dialer = account.dialer()?;
    let is_open = matches!(record.state, DispatchState::Intent | DispatchState::Unknown { .. });
    if is_open && record.lease_expires_at <= Timestamp::now() {
        dialer.resolve_attempt(record.dispatch_id).await?;
    } else if let (DispatchState::Placed { id }, Ok(api)) = (&record.state, account.api())
        && let Ok(call) = api.get_call(&CallId::new(id)).await
    {
        dialer.record_call_end(&call).await;
    }
    let ledger = dialer.ledger().await?;
    if let Some(found) = ledger.find(&record.account_id, record.dispatch_id).await? {
        record = found;
    }
    Ok(record)
}

/// CallingBox's records of the calls that are not followed any more. Their ends are recorded.
async fn update_from_calls(account: &Account, rows: &mut [RowRecord]) {
    let (Ok(api), Ok(dialer)) = (account.api(), account.dialer()) else { return };
    let open = rows.iter_mut().filter(|row| row.state == RowState::Calling);
    let calls = open.filter_map(|row| Some((row.call_id.clone()?, row)));
    for (id, row) in calls.take(MAX_SINGLE_READS) {
        let Ok(call) = api.get_call(&id).await else { continue };
        if call.status.is_terminal() {
            dialer.record_call_end(&call).await;
            row.state = RowState::Done;
            row.outcome = Some(CallOutcome::from_call(&call));
        }
    }
}

/// The results of the rows that are done, from memory or from CallingBox.
pub(super) async fn load_results(
    account: &Account,
    dialer: &Dialer,
    rows: &[RowRecord],
) -> HashMap<CallId, Arc<CallResult>> {
    let mut results = HashMap::new();
    let mut missing = Vec::new();
    let ended = rows.iter().filter(|row| row.state == RowState::Done);
    for id in ended.filter_map(|row| row.call_id.as_ref()) {
        match dialer.batches().find_result(id) {
            Some(result) => {
                results.insert(id.clone(), result);
            }
            None => missing.push(id.clone()),
        }
    }
    let Ok(api) = account.api() else { return results };
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        if missing.is_empty() {
            return results;
        }
        let request = PageRequest { limit: Some(100), cursor: cursor.take() };
        let Ok(page) = api.list_calls(&request).await else { return results };
        cursor = page.data.last().map(|call| PageCursor::After(call.id.as_str().to_owned()));
        for call in &page.data {
            if let Some(position) = missing.iter().position(|id| *id == call.id) {
                keep(dialer, &mut results, missing.swap_remove(position), call);
            }
        }
        if !page.has_more || cursor.is_none() {
            break;
        }
    }
    for id in missing.into_iter().take(MAX_SINGLE_READS) {
        if let Ok(call) = api.get_call(&id).await {
            keep(dialer, &mut results, id, &call);
        }
    }
    results
}

fn keep(dialer: &Dialer, results: &mut HashMap<CallId, Arc<CallResult>>, id: CallId, call: &Call) {
    let result = Arc::new(CallResult::new(call));
    if call.status.is_terminal() {
        dialer.batches().insert_result(id.clone(), Arc::clone(&result));
    }
    results.insert(id, result);
}
