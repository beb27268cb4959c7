//! Whether the way is free for an order: the ledger is asked for an earlier one that is the same, and
//! one whose fate is open is settled before anything may ring. Sends nothing but reads.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::dispatch::{DialError, DialResult, Dialed, Dialer, Sanction, later};
use super::ledger::{Begin, DispatchId, Earlier, Ledger, Lookup, NewIntent, Record, State, Terms};
use super::limits::Kind;
use super::order::{Asked, Order, Product};
use super::search::{self, Found};
use callingbox::e164::E164;
use callingbox::{self, CallId, NumberId, PageRequest};

/// How long somebody who is doing the same is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long after it left a request may still arrive and be carried out, by something on the way that
/// held it back: what proxies commonly wait for an answer. Before that, not found is not undone.
const ARRIVAL: SignedDuration = SignedDuration::from_mins(1);

/// The most calls of those left open that are settled at one time.
const MOST_LEFT: usize = 10;

/// How often the ledger is asked again: settling can free the way only once, but another of the same may
/// come between.
const TRIES: usize = 3;

/// What came of beginning an order.
pub(super) enum Begun {
    /// The intent is written down: dial.
    Dial(Box<Record>),
    /// Nothing is to be dialed; this is the answer.
    Answered(Dialed),
}

impl Dialer {
    /// What an earlier order like this one answers. None: nothing stands in the way.
    pub(super) async fn look(
        &self,
        ledger: &dyn Ledger,
        asked: &Asked,
    ) -> Result<Option<Dialed>, DialError> {
        let mut answer = None;
        for _ in 0..TRIES {
            let Some(earlier) = ledger.look(self.lookup(asked)).await? else { return Ok(None) };
            answer = Some(match self.settled(ledger, asked, earlier).await? {
                Settled::Answered(dialed) => return Ok(Some(dialed)),
                Settled::Again(dispatch) => in_flight(dispatch),
            });
        }
        Ok(answer)
    }

    /// Writes the intent down, unless an earlier order like this one answers it.
    pub(super) async fn begin(
        &self,
        ledger: &dyn Ledger,
        asked: &Asked,
        sanction: &Sanction,
    ) -> Result<Begun, DialError> {
        let mut tries = 0;
        loop {
            let (intent, terms) = self.intend(asked, sanction);
            let earlier = match ledger.begin(intent, terms).await? {
                Begin::Begun(record) => return Ok(Begun::Dial(Box::new(record))),
                Begin::Earlier(earlier) => earlier,
                Begin::LimitReached(reached) => {
                    return Err(DialError::Refused(self.rules().policy.limit_refusal(reached)));
                }
            };
            tries += 1;
            match self.settled(ledger, asked, earlier).await? {
                Settled::Answered(dialed) => return Ok(Begun::Answered(dialed)),
                Settled::Again(dispatch) if tries == TRIES => {
                    return Ok(Begun::Answered(in_flight(dispatch)));
                }
                Settled::Again(_) => {}
            }
        }
    }

    /// Takes an earlier order to where it can answer this one: waits for it, or settles it.
    async fn settled(
        &self,
        ledger: &dyn Ledger,
        asked: &Asked,
        earlier: Earlier,
    ) -> Result<Settled, DialError> {
        let number = asked.number();
        let (dispatch, settled) = match earlier {
            Earlier::Duplicate(record) => {
                return Ok(Settled::Answered(self.repeat(&record).await));
            }
            Earlier::KeyConflict(record) => return Err(DialError::KeyConflict(Box::new(record))),
            Earlier::InFlight(record) => {
                (record.dispatch_id, self.await_other(ledger, &record, number).await)
            }
            Earlier::Unsettled(record) => {
                let dispatch = record.dispatch_id;
                (dispatch, self.settle(ledger, record, number, &search::SCHEDULE).await)
            }
        };
        Ok(match settled {
            Ok(Some(dialed)) => Settled::Answered(dialed),
            Ok(None) => Settled::Again(dispatch),
            // The earlier one may have rung: this is no refusal.
            Err(error) => {
                tracing::error!(%dispatch, %error, "an earlier dispatch could not be settled");
                let why = "the ledger failed while an earlier identical request was looked for.";
                let result = DialResult::Unknown(why.to_owned());
                Settled::Answered(Dialed { dispatch, result })
            }
        })
    }

    fn lookup(&self, asked: &Asked) -> Lookup {
        let now = Timestamp::now();
        Lookup {
            tenant: self.tenant.id().clone(),
            fingerprint: asked.fingerprint(self.tenant.id()),
            idempotency_key: asked.idempotency_key.clone(),
            now,
            repeats_since: now.checked_sub(self.rules().repeat_window).unwrap_or(Timestamp::MIN),
            allow_repeat: asked.allow_repeat,
        }
    }

    /// What is written down, and on what terms.
    fn intend(&self, asked: &Asked, sanction: &Sanction) -> (NewIntent, Terms) {
        let Lookup { tenant, fingerprint, idempotency_key, now, repeats_since, allow_repeat } =
            self.lookup(asked);
        let intent = NewIntent {
            dispatch_id: DispatchId::new(),
            kind: asked.kind(),
            tenant,
            fingerprint,
            idempotency_key,
            callee: asked.callee(&self.tenant),
            agent_id: match &asked.order {
                Order::Call(call) => Some(call.agent_id.as_str().to_owned()),
                Order::Number { .. } => None,
            },
            rule: sanction.rule.clone(),
            confirmed_by: sanction.confirmed_by,
            hold: asked.hold(),
        };
        let terms = Terms {
            now,
            lease_until: self.lease(self.api.config().timeouts.total),
            repeats_since,
            allow_repeat,
            limits: self.rules().policy.enforced_limits(),
        };
        (intent, terms)
    }

    /// The answer for an order that was done before.
    pub(super) async fn repeat(&self, record: &Record) -> Dialed {
        let dispatch = record.dispatch_id;
        let Some(id) = record.state.id() else {
            let why = "its record has no id".to_owned();
            return Dialed { dispatch, result: DialResult::Unknown(why) };
        };
        let product = match record.kind {
            Kind::Call => self
                .api
                .get_call(&CallId::new(id))
                .await
                .map(|call| Some(Product::Call(Box::new(call)))),
            Kind::Purchase => self.owned_number(&NumberId::new(id)).await,
        };
        let product = product.unwrap_or_else(|error| {
            tracing::warn!(%dispatch, %error, "the first of two identical orders could not be read");
            None
        });
        let key = record.idempotency_key.clone();
        Dialed { dispatch, result: DialResult::Repeat { id: id.to_owned(), product, key } }
    }

    async fn owned_number(&self, id: &NumberId) -> Result<Option<Product>, callingbox::Error> {
        let page = self.api.list_numbers(&PageRequest::first(100)).await?;
        let number = page.data.into_iter().find(|number| number.id == *id);
        Ok(number.map(|number| Product::Number(Box::new(number))))
    }

    /// Waits for somebody else who is doing the same. None: ask the ledger again.
    async fn await_other(
        &self,
        ledger: &dyn Ledger,
        record: &Record,
        number: Option<&E164>,
    ) -> Result<Option<Dialed>, DialError> {
        let (tenant, dispatch) = (self.tenant.id(), record.dispatch_id);
        let until = Instant::now() + PATIENCE;
        let mut search_at = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let Some(found) = ledger.find(tenant, dispatch).await? else { return Ok(None) };
            match found.state {
                State::Placed { .. } | State::Finished { .. } => {
                    return Ok(Some(self.repeat(&found).await));
                }
                State::NotPlaced { .. } => return Ok(None),
                State::Unknown if found.lease_until <= Timestamp::now() => {
                    return Ok(Some(unanswered(dispatch)));
                }
                // Its owner is gone: it is to be settled.
                State::Intent if found.lease_until <= Timestamp::now() => return Ok(None),
                State::Intent | State::Unknown => {}
            }
            if Instant::now() >= search_at {
                // Its process may have died after the request left: then only the API knows.
                search_at += Duration::from_secs(5);
                let found = search::search(&self.api, record, number, &[Duration::ZERO]).await;
                if let Found::Yes(product) = found {
                    return Ok(Some(self.found(ledger, record, product).await));
                }
            }
        }
        Ok(Some(in_flight(dispatch)))
    }

    /// Settles a record whose dispatch nobody works on any more. None: ask the ledger again.
    async fn settle(
        &self,
        ledger: &dyn Ledger,
        record: Record,
        number: Option<&E164>,
        schedule: &[Duration],
    ) -> Result<Option<Dialed>, DialError> {
        let (tenant, dispatch) = (self.tenant.id(), record.dispatch_id);
        let lease = self.lease(search::LIMIT);
        if ledger.take_over(tenant, dispatch, Timestamp::now(), lease).await?.is_none() {
            return Ok(None);
        }
        match search::search(&self.api, &record, number, schedule).await {
            Found::Yes(product) => Ok(Some(self.found(ledger, &record, product).await)),
            Found::No if self.must_have_arrived(&record) => {
                ledger.not_placed(tenant, dispatch, "searched for and not found").await?;
                Ok(None)
            }
            Found::No | Found::CannotSay => {
                let why = "an earlier identical request was not answered.".to_owned();
                Ok(Some(self.unknown(ledger, dispatch, why).await))
            }
        }
    }

    /// Settles calls that were left open, by a process that died or while the API could not be asked. Reads
    /// only, one look for each: what the API cannot tell now stays open.
    pub(super) async fn settle_left(&self, ledger: &dyn Ledger) -> Result<(), DialError> {
        let now = Timestamp::now();
        let left = ledger.unsettled(self.tenant.id()).await?;
        let calls = |record: &Record| record.kind == Kind::Call && record.lease_until <= now;
        // The newest first: those may be ringing.
        for record in left.into_iter().rev().filter(calls).take(MOST_LEFT) {
            self.settle(ledger, record, None, &[Duration::ZERO]).await?;
        }
        Ok(())
    }

    /// Whether the request, if it left at all, left longer ago than any request takes to arrive.
    fn must_have_arrived(&self, record: &Record) -> bool {
        let total = SignedDuration::try_from(self.api.config().timeouts.total);
        let sent = later(record.intent_at, total.unwrap_or(SignedDuration::MAX));
        later(sent, ARRIVAL) <= Timestamp::now()
    }

    /// An earlier dispatch was found to have been done.
    async fn found(&self, ledger: &dyn Ledger, record: &Record, product: Product) -> Dialed {
        self.done(ledger, record, &product).await;
        let (id, key) = (product.id().to_owned(), record.idempotency_key.clone());
        let result = DialResult::Repeat { id, product: Some(product), key };
        Dialed { dispatch: record.dispatch_id, result }
    }
}

/// What became of an earlier order.
enum Settled {
    /// It answers this one.
    Answered(Dialed),
    /// It stands in the way no longer: the ledger is to be asked again.
    Again(DispatchId),
}

fn in_flight(dispatch: DispatchId) -> Dialed {
    Dialed { dispatch, result: DialResult::InFlight }
}

fn unanswered(dispatch: DispatchId) -> Dialed {
    let why = "an earlier identical request was not answered.".to_owned();
    Dialed { dispatch, result: DialResult::Unknown(why) }
}
