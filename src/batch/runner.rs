//! Runs one batch in this process: [`attempts`] starts calls as the rows become due, [`events`] follows them to their ends, and
//! [`rows`] writes the changes to the ledger. This file has the loop, the lease and the end of a run.
//!
//! The times of rows, windows and pauses are those of the dialing clock. The lease goes by the monotonic clock.

mod attempts;
mod events;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use self::events::RowEvent;
use super::pauses::Pauses;
use super::prepare::{PreparedBatch, agent_fingerprint};
use super::run_clock::{BatchLease, RENEWAL_PERIOD, RunClock};
use super::{BatchError, StopSignals};
use crate::account::Account;
use crate::dialing::clock::ClockReading;
use crate::dialing::dialer::Dialer;
use crate::dialing::disclosure::DisclosureRules;
use crate::dialing::ledger::{
    AccountRef, BatchChange, BatchRecord, BatchState, BatchTask, ConfirmedBy, Fingerprint,
    LedgerError, PauseReason, RowRecord, RowState,
};
use crate::watch::Watchers;
use callingbox::Agent;

/// How often the clock of a simulator is read, which may be moved by hand.
const SIMULATED_TICK: Duration = Duration::from_millis(100);

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
