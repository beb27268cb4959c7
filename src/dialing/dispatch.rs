//! Places an order: intent on disk, request, id on disk; and what happens when one of these steps fails.
//!
//! **At most once.** POST /v1/calls is never repeated. If its answer does not prove that nothing was done, the newest
//! calls are searched for the dispatch id that the request carried. If the call is found, the order succeeded. If not,
//! the result is `Unknown`, and the next identical request searches again before it may dial.
//!
//! A dispatch runs in a task of its own: even if the client disconnects, the id is recorded. The process waits for
//! these tasks before it exits ([`Dialer::tracked_by`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::Instrument as _;

use super::dialer::Dialer;
use super::ledger::{ConfirmedBy, DispatchRecord, Ledger};
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
            let ledger = dialer.ledger().await?.as_ref();
            match dialer.begin(ledger, &request, &authorization).await? {
                BeginOutcome::Dial(record) => dialer.dispatch(ledger, *record, &request).await,
                BeginOutcome::Answered(dialed) => Ok(dialed),
            }
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
        if !self.recovery_started.swap(true, Ordering::Relaxed) {
            let dialer = Arc::clone(self);
            // Not tracked: a recovery that is cut short is repeated by the next process.
            tokio::spawn(async move {
                let recovery =
                    async { dialer.recover_abandoned(dialer.ledger().await?.as_ref()).await };
                if let Err(error) = recovery.await {
                    tracing::warn!(%error, "could not recover abandoned dispatches; they remain unresolved");
                }
            });
        }
        let (dialer, request) = (Arc::clone(self), request.clone());
        self.spawn_detached(async move {
            let ledger = dialer.ledger().await?.as_ref();
            dialer.look_up_earlier(ledger, &request).await
        })
        .await
    }

    /// Runs work to its end even if the caller stops waiting for it.
    async fn spawn_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DialError>> + Send + 'static,
    ) -> Result<T, DialError> {
        match self.tasks.spawn(work.in_current_span()).await {
            Ok(result) => result,
            Err(error) => Err(DialError::Interrupted(error.to_string())),
        }
    }

    /// The only place that sends the request.
    async fn dispatch(
        &self,
        ledger: &dyn Ledger,
        record: DispatchRecord,
        request: &DialRequest,
    ) -> Result<Dialed, DialError> {
        let (account, dispatch) = (self.account.id(), record.dispatch_id);
        let lease = self.lease(self.api.config().timeouts.total);
        if !ledger.renew_lease(account, dispatch, record.generation, lease).await? {
            return Ok(Dialed::in_flight(dispatch));
        }
        let sent = match &request.order {
            Order::Call(call) => self
                .api
                .place_call(&order::with_dispatch_id(call, dispatch))
                .await
                .map(|call| Placed::Call(Box::new(call))),
            Order::Number { number, .. } => self
                .api
                .purchase_number(number)
                .await
                .map(|number| Placed::Number(Box::new(number))),
        };
        let succeed = async |placed| {
            self.record_placed(ledger, &record, &placed).await;
            Ok(Dialed { dispatch, result: DialResult::Placed(placed) })
        };
        let error = match sent {
            Ok(placed) => return succeed(placed).await,
            Err(error) => error,
        };
        if error.effect() == Effect::Nothing {
            return self.record_not_placed(ledger, dispatch, error).await;
        }
        tracing::warn!(%dispatch, error = %error.kind(), "no usable answer to a dispatch; searching for its result");
        // The request has been sent: a failure of the ledger must neither end the search nor be reported as a refusal.
        let lease = self.lease(search::LIMIT);
        match ledger.renew_lease(account, dispatch, record.generation, lease).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(%dispatch, "another process has taken over this dispatch"),
            Err(error) => {
                tracing::warn!(%dispatch, %error, "could not renew the lease of a dispatch; another process may take it over");
            }
        }
        match search::search(&self.api, &record, request.number(), &search::SCHEDULE).await {
            SearchResult::Found(placed) => succeed(placed).await,
            // The documented answer when the provider could not place the call, and the call is absent.
            SearchResult::Absent if matches!(error.kind(), ErrorKind::Provider { .. }) => {
                self.record_not_placed(ledger, dispatch, error.with_no_effect()).await
            }
            SearchResult::Absent | SearchResult::Inconclusive => {
                Ok(self.record_unknown(ledger, dispatch, error.kind().to_string()).await)
            }
        }
    }
}
