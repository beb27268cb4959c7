//! The results of orders, with an API that gives scripted responses and a ledger that another process writes to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures::future::join_all;
use http::header::DATE;
use http::{Method, StatusCode, Uri};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Environment;
use super::call_outcome::CallOutcome;
use super::caller::CallerName;
use super::clock::ClockCheck;
use super::confirm::ConfirmMode;
use super::dialer::Dialer;
use super::ledger::{
    AccountRef, BeginConstraints, BeginResult, ConfirmedBy, DispatchId, DispatchState,
    IdempotencyKey, KeyRef, Ledger, LedgerLocation, NewIntent, RecordFilter,
};
use super::limits::CallLimits;
use super::order::{DISPATCH_KEY, DialRequest, Order};
use super::outcome::{DialError, DialResult, Dialed};
use super::policy::{Decision, Policy};
use super::rules::{CardIsHuman, DialingRules};
use callingbox::E164;
use callingbox::MilliCents;
use callingbox::{
    AgentId, ApiClient, ApiKey, BaseUrl, Call, CallCreate, ClientConfig, RetryPolicy,
};

/// An API with scripted responses.
struct MockApi {
    /// The response to a POST.
    post: Mutex<(u16, Value)>,
    /// The response to a list; `None` is a failure.
    list: Mutex<Option<Value>>,
    /// How many lists of calls or numbers were requested.
    lists: AtomicUsize,
    posts: AtomicUsize,
    /// How many lists of agents were requested.
    agent_lists: AtomicUsize,
    /// How many seconds the API's clock is behind.
    seconds_behind: AtomicU64,
    /// The organization that the agents name.
    organization: Mutex<Option<&'static str>>,
    /// Another process, which records every open dispatch as placed while a list is requested.
    other_process: Mutex<Option<(Arc<dyn Ledger>, AccountRef)>>,
}

struct Fixture {
    api: Arc<MockApi>,
    url: String,
    dialer: Arc<Dialer>,
    directory: tempfile::TempDir,
}

impl MockApi {
    async fn answer(self: Arc<Self>, method: Method, uri: Uri) -> Response {
        if method == Method::POST {
            self.posts.fetch_add(1, Ordering::Relaxed);
            let (status, body) = self.post.lock().clone();
            return (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
        }
        let organization = *self.organization.lock();
        let agent = json!({"id": "agt_1", "org_id": organization});
        if uri.path() == "/v1/agents" {
            self.agent_lists.fetch_add(1, Ordering::Relaxed);
        }
        match (uri.path(), organization) {
            ("/v1/agents", Some(_)) => return Json(json!({"data": [agent]})).into_response(),
            ("/v1/agents" | "/v1/webhook_endpoints", None) => {
                return Json(json!({"data": []})).into_response();
            }
            (path, Some(_)) if path.starts_with("/v1/agents/") => {
                return Json(agent).into_response();
            }
            (path, None) if path.starts_with("/v1/agents/") => {
                return Json(json!({"id": "agt_1"})).into_response();
            }
            _ => {}
        }
        self.lists.fetch_add(1, Ordering::Relaxed);
        let other_process = self.other_process.lock().clone();
        if let Some((ledger, account)) = other_process {
            for open in ledger.list_unresolved(account.id()).await.unwrap() {
                ledger.record_placed(account.id(), open.dispatch_id, "found").await.unwrap();
            }
        }
        let list = self.list.lock().clone();
        match list {
            Some(list) => Json(list).into_response(),
            None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

impl Fixture {
    async fn new(post: (u16, Value), list: Option<Value>, policy: &str) -> Self {
        let api = Arc::new(MockApi {
            post: Mutex::new(post),
            list: Mutex::new(list),
            lists: AtomicUsize::new(0),
            posts: AtomicUsize::new(0),
            agent_lists: AtomicUsize::new(0),
            seconds_behind: AtomicU64::new(0),
            organization: Mutex::new(Some("org_1")),
            other_process: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answering = Arc::clone(&api);
        let answer = async move |method, uri| {
            let behind = Duration::from_secs(answering.seconds_behind.load(Ordering::Relaxed));
            let date = (Timestamp::now() - behind).strftime("%a, %d %b %Y %H:%M:%S GMT");
            ([(DATE, date.to_string())], Arc::clone(&answering).answer(method, uri).await)
        };
        let router = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let directory = tempfile::tempdir().unwrap();
        let dialer = new_dialer(&url, "sk_test", policy, directory.path());
        Self { api, url, dialer, directory }
    }

    /// Another process of the same user, with this key and this spelling of the address.
    fn other_dialer(&self, url: &str, key: &str) -> Arc<Dialer> {
        new_dialer(url, key, "", self.directory.path())
    }

    async fn account(&self) -> AccountRef {
        self.dialer.account().await.unwrap()
    }

    async fn dial(&self) -> Result<Dialed, DialError> {
        self.order(call("Remind.")).await
    }

    async fn order(&self, request: DialRequest) -> Result<Dialed, DialError> {
        dial(&self.dialer, request).await
    }

    async fn states(&self) -> Vec<DispatchState> {
        let filter = RecordFilter { limit: 100, ..RecordFilter::default() };
        let records = self.dialer.ledger().await.unwrap().list_records(filter).await.unwrap();
        records.into_iter().map(|record| record.state).collect()
    }

    /// Records what a process leaves that died that long ago.
    async fn abandon(&self, request: DialRequest, seconds_ago: i64) -> DispatchId {
        let now = Timestamp::now() - SignedDuration::from_secs(seconds_ago);
        let dispatch_id = DispatchId::new();
        let account = self.account().await;
        let intent = NewIntent {
            dispatch_id,
            kind: request.kind(),
            account_id: account.id().clone(),
            caller: request.caller.clone(),
            fingerprint: request.fingerprint(&account),
            arguments: request.argument_hashes(&account),
            idempotency_key: request.idempotency_key.clone(),
            callee: request.callee(&account),
            agent_id: None,
            rule: "default".to_owned(),
            confirmed_by: ConfirmedBy::NotRequired,
            hold: request.hold(),
            attempt: None,
        };
        let constraints = BeginConstraints {
            now: now.into(),
            lease_expires_at: now,
            repeats_since: now,
            allow_repeat: false,
            limits: CallLimits::default(),
        };
        let begun = self.dialer.ledger().await.unwrap().begin(intent, constraints).await.unwrap();
        assert!(matches!(begun, BeginResult::Begun(_)), "{begun:?}");
        dispatch_id
    }

    async fn recover_abandoned(&self) {
        let (ledger, account) = (self.dialer.ledger().await.unwrap(), self.account().await);
        self.dialer.recover_abandoned(ledger.as_ref(), account.id()).await.unwrap();
    }
}

fn new_dialer(url: &str, key: &str, policy: &str, directory: &Path) -> Arc<Dialer> {
    let (key, base_url) =
        (ApiKey::new(key.to_owned()).unwrap(), BaseUrl::parse(url, false).unwrap());
    let key_ref = KeyRef::new(key.clone(), &base_url);
    let mut config = ClientConfig::new(base_url, key);
    config.retry = RetryPolicy::NEVER;
    let rules = DialingRules {
        policy: Policy::from_toml(policy).unwrap(),
        confirm: ConfirmMode::Never,
        require_human: false,
        ask_do_not_call: true,
        card_is_human: CardIsHuman::Never,
        repeat_window: SignedDuration::from_mins(10),
        thinking_time: std::time::Duration::from_secs(1),
        webhook_hosts: Default::default(),
        disclosure: Default::default(),
        keep_people: jiff::SignedDuration::from_hours(720),
    };
    let place = LedgerLocation::File(directory.join("ledger.sqlite3"));
    let api = ApiClient::new(config);
    Arc::new(Dialer::new(api, key_ref, Environment::Sandbox, place, rules))
}

async fn dial(dialer: &Arc<Dialer>, request: DialRequest) -> Result<Dialed, DialError> {
    dialer.dial(request, "default".into(), ConfirmedBy::NotRequired).await
}

fn call(instructions: &str) -> DialRequest {
    let to = E164::parse("+14155550100").unwrap();
    let mut call = CallCreate::new(AgentId::new("agt_1"), to);
    call.instructions = Some(instructions.to_owned());
    request(Order::Call(Box::new(call)))
}

fn purchase() -> DialRequest {
    let number = E164::parse("+14155550100").unwrap();
    request(Order::Number { number, price: Some(MilliCents::DOLLAR) })
}

fn request(order: Order) -> DialRequest {
    let caller = CallerName::local();
    DialRequest {
        order,
        caller,
        idempotency_key: None,
        allow_repeat: false,
        attempt: None,
        disclosing_instructions: None,
        metadata_source: Default::default(),
    }
}

fn empty_list() -> Option<Value> {
    Some(json!({"data": [], "has_more": false}))
}

fn placed() -> (u16, Value) {
    (201, json!({"id": "call_1", "status": "queued"}))
}

#[tokio::test]
async fn a_call_that_may_have_been_placed_is_not_reported_as_not_placed() {
    let report = |post, by_other: bool| async move {
        let fixture = Fixture::new(post, empty_list(), "").await;
        if by_other {
            let ledger = Arc::clone(fixture.dialer.ledger().await.unwrap());
            let account = fixture.account().await;
            *fixture.api.other_process.lock() = Some((ledger, account));
        }
        match fixture.dial().await.map(|dialed| dialed.result) {
            Ok(DialResult::Unknown(_)) => "unknown".to_owned(),
            Ok(DialResult::Repeat { id, .. }) => id,
            Ok(other) => panic!("{other:?}"),
            Err(DialError::NotPlaced(_)) => "not placed".to_owned(),
            Err(error) => panic!("{error}"),
        }
    };
    let refused = || json!({"error": "the provider said no"});
    let all = [
        // The API accepted the call, and its record cannot be read.
        report((201, json!({})), false),
        report((500, refused()), false),
        report((502, refused()), false),
        // A proxy stopped waiting for the response.
        report((408, refused()), false),
        report((400, refused()), false),
        // Another process found it during the search.
        report((500, refused()), true),
        report((502, refused()), true),
    ];
    let reports = futures::future::join_all(all).await;
    assert_eq!(
        reports,
        ["unknown", "unknown", "not placed", "unknown", "not placed", "found", "found"]
    );
}

#[tokio::test]
async fn an_earlier_order_that_cannot_be_recovered_is_unknown_and_not_refused() {
    let fixture = Fixture::new((500, Value::Null), empty_list(), "").await;
    let left = fixture.abandon(call("Remind."), 180).await;
    let ledger =
        rusqlite::Connection::open(fixture.directory.path().join("ledger.sqlite3")).unwrap();
    let broken = "CREATE TRIGGER broken BEFORE UPDATE ON dispatch \
                  BEGIN SELECT RAISE(ABORT, 'broken'); END";
    ledger.execute_batch(broken).unwrap();
    let dialed = fixture.dial().await.unwrap();
    assert_eq!(dialed.dispatch, left);
    assert!(matches!(dialed.result, DialResult::Unknown(_)), "{dialed:?}");
    assert_eq!(fixture.states().await, [DispatchState::Intent]);
}

#[tokio::test]
async fn an_earlier_order_that_is_found_is_reported_with_its_key() {
    let fixture = Fixture::new((500, Value::Null), None, "").await;
    let key = Some(IdempotencyKey::parse("appointment-17").unwrap());
    let request = DialRequest { idempotency_key: key.clone(), ..call("Remind.") };
    let left = fixture.abandon(request.clone(), 180).await;
    let found = json!({
        "id": "call_1", "status": "queued", "metadata": {DISPATCH_KEY: left.to_string()},
    });
    *fixture.api.list.lock() = Some(json!({"data": [found], "has_more": false}));
    let dialed = fixture.order(request).await.unwrap();
    assert_eq!(dialed.dispatch, left);
    let DialResult::Repeat { id, product, key: reported } = dialed.result else {
        panic!("{dialed:?}")
    };
    assert_eq!((id.as_str(), product.is_some(), reported), ("call_1", true, key));
}

#[tokio::test]
async fn a_purchase_is_recorded_with_the_highest_known_price() {
    // The first payment was a dollar.
    for (monthly, recorded) in [(json!(500), 500_000), (json!(50), 100_000), (Value::Null, 100_000)]
    {
        let bought = json!({"id": "num_1", "e164": "+14155550100", "monthly_cost_cents": monthly});
        let fixture = Fixture::new((201, bought), empty_list(), "").await;
        fixture.order(purchase()).await.unwrap();
        let cost = Some(MilliCents(recorded));
        let ended = DispatchState::Finished {
            id: "num_1".to_owned(),
            outcome: CallOutcome::Completed,
            cost,
        };
        assert_eq!(fixture.states().await, [ended], "{monthly}");
    }
}

#[tokio::test]
async fn an_end_that_was_reported_before_its_call_was_recorded_is_recorded() {
    let fixture =
        Fixture::new((201, json!({"id": "call_1", "status": "queued"})), empty_list(), "").await;
    let ended: Call = serde_json::from_value(json!({"id": "call_1", "status": "busy"})).unwrap();
    fixture.dialer.record_call_end(&ended).await;
    fixture.dial().await.unwrap();
    assert!(matches!(fixture.states().await.as_slice(), [DispatchState::Placed { .. }]));
    fixture.dialer.record_call_end(&ended).await;
    assert!(matches!(fixture.states().await.as_slice(), [DispatchState::Finished { .. }]));
}

#[tokio::test]
async fn only_abandoned_calls_are_searched_for() {
    let fixture = Fixture::new((500, Value::Null), empty_list(), "").await;
    fixture.abandon(purchase(), 180).await;
    fixture.abandon(call("Left."), 180).await;
    fixture.recover_abandoned().await;
    let mut names: Vec<_> = fixture.states().await.iter().map(DispatchState::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["intent", "not_placed"]);
}

#[tokio::test]
async fn an_absent_call_was_not_placed_once_its_request_cannot_arrive_anymore() {
    // A request takes 45 s at most, and a proxy delays it by at most a minute.
    for (seconds_ago, name) in [(95, "unknown"), (106, "not_placed")] {
        let fixture = Fixture::new((500, Value::Null), empty_list(), "").await;
        fixture.abandon(call("Left."), seconds_ago).await;
        fixture.recover_abandoned().await;
        assert_eq!(fixture.states().await[0].as_str(), name, "{seconds_ago}");
    }
}

#[tokio::test]
async fn a_clock_that_was_set_ahead_makes_no_request_too_old_to_arrive() {
    let fixture = Fixture::new((500, Value::Null), empty_list(), "").await;
    // The clock of this machine was right when the request left, and is an hour ahead since.
    fixture.api.seconds_behind.store(3_600, Ordering::Relaxed);
    fixture.abandon(call("Left."), 3_600).await;
    fixture.recover_abandoned().await;
    assert_eq!(fixture.states().await[0].as_str(), "unknown");
    fixture.api.seconds_behind.store(0, Ordering::Relaxed);
    fixture.recover_abandoned().await;
    assert_eq!(fixture.states().await[0].as_str(), "not_placed");
}

#[tokio::test]
async fn an_api_that_fails_is_not_asked_for_each_abandoned_call() {
    let fixture = Fixture::new((500, Value::Null), None, "[limits]\nconcurrent = 1").await;
    let ledger = fixture.dialer.ledger().await.unwrap();
    for left in ["One.", "Two.", "Three."] {
        fixture.abandon(call(left), 180).await;
    }
    for left in ledger.list_unresolved(fixture.account().await.id()).await.unwrap() {
        ledger
            .record_unknown(
                fixture.account().await.id(),
                left.dispatch_id,
                Timestamp::now().into(),
                false,
            )
            .await
            .unwrap();
    }
    let check = fixture.dialer.check_policy(&call("Another.")).await.unwrap();
    assert!(matches!(check.decision.decision, Decision::Refuse(_)));
    assert_eq!(fixture.api.lists.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_answer_to_a_request_must_be_that_of_this_call() {
    let dispatch = "11111111-1111-7111-8111-111111111111";
    let calls = [
        (json!({"id": "call_1", "status": "queued", "to_number": "+14155550100"}), "placed"),
        (json!({"id": "call_1", "status": "queued", "to_number": "+14155550199"}), "unknown"),
        (
            json!({"id": "call_1", "status": "queued", "metadata": {DISPATCH_KEY: dispatch}}),
            "unknown",
        ),
        // No call ends before its answer is written.
        (json!({"id": "call_1", "status": "completed", "to_number": "+14155550100"}), "unknown"),
        (json!({"id": "call_1", "status": "failed"}), "unknown"),
    ];
    let purchases = [
        (json!({"id": "num_1", "e164": "+14155550100"}), "completed"),
        (json!({"id": "num_1", "e164": "+14155550199"}), "unknown"),
    ];
    let orders = calls.map(|case| (call("Remind."), case)).into_iter();
    let orders = orders.chain(purchases.map(|case| (purchase(), case)));
    // Concurrent, because each search for an unknown one takes its time.
    join_all(orders.map(async |(order, (answer, expected))| {
        let fixture = Fixture::new((201, answer.clone()), empty_list(), "").await;
        fixture.order(order).await.unwrap();
        assert_eq!(fixture.states().await[0].as_str(), expected, "{answer}");
    }))
    .await;
}

#[tokio::test]
async fn every_key_and_spelling_of_an_organization_has_one_account() {
    let fixture = Fixture::new(placed(), empty_list(), "").await;
    fixture.dial().await.unwrap();
    let localhost = fixture.url.replace("127.0.0.1", "localhost");
    for (url, key) in [
        (fixture.url.as_str(), "sk_second"),
        (localhost.as_str(), "sk_test"),
        (localhost.as_str(), "sk_third"),
    ] {
        let dialed = dial(&fixture.other_dialer(url, key), call("Remind.")).await.unwrap();
        assert!(matches!(dialed.result, DialResult::Repeat { .. }), "{url} {key}: {dialed:?}");
    }
    // Another organization is another account.
    *fixture.api.organization.lock() = Some("org_2");
    let other = fixture.other_dialer(&fixture.url, "sk_other");
    let dialed = dial(&other, call("Remind.")).await.unwrap();
    assert!(matches!(dialed.result, DialResult::Placed(_)), "{dialed:?}");
    // A key that is known needs no answer of the API about its organization.
    *fixture.api.organization.lock() = None;
    let again = fixture.other_dialer(&fixture.url, "sk_second");
    assert_eq!(again.account().await.unwrap(), fixture.account().await);
    assert_eq!(fixture.api.posts.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn without_an_organization_nothing_is_dialed_and_only_the_first_number_is_bought() {
    let fixture = Fixture::new(placed(), empty_list(), "[limits]\npurchases_per_day = 1").await;
    *fixture.api.organization.lock() = None;
    let refused = fixture.dial().await.unwrap_err();
    assert!(matches!(refused, DialError::NoAgent), "{refused}");
    assert_eq!(fixture.states().await, []);
    // An organization that owns nothing cannot have placed a call.
    let bought = json!({"id": "num_1", "e164": "+14155550100"});
    *fixture.api.post.lock() = (201, bought.clone());
    fixture.order(purchase()).await.unwrap();
    let purchases =
        async || fixture.dialer.measure_usage(&CallerName::local()).await.unwrap().purchases.count;
    assert_eq!(purchases().await, 1);
    *fixture.api.list.lock() = Some(json!({"data": [bought], "has_more": false}));
    let refused = fixture.order(purchase()).await.unwrap_err();
    assert!(matches!(refused, DialError::NoAgent), "{refused}");
    // While the API fails, the organization is not known either.
    *fixture.api.list.lock() = None;
    assert!(fixture.order(purchase()).await.is_err());
    assert_eq!(fixture.api.posts.load(Ordering::Relaxed), 1);
    *fixture.api.organization.lock() = Some("org_1");
    *fixture.api.post.lock() = placed();
    fixture.dial().await.unwrap();
    // It counts for the organization too, once that is known.
    assert_eq!(purchases().await, 1);
    let check = fixture.dialer.check_policy(&purchase()).await.unwrap();
    assert!(matches!(check.decision.decision, Decision::Refuse(_)), "{check:?}");
}

#[tokio::test]
async fn while_the_organization_is_not_found_only_opt_outs_look_for_it_again() {
    let fixture = Fixture::new(placed(), empty_list(), "").await;
    *fixture.api.organization.lock() = None;
    let ended = |number: u32, result: Value| -> Call {
        let call = json!({
            "id": format!("call_{number}"), "status": "completed", "to_number": "+14155550100",
            "result_status": "completed", "result": result,
        });
        serde_json::from_value(call).unwrap()
    };
    let record = async |call: Call| {
        fixture.dialer.record_call_end(&call).await;
        fixture.api.agent_lists.load(Ordering::Relaxed)
    };
    assert_eq!(record(ended(1, json!({}))).await, 1);
    assert_eq!(record(ended(1, json!({}))).await, 1);
    assert_eq!(record(ended(2, json!({}))).await, 1);
    let asks = ended(3, json!({"do_not_call": true}));
    assert_eq!(record(asks.clone()).await, 2);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5 * 60)).await;
    tokio::time::resume();
    assert_eq!(record(ended(1, json!({}))).await, 3);

    // An order looks for it each time, and from then on everything is recorded.
    *fixture.api.organization.lock() = Some("org_1");
    fixture.dial().await.unwrap();
    let lists = record(asks).await;
    assert_eq!(record(ended(2, json!({}))).await, lists);
    let refused = fixture.dial().await.unwrap_err();
    assert!(matches!(refused, DialError::Refused(_)), "{refused}");
}

#[tokio::test]
async fn a_new_ledger_has_no_account_of_the_old_one() {
    let fixture = Fixture::new(placed(), empty_list(), "").await;
    let before = fixture.account().await;
    for file in std::fs::read_dir(fixture.directory.path()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert_ne!(fixture.account().await, before);
    fixture.dial().await.unwrap();
    let other = fixture.other_dialer(&fixture.url, "sk_test");
    let dialed = dial(&other, call("Remind.")).await.unwrap();
    assert!(matches!(dialed.result, DialResult::Repeat { .. }), "{dialed:?}");
}

#[tokio::test]
async fn the_same_words_are_the_same_call_and_other_words_a_conflict() {
    let fixture = Fixture::new(placed(), empty_list(), "").await;
    fixture.order(call("Caf\u{e9}: remind  them.")).await.unwrap();
    for same in ["Caf\u{e9}: remind them.", " Cafe\u{301}: remind\n\tthem. "] {
        let dialed = fixture.order(call(same)).await.unwrap();
        assert!(matches!(dialed.result, DialResult::Repeat { .. }), "{same:?}: {dialed:?}");
    }
    let mut other = call("Please remind them.");
    if let Order::Call(call) = &mut other.order {
        call.context = json!({"time": "10:00"}).as_object().cloned();
    }
    let refused = fixture.order(other.clone()).await.unwrap_err();
    let text = refused.to_string();
    let DialError::SimilarCall { earlier, differences } = refused else { panic!("{text}") };
    assert_eq!(differences, ["context", "instructions"]);
    assert_eq!(earlier.state.id(), Some("call_1"));
    let parts = ["call_id call_1", "different `context` and `instructions`", "Nobody was called"];
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    let on_purpose = DialRequest { allow_repeat: true, ..other };
    let dialed = fixture.order(on_purpose).await.unwrap();
    assert!(matches!(dialed.result, DialResult::Placed(_)), "{dialed:?}");
    assert_eq!(fixture.api.posts.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_clock_that_is_not_callingboxs_or_is_behind_the_ledger_disagrees() {
    let fixture = Fixture::new((500, json!({})), None, "").await;
    let account = fixture.account().await;
    let agrees = async |ahead_seconds: i64| {
        let wall = Timestamp::now() + SignedDuration::from_secs(ahead_seconds);
        let mut clocks = ClockCheck::new(wall, tokio::time::Instant::now());
        clocks.others = fixture.dialer.read_other_clocks(account.id()).await;
        clocks.check(wall, tokio::time::Instant::now())
    };
    fixture.abandon(call("Remind."), 3_600).await;
    assert!(agrees(0).await);
    assert!(!agrees(3_600).await);
    assert!(!agrees(-3_600).await);
    fixture.abandon(call("Ask."), -3_600).await;
    assert!(!agrees(0).await);
}
