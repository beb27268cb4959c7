//! The dispatch: intent on disk, request, id on disk; and what happens when any step of it fails.
//!
//! **At most once.** POST /v1/calls is never repeated. When its answer does not prove that nothing
//! was done, the newest calls are searched for the dispatch id that the request carried. Found: as
//! if nothing had happened. Not found: `Unknown`, and the next identical request looks again before
//! it may dial.
//!
//! A dispatch runs in a task of its own: whoever asked for it may be gone, the id is recorded all
//! the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::confirm::ConfirmMode;
use super::destination::Destination;
use super::ledger::redis::RedisLedger;
use super::ledger::sqlite::SqliteLedger;
use super::ledger::{
    Begin, DispatchId, Filter, Ledger, LedgerError, NewIntent, Outcome, Record, State, Tenant,
    Terms, World,
};
use super::limits::Usage;
use super::order::{self, Asked, Order, Product};
use super::policy::{Policy, Refusal, Request, Verdict};
use super::search::{self, Found};
use crate::api::{self, Call, CallId, CallStatus, Client, ErrorKind, NumberId, PageRequest};
use crate::money::MilliCents;

/// Where the ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerPlace {
    /// A file that processes of one machine share.
    File(PathBuf),
    /// A server that machines share; the URL may hold a password.
    Redis(String),
    /// Nowhere: the user has no folder for data and named none.
    Nowhere,
}

/// How this account dials.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Whom and when.
    pub policy: Policy,
    /// When a human is asked.
    pub confirm: ConfirmMode,
    /// Only a human's own answer counts.
    pub require_human: bool,
    /// How long the same order is answered with the first one.
    pub repeat_window: SignedDuration,
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
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The calling rules.
    #[error("{0}")]
    Refused(Refusal),
    /// The idempotency key was used for something else.
    #[error(
        "the idempotency_key was used for another request in the last 24 hours (dispatch {0}); \
         use a new key for a new request"
    )]
    KeyConflict(DispatchId),
    /// The API refused.
    #[error("{0}")]
    NotPlaced(api::Error),
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
    /// The same was done within the window: nobody need be asked, for it will not be done again.
    pub repeat: bool,
}

/// Dials for one account.
pub struct Dialer {
    api: Client,
    tenant: Tenant,
    world: World,
    place: LedgerPlace,
    ledger: OnceCell<Arc<dyn Ledger>>,
    rules: Rules,
}

impl Dialer {
    /// A dialer. Opens nothing yet: the ledger is opened by the first order.
    #[must_use]
    pub fn new(api: Client, world: World, place: LedgerPlace, rules: Rules) -> Self {
        let config = api.config();
        let tenant = Tenant::new(config.key.expose().as_bytes(), &config.base_url.to_string());
        Self { api, tenant, world, place, ledger: OnceCell::new(), rules }
    }

    /// The account's name in the ledger.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// How it dials.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The ledger, opened if it is not yet.
    ///
    /// # Errors
    /// It cannot be opened; then nothing may be dialed.
    pub async fn ledger(&self) -> Result<&Arc<dyn Ledger>, LedgerError> {
        self.ledger.get_or_try_init(|| open(&self.place, self.world)).await
    }

    /// No dispatch is at work for longer: the request, then the search.
    fn lease(&self) -> SignedDuration {
        let total = self.api.config().timeouts.total + Duration::from_secs(10);
        SignedDuration::try_from(total).unwrap_or(SignedDuration::from_mins(2))
    }

    /// What the rules say to an order.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn judge(&self, asked: &Asked) -> Result<Judgment, DialError> {
        let ledger = self.ledger().await?;
        let now = Timestamp::now();
        let callee = asked.callee(&self.tenant);
        let limits = self.rules.policy.measured_limits();
        let measure = async || {
            let callee = callee.as_ref().map(|callee| &callee.hash);
            ledger.usage(self.tenant.id(), callee, &limits, asked.hold(), now).await
        };
        let mut usage: Usage = measure().await?;
        if limits.at_once.is_some_and(|most| usage.at_once >= most) {
            self.learn_of_ends(ledger.as_ref(), now).await?;
            usage = measure().await?;
        }
        let (verdict, local_times) = match &asked.order {
            Order::Call(call) => {
                let destination = Destination::of(&call.to);
                let verdict = self.rules.policy.evaluate(&Request {
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
                (self.rules.policy.evaluate_purchase(&usage, asked.hold()), Vec::new())
            }
        };
        for shadow in &verdict.shadow {
            tracing::warn!(rule = %shadow.rule, action = %shadow.action, reason = %shadow.reason, "a rule in shadow would have acted");
        }
        let known_destination = match &callee {
            Some(callee) => ledger.known_destination(self.tenant.id(), &callee.hash).await?,
            None => false,
        };
        let repeat = !asked.allow_repeat && self.was_done(ledger.as_ref(), asked, now).await?;
        Ok(Judgment { verdict, local_times, known_destination, repeat })
    }

    /// Whether the same order was done within the window. Only a shortcut past the human: the step
    /// that decides is [`Ledger::begin`].
    async fn was_done(
        &self,
        ledger: &dyn Ledger,
        asked: &Asked,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let fingerprint = asked.fingerprint(self.tenant.id());
        let recent = ledger
            .list(Filter {
                tenant: Some(self.tenant.id().clone()),
                since: now.checked_sub(self.rules.repeat_window).ok(),
                outcome: None,
                before: None,
                limit: 200,
            })
            .await?;
        Ok(recent
            .iter()
            .any(|record| record.fingerprint == fingerprint && record.state.id().is_some()))
    }

    /// Asks the API about calls that the ledger believes to be running: nobody may have waited for
    /// their end.
    async fn learn_of_ends(&self, ledger: &dyn Ledger, now: Timestamp) -> Result<(), LedgerError> {
        let running = ledger
            .list(Filter {
                tenant: Some(self.tenant.id().clone()),
                since: now.checked_sub(super::limits::LONGEST_CALL).ok(),
                outcome: None,
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
                    if let Some((outcome, cost)) = end(call) {
                        ledger.finished(self.tenant.id(), call.id.as_str(), outcome, cost).await?;
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "which calls have ended could not be learned"),
        }
        Ok(())
    }

    /// Writes down how a call ended, when the ledger knows it. A failure is only logged: the call is
    /// over whether or not it is written down.
    pub async fn note_end(&self, call: &Call) {
        let Some((outcome, cost)) = end(call) else { return };
        let noted = async {
            let ledger = self.ledger().await?;
            ledger.finished(self.tenant.id(), call.id.as_str(), outcome, cost).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, "the end of a call was not recorded");
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
        confirmed_by: String,
    ) -> Result<Dialed, DialError> {
        let dialer = Arc::clone(self);
        let task = tokio::spawn(async move { dialer.dial_now(asked, rule, confirmed_by).await });
        match task.await {
            Ok(dialed) => dialed,
            Err(error) => Err(DialError::Interrupted(error.to_string())),
        }
    }

    async fn dial_now(
        &self,
        asked: Asked,
        rule: String,
        confirmed_by: String,
    ) -> Result<Dialed, DialError> {
        let ledger = self.ledger().await?;
        // An open record of the same order is settled first; settling can free the way only once.
        for _ in 0..3 {
            let dispatch_id = DispatchId::new();
            let now = Timestamp::now();
            let intent = NewIntent {
                dispatch_id,
                kind: asked.kind(),
                tenant: self.tenant.id().clone(),
                fingerprint: asked.fingerprint(self.tenant.id()),
                idempotency_key: asked.idempotency_key.clone(),
                callee: asked.callee(&self.tenant),
                agent_id: match &asked.order {
                    Order::Call(call) => Some(call.agent_id.as_str().to_owned()),
                    Order::Number { .. } => None,
                },
                rule: rule.clone(),
                confirmed_by: confirmed_by.clone(),
                hold: asked.hold(),
            };
            let terms = Terms {
                now,
                lease_until: later(now, self.lease()),
                repeats_since: now.checked_sub(self.rules.repeat_window).unwrap_or(Timestamp::MIN),
                allow_repeat: asked.allow_repeat,
                limits: self.rules.policy.enforced_limits(),
            };
            match ledger.begin(intent, terms).await? {
                Begin::Begun(record) => {
                    return self.dispatch(ledger.as_ref(), record, &asked.order).await;
                }
                Begin::Duplicate(record) => return Ok(self.repeat(&record, &asked.order).await),
                Begin::KeyConflict(record) => {
                    return Err(DialError::KeyConflict(record.dispatch_id));
                }
                Begin::LimitReached(reached) => {
                    return Err(DialError::Refused(self.rules.policy.limit_refusal(reached)));
                }
                Begin::InFlight(record) => {
                    if let Some(dialed) =
                        self.await_other(ledger.as_ref(), &record, &asked.order).await?
                    {
                        return Ok(dialed);
                    }
                }
                Begin::Unsettled(record) => {
                    if let Some(dialed) = self.settle(ledger.as_ref(), record, &asked.order).await?
                    {
                        return Ok(dialed);
                    }
                }
            }
        }
        Err(DialError::Interrupted("other requests for the same kept coming between".to_owned()))
    }

    /// The one place that sends the request.
    async fn dispatch(
        &self,
        ledger: &dyn Ledger,
        record: Record,
        order: &Order,
    ) -> Result<Dialed, DialError> {
        let (tenant, dispatch) = (self.tenant.id(), record.dispatch_id);
        let renew = || later(Timestamp::now(), self.lease());
        if !ledger.renew(tenant, dispatch, record.generation, renew()).await? {
            return Ok(Dialed { dispatch, result: DialResult::InFlight });
        }
        let sent = match order {
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
        let error = match sent {
            Ok(product) => return Ok(self.done(ledger, dispatch, product).await),
            Err(error) => error,
        };
        if error.effect() == api::Effect::Nothing {
            ledger.not_placed(tenant, dispatch, &error.kind().to_string()).await?;
            return Err(DialError::NotPlaced(error));
        }
        tracing::warn!(%dispatch, %error, "the answer to a dispatch is missing; searching for it");
        // The search may outlast the first lease; nobody else may settle it meanwhile.
        if !ledger.renew(tenant, dispatch, record.generation, renew()).await? {
            return Ok(Dialed { dispatch, result: DialResult::InFlight });
        }
        match search::search(&self.api, &record, order, &search::SCHEDULE).await {
            Found::Yes(product) => Ok(self.done(ledger, dispatch, product).await),
            // The documented answer for "the provider could not place it", and it is not there.
            Found::No if matches!(error.kind(), ErrorKind::Provider { .. }) => {
                ledger.not_placed(tenant, dispatch, &error.kind().to_string()).await?;
                Err(DialError::NotPlaced(error))
            }
            Found::No | Found::CannotSay => {
                let record = ledger.unknown(tenant, dispatch, Timestamp::now()).await?;
                Ok(match record.state.id() {
                    Some(_) => self.repeat(&record, order).await,
                    None => {
                        Dialed { dispatch, result: DialResult::Unknown(error.kind().to_string()) }
                    }
                })
            }
        }
    }

    /// It was done. That its id could not be written down does not make it undone.
    async fn done(&self, ledger: &dyn Ledger, dispatch: DispatchId, product: Product) -> Dialed {
        let recorded = ledger.placed(self.tenant.id(), dispatch, product.id()).await;
        if let Err(error) = recorded {
            tracing::error!(%dispatch, %error, "a dispatch was done and its id was not recorded");
        }
        if let Product::Number(number) = &product {
            let cost = number.monthly_cost_cents.map(MilliCents::from_cents);
            let ended =
                ledger.finished(self.tenant.id(), product.id(), Outcome::Completed, cost).await;
            if let Err(error) = ended {
                tracing::warn!(%dispatch, %error, "the cost of a purchase was not recorded");
            }
        }
        Dialed { dispatch, result: DialResult::Done(product) }
    }

    /// The answer for an order that was done before.
    async fn repeat(&self, record: &Record, order: &Order) -> Dialed {
        let dispatch = record.dispatch_id;
        let Some(id) = record.state.id() else {
            let why = "its record has no id".to_owned();
            return Dialed { dispatch, result: DialResult::Unknown(why) };
        };
        let product = match order {
            Order::Call(_) => self
                .api
                .get_call(&CallId::new(id))
                .await
                .map(|call| Some(Product::Call(Box::new(call)))),
            Order::Number { .. } => self.owned_number(&NumberId::new(id)).await,
        };
        let product = product.unwrap_or_else(|error| {
            tracing::warn!(%dispatch, %error, "the first of two identical orders could not be read");
            None
        });
        Dialed { dispatch, result: DialResult::Repeat { id: id.to_owned(), product } }
    }

    async fn owned_number(&self, id: &NumberId) -> Result<Option<Product>, api::Error> {
        let page = self.api.list_numbers(&PageRequest::first(100)).await?;
        let number = page.data.into_iter().find(|number| number.id == *id);
        Ok(number.map(|number| Product::Number(Box::new(number))))
    }

    /// Waits for another process that is doing the same. None: it did not do it, the way is free.
    async fn await_other(
        &self,
        ledger: &dyn Ledger,
        record: &Record,
        order: &Order,
    ) -> Result<Option<Dialed>, DialError> {
        let (tenant, dispatch) = (self.tenant.id(), record.dispatch_id);
        let until = Instant::now() + Duration::from_secs(15);
        let mut search_at = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(200)).await;
            match ledger.find(tenant, dispatch).await? {
                None => return Ok(None),
                Some(found) => match found.state {
                    State::Placed { .. } | State::Finished { .. } => {
                        return Ok(Some(self.repeat(&found, order).await));
                    }
                    State::NotPlaced { .. } => return Ok(None),
                    State::Unknown => break,
                    State::Intent => {}
                },
            }
            if Instant::now() >= search_at {
                // Its process may have died after the request left: then only the API knows.
                search_at += Duration::from_secs(5);
                let found = search::search(&self.api, record, order, &[Duration::ZERO]).await;
                if let Found::Yes(product) = found {
                    return Ok(Some(self.found(ledger, dispatch, product).await));
                }
            }
        }
        Ok(Some(Dialed { dispatch, result: DialResult::InFlight }))
    }

    /// Settles a record whose dispatch nobody works on any more. None: it was not done, the way is
    /// free.
    async fn settle(
        &self,
        ledger: &dyn Ledger,
        record: Record,
        order: &Order,
    ) -> Result<Option<Dialed>, DialError> {
        let (tenant, dispatch) = (self.tenant.id(), record.dispatch_id);
        let now = Timestamp::now();
        let taken = ledger.take_over(tenant, dispatch, now, later(now, self.lease())).await?;
        if taken.is_none() {
            return Ok(Some(Dialed { dispatch, result: DialResult::InFlight }));
        }
        match search::search(&self.api, &record, order, &search::SCHEDULE).await {
            Found::Yes(product) => Ok(Some(self.found(ledger, dispatch, product).await)),
            // The request left, if it left at all, longer ago than any request takes to arrive.
            Found::No if later(record.intent_at, self.lease()) <= Timestamp::now() => {
                ledger.not_placed(tenant, dispatch, "searched for and not found").await?;
                Ok(None)
            }
            Found::No | Found::CannotSay => {
                let record = ledger.unknown(tenant, dispatch, Timestamp::now()).await?;
                Ok(Some(match record.state.id() {
                    Some(_) => self.repeat(&record, order).await,
                    None => {
                        let why = "an earlier identical request was not answered".to_owned();
                        Dialed { dispatch, result: DialResult::Unknown(why) }
                    }
                }))
            }
        }
    }

    /// An earlier dispatch was found to have been done.
    async fn found(&self, ledger: &dyn Ledger, dispatch: DispatchId, product: Product) -> Dialed {
        let id = product.id().to_owned();
        let dialed = self.done(ledger, dispatch, product).await;
        match dialed.result {
            DialResult::Done(product) => {
                Dialed { dispatch, result: DialResult::Repeat { id, product: Some(product) } }
            }
            _ => dialed,
        }
    }
}

/// How a call ended and what it cost, once it has.
fn end(call: &Call) -> Option<(Outcome, Option<MilliCents>)> {
    let outcome = match call.status {
        CallStatus::Completed => Outcome::Completed,
        CallStatus::NoAnswer if call.answered_by.as_deref() == Some("machine") => {
            Outcome::Voicemail
        }
        CallStatus::NoAnswer => Outcome::NoAnswer,
        CallStatus::Busy => Outcome::Busy,
        CallStatus::Canceled => Outcome::Canceled,
        CallStatus::Failed => Outcome::Failed,
        _ => return None,
    };
    Some((outcome, call.billing_amount_milli_cents))
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Opens the ledger at a place.
///
/// # Errors
/// It cannot be opened, or holds the calls of the other world.
pub async fn open(place: &LedgerPlace, world: World) -> Result<Arc<dyn Ledger>, LedgerError> {
    Ok(match place {
        LedgerPlace::File(path) => Arc::new(SqliteLedger::open(path, world).await?),
        LedgerPlace::Redis(url) => Arc::new(RedisLedger::open(url, "callingbox-mcp", world).await?),
        LedgerPlace::Nowhere => {
            return Err(LedgerError::Open {
                path: PathBuf::new(),
                reason: "there is no folder for the user's data (HOME is not set)".to_owned(),
            });
        }
    })
}
