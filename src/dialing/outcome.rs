//! The results of dialing. Shared by the dispatch of a new order and the recovery of an earlier one, which do not
//! depend on each other.

use super::ledger::{
    AttemptStop, BatchId, DispatchId, DispatchRecord, IdempotencyKey, LedgerError,
};
use super::order::Placed;
use super::organization::UnknownAccount;
use super::policy::{PolicyRefusal, format_utc};
use callingbox::{MAX_ID_LENGTH, shown_text};

/// The result of an order that was not refused.
#[derive(Debug)]
pub struct Dialed {
    /// Identifies the dispatch in the ledger.
    pub dispatch: DispatchId,
    pub result: DialResult,
}

/// How far an order got.
#[derive(Debug)]
pub enum DialResult {
    /// It was placed now.
    Placed(Placed),
    /// The same order was placed earlier; this is that one.
    Repeat {
        id: String,
        /// Its present state; `None` if the API could not be read.
        product: Option<Placed>,
        /// The idempotency key of the earlier request.
        key: Option<IdempotencyKey>,
    },
    /// Whether it was placed could not be determined, for this reason.
    Unknown(String),
    /// Another process is placing the same order.
    InFlight,
}

impl Dialed {
    pub(super) fn in_flight(dispatch: DispatchId) -> Self {
        Self { dispatch, result: DialResult::InFlight }
    }

    pub(super) fn unanswered(dispatch: DispatchId) -> Self {
        let reason = "an earlier identical request was not answered.".to_owned();
        Self { dispatch, result: DialResult::Unknown(reason) }
    }
}

/// Why an order was certainly not placed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The calling rules refuse it.
    #[error("{0}")]
    Refused(PolicyRefusal),
    /// The idempotency key belongs to this other request.
    #[error(
        "the idempotency_key was used for another request in the last 24 hours; use a new key for a new request"
    )]
    KeyConflict(Box<DispatchRecord>),
    /// The same agent called the same number a short time ago, with other arguments.
    #[error("{}", describe_similar(.earlier, .differences))]
    SimilarCall {
        earlier: Box<DispatchRecord>,
        /// The names of the arguments that differ.
        differences: Vec<String>,
    },
    /// The number waits in this unfinished batch of the same agent.
    #[error(
        "this number waits in the unfinished batch {0} of the same agent. Nobody was called now"
    )]
    WaitsInBatch(BatchId),
    /// The attempt of a batch may not begin or be sent.
    #[error("{}", describe_stop(*.0))]
    Stopped(AttemptStop),
    /// The organization of the API key is not known, because it has no agent.
    #[error("{}", UnknownAccount::NoAgent)]
    NoAgent,
    /// The API refused it, or was not reached.
    #[error("{0}")]
    NotPlaced(callingbox::Error),
    /// The task of the dispatch panicked or was aborted.
    #[error("the dispatch was interrupted: {0}")]
    Interrupted(String),
}

impl From<UnknownAccount> for DialError {
    fn from(error: UnknownAccount) -> Self {
        match error {
            UnknownAccount::Ledger(error) => Self::Ledger(error),
            UnknownAccount::Api(error) => Self::NotPlaced(error),
            UnknownAccount::NoAgent => Self::NoAgent,
        }
    }
}

const fn describe_stop(stop: AttemptStop) -> &'static str {
    match stop {
        AttemptStop::BatchStopped => "the batch was stopped. Nobody was called",
        AttemptStop::WindowClosed => "the time of the batch is over. Nobody was called",
        AttemptStop::AttemptTaken => "this attempt was begun before. Nobody was called now",
    }
}

fn describe_similar(earlier: &DispatchRecord, differences: &[String]) -> String {
    let names: Vec<String> = differences.iter().map(|name| format!("`{name}`")).collect();
    let call = match earlier.state.id() {
        Some(id) => format!("call_id {}", shown_text::one_line(id, MAX_ID_LENGTH)),
        None => "whether it rang is not known yet".to_owned(),
    };
    format!(
        "this agent called the same number at {} ({call}), with different {}. Nobody was called now",
        format_utc(earlier.created_at),
        names.join(" and ")
    )
}
