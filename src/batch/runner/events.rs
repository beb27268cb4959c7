//! The events of a run: the answers to its requests, the ends of its calls, and the fates of the attempts of an earlier process.
//! Each changes a row, and some of them pause the batch. Starts no call.

use std::sync::Arc;

use futures::future::FutureExt as _;
use jiff::{SignedDuration, Timestamp};

use super::Runner;
use crate::batch::pauses::{CREDIT_PAUSE, add};
use crate::batch::report::load_results;
use crate::dialing::attempt::AttemptFate;
use crate::dialing::batch_table::CallResult;
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::ledger::{PauseReason, RowState};
use crate::dialing::order::Placed;
use crate::dialing::outcome::{DialError, DialResult, Dialed};
use crate::watch::{Snapshot, WatchOptions, WatchStatus};
use callingbox::{Call, CallId, ErrorKind};

/// How long a row waits after a failure of the API.
pub(super) const FAILURE_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// What happened to a call of the batch.
pub(super) enum RowEvent {
    /// The request was answered, or is known not to have been sent.
    Sent(usize, Box<Result<Dialed, DialError>>),
    /// The call has ended, or cannot be followed.
    Ended(usize, CallId, Arc<Snapshot>),
    /// The fate of an attempt whose process ended.
    Resolved(usize, Result<AttemptFate, DialError>),
}

impl Runner {
    /// Finds out what became of the attempts of an earlier process.
    pub(super) fn recover_open_attempts(&mut self) {
        for (index, row) in self.rows.iter().enumerate() {
            if row.state != RowState::Calling {
                continue;
            }
            let (dialer, dispatch) = (Arc::clone(&self.dialer), row.dispatch_id);
            let resolve = async move {
                let fate = match dispatch {
                    Some(dispatch) => dialer.resolve_attempt(dispatch).await,
                    None => Ok(AttemptFate::Unknown),
                };
                RowEvent::Resolved(index, fate)
            };
            self.in_flight.push(resolve.boxed());
        }
    }

    pub(super) async fn record_event(&mut self, event: RowEvent) {
        match event {
            RowEvent::Sent(index, sent) => {
                self.sending = self.sending.saturating_sub(1);
                self.record_sent(index, *sent).await;
            }
            RowEvent::Ended(index, call, snapshot) => {
                self.record_ended(index, call, &snapshot).await;
            }
            RowEvent::Resolved(index, Ok(AttemptFate::Placed(call))) => {
                self.follow_call(index, call).await
            }
            RowEvent::Resolved(index, Ok(AttemptFate::Unknown)) => {
                self.set_unknown(index, "its process ended while it was placed").await;
            }
            RowEvent::Resolved(index, Err(error)) => {
                let batch = &self.record.batch_id;
                tracing::warn!(%batch, %error, "could not find out whether a call of a batch was placed");
                self.set_unknown(index, "it could not be searched for").await;
            }
        }
    }

    async fn record_sent(&mut self, index: usize, sent: Result<Dialed, DialError>) {
        let now = self.read_clock().await.dialing;
        match sent {
            Ok(Dialed { result: DialResult::Placed(Placed::Call(call)), .. }) => {
                self.pauses.record_placed();
                self.follow_call(index, call.id.clone()).await;
            }
            Ok(Dialed { result: DialResult::Repeat { id, .. }, .. }) => {
                self.follow_call(index, CallId::new(id)).await;
            }
            Ok(Dialed { result: DialResult::Unknown(reason), .. }) => {
                self.set_unknown(index, reason.trim_end_matches('.')).await;
            }
            Ok(Dialed {
                result: DialResult::InFlight | DialResult::Placed(Placed::Number(_)),
                ..
            }) => {
                self.set_unknown(index, "another process took the call over").await;
            }
            Err(DialError::Stopped(_)) => self.release_row(index, None).await,
            // It asked not to be called again after the attempt began.
            Err(DialError::Refused(refusal)) => {
                self.release_row(index, None).await;
                self.set_row(index, RowState::Refused, &refusal.reason).await;
            }
            Err(DialError::NotPlaced(error)) => self.record_not_placed(index, now, &error).await,
            Err(error) => {
                self.release_row(index, Some(add(now, FAILURE_PAUSE))).await;
                self.count_failure(now, &error);
            }
        }
    }

    /// CallingBox certainly placed nothing.
    async fn record_not_placed(&mut self, index: usize, now: Timestamp, error: &callingbox::Error) {
        match error.kind() {
            ErrorKind::Provider { .. } => {
                self.pauses.record_answer();
                self.end_attempt(index, now, CallOutcome::Failed, Some(error.kind().to_string()))
                    .await;
            }
            ErrorKind::CallsPaused { .. } | ErrorKind::InsufficientCredit { .. } => {
                self.release_row(index, None).await;
                if self.in_flight.is_empty() {
                    self.pauses.wait_for_credit(now);
                } else {
                    // The end of a running call frees its hold.
                    self.not_before = Some(add(now, CREDIT_PAUSE));
                }
            }
            ErrorKind::RateLimited { retry_after, .. } => {
                let wait = retry_after.and_then(|wait| SignedDuration::try_from(wait).ok());
                let until = add(now, wait.unwrap_or(FAILURE_PAUSE));
                self.not_before = Some(until);
                self.release_row(index, Some(until)).await;
            }
            ErrorKind::Unauthorized { .. } => {
                self.release_row(index, None).await;
                self.pauses.wait_for_person(PauseReason::Key);
            }
            ErrorKind::BadRequest { .. }
            | ErrorKind::Forbidden { .. }
            | ErrorKind::NotFound { .. }
            | ErrorKind::Conflict { .. }
            | ErrorKind::Refused { .. } => {
                let reason = error.kind().to_string();
                self.set_row(index, RowState::Refused, &reason).await;
            }
            _ => {
                self.release_row(index, Some(add(now, FAILURE_PAUSE))).await;
                self.count_failure(now, error);
            }
        }
    }

    pub(super) fn count_failure(&mut self, now: Timestamp, error: &dyn std::fmt::Display) {
        let batch = &self.record.batch_id;
        tracing::warn!(%batch, %error, "a call of a batch could not be placed");
        self.pauses.count_failure(now);
    }

    /// Follows a placed call to its end.
    pub(super) async fn follow_call(&mut self, index: usize, call: CallId) {
        if let Some(row) = self.rows.get_mut(index) {
            row.call_id = Some(call.clone());
            row.state = RowState::Calling;
        }
        self.write_row(index).await;
        match self.watchers.follow(&call, WatchOptions { transcript: false }) {
            Ok(mut follower) => {
                let ended = async move {
                    let snapshot = follower.finished().await;
                    RowEvent::Ended(index, call, snapshot)
                };
                self.in_flight.push(ended.boxed());
            }
            Err(error) => self.set_unknown(index, &error.to_string()).await,
        }
    }

    async fn record_ended(&mut self, index: usize, id: CallId, snapshot: &Snapshot) {
        let now = self.read_clock().await.dialing;
        // A call that ends frees a limit or credit.
        self.not_before = None;
        match (snapshot.state, &snapshot.call) {
            (WatchStatus::Finished, Some(call)) => {
                // If that fails, a claim that reaches a limit because of it learns of the end.
                self.dialer.record_call_end(call).await;
                self.dialer.batches().insert_result(id, Arc::new(CallResult::new(call)));
                if self.fits_stop_condition(call) {
                    self.matches += 1;
                }
                let outcome = CallOutcome::from_call(call);
                let reason = call.error_message.clone().filter(|_| outcome == CallOutcome::Failed);
                self.end_attempt(index, now, outcome, reason).await;
            }
            (WatchStatus::Unauthorized, _) => {
                self.pauses.wait_for_person(PauseReason::Key);
                self.set_unknown(index, "CallingBox rejects the key, so its end is not known")
                    .await;
            }
            _ => self.set_unknown(index, "its end could not be read").await,
        }
    }

    /// Counts the results of calls that an earlier process followed.
    pub(super) async fn count_earlier_matches(&mut self) {
        let Some(stop) = &self.task.stop_when else { return };
        let results = load_results(&self.account, &self.dialer, &self.rows).await;
        let matches = results.values().filter(|result| stop.fits(result.result.as_ref())).count();
        self.matches = u32::try_from(matches).unwrap_or(u32::MAX);
    }

    fn fits_stop_condition(&self, call: &Call) -> bool {
        let result = call.result.as_ref().and_then(serde_json::Value::as_object);
        self.task.stop_when.as_ref().is_some_and(|stop| stop.fits(result))
    }
}
