//! Starts the calls of a run: the rows that are due are checked, claimed in the ledger and sent. Knows nothing of their ends.

use std::sync::Arc;

use futures::future::FutureExt as _;
use jiff::{SignedDuration, Timestamp};

use super::Runner;
use super::events::{FAILURE_PAUSE, RowEvent};
use crate::batch::pauses::add;
use crate::batch::plan::max_concurrent;
use crate::batch::prepare::{agent_fingerprint, fill_in, refuse_called_before};
use crate::dialing::attempt::ClaimResult;
use crate::dialing::ledger::{Attempt, AttemptStop, DispatchRecord, PauseReason, RowState};
use crate::dialing::order::{DialRequest, Order};
use crate::dialing::outcome::DialError;
use crate::dialing::policy::{Decision, PolicyRefusal};
use callingbox::{AgentId, CallCreate};

/// How long a row waits while another call to its number is on its way.
const BUSY_NUMBER_PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// How long a batch waits after a limit was reached that calls of others may free, or whose end is not known.
const LIMIT_PAUSE: SignedDuration = SignedDuration::from_secs(20);

/// What became of an attempt to start a row.
enum StartResult {
    Started,
    /// The row is not called now; others may be.
    Waits,
    /// No row can be called now.
    Full,
    /// The batch was stopped, or the clock has jumped.
    Stopped,
}

impl Runner {
    /// Claims and sends the attempts that are due. Returns `false` if the batch was stopped, or the clock has jumped.
    pub(super) async fn start_due_rows(&mut self, now: Timestamp) -> bool {
        if now < self.record.start_at || self.not_before.is_some_and(|at| now < at) {
            return true;
        }
        let due: Vec<usize> = (0..self.rows.len())
            .filter(|index| {
                self.rows.get(*index).is_some_and(|row| {
                    row.state == RowState::Waiting && row.due_at.is_none_or(|due| due <= now)
                })
            })
            .collect();
        for index in due {
            let is_full = self.in_flight.len() >= self.max_in_flight()
                || self.pauses.is_trial() && self.sending > 0;
            if self.pause_reason().is_some() || is_full {
                break;
            }
            match self.start_row(index, now).await {
                StartResult::Started | StartResult::Waits => {}
                StartResult::Full => break,
                StartResult::Stopped => return false,
            }
        }
        true
    }

    /// How many calls of this batch may run at the same time. The ledger enforces the limits.
    fn max_in_flight(&self) -> usize {
        let stop = self.task.stop_when.as_ref();
        let missing = stop.map(|stop| stop.count.saturating_sub(self.matches));
        max_concurrent(&self.dialer.rules().policy.enforced_limits(), missing).0
    }

    async fn start_row(&mut self, index: usize, now: Timestamp) -> StartResult {
        let request = match self.attempt_request(index) {
            Some(Ok(request)) => request,
            Some(Err(refusal)) => {
                self.set_row(index, RowState::Refused, &refusal.reason).await;
                return StartResult::Waits;
            }
            None => {
                self.set_row(index, RowState::NotCalled, "its number was erased").await;
                return StartResult::Waits;
            }
        };
        if !self.is_agent_unchanged().await {
            return StartResult::Full;
        }
        let checked = match self.dialer.check_attempt(&request).await {
            Ok(checked) => checked,
            Err(error) => return self.record_failure(index, now, &error).await,
        };
        // The rules were asked by a clock that may have jumped since the row was due.
        if !self.clock.check_again() {
            return StartResult::Stopped;
        }
        if let Some(quiet) = checked.quiet {
            match quiet.until.filter(|until| *until < self.record.end_by) {
                Some(until) => self.postpone_row(index, until, quiet.reason).await,
                None => {
                    let reason = format!("{}, and the batch ends before they do", quiet.reason);
                    self.set_row(index, RowState::NotCalled, &reason).await;
                }
            }
            return StartResult::Waits;
        }
        let rule = checked.decision.rule.to_string();
        let receipt_rule = request.receipt_rule(&checked.decision, self.confirmed_by);
        match checked.decision.decision {
            Decision::Allow => {}
            Decision::Ask(_) if self.is_asked_by(index, &rule) => {}
            Decision::Ask(reason) => {
                let reason = format!("it needs a new yes: {reason}");
                self.set_row(index, RowState::NotCalled, &reason).await;
                return StartResult::Waits;
            }
            Decision::Refuse(refusal) => {
                self.set_row(index, RowState::Refused, &refusal.reason).await;
                return StartResult::Waits;
            }
        }
        match self.dialer.claim(&request, receipt_rule, self.confirmed_by).await {
            Ok(claim) => self.handle_claim(index, now, request, claim).await,
            Err(error) => self.record_failure(index, now, &error).await,
        }
    }

    async fn handle_claim(
        &mut self,
        index: usize,
        now: Timestamp,
        request: DialRequest,
        claim: ClaimResult,
    ) -> StartResult {
        match claim {
            ClaimResult::Claimed(record) => {
                self.begin_attempt(index, *record, request);
                StartResult::Started
            }
            ClaimResult::CalledBefore(record) => {
                if let Some(row) = self.rows.get_mut(index) {
                    refuse_called_before(row, record.state.id());
                }
                self.write_row(index).await;
                StartResult::Waits
            }
            ClaimResult::InFlight => {
                let reason = "another call to this number is on its way".to_owned();
                self.postpone_row(index, add(now, BUSY_NUMBER_PAUSE), reason).await;
                StartResult::Waits
            }
            ClaimResult::Unresolved(record) => {
                let reason = format!(
                    "whether an earlier call to this number was placed is not known (dispatch {})",
                    record.dispatch_id
                );
                self.set_row(index, RowState::Refused, &reason).await;
                StartResult::Waits
            }
            ClaimResult::LimitReached(limit, refusal) => {
                let reason = refusal.describe_wait();
                let again = add(now, LIMIT_PAUSE);
                // A call that ends may free it earlier.
                let until =
                    refusal.until.filter(|until| !limit.is_freed_by_ends() || *until < again);
                let until = until.unwrap_or(again);
                if limit.is_per_destination() {
                    self.postpone_row(index, until, reason).await;
                    StartResult::Waits
                } else {
                    // The end of a call of this batch undoes it.
                    self.not_before = Some(until);
                    self.set_reason(index, reason).await;
                    StartResult::Full
                }
            }
            ClaimResult::OptedOut(refusal) => {
                self.set_row(index, RowState::Refused, &refusal.reason).await;
                StartResult::Waits
            }
            ClaimResult::Stopped(AttemptStop::AttemptTaken) => {
                self.set_row(index, RowState::Unknown, "another process began this attempt").await;
                StartResult::Waits
            }
            ClaimResult::Stopped(AttemptStop::WindowClosed) => StartResult::Full,
            ClaimResult::Stopped(AttemptStop::BatchStopped) => StartResult::Stopped,
        }
    }

    /// The ledger has the row and the intent: the request may leave.
    fn begin_attempt(&mut self, index: usize, record: DispatchRecord, request: DialRequest) {
        if let (Some(row), Some(attempt)) = (self.rows.get_mut(index), &record.attempt) {
            *row = row.in_attempt(attempt.attempt, record.dispatch_id);
        }
        self.sending += 1;
        let dialer = Arc::clone(&self.dialer);
        let send = async move {
            let sent = dialer.send_claimed(record, request).await;
            RowEvent::Sent(index, Box::new(sent))
        };
        self.in_flight.push(send.boxed());
        self.changes.send_modify(|version| *version += 1);
    }

    /// The request of the next attempt, or why it is not sent; `None` if the number was erased.
    fn attempt_request(&self, index: usize) -> Option<Result<DialRequest, PolicyRefusal>> {
        let row = self.rows.get(index)?;
        let person = row.person.clone().unwrap_or_default();
        let instructions = fill_in(&self.task, &person);
        let disclosure = self.disclosure.decide(&self.agent, instructions.as_deref());
        let mut call =
            CallCreate::new(AgentId::new(self.record.agent_id.clone()), row.number.clone()?);
        call.from_number.clone_from(&self.task.from_number);
        call.instructions = instructions;
        call.webhook_url.clone_from(&self.task.webhook_url);
        call.context = person.context;
        call.metadata = person.metadata;
        if let Some(name) = person.name {
            // So that the agent knows whom it calls, and lists of calls show the name.
            for facts in [&mut call.context, &mut call.metadata] {
                let facts = facts.get_or_insert_default();
                facts.entry("name").or_insert_with(|| name.as_str().into());
            }
        }
        Some(disclosure.into_instructions().map(|disclosing_instructions| DialRequest {
            order: Order::Call(Box::new(call)),
            caller: self.record.caller.clone(),
            idempotency_key: None,
            allow_repeat: self.task.allow_repeat,
            attempt: Some(Attempt {
                batch_id: self.record.batch_id.clone(),
                row: row.row,
                attempt: row.attempts.saturating_add(1),
                generation: self.generation,
            }),
            disclosing_instructions,
            metadata_source: self.task.metadata_source,
        }))
    }

    fn is_asked_by(&self, index: usize, rule: &str) -> bool {
        self.rows.get(index).and_then(|row| row.asked_by.as_deref()) == Some(rule)
    }

    /// Whether the agent is the one that was confirmed. Otherwise the batch pauses until it is resumed.
    async fn is_agent_unchanged(&mut self) -> bool {
        let id = AgentId::new(self.record.agent_id.clone());
        // One that cannot be read now is not known to have changed; the call's own request reports the failure.
        let Some(agent) = self.account.find_agent(&id).await else { return true };
        let is_unchanged = agent_fingerprint(&self.account_ref, &agent) == self.agent_fingerprint;
        if !is_unchanged {
            self.pauses.wait_for_person(PauseReason::Agent);
        }
        is_unchanged
    }

    async fn record_failure(
        &mut self,
        index: usize,
        now: Timestamp,
        error: &DialError,
    ) -> StartResult {
        self.count_failure(now, error);
        self.postpone_row(index, add(now, FAILURE_PAUSE), error.to_string()).await;
        StartResult::Full
    }
}
