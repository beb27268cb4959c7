//! Earlier orders: finds one that answers a new order, and determines the result of one that was never recorded, so
//! that nothing is dialed twice. Sends only reads to the API.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::dialer::{Dialer, saturating_add};
use super::ledger::{
    AccountId, AccountRef, BeginConstraints, BeginResult, ConfirmedBy, DispatchId, DispatchLookup,
    DispatchRecord, DispatchState, EarlierDispatch, Ledger, LedgerError, NewIntent, RecordFilter,
};
use super::limits::OrderKind;
use super::order::DialRequest;
use super::outcome::{DialError, DialResult, Dialed};
use super::search::{self, SearchResult};
use callingbox::E164;

/// How long to wait for another process that places the same order.
const WAIT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long after it was sent a request may still reach the API: the usual time-out of proxies. Before that, a call
/// that is not found may still be placed.
const MAX_DELIVERY_DELAY: SignedDuration = SignedDuration::from_mins(1);
/// How many abandoned dispatches one recovery covers.
const MAX_RECOVERED: usize = 10;
/// How often to look in the ledger. One recovery clears the way, but another identical order may come in between.
const MAX_ATTEMPTS: usize = 3;

/// How many of a caller's last orders are searched for one that the card confirmed.
const MAX_SEARCHED: u32 = 100;

/// What allowed an order.
pub(super) struct Authorization {
    /// The rule that decided.
    pub(super) rule: String,
    pub(super) confirmed_by: ConfirmedBy,
}

/// The result of beginning an order.
pub(super) enum BeginOutcome {
    /// The intent is recorded: dial.
    Dial(Box<DispatchRecord>),
    /// An earlier order answers this one: do not dial.
    Answered(Dialed),
}

/// The result of recovering an earlier order.
enum Recovery {
    /// It answers the new order.
    Answered(Dialed),
    /// It no longer blocks the new order: look in the ledger again.
    Cleared(DispatchId),
}

impl Dialer {
    /// Finds the earlier order that answers this one; `None` if nothing blocks it.
    pub(super) async fn look_up_earlier(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        request: &DialRequest,
    ) -> Result<Option<Dialed>, DialError> {
        let mut answer = None;
        for _ in 0..MAX_ATTEMPTS {
            let Some(earlier) =
                ledger.find_earlier(self.lookup_for(account, request).await?).await?
            else {
                return Ok(None);
            };
            match self.recover_earlier(ledger, account, request, earlier).await? {
                Recovery::Answered(dialed) => return Ok(Some(dialed)),
                Recovery::Cleared(dispatch) => answer = Some(Dialed::in_flight(dispatch)),
            }
        }
        Ok(answer)
    }

    /// The newest order like this one that was placed after a yes in the card, however short the window of repeated orders
    /// is. It is looked for among the caller's last orders.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn find_placed_by_card(
        &self,
        request: &DialRequest,
    ) -> Result<Option<Dialed>, DialError> {
        let ledger = self.ledger().await?;
        let account = self.account_for(request).await?;
        let fingerprint = request.fingerprint(&account);
        let filter = RecordFilter {
            account_id: Some(account.id().clone()),
            caller: Some(request.caller.clone()),
            limit: MAX_SEARCHED,
            ..RecordFilter::default()
        };
        let records = ledger.list_records(filter).await?;
        let is_placed = |record: &&DispatchRecord| {
            record.fingerprint == fingerprint
                && record.confirmed_by == ConfirmedBy::Card
                && record.state.id().is_some()
        };
        match records.iter().find(is_placed) {
            Some(record) => Ok(Some(self.repeat(record).await)),
            None => Ok(None),
        }
    }

    /// Records the intent, unless an earlier order answers this one.
    pub(super) async fn begin(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        request: &DialRequest,
        authorization: &Authorization,
    ) -> Result<BeginOutcome, DialError> {
        let callee = request.callee(account);
        let mut attempts = 0;
        loop {
            // An earlier order answers this one, whatever the person said on it.
            if ledger.find_earlier(self.lookup_for(account, request).await?).await?.is_none()
                && let Some(refusal) = self.check_opt_out(ledger, account, callee.as_ref()).await?
            {
                return Err(DialError::Refused(refusal));
            }
            let (intent, constraints) = self.new_intent(account, request, authorization).await?;
            let earlier = match ledger.begin(intent, constraints).await? {
                BeginResult::Begun(record) => return Ok(BeginOutcome::Dial(Box::new(record))),
                BeginResult::Earlier(earlier) => earlier,
                BeginResult::LimitReached(reached) => {
                    return Err(DialError::Refused(self.rules().policy.limit_refusal(reached)));
                }
                BeginResult::OptedOut => {
                    let refusal = self.opt_out_refusal(ledger, account, callee.as_ref()).await?;
                    return Err(DialError::Refused(refusal));
                }
                BeginResult::Stopped(stop) => return Err(DialError::Stopped(stop)),
            };
            attempts += 1;
            match self.recover_earlier(ledger, account, request, earlier).await? {
                Recovery::Answered(dialed) => return Ok(BeginOutcome::Answered(dialed)),
                Recovery::Cleared(dispatch) if attempts == MAX_ATTEMPTS => {
                    return Ok(BeginOutcome::Answered(Dialed::in_flight(dispatch)));
                }
                Recovery::Cleared(_) => {}
            }
        }
    }

    /// Waits for an earlier order or determines its result, until it answers the new one or no longer blocks it.
    async fn recover_earlier(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        request: &DialRequest,
        earlier: EarlierDispatch,
    ) -> Result<Recovery, DialError> {
        let number = request.number();
        let (dispatch, recovered) = match earlier {
            EarlierDispatch::Duplicate(record) => {
                return Ok(Recovery::Answered(self.repeat(&record).await));
            }
            EarlierDispatch::KeyConflict(record) => {
                return Err(DialError::KeyConflict(Box::new(record)));
            }
            EarlierDispatch::SimilarCall(record) => {
                // Nobody is asked for a second call to a person who does not want one.
                let callee = request.callee(account);
                let opt_out = self.check_opt_out(ledger, account, callee.as_ref()).await?;
                if let Some(refusal) = opt_out {
                    return Err(DialError::Refused(refusal));
                }
                let differences = request.argument_hashes(account).differences(&record.arguments);
                return Err(DialError::SimilarCall { earlier: Box::new(record), differences });
            }
            EarlierDispatch::WaitsInBatch(batch) => return Err(DialError::WaitsInBatch(batch)),
            EarlierDispatch::InFlight(record) => {
                (record.dispatch_id, self.await_in_flight(ledger, &record, number).await)
            }
            EarlierDispatch::Unresolved(record) => {
                let dispatch = record.dispatch_id;
                (dispatch, self.resolve(ledger, record, number, &search::SCHEDULE).await)
            }
        };
        Ok(match recovered {
            Ok(Some(dialed)) => Recovery::Answered(dialed),
            Ok(None) => Recovery::Cleared(dispatch),
            // The earlier order may have been placed, so this is not a refusal.
            Err(error) => {
                tracing::error!(%dispatch, %error, "could not recover an earlier dispatch; its result is unknown");
                let reason = "the ledger failed while an earlier identical request was looked for.";
                let result = DialResult::Unknown(reason.to_owned());
                Recovery::Answered(Dialed { dispatch, result })
            }
        })
    }

    async fn lookup_for(
        &self,
        account: &AccountRef,
        request: &DialRequest,
    ) -> Result<DispatchLookup, LedgerError> {
        let now = self.now().await?;
        let agent = request.agent_id().map(str::to_owned);
        Ok(DispatchLookup {
            account_id: account.id().clone(),
            fingerprint: request.fingerprint(account),
            idempotency_key: request.idempotency_key.clone(),
            pair: agent.zip(request.callee(account).map(|callee| callee.hash)),
            now,
            repeats_since: now
                .dialing
                .checked_sub(self.rules().repeat_window)
                .unwrap_or(Timestamp::MIN),
            allow_repeat: request.allow_repeat,
            attempt: request.attempt.as_ref().map(|attempt| attempt.attempt),
        })
    }

    pub(super) async fn new_intent(
        &self,
        account: &AccountRef,
        request: &DialRequest,
        authorization: &Authorization,
    ) -> Result<(NewIntent, BeginConstraints), LedgerError> {
        let DispatchLookup {
            account_id,
            fingerprint,
            idempotency_key,
            pair: _,
            now,
            repeats_since,
            allow_repeat,
            attempt: _,
        } = self.lookup_for(account, request).await?;
        let intent = NewIntent {
            dispatch_id: DispatchId::new(),
            kind: request.kind(),
            account_id,
            caller: request.caller.clone(),
            fingerprint,
            arguments: request.argument_hashes(account),
            idempotency_key,
            callee: request.callee(account),
            agent_id: request.agent_id().map(str::to_owned),
            rule: authorization.rule.clone(),
            confirmed_by: authorization.confirmed_by,
            hold: request.hold(),
            attempt: request.attempt.clone(),
        };
        let constraints = BeginConstraints {
            now,
            lease_expires_at: saturating_add(now.machine, self.request_lease()),
            repeats_since,
            allow_repeat,
            limits: self.rules().policy.enforced_limits(),
        };
        Ok((intent, constraints))
    }

    /// Waits for another process that places the same order. `None`: look in the ledger again.
    async fn await_in_flight(
        &self,
        ledger: &dyn Ledger,
        record: &DispatchRecord,
        number: Option<&E164>,
    ) -> Result<Option<Dialed>, DialError> {
        let (account, dispatch) = (&record.account_id, record.dispatch_id);
        let deadline = Instant::now() + WAIT_TIMEOUT;
        let mut next_search = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let Some(current) = ledger.find(account, dispatch).await? else { return Ok(None) };
            let lease_expired = current.lease_expires_at <= Timestamp::now();
            match current.state {
                DispatchState::Placed { .. } | DispatchState::Finished { .. } => {
                    return Ok(Some(self.repeat(&current).await));
                }
                DispatchState::NotPlaced { .. } => return Ok(None),
                DispatchState::Unknown { .. } if lease_expired => {
                    return Ok(Some(Dialed::unanswered(dispatch)));
                }
                // Its process is gone: the dispatch must be resolved.
                DispatchState::Intent if lease_expired => return Ok(None),
                DispatchState::Intent | DispatchState::Unknown { .. } => {}
            }
            if Instant::now() >= next_search {
                // The process may have died after it sent the request; then only the API knows the result.
                next_search += Duration::from_secs(5);
                let found = search::search(&self.api, record, number, &[Duration::ZERO]).await;
                if let SearchResult::Found(placed) = found {
                    return Ok(Some(self.record_found(ledger, record, placed).await));
                }
            }
        }
        Ok(Some(Dialed::in_flight(dispatch)))
    }

    /// Determines the result of a dispatch that no process works on. `None`: look in the ledger again.
    pub(super) async fn resolve(
        &self,
        ledger: &dyn Ledger,
        record: DispatchRecord,
        number: Option<&E164>,
        schedule: &[Duration],
    ) -> Result<Option<Dialed>, DialError> {
        let (account, dispatch) = (&record.account_id, record.dispatch_id);
        let lease = self.lease(search::LIMIT);
        if ledger.take_over(account, dispatch, Timestamp::now(), lease).await?.is_none() {
            return Ok(None);
        }
        match search::search(&self.api, &record, number, schedule).await {
            SearchResult::Found(placed) => {
                Ok(Some(self.record_found(ledger, &record, placed).await))
            }
            SearchResult::Absent if self.cannot_arrive_anymore(&record) => {
                let reason = "searched for and not found";
                ledger.record_not_placed(account, dispatch, reason).await?;
                Ok(None)
            }
            result @ (SearchResult::Absent | SearchResult::Inconclusive) => {
                let reason = "an earlier identical request was not answered.".to_owned();
                let is_absent = matches!(result, SearchResult::Absent);
                Ok(Some(self.record_unknown(ledger, &record, reason, is_absent).await))
            }
        }
    }

    /// Resolves calls that were left open by a process that died, or while the API could not be reached. Searches once
    /// for each; a call that cannot be determined now remains open.
    pub(super) async fn recover_abandoned(
        &self,
        ledger: &dyn Ledger,
        account: &AccountId,
    ) -> Result<(), DialError> {
        let now = Timestamp::now();
        let unresolved = ledger.list_unresolved(account).await?;
        let is_abandoned_call = |record: &DispatchRecord| {
            record.kind == OrderKind::Call && record.lease_expires_at <= now
        };
        // The newest first: those may be ringing.
        for record in unresolved.into_iter().rev().filter(is_abandoned_call).take(MAX_RECOVERED) {
            self.resolve(ledger, record, None, &[Duration::ZERO]).await?;
        }
        Ok(())
    }

    /// Whether the request, if it was sent, was sent too long ago to still reach the API: by the clock of this machine and by
    /// that of CallingBox, because a clock that was set ahead makes every request look old.
    fn cannot_arrive_anymore(&self, record: &DispatchRecord) -> bool {
        let total = SignedDuration::try_from(self.api.config().timeouts.total);
        let sent = saturating_add(record.written_at, total.unwrap_or(SignedDuration::MAX));
        let arrived_by = saturating_add(sent, MAX_DELIVERY_DELAY);
        arrived_by <= Timestamp::now()
            && self.server_clock().is_none_or(|server| arrived_by <= server.time_at(Instant::now()))
    }
}
