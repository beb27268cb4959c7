//! Places an order: intent on disk, request, id on disk; and what happens when one of these steps fails.
//!
//! **At most once.** POST /v1/calls is never repeated. If its answer does not prove that nothing was done, the newest
//! calls are searched for the dispatch id that the request carried. If the call is found, the order succeeded. If not,
//! the result is `Unknown`, and the next identical request searches again before it may dial. Right before the request
//! is written, a [`Lease`] makes sure that no other process has taken the dispatch over meanwhile.
//!
//! A dispatch runs in a task of its own: even if the client disconnects, the id is recorded. The process waits for
//! these tasks before it exits ([`Dialer::tracked_by`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::Instrument as _;

use super::dialer::Dialer;
use super::lease::Lease;
use super::ledger::{
    AccountRef, AttemptStop, BeginResult, ConfirmedBy, DispatchId, DispatchRecord, LeaseRenewal,
    Ledger,
};
use super::order::{self, DialRequest, Order, Placed};
use super::outcome::{DialError, DialResult, Dialed};
use super::recovery::{Authorization, BeginOutcome};
use super::search::{self, SearchResult};
use callingbox::{Effect, ErrorKind};

impl Dialer {
    /// Places an order, at most once.
    ///
    /// # Errors
    /// Why the order was certainly not placed.
    pub async fn dial(
        self: &Arc<Self>,
        request: DialRequest,
        rule: String,
        confirmed_by: ConfirmedBy,
    ) -> Result<Dialed, DialError> {
        let dialer = Arc::clone(self);
        let authorization = Authorization { rule, confirmed_by };
        self.spawn_detached(async move {
            let ledger = dialer.ledger().await?;
            let account = dialer.account_for(&request).await?;
            match dialer.begin(ledger.as_ref(), &account, &request, &authorization).await? {
                BeginOutcome::Dial(record) => {
                    dialer.dispatch(ledger, &account, *record, &request).await
                }
                BeginOutcome::Answered(dialed) => Ok(dialed),
            }
        })
        .await
    }

    /// Notes an order that the user declined. Nothing is sent, and the note blocks no later order.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn record_declined(
        self: &Arc<Self>,
        request: DialRequest,
        rule: String,
        confirmed_by: ConfirmedBy,
    ) -> Result<(), DialError> {
        let dialer = Arc::clone(self);
        let authorization = Authorization { rule, confirmed_by };
        self.spawn_detached(async move {
            let ledger = dialer.ledger().await?;
            let account = dialer.account_for(&request).await?;
            let (intent, constraints) =
                dialer.new_intent(&account, &request, &authorization).await?;
            let (account, dispatch) = (intent.account_id.clone(), intent.dispatch_id);
            if let BeginResult::Begun(_) = ledger.begin(intent, constraints).await? {
                ledger.record_not_placed(&account, dispatch, "the user said no").await?;
            }
            Ok(())
        })
        .await
    }

    /// Finds an earlier identical order that answers this one, before the rules are checked or a person is asked. An
    /// unresolved one is recovered first. The first call also starts the recovery of abandoned dispatches.
    ///
    /// # Errors
    /// The ledger cannot be used, or the idempotency key belongs to another request.
    pub async fn find_earlier(
        self: &Arc<Self>,
        request: &DialRequest,
    ) -> Result<Option<Dialed>, DialError> {
        let (dialer, request) = (Arc::clone(self), request.clone());
        self.spawn_detached(async move {
            let ledger = dialer.ledger().await?;
            let account = dialer.account_for(&request).await?;
            if !dialer.recovery_started.swap(true, Ordering::Relaxed) {
                let (dialer, ledger, account) =
                    (Arc::clone(&dialer), Arc::clone(ledger), account.clone());
                // Not tracked: a recovery that is cut short is repeated by the next process.
                tokio::spawn(async move {
                    let recovery = dialer.recover_abandoned(ledger.as_ref(), account.id());
                    if let Err(error) = recovery.await {
                        tracing::warn!(%error, "could not recover abandoned dispatches; they remain unresolved");
                    }
                });
            }
            dialer.look_up_earlier(ledger.as_ref(), &account, &request).await
        })
        .await
    }

    /// Runs work to its end even if the caller stops waiting for it.
    pub(super) async fn spawn_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DialError>> + Send + 'static,
    ) -> Result<T, DialError> {
        match self.tasks.spawn(work.in_current_span()).await {
            Ok(result) => result,
            Err(error) => Err(DialError::Interrupted(error.to_string())),
        }
    }

    /// The only place that sends the request.
    pub(super) async fn dispatch(
        &self,
        ledger: &Arc<dyn Ledger>,
        account: &AccountRef,
        record: DispatchRecord,
        request: &DialRequest,
    ) -> Result<Dialed, DialError> {
        let duration = self.request_lease();
        let lease = Lease::new(Arc::clone(ledger), &record, self.clock().clone(), duration);
        let renewal = lease.renew().await?;
        if renewal != LeaseRenewal::Renewed {
            return self.answer_withheld(renewal, ledger.as_ref(), account, &record, request).await;
        }
        let sent = self.send(request, record.dispatch_id, &lease).await;
        match sent {
            Ok(placed) if request.order.matches_answer(record.dispatch_id, &placed) => {
                Ok(self.succeed(ledger.as_ref(), &record, placed).await)
            }
            Ok(_) => self.search_for_result(ledger.as_ref(), &record, request, None).await,
            // The process was stopped for too long, and another one may have placed the order since.
            Err(error) if matches!(error.kind(), ErrorKind::Withheld) => {
                let renewal = lease.renew().await?;
                self.answer_withheld(renewal, ledger.as_ref(), account, &record, request).await
            }
            Err(error) if error.effect() == Effect::Nothing => {
                self.record_not_placed(ledger.as_ref(), &record, error).await
            }
            Err(error) => {
                self.search_for_result(ledger.as_ref(), &record, request, Some(error)).await
            }
        }
    }

    /// Records that the request of an attempt was not sent, because its batch has stopped.
    async fn record_stopped(
        &self,
        ledger: &dyn Ledger,
        record: &DispatchRecord,
        stop: AttemptStop,
    ) -> Result<Dialed, DialError> {
        let error = DialError::Stopped(stop);
        let (account, dispatch) = (&record.account_id, record.dispatch_id);
        ledger.record_not_placed(account, dispatch, &error.to_string()).await?;
        Err(error)
    }

    /// Records that the request was not sent, because its number was put on the do-not-call list meanwhile.
    async fn record_opted_out(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        record: &DispatchRecord,
    ) -> Result<Dialed, DialError> {
        let refusal = self.opt_out_refusal(ledger, account, record.callee.as_ref()).await?;
        let dispatch = record.dispatch_id;
        ledger.record_not_placed(account.id(), dispatch, &refusal.reason).await?;
        Err(DialError::Refused(refusal))
    }

    /// The answer to an order whose request was withheld: why, or that of the process that has taken the order over.
    async fn answer_withheld(
        &self,
        renewal: LeaseRenewal,
        ledger: &dyn Ledger,
        account: &AccountRef,
        record: &DispatchRecord,
        request: &DialRequest,
    ) -> Result<Dialed, DialError> {
        match renewal {
            LeaseRenewal::OptedOut => return self.record_opted_out(ledger, account, record).await,
            LeaseRenewal::Stopped(stop) => return self.record_stopped(ledger, record, stop).await,
            LeaseRenewal::Renewed | LeaseRenewal::Lost => {}
        }
        if request.attempt.is_some() {
            // Its batch decides what becomes of the row.
            return Ok(Dialed::in_flight(record.dispatch_id));
        }
        let earlier = self.look_up_earlier(ledger, account, request).await?;
        Ok(earlier.unwrap_or_else(|| Dialed::in_flight(record.dispatch_id)))
    }

    /// Sends the request, unless the lease withholds it at the last moment.
    async fn send(
        &self,
        request: &DialRequest,
        dispatch: DispatchId,
        lease: &Arc<Lease>,
    ) -> Result<Placed, callingbox::Error> {
        match &request.order {
            Order::Call(call) => {
                let mut call = order::with_dispatch_id(call, dispatch);
                if let Some(instructions) = &request.disclosing_instructions {
                    call.instructions = Some(instructions.clone());
                }
                let call = self.api.place_call_guarded(&call, lease.to_send_guard()).await?;
                Ok(Placed::Call(Box::new(call)))
            }
            Order::Number { number, .. } => {
                let number =
                    self.api.purchase_number_guarded(number, lease.to_send_guard()).await?;
                Ok(Placed::Number(Box::new(number)))
            }
        }
    }

    async fn succeed(
        &self,
        ledger: &dyn Ledger,
        record: &DispatchRecord,
        placed: Placed,
    ) -> Dialed {
        self.record_placed(ledger, record, &placed).await;
        Dialed { dispatch: record.dispatch_id, result: DialResult::Placed(placed) }
    }

    /// Searches for an order that may have been placed. `error` is that of its request; without one, the answer was that of
    /// another order.
    async fn search_for_result(
        &self,
        ledger: &dyn Ledger,
        record: &DispatchRecord,
        request: &DialRequest,
        error: Option<callingbox::Error>,
    ) -> Result<Dialed, DialError> {
        let (account, dispatch) = (&record.account_id, record.dispatch_id);
        let failure = match &error {
            Some(error) => error.kind().to_string(),
            None => "the answer of CallingBox does not match the request".to_owned(),
        };
        tracing::warn!(%dispatch, %failure, "no usable answer to a dispatch; searching for its result");
        // The request has been sent: a failure of the ledger must neither end the search nor be reported as a refusal.
        let lease = self.lease(search::LIMIT);
        let renewed = match self.now().await {
            Ok(now) => ledger.renew_lease(account, dispatch, record.generation, now, lease).await,
            Err(error) => Err(error),
        };
        match renewed {
            // A batch that has stopped changes nothing for a request that was sent, nor does an opt-out.
            Ok(LeaseRenewal::Renewed | LeaseRenewal::OptedOut | LeaseRenewal::Stopped(_)) => {}
            Ok(LeaseRenewal::Lost) => {
                tracing::warn!(%dispatch, "another process has taken over this dispatch");
            }
            Err(error) => {
                tracing::warn!(%dispatch, %error, "could not renew the lease of a dispatch; another process may take it over");
            }
        }
        let result = search::search(&self.api, record, request.number(), &search::SCHEDULE).await;
        match (result, error) {
            (SearchResult::Found(placed), _) => Ok(self.succeed(ledger, record, placed).await),
            // The documented answer when the provider could not place the call, and the call is absent.
            (SearchResult::Absent, Some(error))
                if matches!(error.kind(), ErrorKind::Provider { .. }) =>
            {
                self.record_not_placed(ledger, record, error.with_no_effect()).await
            }
            (result, _) => {
                let is_absent = matches!(result, SearchResult::Absent);
                Ok(self.record_unknown(ledger, record, failure, is_absent).await)
            }
        }
    }
}
