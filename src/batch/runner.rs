//! Runs one batch in this process: starts calls as the rows become due, follows them to their ends, and renews the batch's
//! lease. Every attempt is claimed in the ledger, which enforces the limits, before its request is sent.
//!
//! The times of rows, windows and pauses are those of the dialing clock. The lease goes by the monotonic clock.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use super::pauses::{CREDIT_PAUSE, Pauses, add};
use super::plan::DEFAULT_CONCURRENT;
use super::prepare::{PreparedBatch, agent_fingerprint, fill_in, refuse_called_before};
use super::report::load_results;
use super::run_clock::{BatchLease, RENEWAL_PERIOD, RunClock};
use super::{BatchError, StopSignals};
use crate::account::Account;
use crate::dialing::attempt::{AttemptFate, ClaimResult};
use crate::dialing::batch_table::CallResult;
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::clock::ClockReading;
use crate::dialing::dialer::Dialer;
use crate::dialing::disclosure::DisclosureRules;
use crate::dialing::ledger::{
    AccountRef, Attempt, AttemptStop, BatchChange, BatchRecord, BatchState, BatchTask, ConfirmedBy,
    DispatchRecord, Fingerprint, LedgerError, PauseReason, RowRecord, RowState,
};
use crate::dialing::opt_outs::OPTED_OUT;
use crate::dialing::order::{DialRequest, Order, Placed};
use crate::dialing::outcome::{DialError, DialResult, Dialed};
use crate::dialing::policy::{Decision, PolicyRefusal, RuleName};
use crate::telemetry::metrics;
use crate::watch::{Snapshot, WatchOptions, WatchStatus, Watchers};
use callingbox::{Agent, AgentId, Call, CallCreate, CallId, ErrorKind};

/// How often the clock of a simulator is read, which may be moved by hand.
const SIMULATED_TICK: Duration = Duration::from_millis(100);
/// How long a row waits while another call to its number is on its way.
const BUSY_NUMBER_PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// How long a row waits after a limit was reached whose end is not known.
const LIMIT_PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// How long the end of a call waits that the ledger could not record.
const RECORD_PAUSE: Duration = Duration::from_secs(2);
/// How long a row waits after a failure of the API.
const FAILURE_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// Starts the task that runs the batch.
pub(super) fn spawn(
    account: &Arc<Account>,
    prepared: &PreparedBatch,
    record: BatchRecord,
    rows: Vec<RowRecord>,
    lease: BatchLease,
    stop: StopSignals,
) -> Result<(), BatchError> {
    let dialer = Arc::clone(account.dialer()?);
    let Some(task) = record.task.clone() else {
        return Err(BatchError::Erased(record.batch_id));
    };
    let (changes, receiver) = watch::channel(0);
    dialer.batches().insert(record.batch_id.clone(), receiver);
    let runner = Runner {
        watchers: Arc::clone(account.watchers()?),
        account: Arc::clone(account),
        account_ref: prepared.account.clone(),
        agent: Arc::clone(&prepared.agent),
        agent_fingerprint: agent_fingerprint(&prepared.account, &prepared.agent),
        disclosure: prepared.disclosure.clone(),
        confirmed_by: record.confirmed_by.unwrap_or(ConfirmedBy::NotRequired),
        dialer: Arc::clone(&dialer),
        generation: record.generation,
        record,
        task,
        rows,
        stop,
        changes,
        in_flight: FuturesUnordered::new(),
        sending: 0,
        pauses: Pauses::default(),
        matches: 0,
        opt_out_version: 0,
        not_before: None,
        clock: RunClock::new(prepared.now, dialer.clock().is_simulated()),
        lease,
        renew_at: Instant::now(),
    };
    dialer.tasks().spawn(runner.run());
    Ok(())
}

/// What happened to a call of the batch.
enum RowEvent {
    /// The request was answered, or is known not to have been sent.
    Sent(usize, Box<Result<Dialed, DialError>>),
    /// The call has ended, or cannot be followed.
    Ended(usize, CallId, Arc<Snapshot>),
    /// The fate of an attempt whose process ended.
    Resolved(usize, Result<AttemptFate, DialError>),
}

struct Runner {
    account: Arc<Account>,
    account_ref: AccountRef,
    dialer: Arc<Dialer>,
    watchers: Arc<Watchers>,
    /// That of the start or resume in this process. After another resume the ledger has a later one, under which this process
    /// changes nothing.
    generation: u32,
    record: BatchRecord,
    task: BatchTask,
    rows: Vec<RowRecord>,
    /// The agent that was confirmed.
    agent: Arc<Agent>,
    agent_fingerprint: Fingerprint,
    /// As it was confirmed: a change while the batch runs concerns the next batch.
    disclosure: DisclosureRules,
    confirmed_by: ConfirmedBy,
    stop: StopSignals,
    changes: watch::Sender<u64>,
    in_flight: FuturesUnordered<BoxFuture<'static, RowEvent>>,
    /// How many requests are on their way.
    sending: usize,
    pauses: Pauses,
    /// How many results fit the stop condition.
    matches: u32,
    /// How many opt-outs this process had recorded when the rows were last checked against the list.
    opt_out_version: u64,
    /// No call starts before this time: CallingBox asked to wait.
    not_before: Option<Timestamp>,
    clock: RunClock,
    lease: BatchLease,
    /// When the lease is renewed next.
    renew_at: Instant,
}

/// Why the run of a batch ends.
enum RunEnd {
    /// Every row has its end.
    Complete,
    /// The batch was canceled, or another process runs it.
    Lost,
    /// This process ends.
    Draining,
    /// The caller may no longer use this server.
    Revoked,
}

impl Runner {
    async fn run(mut self) {
        let batch = self.record.batch_id.clone();
        tracing::info!(%batch, rows = self.rows.len(), "batch started");
        self.write_open_rows().await;
        self.count_earlier_matches().await;
        self.recover_open_attempts();
        let end = self.run_to_end().await;
        self.finish(&end).await;
        self.dialer.batches().remove(&batch);
        self.changes.send_modify(|version| *version += 1);
        let state = self.record.state.as_str();
        tracing::info!(%batch, state, "the run of a batch ended");
    }

    async fn run_to_end(&mut self) -> RunEnd {
        loop {
            if self.stop.draining.is_cancelled() {
                return RunEnd::Draining;
            }
            if self.stop.revoked.is_cancelled() {
                return RunEnd::Revoked;
            }
            let is_due = Instant::now() >= self.renew_at || self.lease.differs_for_others();
            if is_due {
                self.read_other_clocks().await;
            }
            let now = self.read_clock().await.dialing;
            self.pauses.end_expired(now);
            let is_renewed = is_due || self.pause_reason() != self.record.pause;
            if is_renewed && !self.renew(self.pause_reason()).await {
                return RunEnd::Lost;
            }
            self.close_rows(now).await;
            self.refuse_opted_out_rows(now, is_renewed).await;
            if self.pause_reason().is_none() && !self.start_due_rows(now).await {
                // A clock that jumps over the end of the lease stops an attempt too: the renewal decides.
                self.renew_at = Instant::now();
            }
            if self.rows.iter().all(|row| !row.state.is_open()) {
                return RunEnd::Complete;
            }
            let wait = self.next_wait(now).min(self.renew_at - Instant::now());
            tokio::select! {
                Some(event) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.record_event(event).await;
                }
                () = tokio::time::sleep(wait) => {}
                () = self.stop.draining.cancelled() => {}
                () = self.stop.revoked.cancelled() => {}
            }
        }
    }

    /// Waits until every request that left has its answer, and gives the batch its last state.
    async fn finish(&mut self, end: &RunEnd) {
        while self.sending > 0 {
            match self.in_flight.next().await {
                Some(event) => self.record_event(event).await,
                None => break,
            }
        }
        let now = self.read_clock().await;
        let generation = self.generation;
        let change = match end {
            RunEnd::Complete => {
                let erase_at = self.dialer.rules().people_erased_at(now.machine);
                BatchChange::End { generation, now, erase_at }
            }
            RunEnd::Draining => BatchChange::Interrupt { generation },
            RunEnd::Revoked => {
                if self.renew(Some(PauseReason::Caller)).await {
                    // Nobody renews the lease from now on.
                    return;
                }
                BatchChange::Interrupt { generation }
            }
            RunEnd::Lost => {
                self.follow_to_ends().await;
                return;
            }
        };
        // A failure is logged; then the lease runs out.
        let _ = self.change(change).await;
    }

    /// Records the ends of the calls that run when a batch is canceled.
    async fn follow_to_ends(&mut self) {
        if !self.is_canceled().await {
            return;
        }
        while !self.in_flight.is_empty() {
            tokio::select! {
                Some(event) = self.in_flight.next() => self.record_event(event).await,
                () = self.stop.draining.cancelled() => return,
            }
        }
    }

    /// Whether the batch was canceled, and not taken over by another process.
    async fn is_canceled(&mut self) -> bool {
        let (account, batch) = (self.account_ref.id(), &self.record.batch_id);
        let found = match self.dialer.ledger().await {
            Ok(ledger) => ledger.find_batch(account, batch).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(Some(record)) => {
                let is_own = record.generation == self.generation;
                self.record = record;
                is_own && self.record.state == BatchState::Canceled
            }
            Ok(None) => false,
            Err(error) => {
                tracing::error!(%batch, %error, "the state of a batch could not be read");
                false
            }
        }
    }

    /// Changes the batch in the ledger. Returns whether the change fitted.
    async fn change(&mut self, change: BatchChange) -> Result<bool, LedgerError> {
        let (account, batch) = (self.account_ref.id().clone(), self.record.batch_id.clone());
        let changed = match self.dialer.ledger().await {
            Ok(ledger) => ledger.change_batch(&account, &batch, change).await,
            Err(error) => Err(error),
        };
        match changed {
            Ok(Some((record, is_changed))) => {
                self.record = record;
                Ok(is_changed)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                tracing::error!(%batch, %error, "the state of a batch could not be written to the ledger");
                Err(error)
            }
        }
    }

    /// Renews the lease. Returns whether this process still holds it.
    async fn renew(&mut self, pause: Option<PauseReason>) -> bool {
        let lease = BatchLease::new();
        let change = BatchChange::Renew {
            generation: self.generation,
            now: self.lease.now(),
            lease_expires_at: lease.expires_at(),
            pause,
        };
        self.renew_at = Instant::now() + RENEWAL_PERIOD;
        let was = self.record.pause;
        match self.change(change).await {
            Ok(true) => self.lease = lease,
            Ok(false) => return false,
            // Without a lease no attempt begins.
            Err(_) => return self.lease.now() < self.lease.expires_at(),
        }
        if was != pause {
            let batch = &self.record.batch_id;
            match pause {
                Some(reason) => {
                    tracing::warn!(%batch, reason = reason.describe(), "a batch starts no calls for now");
                }
                None => tracing::info!(%batch, "a batch starts calls again"),
            }
            self.changes.send_modify(|version| *version += 1);
        }
        true
    }

    /// Why the batch starts no calls now; `None`: it starts them.
    fn pause_reason(&self) -> Option<PauseReason> {
        match self.pauses.reason() {
            Some(reason) if !reason.ends_by_itself() => Some(reason),
            _ if !self.clock.is_trusted() => Some(PauseReason::Clock),
            reason => reason,
        }
    }

    /// Reads the clock by which the batch goes.
    async fn read_clock(&mut self) -> ClockReading {
        let read = self.dialer.now().await;
        self.clock.update(read.ok())
    }

    /// Reads the clocks with which that of this machine is compared.
    async fn read_other_clocks(&mut self) {
        if self.clock.is_simulated() {
            return;
        }
        if !self.clock.is_trusted()
            && let Ok(api) = self.account.api()
        {
            // No other response tells the time of CallingBox meanwhile.
            api.probe().await;
        }
        self.clock.compare_with(self.dialer.read_other_clocks(self.account_ref.id()).await);
    }

    /// Closes the rows that are not called any more: the time is over, or enough results were found.
    async fn close_rows(&mut self, now: Timestamp) {
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
    async fn refuse_opted_out_rows(&mut self, now: Timestamp, is_due: bool) {
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

    /// Claims and sends the attempts that are due. Returns `false` if the batch was stopped, or the clock has jumped.
    async fn start_due_rows(&mut self, now: Timestamp) -> bool {
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

    /// How many calls of this batch may run at the same time. The limits of the rules are enforced by the ledger.
    fn max_in_flight(&self) -> usize {
        let limits = self.dialer.rules().policy.enforced_limits();
        let limit = limits.concurrent.map_or(DEFAULT_CONCURRENT, |max| max.max(1));
        let missing = self.task.stop_when.as_ref().map(|stop| {
            let running = stop.count.saturating_sub(self.matches);
            running.max(1)
        });
        missing.map_or(limit, |missing| limit.min(missing)) as usize
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
                Some(until) => self.postpone(index, until, quiet.reason).await,
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
                self.postpone(index, add(now, BUSY_NUMBER_PAUSE), reason).await;
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
            ClaimResult::LimitReached(refusal) => {
                let reason = refusal.describe_wait();
                let until = refusal.until.unwrap_or_else(|| add(now, LIMIT_PAUSE));
                let is_for_all = !matches!(
                    refusal.rule,
                    RuleName::Limit(
                        crate::dialing::limits::Limit::PerDestinationPerHour
                            | crate::dialing::limits::Limit::PerDestinationPerDay
                    )
                );
                if is_for_all {
                    // A call that ends may free the limit earlier, which the end of the call undoes.
                    self.not_before = Some(until);
                    self.set_reason(index, reason).await;
                    StartResult::Full
                } else {
                    self.postpone(index, until, reason).await;
                    StartResult::Waits
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
            // The agent is told whom it calls, and lists of calls name them.
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

    async fn record_event(&mut self, event: RowEvent) {
        match event {
            RowEvent::Sent(index, sent) => {
                self.sending = self.sending.saturating_sub(1);
                self.record_sent(index, *sent).await;
            }
            RowEvent::Ended(index, call, snapshot) => {
                self.record_ended(index, call, snapshot).await;
            }
            RowEvent::Resolved(index, Ok(AttemptFate::Placed(call))) => {
                self.follow(index, call).await
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
                self.follow(index, call.id.clone()).await;
            }
            Ok(Dialed { result: DialResult::Repeat { id, .. }, .. }) => {
                self.follow(index, CallId::new(id)).await;
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

    fn count_failure(&mut self, now: Timestamp, error: &dyn std::fmt::Display) {
        let batch = &self.record.batch_id;
        tracing::warn!(%batch, %error, "a call of a batch could not be placed");
        self.pauses.count_failure(now);
    }

    async fn record_failure(
        &mut self,
        index: usize,
        now: Timestamp,
        error: &DialError,
    ) -> StartResult {
        self.count_failure(now, error);
        self.postpone(index, add(now, FAILURE_PAUSE), error.to_string()).await;
        StartResult::Full
    }

    /// Follows a placed call to its end.
    async fn follow(&mut self, index: usize, call: CallId) {
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

    async fn record_ended(&mut self, index: usize, id: CallId, snapshot: Arc<Snapshot>) {
        let now = self.read_clock().await.dialing;
        // A call that ends frees a limit or credit.
        self.not_before = None;
        match (snapshot.state, &snapshot.call) {
            // For the limits it is in progress, so that no other call could take its place.
            (WatchStatus::Finished, Some(call)) if !self.dialer.record_call_end(call).await => {
                let again = async move {
                    tokio::time::sleep(RECORD_PAUSE).await;
                    RowEvent::Ended(index, id, snapshot)
                };
                self.in_flight.push(again.boxed());
            }
            (WatchStatus::Finished, Some(call)) => {
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
    async fn count_earlier_matches(&mut self) {
        let Some(stop) = &self.task.stop_when else { return };
        let results = load_results(&self.account, &self.dialer, &self.rows).await;
        let matches = results.values().filter(|result| stop.fits(result.result.as_ref())).count();
        self.matches = u32::try_from(matches).unwrap_or(u32::MAX);
    }

    fn fits_stop_condition(&self, call: &Call) -> bool {
        let result = call.result.as_ref().and_then(serde_json::Value::as_object);
        self.task.stop_when.as_ref().is_some_and(|stop| stop.fits(result))
    }

    /// An attempt has its outcome: the row is done, or waits for the next attempt.
    async fn end_attempt(
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
    async fn release_row(&mut self, index: usize, due_at: Option<Timestamp>) {
        if let Some(row) = self.rows.get_mut(index) {
            row.state = RowState::Waiting;
            row.attempts = row.attempts.saturating_sub(1);
            row.dispatch_id = None;
            row.call_id = None;
            row.due_at = due_at;
        }
        self.write_row(index).await;
    }

    async fn postpone(&mut self, index: usize, until: Timestamp, reason: String) {
        if let Some(row) = self.rows.get_mut(index) {
            row.due_at = Some(until);
            row.reason = Some(reason);
        }
        self.write_row(index).await;
    }

    /// Says why the first of the rows waits that wait for the same limit.
    async fn set_reason(&mut self, index: usize, reason: String) {
        let Some(row) = self.rows.get_mut(index) else { return };
        if row.reason.as_ref() != Some(&reason) {
            row.reason = Some(reason);
            self.write_row(index).await;
        }
    }

    async fn set_unknown(&mut self, index: usize, why: &str) {
        let reason = format!("it may have been called: {why}");
        if let Some(row) = self.rows.get_mut(index) {
            row.outcome = Some(CallOutcome::Unknown);
        }
        self.set_row(index, RowState::Unknown, &reason).await;
    }

    async fn set_row(&mut self, index: usize, state: RowState, reason: &str) {
        if let Some(row) = self.rows.get_mut(index) {
            row.state = state;
            row.reason = Some(callingbox::shown_text::one_line(reason, 300));
            row.due_at = None;
        }
        self.write_row(index).await;
    }

    async fn write_row(&mut self, index: usize) {
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

    /// Writes the rows that the last check of the rules changed.
    async fn write_open_rows(&mut self) {
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

    /// Finds out what became of the attempts of an earlier process.
    fn recover_open_attempts(&mut self) {
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

    /// How long to wait, in real time, if nothing happens before.
    fn next_wait(&self, now: Timestamp) -> Duration {
        if self.clock.is_simulated() {
            return SIMULATED_TICK;
        }
        let waiting = self.rows.iter().filter(|row| row.state == RowState::Waiting);
        let next = waiting
            .map(|row| row.due_at.unwrap_or(now))
            .chain(self.not_before)
            .chain(self.pauses.until())
            .chain([self.record.start_at, self.record.end_by])
            .filter(|at| *at > now)
            .min();
        let wait = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
        wait.unwrap_or(RENEWAL_PERIOD).max(Duration::from_millis(50))
    }
}

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
