//! The changes of the rows of a run. Each is written to the ledger, and wakes the readers of the batch. Sends nothing.

use jiff::{SignedDuration, Timestamp};

use super::Runner;
use crate::batch::pauses::add;
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::ledger::RowState;
use crate::dialing::opt_outs::OPTED_OUT;
use crate::telemetry::metrics;

impl Runner {
    /// Writes the rows that the last check of the rules changed.
    pub(super) async fn write_open_rows(&mut self) {
        for index in 0..self.rows.len() {
            if self
                .rows
                .get(index)
                .is_some_and(|row| row.state == RowState::Refused && row.attempts == 0)
            {
                self.write_row(index).await;
            }
        }
    }

    /// Closes the rows that are not called any more: the time is over, or enough results were found.
    pub(super) async fn close_rows(&mut self, now: Timestamp) {
        let is_late = now >= self.record.end_by;
        let is_enough = self.task.stop_when.as_ref().is_some_and(|stop| self.matches >= stop.count);
        if !is_late && !is_enough {
            return;
        }
        for index in 0..self.rows.len() {
            let Some(row) = self.rows.get_mut(index).filter(|row| row.state == RowState::Waiting)
            else {
                continue;
            };
            if row.attempts > 0 {
                // An earlier attempt has its outcome; only the next one is missing.
                row.state = RowState::Done;
                row.reason = None;
            } else {
                row.state = RowState::NotCalled;
                row.reason = Some(if is_enough {
                    "enough results were found".to_owned()
                } else {
                    match row.reason.take() {
                        Some(reason) => format!("the time was over: {reason}"),
                        None => "the time was over".to_owned(),
                    }
                });
            }
            row.due_at = None;
            self.write_row(index).await;
        }
    }

    /// Refuses the waiting rows whose numbers were put on the do-not-call list: immediately if this process recorded one, and
    /// otherwise (`is_due`) once in a while. What counts is the ledger's own check when an attempt begins.
    pub(super) async fn refuse_opted_out_rows(&mut self, now: Timestamp, is_due: bool) {
        let version = self.dialer.opt_out_version();
        if !is_due && version == self.opt_out_version {
            return;
        }
        self.opt_out_version = version;
        let waiting: Vec<usize> = (0..self.rows.len())
            .filter(|index| self.rows.get(*index).is_some_and(|row| row.state == RowState::Waiting))
            .collect();
        let callees =
            waiting.iter().filter_map(|index| Some(self.rows.get(*index)?.callee.hash.clone()));
        let callees = callees.collect();
        let opted_out = match self.dialer.ledger().await {
            Ok(ledger) => ledger.are_opted_out(self.account_ref.id(), callees, now).await,
            Err(error) => Err(error),
        };
        let opted_out = opted_out.unwrap_or_else(|error| {
            let batch = &self.record.batch_id;
            tracing::warn!(%batch, %error, "the do-not-call list could not be read; each call checks it again");
            Vec::new()
        });
        for (index, is_opted_out) in waiting.into_iter().zip(opted_out) {
            if is_opted_out {
                self.set_row(index, RowState::Refused, OPTED_OUT).await;
            }
        }
    }

    /// An attempt has its outcome: the row is done, or waits for the next attempt.
    pub(super) async fn end_attempt(
        &mut self,
        index: usize,
        now: Timestamp,
        outcome: CallOutcome,
        reason: Option<String>,
    ) {
        let retry = &self.task.retry;
        let pause = SignedDuration::from_mins(retry.after_minutes.into());
        let end_by = self.record.end_by;
        if let Some(row) = self.rows.get_mut(index) {
            row.outcome = Some(outcome);
            let next = add(now, pause);
            let again =
                row.attempts < retry.max_attempts && retry.on.contains(&outcome) && next < end_by;
            if again {
                row.state = RowState::Waiting;
                row.due_at = Some(next);
                row.reason =
                    Some(format!("attempt {} ended with {}", row.attempts, outcome.as_str()));
            } else {
                row.state = RowState::Done;
                row.due_at = None;
                row.reason = reason;
            }
        }
        self.write_row(index).await;
    }

    /// The attempt was certainly not placed: the row waits as before it.
    pub(super) async fn release_row(&mut self, index: usize, due_at: Option<Timestamp>) {
        if let Some(row) = self.rows.get_mut(index) {
            row.state = RowState::Waiting;
            row.attempts = row.attempts.saturating_sub(1);
            row.dispatch_id = None;
            row.call_id = None;
            row.due_at = due_at;
        }
        self.write_row(index).await;
    }

    pub(super) async fn postpone_row(&mut self, index: usize, until: Timestamp, reason: String) {
        if let Some(row) = self.rows.get_mut(index) {
            row.due_at = Some(until);
            row.reason = Some(reason);
        }
        self.write_row(index).await;
    }

    /// Says why the first of the rows waits that wait for the same limit.
    pub(super) async fn set_reason(&mut self, index: usize, reason: String) {
        let Some(row) = self.rows.get_mut(index) else { return };
        if row.reason.as_ref() != Some(&reason) {
            row.reason = Some(reason);
            self.write_row(index).await;
        }
    }

    pub(super) async fn set_unknown(&mut self, index: usize, why: &str) {
        let reason = format!("it may have been called: {why}");
        if let Some(row) = self.rows.get_mut(index) {
            row.outcome = Some(CallOutcome::Unknown);
        }
        self.set_row(index, RowState::Unknown, &reason).await;
    }

    pub(super) async fn set_row(&mut self, index: usize, state: RowState, reason: &str) {
        if let Some(row) = self.rows.get_mut(index) {
            row.state = state;
            row.reason = Some(callingbox::shown_text::one_line(reason, 300));
            row.due_at = None;
        }
        self.write_row(index).await;
    }

    pub(super) async fn write_row(&mut self, index: usize) {
        let Some(row) = self.rows.get(index).cloned() else { return };
        if !row.state.is_open() {
            metrics::batch_row(row.state.as_str());
        }
        let (account, batch) = (self.account_ref.id(), &self.record.batch_id);
        let generation = self.generation;
        let written = match self.dialer.ledger().await {
            Ok(ledger) => ledger.update_row(account, batch, generation, row).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::error!(%batch, row = index + 1, %error, "a row of a batch could not be written to the ledger");
        }
        self.changes.send_modify(|version| *version += 1);
    }
}
