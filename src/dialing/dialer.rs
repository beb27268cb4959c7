//! The dialer of one account: its ledger, its rules, and how results are written to the ledger.
//!
//! Its operations are in the files beside this one: `policy_check` checks an order against the calling rules,
//! `dispatch` places it, and `recovery` determines the result of an earlier one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Environment;
use super::batch_table::BatchTable;
use super::call_outcome::{CallEnd, CallOutcome};
use super::clock::{ClockReading, ClockReference, DialingClock};
use super::ledger::{
    AccountId, AccountRef, DispatchRecord, KeyRef, Ledger, LedgerError, LedgerLocation,
    RecordFilter, open_ledger,
};
use super::limits::OrderKind;
use super::order::{DialRequest, Order, Placed};
use super::organization::{self, UnknownAccount};
use super::outcome::{DialError, DialResult, Dialed};
use super::recorded_outcomes::RecordedOutcomes;
use super::rules::{DialingRules, SharedRules};
use super::search;
use callingbox::MilliCents;
use callingbox::{AgentId, ApiClient, CallId, NumberId, PageRequest};

/// How long the organization of a key is not looked up again for each call that ends, after it was not found.
const MISSING_ACCOUNT_PERIOD: Duration = Duration::from_secs(5 * 60);
/// How much longer a lease lasts than the work it covers.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// Places the calls and purchases of one account.
pub struct Dialer {
    pub(super) api: ApiClient,
    pub(super) key: KeyRef,
    /// The account of the key, once it is known.
    pub(super) cached_account: Mutex<Option<AccountRef>>,
    /// When the account of the key was last looked up and not found.
    account_missing_at: Mutex<Option<Instant>>,
    rules: SharedRules,
    environment: Environment,
    location: LedgerLocation,
    clock: DialingClock,
    ledger: OnceCell<Arc<dyn Ledger>>,
    pub(super) recorded_outcomes: RecordedOutcomes,
    pub(super) tasks: TaskTracker,
    batches: BatchTable,
    /// Counts the opt-outs that this process has recorded.
    pub(super) opt_out_version: AtomicU64,
    /// Whether the recovery of abandoned dispatches was started.
    pub(super) recovery_started: AtomicBool,
}

impl Dialer {
    /// Creates a dialer. The first order opens the ledger.
    #[must_use]
    pub fn new(
        api: ApiClient,
        key: KeyRef,
        environment: Environment,
        location: LedgerLocation,
        rules: impl Into<SharedRules>,
    ) -> Self {
        Self {
            api,
            key,
            cached_account: Mutex::default(),
            account_missing_at: Mutex::default(),
            rules: rules.into(),
            environment,
            location,
            clock: DialingClock::machine(),
            ledger: OnceCell::new(),
            recorded_outcomes: RecordedOutcomes::default(),
            tasks: TaskTracker::new(),
            batches: BatchTable::default(),
            opt_out_version: AtomicU64::default(),
            recovery_started: AtomicBool::new(false),
        }
    }

    /// Runs dispatches on this tracker, which the process waits for before it exits.
    #[must_use]
    pub fn tracked_by(mut self, tasks: TaskTracker) -> Self {
        self.tasks = tasks;
        self
    }

    /// Dials by this clock instead of the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: DialingClock) -> Self {
        self.clock = clock;
        self
    }

    /// The clock by which this account dials.
    #[must_use]
    pub fn clock(&self) -> &DialingClock {
        &self.clock
    }

    /// The present time on both clocks.
    ///
    /// # Errors
    /// The clock by which this account dials cannot be read.
    pub async fn now(&self) -> Result<ClockReading, LedgerError> {
        Ok(self.clock.read().await?)
    }

    /// The clocks with which that of this machine is compared: the server that keeps the ledger, the last response of
    /// CallingBox, and the newest dispatch, if it is in the future. What cannot be read is left out.
    pub async fn read_other_clocks(&self, account: &AccountId) -> Vec<ClockReference> {
        let mut others: Vec<ClockReference> = self.server_clock().into_iter().collect();
        let Ok(ledger) = self.ledger().await else { return others };
        let server = ledger.server_time().await.ok().flatten();
        let newest =
            RecordFilter { account_id: Some(account.clone()), limit: 1, ..RecordFilter::default() };
        let newest = ledger.list_records(newest).await.unwrap_or_default();
        let newest = newest.first().map(|record| record.created_at);
        let newest = newest.filter(|newest| *newest > Timestamp::now());
        let now = Instant::now();
        others.extend(server.into_iter().chain(newest).map(|time| ClockReference::new(time, now)));
        others
    }

    /// CallingBox's clock, as its last response had it.
    pub(super) fn server_clock(&self) -> Option<ClockReference> {
        self.api.server_time().map(|time| ClockReference::new(time.date, time.received_at))
    }

    /// The batches that this process runs for the account.
    #[must_use]
    pub fn batches(&self) -> &BatchTable {
        &self.batches
    }

    #[must_use]
    pub fn key(&self) -> &KeyRef {
        &self.key
    }

    /// The tasks that the process waits for before it exits.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// The rules in force now.
    #[must_use]
    pub fn rules(&self) -> Arc<DialingRules> {
        self.rules.get()
    }

    /// Opens the ledger on first use.
    ///
    /// # Errors
    /// The ledger cannot be opened; then nothing may be dialed.
    pub async fn ledger(&self) -> Result<&Arc<dyn Ledger>, LedgerError> {
        self.ledger.get_or_try_init(|| open_ledger(&self.location, self.environment)).await
    }

    /// The longest time that an allowed order takes: an identical order is recovered or awaited, the request is sent,
    /// and its result is searched for.
    #[must_use]
    pub fn max_dispatch_duration(&self) -> Duration {
        self.api.config().timeouts.total + search::LIMIT * 3 + LEASE_MARGIN
    }

    /// The expiry of a lease for work that begins now.
    pub(super) fn lease(&self, work: Duration) -> Timestamp {
        saturating_add(Timestamp::now(), lease_duration(work))
    }

    /// How long the lease for a request lasts.
    pub(super) fn request_lease(&self) -> SignedDuration {
        lease_duration(self.api.config().timeouts.total)
    }

    /// Records that an order was placed. If that fails, the order is still placed, so the failure is only logged.
    pub(super) async fn record_placed(
        &self,
        ledger: &dyn Ledger,
        record: &DispatchRecord,
        placed: &Placed,
    ) {
        let (account, dispatch) = (&record.account_id, record.dispatch_id);
        let recorded = ledger.record_placed(account, dispatch, placed.id()).await;
        // The end of the call may have been reported before the ledger knew its id.
        self.recorded_outcomes.clear();
        if let Err(error) = recorded {
            tracing::error!(%dispatch, %error, "order placed, but its id could not be written to the ledger");
        }
        if let Placed::Number(number) = placed {
            // The hold covers the first payment; the monthly price may be higher.
            let monthly = number.monthly_cost_cents.map(MilliCents::from_cents);
            let end = CallEnd {
                outcome: CallOutcome::Completed,
                cost: Some(record.hold).max(monthly),
                is_result_final: true,
            };
            if let Err(error) = ledger.record_end(account, placed.id(), end).await {
                tracing::warn!(%dispatch, %error, "number bought, but its cost could not be written to the ledger");
            }
        }
    }

    /// Records that an order was not placed, unless another process has found that it was.
    pub(super) async fn record_not_placed(
        &self,
        ledger: &dyn Ledger,
        record: &DispatchRecord,
        error: callingbox::Error,
    ) -> Result<Dialed, DialError> {
        let (account, dispatch) = (&record.account_id, record.dispatch_id);
        let reason = error.kind().to_string();
        match ledger.record_not_placed(account, dispatch, &reason).await {
            Ok(record) if record.state.id().is_some() => Ok(self.repeat(&record).await),
            Ok(_) => Err(DialError::NotPlaced(error)),
            Err(failure) => {
                tracing::error!(%dispatch, %failure, "order not placed, but that could not be written to the ledger");
                Err(DialError::NotPlaced(error))
            }
        }
    }

    /// Records that the result is unknown, unless another process has found the order. `is_absent` says that a complete
    /// search did not find it.
    pub(super) async fn record_unknown(
        &self,
        ledger: &dyn Ledger,
        record: &DispatchRecord,
        reason: String,
        is_absent: bool,
    ) -> Dialed {
        let (account, dispatch) = (&record.account_id, record.dispatch_id);
        let recorded = match self.now().await {
            Ok(now) => ledger.record_unknown(account, dispatch, now, is_absent).await,
            Err(error) => Err(error),
        };
        match recorded {
            Ok(record) if record.state.id().is_some() => return self.repeat(&record).await,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%dispatch, %error, "the result of a dispatch is unknown, and that could not be written to the ledger");
            }
        }
        Dialed { dispatch, result: DialResult::Unknown(reason) }
    }

    /// Records that the search for an earlier dispatch found its order.
    pub(super) async fn record_found(
        &self,
        ledger: &dyn Ledger,
        record: &DispatchRecord,
        placed: Placed,
    ) -> Dialed {
        self.record_placed(ledger, record, &placed).await;
        let (id, key) = (placed.id().to_owned(), record.idempotency_key.clone());
        let result = DialResult::Repeat { id, product: Some(placed), key };
        Dialed { dispatch: record.dispatch_id, result }
    }

    /// The answer to an order that was placed earlier.
    pub(super) async fn repeat(&self, record: &DispatchRecord) -> Dialed {
        let dispatch = record.dispatch_id;
        let Some(id) = record.state.id() else {
            let reason = "the ledger has no id for it".to_owned();
            return Dialed { dispatch, result: DialResult::Unknown(reason) };
        };
        let placed = match record.kind {
            OrderKind::Call => self
                .api
                .get_call(&CallId::new(id))
                .await
                .map(|call| Some(Placed::Call(Box::new(call)))),
            OrderKind::Purchase => self.find_owned_number(&NumberId::new(id)).await,
        };
        let product = placed.unwrap_or_else(|error| {
            tracing::warn!(%dispatch, %error, "could not read the first of two identical orders");
            None
        });
        let key = record.idempotency_key.clone();
        Dialed { dispatch, result: DialResult::Repeat { id: id.to_owned(), product, key } }
    }

    async fn find_owned_number(&self, id: &NumberId) -> Result<Option<Placed>, callingbox::Error> {
        let page = self.api.list_numbers(&PageRequest::with_limit(100)).await?;
        let number = page.data.into_iter().find(|number| number.id == *id);
        Ok(number.map(|number| Placed::Number(Box::new(number))))
    }
}

impl Dialer {
    /// The account of this dialer's key.
    ///
    /// # Errors
    /// The account is not known; then nothing may be dialed.
    pub async fn account(&self) -> Result<AccountRef, UnknownAccount> {
        self.find_account(None).await
    }

    /// The account of this dialer's key, if the ledger has recorded it: no key without one has placed a call. Sends
    /// nothing.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn find_recorded_account(&self) -> Result<Option<AccountRef>, LedgerError> {
        let ledger = self.ledger().await?;
        let secret = ledger.secret().await?;
        let account = ledger.find_account_of_key(&self.key.hash(&secret)).await?;
        Ok(account.map(|account| AccountRef::new(&secret, account)))
    }

    /// The account under which this order is placed.
    ///
    /// # Errors
    /// The account is not known; then nothing may be dialed.
    pub async fn account_for(&self, request: &DialRequest) -> Result<AccountRef, UnknownAccount> {
        match &request.order {
            Order::Call(call) => self.find_account(Some(&call.agent_id)).await,
            Order::Number { .. } => match self.find_account(None).await {
                Err(UnknownAccount::NoAgent) if self.owns_no_number().await? => {
                    Ok(self.key.own_account(&self.ledger().await?.secret().await?))
                }
                result => result,
            },
        }
    }

    /// The account of an organization that has this agent.
    ///
    /// # Errors
    /// The account is not known; then nothing may be dialed.
    pub async fn account_of_agent(&self, agent: &AgentId) -> Result<AccountRef, UnknownAccount> {
        self.find_account(Some(agent)).await
    }

    async fn owns_no_number(&self) -> Result<bool, UnknownAccount> {
        let page = self.api.list_numbers(&PageRequest::with_limit(1)).await?;
        Ok(page.data.is_empty() && page.skipped == 0)
    }

    async fn find_account(&self, agent: Option<&AgentId>) -> Result<AccountRef, UnknownAccount> {
        let ledger = self.ledger().await?.as_ref();
        // Another ledger may have been created at the same place. It has another secret.
        let secret = ledger.secret().await?;
        let cached = self.cached_account.lock().clone();
        if let Some(account) = cached.filter(|account| account.is_in_ledger(&secret)) {
            return Ok(account);
        }
        let found = organization::find_account(ledger, &self.api, &self.key, agent).await;
        let is_missing = matches!(found, Err(UnknownAccount::NoAgent));
        *self.account_missing_at.lock() = is_missing.then(Instant::now);
        let account = found?;
        *self.cached_account.lock() = Some(account.clone());
        Ok(account)
    }

    /// Whether the account of the key was looked up and not found a short time ago.
    pub(super) fn is_account_missing(&self) -> bool {
        self.account_missing_at.lock().is_some_and(|at| at.elapsed() < MISSING_ACCOUNT_PERIOD)
    }
}

fn lease_duration(work: Duration) -> SignedDuration {
    SignedDuration::try_from(work + LEASE_MARGIN).unwrap_or(SignedDuration::from_mins(2))
}

pub(super) fn saturating_add(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}
