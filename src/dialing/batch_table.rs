//! The batches that this process runs for one account, and the results of calls that it has read. Does not know how a
//! batch is run.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::call_outcome::CallOutcome;
use super::ledger::BatchId;
use crate::ttl_cache::TtlCache;
use callingbox::{Call, CallId, MilliCents, ResultStatus};

/// How many results are kept in memory, and for how long.
const MAX_RESULTS: usize = 2_000;
const RESULT_TTL: Duration = Duration::from_secs(3_600);

/// What a call brought. The words in it are the callee's.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult {
    pub outcome: CallOutcome,
    /// The extracted fields.
    pub result: Option<Map<String, Value>>,
    /// Whether the extraction failed.
    pub has_failed: bool,
    pub cost: Option<MilliCents>,
    pub connected_seconds: Option<u64>,
    pub ended_at: Option<Timestamp>,
}

impl CallResult {
    #[must_use]
    pub fn new(call: &Call) -> Self {
        let has_failed = call.result_status == Some(ResultStatus::Failed);
        let result = call.result.as_ref().and_then(Value::as_object).cloned();
        Self {
            outcome: CallOutcome::from_call(call),
            result: result.filter(|_| !has_failed),
            has_failed,
            cost: call.billing_amount_milli_cents,
            connected_seconds: call.billed_duration_seconds,
            ended_at: call.ended_at.as_ref().and_then(|at| at.instant()),
        }
    }
}

/// The batches that this process runs for one account, and the results that it has read.
pub struct BatchTable {
    running: Mutex<HashMap<BatchId, watch::Receiver<u64>>>,
    results: Mutex<TtlCache<CallId, Arc<CallResult>>>,
}

impl Default for BatchTable {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            results: Mutex::new(TtlCache::new(RESULT_TTL, MAX_RESULTS)),
        }
    }
}

impl fmt::Debug for BatchTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchTable").field("running", &self.running.lock().len()).finish()
    }
}

impl BatchTable {
    /// Whether this process runs a batch.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.running.lock().is_empty()
    }

    /// Wakes at each change of a batch that this process runs; `None` if it does not run it.
    #[must_use]
    pub fn changes(&self, batch: &BatchId) -> Option<watch::Receiver<u64>> {
        self.running.lock().get(batch).cloned()
    }

    /// This process runs the batch from now on.
    pub fn insert(&self, batch: BatchId, changes: watch::Receiver<u64>) {
        self.running.lock().insert(batch, changes);
    }

    /// This process runs the batch no more.
    pub fn remove(&self, batch: &BatchId) {
        self.running.lock().remove(batch);
    }

    /// The result of a call that this process has read.
    #[must_use]
    pub fn find_result(&self, call: &CallId) -> Option<Arc<CallResult>> {
        self.results.lock().get(call).cloned()
    }

    pub fn insert_result(&self, call: CallId, result: Arc<CallResult>) {
        self.results.lock().insert(call, result);
    }
}
