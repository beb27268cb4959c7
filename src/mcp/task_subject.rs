//! The subject of a task: a call or a batch in progress. Knows no task.

use crate::dialing::ledger::BatchId;
use callingbox::CallId;

/// The subject of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskSubject {
    Call(CallId),
    Batch(BatchId),
}

impl TaskSubject {
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Call(call) => call.as_str(),
            Self::Batch(batch) => batch.as_str(),
        }
    }
}

impl From<CallId> for TaskSubject {
    fn from(call: CallId) -> Self {
        Self::Call(call)
    }
}

impl From<BatchId> for TaskSubject {
    fn from(batch: BatchId) -> Self {
        Self::Batch(batch)
    }
}
