//! Checks an order against the calling rules before a person is asked, with the usage that the ledger measures.

use jiff::Timestamp;

use super::call_outcome::CallEnd;
use super::caller::CallerName;
use super::destination::Destination;
use super::dialer::Dialer;
use super::ledger::{
    AccountRef, DestinationHash, DispatchState, Ledger, LedgerError, MAX_PAGE, RecordFilter,
};
use super::limits::{DAY, Limit, Usage};
use super::order::{DialRequest, Order};
use super::organization::UnknownAccount;
use super::outcome::DialError;
use super::policy::{PolicyDecision, PolicyInput};
use callingbox::{MilliCents, PageRequest};

/// The result of checking an order.
#[derive(Debug)]
pub struct PolicyCheck {
    pub decision: PolicyDecision,
    /// The local times at the destination.
    pub local_times: Vec<String>,
    /// Whether this destination was called before.
    pub known_destination: bool,
}

impl Dialer {
    /// Checks an order against the rules and the limits.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn check_policy(&self, request: &DialRequest) -> Result<PolicyCheck, DialError> {
        let ledger = self.ledger().await?.as_ref();
        let account = self.account_for(request).await?;
        let now = self.now().await?.dialing;
        let callee = request.callee(&account);
        let rules = self.rules();
        let limits = rules.policy.measured_limits();
        let measure = || {
            let callee = callee.as_ref().map(|callee| &callee.hash);
            self.measure(&account, &request.caller, callee, request.hold(), now)
        };
        let mut usage = measure().await?;
        let is_reached = |limit: Limit| {
            limit.is_freed_by_ends()
                && limits.check_limit(limit, request.kind(), &usage, request.hold()).is_some()
        };
        if Limit::ALL.into_iter().any(is_reached) {
            self.free_limits(ledger, &account, now).await?;
            usage = measure().await?;
        }
        let opt_out = self.check_opt_out(ledger, &account, callee.as_ref()).await?;
        let (mut decision, local_times) = match &request.order {
            Order::Call(call) => {
                let destination = Destination::from_number(&call.to);
                let decision = rules.policy.evaluate(&PolicyInput {
                    to: &call.to,
                    destination: &destination,
                    agent_id: call.agent_id.as_str(),
                    caller: &request.caller,
                    is_batch: false,
                    metadata: call.metadata.as_ref(),
                    metadata_source: request.metadata_source,
                    now,
                    usage: &usage,
                    hold: request.hold(),
                });
                (decision, destination.zones.local_times(now))
            }
            Order::Number { .. } => {
                (rules.policy.evaluate_purchase(&usage, request.hold()), Vec::new())
            }
        };
        if let Some(refusal) = opt_out {
            decision = refusal.into();
        }
        for shadow in &decision.shadow {
            tracing::warn!(rule = %shadow.rule, action = %shadow.action, reason = %shadow.reason, "a calling rule in shadow mode would have acted; the call is not affected");
        }
        let known_destination = match &callee {
            Some(callee) => ledger.is_known_destination(account.id(), &callee.hash).await?,
            None => false,
        };
        Ok(PolicyCheck { decision, local_times, known_destination })
    }

    /// The usage of the account and of this caller.
    ///
    /// # Errors
    /// The ledger or CallingBox cannot be read.
    pub async fn measure_usage(&self, caller: &CallerName) -> Result<Usage, UnknownAccount> {
        let (ledger, now) = (self.ledger().await?.as_ref(), self.now().await?.dialing);
        let account = match self.account().await {
            Err(UnknownAccount::NoAgent) => self.key.own_account(&ledger.secret().await?),
            account => account?,
        };
        let measure = || self.measure(&account, caller, None, MilliCents::ZERO, now);
        let usage = measure().await?;
        if usage.concurrent == 0 {
            return Ok(usage);
        }
        // Calls that nobody waited for may have ended.
        self.sync_finished_calls(ledger, &account, now).await?;
        Ok(measure().await?)
    }

    /// The usage of an account. What this key bought before its organization was known counts too.
    async fn measure(
        &self,
        account: &AccountRef,
        caller: &CallerName,
        callee: Option<&DestinationHash>,
        hold: MilliCents,
        now: Timestamp,
    ) -> Result<Usage, LedgerError> {
        let (ledger, limits) = (self.ledger().await?, self.rules().policy.measured_limits());
        let mut usage =
            ledger.measure_usage(account.id(), caller, callee, &limits, hold, now).await?;
        let first = self.key.own_account(&ledger.secret().await?);
        if first != *account {
            let zero = MilliCents::ZERO;
            let first = ledger.measure_usage(first.id(), caller, None, &limits, zero, now).await?;
            usage.add_purchases(&first);
        }
        Ok(usage)
    }

    /// Learns which calls have ended, since their ends may free a limit.
    pub(super) async fn free_limits(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        now: Timestamp,
    ) -> Result<(), DialError> {
        if self.sync_finished_calls(ledger, account, now).await? {
            self.recover_abandoned(ledger, account.id()).await?;
        }
        Ok(())
    }

    /// Records the ends of recent calls that no client waited for, so that they free their slots and their holds.
    /// Returns whether the API answered; if it did not, more requests would fail too.
    async fn sync_finished_calls(
        &self,
        ledger: &dyn Ledger,
        account: &AccountRef,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let records = ledger
            .list_records(RecordFilter {
                account_id: Some(account.id().clone()),
                since: now.checked_sub(DAY).ok(),
                limit: MAX_PAGE,
                ..RecordFilter::default()
            })
            .await?;
        let running: Vec<&str> = records
            .iter()
            .filter_map(|record| match &record.state {
                DispatchState::Placed { id } => Some(id.as_str()),
                _ => None,
            })
            .collect();
        let page = match self.api.list_calls(&PageRequest::with_limit(100)).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "could not list recent calls; calls that have ended may still count as in progress");
                return Ok(false);
            }
        };
        for call in page.data.iter().filter(|call| running.contains(&call.id.as_str())) {
            if let Some(end) = CallEnd::from_call(call) {
                self.record_result(ledger, account, call, end).await?;
            }
        }
        Ok(true)
    }
}
