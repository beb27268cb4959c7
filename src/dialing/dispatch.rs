//! The dispatch: intent on disk, request, id on disk; and what happens when any step of it fails.
//!
//! **At most once.** POST /v1/calls is never repeated. When its answer does not prove that nothing
//! was done, the newest calls are searched for the dispatch id that the request carried. Found: as
//! if nothing had happened. Not found: `Unknown`, and the next identical request looks again before
//! it may dial.
//!
//! A dispatch runs in a task of its own: whoever asked for it may be gone, the id is recorded all
//! the same. Before the process ends, such tasks are waited for ([`Dialer::tracked_by`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use super::Environment;
use super::call_outcome::{CallEnd, CallOutcome};
use super::destination::Destination;
use super::ledger::redis::RedisLedger;
use super::ledger::sqlite::SqliteLedger;
use super::ledger::{
    ConfirmedBy, DispatchId, Filter, IdempotencyKey, Ledger, LedgerError, Record, State, Tenant,
};
use super::limits::Usage;
use super::order::{self, Asked, Order, Product};
use super::policy::{Refusal, Request, Verdict};
use super::reconcile::Begun;
use super::recorded_outcomes::RecordedOutcomes;
use super::rules::{LiveRules, Rules};
use super::search::{self, Found};
use crate::state::{self, SharedState};
use crate::telemetry::traces;
use callingbox::money::MilliCents;
use callingbox::{self, Call, Client, ErrorKind, PageRequest};

/// How long whoever reads a call waits for its end to be written down.
const NOTING: Duration = Duration::from_secs(1);
/// What a lease lasts longer than the work that it is for.
const SPARE: Duration = Duration::from_secs(10);

/// Where the ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerPlace {
    /// A file that processes of one machine share.
    File(PathBuf),
    /// A server that machines share.
    Redis(SharedState),
    /// Nowhere: the user has no folder for data and named none.
    Nowhere,
}

/// What became of an order that was not refused.
#[derive(Debug)]
pub struct Dialed {
    /// The dispatch in the ledger.
    pub dispatch: DispatchId,
    /// How far it got.
    pub result: DialResult,
}

/// How far it got.
#[derive(Debug)]
pub enum DialResult {
    /// It was done, now.
    Done(Product),
    /// It had been done before; this is that one. Its record could not be read if `product` is none.
    Repeat {
        /// Its id.
        id: String,
        /// It as it is now.
        product: Option<Product>,
        /// The name that its caller had given the request.
        key: Option<IdempotencyKey>,
    },
    /// Nobody can say whether it was done.
    Unknown(String),
    /// Another process is doing the same at this moment.
    InFlight,
}

/// Why it was certainly not done.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// It could not be written down.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The calling rules.
    #[error("{0}")]
    Refused(Refusal),
    /// The idempotency key was used for something else, which this is.
    #[error(
        "the idempotency_key was used for another request in the last 24 hours; use a new key for a new request"
    )]
    KeyConflict(Box<Record>),
    /// The API refused.
    #[error("{0}")]
    NotPlaced(callingbox::Error),
    /// The task that dispatched it ended early.
    #[error("the dispatch was interrupted: {0}")]
    Interrupted(String),
}

/// What the rules say to an order, before anybody is asked.
#[derive(Debug)]
pub struct Judgment {
    /// What the rules say.
    pub verdict: Verdict,
    /// The local times at the destination.
    pub local_times: Vec<String>,
    /// Whether this destination was ever called.
    pub known_destination: bool,
}

/// Dials for one account.
pub struct Dialer {
    pub(super) api: Client,
    pub(super) tenant: Tenant,
    rules: LiveRules,
    environment: Environment,
    place: LedgerPlace,
    ledger: OnceCell<Arc<dyn Ledger>>,
    recorded_outcomes: RecordedOutcomes,
    under_way: TaskTracker,
    /// What others left open was looked for.
    looked: AtomicBool,
}

/// What let an order through.
pub(super) struct Sanction {
    /// The rule that decided.
    pub(super) rule: String,
    /// Who said yes and how.
    pub(super) confirmed_by: ConfirmedBy,
}

impl Dialer {
    /// A dialer of this account. Opens nothing yet: the ledger is opened by the first order.
    #[must_use]
    pub fn new(
        api: Client,
        tenant: Tenant,
        environment: Environment,
        place: LedgerPlace,
        rules: impl Into<LiveRules>,
    ) -> Self {
        Self {
            api,
            tenant,
            rules: rules.into(),
            environment,
            place,
            ledger: OnceCell::new(),
            recorded_outcomes: RecordedOutcomes::default(),
            under_way: TaskTracker::new(),
            looked: AtomicBool::new(false),
        }
    }

    /// The same, with its dispatches among these tasks, for which somebody waits before the process ends.
    #[must_use]
    pub fn tracked_by(mut self, under_way: TaskTracker) -> Self {
        self.under_way = under_way;
        self
    }

    /// The account's name in the ledger.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// How it dials at this moment.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.get()
    }

    /// The ledger, opened if it is not yet.
    ///
    /// # Errors
    /// It cannot be opened; then nothing may be dialed.
    pub async fn ledger(&self) -> Result<&Arc<dyn Ledger>, LedgerError> {
        self.ledger.get_or_try_init(|| open(&self.place, self.environment)).await
    }

    /// The longest that an order takes once it is allowed: another like it is settled or waited for,
    /// the request is sent, its traces are searched for.
    #[must_use]
    pub fn longest_dispatch(&self) -> Duration {
        self.api.config().timeouts.total + search::LIMIT * 3 + SPARE
    }

    /// Until when work that begins now is surely over.
    pub(super) fn lease(&self, work: Duration) -> Timestamp {
        let work = SignedDuration::try_from(work + SPARE).unwrap_or(SignedDuration::from_mins(2));
        later(Timestamp::now(), work)
    }

    /// What the rules say to an order.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn judge(&self, asked: &Asked) -> Result<Judgment, DialError> {
        let ledger = self.ledger().await?;
        let now = Timestamp::now();
        let callee = asked.callee(&self.tenant);
        let rules = self.rules();
        let limits = rules.policy.measured_limits();
        let measure = async || {
            let callee = callee.as_ref().map(|callee| &callee.hash);
            ledger.usage(self.tenant.id(), callee, &limits, asked.hold(), now).await
        };
        let mut usage: Usage = measure().await?;
        let spent = usage.spent.saturating_add(asked.hold());
        if limits.at_once.is_some_and(|most| usage.at_once >= most)
            || limits.spend_per_day.is_some_and(|most| spent > most)
        {
            if self.learn_of_ends(ledger.as_ref(), now).await? {
                self.settle_left(ledger.as_ref()).await?;
            }
            usage = measure().await?;
        }
        let (verdict, local_times) = match &asked.order {
            Order::Call(call) => {
                let destination = Destination::of(&call.to);
                let verdict = rules.policy.evaluate(&Request {
                    to: &call.to,
                    destination: &destination,
                    agent_id: call.agent_id.as_str(),
                    now,
                    usage: &usage,
                    hold: asked.hold(),
                });
                (verdict, destination.zones.local_times(now))
            }
            Order::Number { .. } => {
                (rules.policy.evaluate_purchase(&usage, asked.hold()), Vec::new())
            }
        };
        for shadow in &verdict.shadow {
            tracing::warn!(rule = %shadow.rule, action = %shadow.action, reason = %shadow.reason, "a rule in shadow would have acted");
        }
        let known_destination = match &callee {
            Some(callee) => ledger.known_destination(self.tenant.id(), &callee.hash).await?,
            None => false,
        };
        Ok(Judgment { verdict, local_times, known_destination })
    }

    /// Asks the API about calls of which the ledger knows no end, and so not what they cost: nobody may
    /// have waited for it. Whether the API answered: if not, it is not worth asking it for more.
    async fn learn_of_ends(
        &self,
        ledger: &dyn Ledger,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let running = ledger
            .list(Filter {
                tenant: Some(self.tenant.id().clone()),
                since: now.checked_sub(super::limits::DAY).ok(),
                standing: None,
                before: None,
                limit: super::ledger::MAX_PAGE,
            })
            .await?;
        let running: Vec<&str> = running
            .iter()
            .filter_map(|record| match &record.state {
                State::Placed { id } => Some(id.as_str()),
                _ => None,
            })
            .collect();
        match self.api.list_calls(&PageRequest::first(100)).await {
            Ok(page) => {
                for call in page.data.iter().filter(|call| running.contains(&call.id.as_str())) {
                    if let Some(end) = CallEnd::from_call(call) {
                        ledger.finished(self.tenant.id(), call.id.as_str(), end).await?;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "which calls have ended could not be learned");
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes down how a call ended, when the ledger knows it. A failure is only logged, and nobody waits
    /// long for it: the call is over whether or not it is written down, and it is tried again when the
    /// call is next read.
    pub async fn note_end(&self, call: &Call) {
        let Some(end) = CallEnd::from_call(call) else { return };
        if self.recorded_outcomes.contains(&call.id, end) {
            return;
        }
        let noted = async {
            let ledger = self.ledger().await?;
            ledger.finished(self.tenant.id(), call.id.as_str(), end).await
        };
        match tokio::time::timeout(NOTING, noted).await {
            Ok(Ok(_)) => self.recorded_outcomes.insert(call.id.clone(), end),
            Ok(Err(error)) => tracing::warn!(%error, "the end of a call was not recorded"),
            Err(_) => tracing::warn!("the end of a call was not recorded in time"),
        }
    }

    /// Does it, at most once.
    ///
    /// # Errors
    /// It was certainly not done, and why.
    pub async fn dial(
        self: &Arc<Self>,
        asked: Asked,
        rule: String,
        confirmed_by: ConfirmedBy,
    ) -> Result<Dialed, DialError> {
        let dialer = Arc::clone(self);
        let sanction = Sanction { rule, confirmed_by };
        self.alone(async move { dialer.dial_now(asked, sanction).await }).await
    }

    /// What an earlier order of the same kind says to this one, before anybody judges it or is
    /// asked: it is that one, or is about to be, or nobody knows. An open one is settled first.
    /// None: nothing stands in the way. With the first order, the calls that others left open are settled
    /// beside it.
    ///
    /// # Errors
    /// The ledger cannot be used, or the idempotency key named something else.
    pub async fn earlier(self: &Arc<Self>, asked: &Asked) -> Result<Option<Dialed>, DialError> {
        if !self.looked.swap(true, Ordering::Relaxed) {
            let dialer = Arc::clone(self);
            // Not among what is waited for at the end: what it finds is as true for whoever looks next.
            tokio::spawn(async move {
                let settled = async { dialer.settle_left(dialer.ledger().await?.as_ref()).await };
                if let Err(error) = settled.await {
                    tracing::warn!(%error, "calls that were left open were not settled");
                }
            });
        }
        let (dialer, asked) = (Arc::clone(self), asked.clone());
        self.alone(async move {
            let ledger = dialer.ledger().await?.as_ref();
            dialer.look(ledger, &asked).await
        })
        .await
    }

    /// Runs work that whoever asked for it may leave alone: it goes on to its end.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DialError>> + Send + 'static,
    ) -> Result<T, DialError> {
        match self.under_way.spawn(traces::carried(work)).await {
            Ok(done) => done,
            Err(error) => Err(DialError::Interrupted(error.to_string())),
        }
    }

    async fn dial_now(&self, asked: Asked, sanction: Sanction) -> Result<Dialed, DialError> {
        let ledger = self.ledger().await?.as_ref();
        match self.begin(ledger, &asked, &sanction).await? {
            Begun::Dial(record) => self.dispatch(ledger, *record, &asked).await,
            Begun::Answered(dialed) => Ok(dialed),
        }
    }

    /// The one place that sends the request.
    async fn dispatch(
        &self,
        ledger: &dyn Ledger,
        record: Record,
        asked: &Asked,
    ) -> Result<Dialed, DialError> {
        let (tenant, dispatch) = (self.tenant.id(), record.dispatch_id);
        let lease = self.lease(self.api.config().timeouts.total);
        if !ledger.renew(tenant, dispatch, record.generation, lease).await? {
            return Ok(Dialed { dispatch, result: DialResult::InFlight });
        }
        let sent = match &asked.order {
            Order::Call(call) => self
                .api
                .place_call(&order::marked(call, dispatch))
                .await
                .map(|call| Product::Call(Box::new(call))),
            Order::Number { number, .. } => self
                .api
                .purchase_number(number)
                .await
                .map(|number| Product::Number(Box::new(number))),
        };
        let done = async |product| {
            self.done(ledger, &record, &product).await;
            Ok(Dialed { dispatch, result: DialResult::Done(product) })
        };
        let error = match sent {
            Ok(product) => return done(product).await,
            Err(error) => error,
        };
        if error.effect() == callingbox::Effect::Nothing {
            return self.undone(ledger, dispatch, error).await;
        }
        // What came of it is told below, and may be that nothing was done.
        tracing::warn!(%dispatch, error = %error.kind(), "the answer to a dispatch is missing; searching for it");
        // From here on no failure of the ledger may end the search, nor be told as a refusal: the
        // request has left.
        match ledger.renew(tenant, dispatch, record.generation, self.lease(search::LIMIT)).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(%dispatch, "somebody else is settling a dispatch of ours"),
            Err(error) => tracing::warn!(%dispatch, %error, "the lease was not extended"),
        }
        match search::search(&self.api, &record, asked.number(), &search::SCHEDULE).await {
            Found::Yes(product) => done(product).await,
            // The documented answer for "the provider could not place it", and it is not there.
            Found::No if matches!(error.kind(), ErrorKind::Provider { .. }) => {
                self.undone(ledger, dispatch, error.searched_and_not_done()).await
            }
            Found::No | Found::CannotSay => {
                Ok(self.unknown(ledger, dispatch, error.kind().to_string()).await)
            }
        }
    }

    /// It was certainly not done; unless somebody else has found it meanwhile.
    async fn undone(
        &self,
        ledger: &dyn Ledger,
        dispatch: DispatchId,
        error: callingbox::Error,
    ) -> Result<Dialed, DialError> {
        match ledger.not_placed(self.tenant.id(), dispatch, &error.kind().to_string()).await {
            Ok(record) if record.state.id().is_some() => Ok(self.repeat(&record).await),
            Ok(_) => Err(DialError::NotPlaced(error)),
            Err(failure) => {
                tracing::error!(%dispatch, %failure, "that nothing was done was not recorded");
                Err(DialError::NotPlaced(error))
            }
        }
    }

    /// Nobody can say whether it was done; unless somebody else has found it meanwhile.
    pub(super) async fn unknown(
        &self,
        ledger: &dyn Ledger,
        dispatch: DispatchId,
        why: String,
    ) -> Dialed {
        match ledger.unknown(self.tenant.id(), dispatch, Timestamp::now()).await {
            Ok(record) if record.state.id().is_some() => return self.repeat(&record).await,
            Ok(_) => {}
            Err(error) => tracing::error!(%dispatch, %error, "an unknown end was not recorded"),
        }
        Dialed { dispatch, result: DialResult::Unknown(why) }
    }

    /// It was done, which is written down. That it could not be does not make it undone.
    pub(super) async fn done(&self, ledger: &dyn Ledger, record: &Record, product: &Product) {
        let dispatch = record.dispatch_id;
        let recorded = ledger.placed(self.tenant.id(), dispatch, product.id()).await;
        // Its end may have been told before the ledger knew the id.
        self.recorded_outcomes.clear();
        if let Err(error) = recorded {
            tracing::error!(%dispatch, %error, "a dispatch was done and its id was not recorded");
        }
        if let Product::Number(number) = product {
            // What is paid at once, for which it was held, may be more than what is paid each month.
            let monthly = number.monthly_cost_cents.map(MilliCents::from_cents);
            let cost = Some(record.hold).max(monthly);
            let ended = ledger
                .finished(
                    self.tenant.id(),
                    product.id(),
                    CallEnd { outcome: CallOutcome::Completed, cost },
                )
                .await;
            if let Err(error) = ended {
                tracing::warn!(%dispatch, %error, "the cost of a purchase was not recorded");
            }
        }
    }
}

pub(super) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Opens the ledger at a place.
///
/// # Errors
/// It cannot be opened, or holds the calls of the other world.
pub async fn open(
    place: &LedgerPlace,
    environment: Environment,
) -> Result<Arc<dyn Ledger>, LedgerError> {
    Ok(match place {
        LedgerPlace::File(path) => Arc::new(SqliteLedger::open(path, environment).await?),
        LedgerPlace::Redis(shared) => {
            Arc::new(RedisLedger::open(shared.connection(), state::KEY_PREFIX, environment).await?)
        }
        LedgerPlace::Nowhere => {
            return Err(LedgerError::Open {
                path: PathBuf::new(),
                reason: "there is no folder for the user's data (HOME is not set)".to_owned(),
            });
        }
    })
}
