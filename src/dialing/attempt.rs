//! Places the attempts of batches: the claim in the ledger and the request are two steps, so that a batch knows how many of
//! its calls are on their way. Whether a row is called, and when, is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use super::destination::Destination;
use super::dialer::Dialer;
use super::ledger::{
    AttemptStop, BeginResult, ConfirmedBy, DispatchId, DispatchRecord, DispatchState,
    EarlierDispatch,
};
use super::limits::{Limit, Usage};
use super::order::{DialRequest, Order};
use super::outcome::{DialError, Dialed};
use super::policy::{AttemptDecision, PolicyInput, PolicyRefusal};
use super::recovery::Authorization;
use callingbox::CallId;

/// The result of claiming an attempt.
#[derive(Debug)]
pub enum ClaimResult {
    /// The intent and the row are written: send the request.
    Claimed(Box<DispatchRecord>),
    /// The same agent called the number a short time ago.
    CalledBefore(Box<DispatchRecord>),
    /// Another call to the number is on its way.
    InFlight,
    /// Whether an earlier call to the number was placed is not known.
    Unresolved(Box<DispatchRecord>),
    /// A limit is reached.
    LimitReached(Limit, PolicyRefusal),
    /// The number is on the do-not-call list.
    OptedOut(PolicyRefusal),
    /// The batch has stopped.
    Stopped(AttemptStop),
}

/// The result of an attempt whose process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptFate {
    /// It is this call.
    Placed(CallId),
    /// It may have been placed.
    Unknown,
}

impl Dialer {
    /// What the rules say about an attempt now, apart from the limits, which [`Dialer::claim`] enforces.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn check_attempt(&self, request: &DialRequest) -> Result<AttemptDecision, DialError> {
        let Order::Call(call) = &request.order else {
            return Err(DialError::Interrupted("an attempt is a call".to_owned()));
        };
        let now = self.now().await?.dialing;
        Ok(self.rules().policy.evaluate_attempt(&PolicyInput {
            to: &call.to,
            destination: &Destination::from_number(&call.to),
            agent_id: call.agent_id.as_str(),
            caller: &request.caller,
            is_batch: true,
            metadata: call.metadata.as_ref(),
            metadata_source: request.metadata_source,
            now,
            usage: &Usage::default(),
            hold: request.hold(),
        }))
    }

    /// Writes the intent and the row of an attempt in one step. An earlier call to the number whose result is open is
    /// searched for once, and once it is read which calls have ended, if that may free a limit.
    ///
    /// # Errors
    /// The ledger or the API cannot be used.
    pub async fn claim(
        &self,
        request: &DialRequest,
        rule: String,
        confirmed_by: ConfirmedBy,
    ) -> Result<ClaimResult, DialError> {
        let ledger = self.ledger().await?.as_ref();
        let account = self.account_for(request).await?;
        let authorization = Authorization { rule, confirmed_by };
        let callee = request.callee(&account);
        if let Some(refusal) = self.check_opt_out(ledger, &account, callee.as_ref()).await? {
            return Ok(ClaimResult::OptedOut(refusal));
        }
        let (mut was_resolved, mut were_freed) = (false, false);
        loop {
            let (intent, constraints) = self.new_intent(&account, request, &authorization).await?;
            let now = constraints.now.dialing;
            let earlier = match ledger.begin(intent, constraints).await? {
                BeginResult::Begun(record) => return Ok(ClaimResult::Claimed(Box::new(record))),
                BeginResult::LimitReached(reached)
                    if reached.limit.is_freed_by_ends() && !were_freed =>
                {
                    were_freed = true;
                    self.free_limits(ledger, &account, now).await?;
                    continue;
                }
                BeginResult::LimitReached(reached) => {
                    let limit = reached.limit;
                    let refusal = self.rules().policy.limit_refusal(reached);
                    return Ok(ClaimResult::LimitReached(limit, refusal));
                }
                BeginResult::OptedOut => {
                    let refusal = self.opt_out_refusal(ledger, &account, callee.as_ref()).await?;
                    return Ok(ClaimResult::OptedOut(refusal));
                }
                BeginResult::Stopped(stop) => return Ok(ClaimResult::Stopped(stop)),
                BeginResult::Earlier(earlier) => earlier,
            };
            match earlier {
                EarlierDispatch::Unresolved(record) if !was_resolved => {
                    was_resolved = true;
                    self.resolve(ledger, record, request.number(), &[Duration::ZERO]).await?;
                }
                EarlierDispatch::Unresolved(record) => {
                    return Ok(ClaimResult::Unresolved(Box::new(record)));
                }
                EarlierDispatch::InFlight(_) => return Ok(ClaimResult::InFlight),
                EarlierDispatch::Duplicate(record)
                | EarlierDispatch::SimilarCall(record)
                | EarlierDispatch::KeyConflict(record) => {
                    return Ok(ClaimResult::CalledBefore(Box::new(record)));
                }
                // Attempts are not compared with batches.
                EarlierDispatch::WaitsInBatch(_) => return Ok(ClaimResult::InFlight),
            }
        }
    }

    /// Sends the request of a claimed attempt. It runs to its end even if the caller stops waiting.
    ///
    /// # Errors
    /// Why the call was certainly not placed.
    pub async fn send_claimed(
        self: &Arc<Self>,
        record: DispatchRecord,
        request: DialRequest,
    ) -> Result<Dialed, DialError> {
        let dialer = Arc::clone(self);
        self.spawn_detached(async move {
            let ledger = dialer.ledger().await?;
            let account = dialer.account_for(&request).await?;
            dialer.dispatch(ledger, &account, record, &request).await
        })
        .await
    }

    /// Finds out whether an attempt was placed whose process ended. It is never placed again.
    ///
    /// # Errors
    /// The ledger or the API cannot be used.
    pub async fn resolve_attempt(&self, dispatch: DispatchId) -> Result<AttemptFate, DialError> {
        let ledger = self.ledger().await?.as_ref();
        let account = self.account().await?;
        let Some(record) = ledger.find(account.id(), dispatch).await? else {
            return Ok(AttemptFate::Unknown);
        };
        let is_open = matches!(record.state, DispatchState::Intent | DispatchState::Unknown { .. });
        let record = if is_open {
            self.resolve(ledger, record, None, &super::search::SCHEDULE).await?;
            ledger.find(account.id(), dispatch).await?
        } else {
            Some(record)
        };
        let id = record.as_ref().and_then(|record| record.state.id());
        Ok(id.map_or(AttemptFate::Unknown, |id| AttemptFate::Placed(CallId::new(id))))
    }
}
