//! What becomes of an order, held against an API that answers as it is told and a ledger that somebody
//! else writes into too.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Environment;
use super::call_outcome::CallOutcome;
use super::confirm::ConfirmMode;
use super::dialer::Dialer;
use super::ledger::{
    AccountRef, BeginConstraints, BeginResult, ConfirmedBy, DispatchId, DispatchState,
    IdempotencyKey, Ledger, LedgerLocation, NewIntent, RecordFilter,
};
use super::limits::CallLimits;
use super::order::{DISPATCH_KEY, DialRequest, Order};
use super::outcome::{DialError, DialResult, Dialed};
use super::policy::{Decision, Policy};
use super::rules::DialingRules;
use callingbox::E164;
use callingbox::MilliCents;
use callingbox::{
    AgentId, ApiClient, ApiKey, BaseUrl, Call, CallCreate, ClientConfig, RetryPolicy,
};

/// A ledger, and whose records in it.
type Other = Mutex<Option<(Arc<dyn Ledger>, AccountRef)>>;

/// An API that answers so.
struct Api {
    /// What a POST is answered with.
    post: (u16, Value),
    /// What a list is answered with; nothing is a failure.
    list: Mutex<Option<Value>>,
    lists: AtomicUsize,
    /// Who records, while a list is asked for, that all that is open was placed.
    other: Other,
}

struct House {
    api: Arc<Api>,
    dialer: Arc<Dialer>,
    account: AccountRef,
    directory: tempfile::TempDir,
}

impl Api {
    async fn answer(self: Arc<Self>, method: Method) -> Response {
        if method == Method::POST {
            let status = StatusCode::from_u16(self.post.0).unwrap();
            return (status, Json(self.post.1.clone())).into_response();
        }
        self.lists.fetch_add(1, Ordering::Relaxed);
        let other = self.other.lock().unwrap().clone();
        if let Some((ledger, account)) = other {
            for open in ledger.list_unresolved(account.id()).await.unwrap() {
                ledger.record_placed(account.id(), open.dispatch_id, "found").await.unwrap();
            }
        }
        let list = self.list.lock().unwrap().clone();
        match list {
            Some(list) => Json(list).into_response(),
            None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

impl House {
    async fn new(post: (u16, Value), list: Option<Value>, policy: &str) -> Self {
        let (list, lists, other) = (Mutex::new(list), AtomicUsize::new(0), Mutex::default());
        let api = Arc::new(Api { post, list, lists, other });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answering = Arc::clone(&api);
        let router = Router::new().fallback(move |method| Arc::clone(&answering).answer(method));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let key = ApiKey::new("sk_test".to_owned()).unwrap();
        let mut config = ClientConfig::new(BaseUrl::parse(&url, false).unwrap(), key);
        config.retry = RetryPolicy::NEVER;
        let account = AccountRef::new(b"sk_test", &url);
        let rules = DialingRules {
            policy: Policy::from_toml(policy).unwrap(),
            confirm: ConfirmMode::Never,
            require_human: false,
            repeat_window: SignedDuration::from_mins(10),
            thinking_time: std::time::Duration::from_secs(1),
            webhook_hosts: Default::default(),
        };
        let directory = tempfile::tempdir().unwrap();
        let place = LedgerLocation::File(directory.path().join("ledger.sqlite3"));
        let dialer = Dialer::new(
            ApiClient::new(config),
            account.clone(),
            Environment::Sandbox,
            place,
            rules,
        );
        Self { api, dialer: Arc::new(dialer), account, directory }
    }

    async fn dial(&self) -> Result<Dialed, DialError> {
        self.order(call("Remind.")).await
    }

    async fn order(&self, asked: DialRequest) -> Result<Dialed, DialError> {
        self.dialer.dial(asked, "default".into(), ConfirmedBy::NotRequired).await
    }

    async fn states(&self) -> Vec<DispatchState> {
        let filter =
            RecordFilter { account_id: None, since: None, status: None, before: None, limit: 100 };
        let records = self.dialer.ledger().await.unwrap().list_records(filter).await.unwrap();
        records.into_iter().map(|record| record.state).collect()
    }

    /// Writes down what a process leaves that died so long ago.
    async fn abandon(&self, asked: DialRequest, seconds_ago: i64) -> DispatchId {
        let now = Timestamp::now() - SignedDuration::from_secs(seconds_ago);
        let dispatch_id = DispatchId::new();
        let intent = NewIntent {
            dispatch_id,
            kind: asked.kind(),
            account_id: self.account.id().clone(),
            fingerprint: asked.fingerprint(self.account.id()),
            idempotency_key: asked.idempotency_key.clone(),
            callee: asked.callee(&self.account),
            agent_id: None,
            rule: "default".to_owned(),
            confirmed_by: ConfirmedBy::NotRequired,
            hold: asked.hold(),
        };
        let terms = BeginConstraints {
            now,
            lease_expires_at: now,
            repeats_since: now,
            allow_repeat: false,
            limits: CallLimits::default(),
        };
        let begun = self.dialer.ledger().await.unwrap().begin(intent, terms).await.unwrap();
        assert!(matches!(begun, BeginResult::Begun(_)), "{begun:?}");
        dispatch_id
    }
}

fn call(instructions: &str) -> DialRequest {
    let to = E164::parse("+14155550100").unwrap();
    let mut call = CallCreate::new(AgentId::new("agt_1"), to);
    call.instructions = Some(instructions.to_owned());
    DialRequest { order: Order::Call(Box::new(call)), idempotency_key: None, allow_repeat: false }
}

fn purchase() -> DialRequest {
    let number = E164::parse("+14155550100").unwrap();
    let order = Order::Number { number, price: Some(MilliCents::DOLLAR) };
    DialRequest { order, idempotency_key: None, allow_repeat: false }
}

fn none() -> Option<Value> {
    Some(json!({"data": [], "has_more": false}))
}

#[tokio::test]
async fn what_may_have_been_done_is_not_told_as_undone() {
    let told = |post, by_other: bool| async move {
        let house = House::new(post, none(), "").await;
        if by_other {
            let ledger = Arc::clone(house.dialer.ledger().await.unwrap());
            *house.api.other.lock().unwrap() = Some((ledger, house.account.clone()));
        }
        match house.dial().await.map(|dialed| dialed.result) {
            Ok(DialResult::Unknown(_)) => "unknown".to_owned(),
            Ok(DialResult::Repeat { id, .. }) => id,
            Ok(other) => panic!("{other:?}"),
            Err(DialError::NotPlaced(_)) => "not placed".to_owned(),
            Err(error) => panic!("{error}"),
        }
    };
    let refused = || json!({"error": "the provider said no"});
    let all = [
        // The API said yes, and its record cannot be read.
        told((201, json!({})), false),
        told((500, refused()), false),
        told((502, refused()), false),
        // Something on the way waited for the answer no longer.
        told((408, refused()), false),
        told((400, refused()), false),
        // Somebody else found it while it was searched for here.
        told((500, refused()), true),
        told((502, refused()), true),
    ];
    let told = futures::future::join_all(all).await;
    assert_eq!(
        told,
        ["unknown", "unknown", "not placed", "unknown", "not placed", "found", "found"]
    );
}

#[tokio::test]
async fn that_an_earlier_order_could_not_be_settled_is_no_refusal() {
    let house = House::new((500, Value::Null), none(), "").await;
    let left = house.abandon(call("Remind."), 180).await;
    let ledger = rusqlite::Connection::open(house.directory.path().join("ledger.sqlite3")).unwrap();
    let broken = "CREATE TRIGGER broken BEFORE UPDATE ON dispatch \
                  BEGIN SELECT RAISE(ABORT, 'broken'); END";
    ledger.execute_batch(broken).unwrap();
    let dialed = house.dial().await.unwrap();
    assert_eq!(dialed.dispatch, left);
    assert!(matches!(dialed.result, DialResult::Unknown(_)), "{dialed:?}");
    assert_eq!(house.states().await, [DispatchState::Intent]);
}

#[tokio::test]
async fn what_is_found_of_an_earlier_order_is_told_with_its_key() {
    let house = House::new((500, Value::Null), None, "").await;
    let key = Some(IdempotencyKey::parse("appointment-17").unwrap());
    let asked = DialRequest { idempotency_key: key.clone(), ..call("Remind.") };
    let left = house.abandon(asked.clone(), 180).await;
    let found = json!({
        "id": "call_1", "status": "queued", "metadata": {DISPATCH_KEY: left.to_string()},
    });
    *house.api.list.lock().unwrap() = Some(json!({"data": [found], "has_more": false}));
    let dialed = house.order(asked).await.unwrap();
    assert_eq!(dialed.dispatch, left);
    let DialResult::Repeat { id, product, key: told } = dialed.result else { panic!("{dialed:?}") };
    assert_eq!((id.as_str(), product.is_some(), told), ("call_1", true, key));
}

#[tokio::test]
async fn a_purchase_is_booked_with_the_most_of_what_is_known_of_its_price() {
    // What was to be paid at once was a dollar.
    for (monthly, booked) in [(json!(500), 500_000), (json!(50), 100_000), (Value::Null, 100_000)] {
        let bought = json!({"id": "num_1", "e164": "+14155550100", "monthly_cost_cents": monthly});
        let house = House::new((201, bought), none(), "").await;
        house.order(purchase()).await.unwrap();
        let cost = Some(MilliCents(booked));
        let ended = DispatchState::Finished {
            id: "num_1".to_owned(),
            outcome: CallOutcome::Completed,
            cost,
        };
        assert_eq!(house.states().await, [ended], "{monthly}");
    }
}

#[tokio::test]
async fn an_end_that_was_told_before_its_call_was_known_is_written_down() {
    let house = House::new((201, json!({"id": "call_1", "status": "queued"})), none(), "").await;
    let ended: Call = serde_json::from_value(json!({"id": "call_1", "status": "busy"})).unwrap();
    house.dialer.record_call_end(&ended).await;
    house.dial().await.unwrap();
    assert!(matches!(house.states().await.as_slice(), [DispatchState::Placed { .. }]));
    house.dialer.record_call_end(&ended).await;
    assert!(matches!(house.states().await.as_slice(), [DispatchState::Finished { .. }]));
}

#[tokio::test]
async fn of_what_was_left_open_only_calls_are_looked_for() {
    let house = House::new((500, Value::Null), none(), "").await;
    house.abandon(purchase(), 180).await;
    house.abandon(call("Left."), 180).await;
    let ledger = house.dialer.ledger().await.unwrap();
    house.dialer.recover_abandoned(ledger.as_ref()).await.unwrap();
    let mut names: Vec<_> = house.states().await.iter().map(DispatchState::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["intent", "not_placed"]);
}

#[tokio::test]
async fn what_is_not_there_was_not_placed_once_it_can_arrive_no_more() {
    // A request takes 45 s at most, and whatever held it back a minute.
    for (seconds_ago, name) in [(95, "unknown"), (106, "not_placed")] {
        let house = House::new((500, Value::Null), none(), "").await;
        house.abandon(call("Left."), seconds_ago).await;
        let ledger = house.dialer.ledger().await.unwrap();
        house.dialer.recover_abandoned(ledger.as_ref()).await.unwrap();
        assert_eq!(house.states().await[0].as_str(), name, "{seconds_ago}");
    }
}

#[tokio::test]
async fn an_api_that_does_not_answer_is_not_asked_for_each_call_that_was_left_open() {
    let house = House::new((500, Value::Null), None, "[limits]\nconcurrent = 1").await;
    let ledger = house.dialer.ledger().await.unwrap();
    for left in ["One.", "Two.", "Three."] {
        house.abandon(call(left), 180).await;
    }
    for left in ledger.list_unresolved(house.account.id()).await.unwrap() {
        ledger
            .record_unknown(house.account.id(), left.dispatch_id, Timestamp::now())
            .await
            .unwrap();
    }
    let judgment = house.dialer.check_policy(&call("Another.")).await.unwrap();
    assert!(matches!(judgment.decision.decision, Decision::Refuse(_)));
    assert_eq!(house.api.lists.load(Ordering::Relaxed), 1);
}
