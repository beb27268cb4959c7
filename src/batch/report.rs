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
    AccountRef, BatchId, BatchRecord, BatchState, DispatchState, RowRecord, RowState,
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
    let now = dialer.now().await;
    let state = record.state_at(now.machine);
    let is_own = dialer.batches().changes(id).is_some();
    if !is_own {
        update_from_dispatches(account, &account_ref, &mut rows).await?;
    }
    if matches!(state, BatchState::Canceled) {
        for row in rows.iter_mut().filter(|row| row.state == RowState::Waiting) {
            row.state = if row.attempts > 0 { RowState::Done } else { RowState::NotCalled };
            row.reason = (row.attempts == 0).then(|| "the batch was canceled".to_owned());
            row.due_at = None;
        }
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
    Ok(BatchReport { account: account_ref, record, state, rows, now: now.dialing, is_own })
}

/// What the ledger knows of the calls of a batch whose process does not follow them any more.
async fn update_from_dispatches(
    account: &Account,
    account_ref: &AccountRef,
    rows: &mut [RowRecord],
) -> Result<(), BatchError> {
    let ledger = account.dialer()?.ledger().await?;
    for row in rows.iter_mut().filter(|row| row.state == RowState::Calling) {
        let Some(dispatch) = row.dispatch_id else { continue };
        let Some(record) = ledger.find(account_ref.id(), dispatch).await? else { continue };
        row.call_id = record.state.id().map(CallId::new).or_else(|| row.call_id.take());
        if let DispatchState::Finished { outcome, .. } = record.state {
            row.state = RowState::Done;
            row.outcome = Some(outcome);
        }
    }
    Ok(())
}

/// The results of the rows that are done, from memory or from CallingBox.
async fn load_results(
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
