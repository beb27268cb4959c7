//! The same is dialed once: at the same instant, later, by key, from several processes, after a kill.

use callingbox::E164;
use callingbox::{AgentId, ApiKey, BaseUrl, CallCreate};
use callingbox_mcp::dialing::caller::CallerName;
use callingbox_mcp::dialing::clock::ClockReading;
use callingbox_mcp::dialing::ledger::{
    BeginConstraints, BeginResult, ConfirmedBy, DispatchId, KeyRef, LedgerLocation, NewIntent,
    open_ledger,
};
use callingbox_mcp::dialing::limits::CallLimits;
use callingbox_mcp::dialing::order::{DialRequest, Order};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::harness::{Session, within_limit};
use super::{DialingFixture, LEGACY, cannot_ask, data, failure, repeated};

const TO: &str = "+12025550123";

#[tokio::test]
async fn identical_calls_at_one_instant_in_three_processes_dial_once() {
    let fixture = DialingFixture::new("", "").await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(fixture.session(LEGACY, cannot_ask()).await);
    }
    let call = fixture.call(TO, "Remind.");
    let mut ids = Vec::new();
    for session in &mut sessions {
        ids.push(session.begin_call("place_call", call.clone()).await);
    }
    let mut firsts = 0;
    let mut calls = Vec::new();
    for (session, id) in sessions.iter_mut().zip(ids) {
        let answer = session.answer(id).await;
        let data = data(&answer);
        firsts += usize::from(data.get("duplicate_of").is_none());
        calls.push(data["call_id"].clone());
    }
    let dialed = fixture.control.dialed().await;
    assert_eq!((dialed.len(), firsts), (1, 1), "{calls:?}");
    assert_eq!(calls, vec![dialed[0]["call_id"].clone(); 3]);
}

#[tokio::test]
async fn the_default_caller_id_written_out_or_left_out_is_the_same_call() {
    for written_out_first in [false, true] {
        let fixture = DialingFixture::new("", "").await;
        let mut session = fixture.session(LEGACY, cannot_ask()).await;
        let agents = fixture.control.request("GET", "/v1/agents", None).await;
        let default = &agents["data"][0]["numbers"][0]["e164"];
        let with_caller_id = |number: &Value| {
            let mut call = fixture.call(TO, "Remind.");
            call["from_number"] = number.clone();
            call
        };
        let mut calls = [fixture.call(TO, "Remind."), with_caller_id(default)];
        if written_out_first {
            calls.reverse();
        }
        let [first, second] = calls;
        let first = session.data("place_call", first).await;
        let second = session.data("place_call", second).await;
        assert_eq!(second["duplicate_of"], first["call_id"], "{written_out_first}");
        let calls = fixture.control.request("GET", "/v1/calls", None).await;
        assert_eq!(calls["data"][0]["from_number"], *default);
        // Another caller ID is another call, which the callee could notice.
        let other = with_caller_id(&json!("+12025550199"));
        let answer = session.call("place_call", other).await;
        let (class, done, message) = failure(&answer);
        assert_eq!((class, done), ("conflict", "nothing"));
        assert!(message.contains("from_number"), "{message}");
        assert_eq!(fixture.dialed().await, 1);
    }
}

#[tokio::test]
async fn limits_hold_across_processes() {
    let fixture =
        DialingFixture::new("", "[limits]\nper_destination_per_day = 3\nconcurrent = \"off\"\n")
            .await;
    let mut sessions =
        [fixture.session(LEGACY, cannot_ask()).await, fixture.session(LEGACY, cannot_ask()).await];
    let mut ids = Vec::new();
    for number in 0..6 {
        let call = repeated(fixture.call(TO, &format!("Task {number}.")));
        ids.push(sessions[number % 2].begin_call("place_call", call).await);
    }
    let mut refused = 0;
    for (number, id) in ids.into_iter().enumerate() {
        let answer = sessions[number % 2].answer(id).await;
        if answer["result"]["isError"] == true {
            assert_eq!(failure(&answer).0, "refused_by_policy");
            refused += 1;
        }
    }
    assert_eq!((fixture.dialed().await, refused), (3, 3));
}

#[tokio::test]
async fn a_repetition_is_the_first_call_whatever_the_rules_say_meanwhile() {
    let fixture = DialingFixture::new("", "[limits]\nper_destination_per_day = 1\n").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let call = fixture.call(TO, "Remind.");
    let first = session.data("place_call", call.clone()).await;
    let again = session.data("place_call", call.clone()).await;
    assert_eq!(again["duplicate_of"], first["call_id"]);
    assert_eq!(again["call_id"], first["call_id"]);
    // On purpose it would be a second call, and the limit is reached.
    let mut on_purpose = call;
    on_purpose["allow_repeat"] = json!(true);
    let answer = session.call("place_call", on_purpose).await;
    let (class, done, message) = failure(&answer);
    assert_eq!((class, done), ("refused_by_policy", "nothing"));
    assert!(message.contains("limits.per_destination_per_day"), "{message}");
    assert!(message.contains("Nobody was called. Possible again at 20"), "{message}");
    assert_eq!(fixture.dialed().await, 1);
}

#[tokio::test]
async fn a_call_that_was_found_only_after_its_end_is_not_said_to_be_on_its_way() {
    let fixture = DialingFixture::new("", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    fixture.control.request("POST", "/sandbox/clock", Some(json!({"speed": 1_000_000}))).await;
    let placed = session.data("place_call", fixture.call("+12025550112", "Remind.")).await;
    assert_eq!(placed["outcome"], "completed");
    assert_eq!(placed["note"], "The call was placed and is over. get_call_result has its result.");
}

#[tokio::test]
async fn a_call_after_a_reset_of_the_simulator_is_no_duplicate() {
    let fixture = DialingFixture::new("", "").await;
    let mut lives = Vec::new();
    for _ in 0..2 {
        // The same ids each time, since the seed is the same.
        fixture.control.request("POST", "/sandbox/reset", None).await;
        let mut session = fixture.session(LEGACY, cannot_ask()).await;
        let agent = session.outbound_agent(json!({})).await;
        let call = json!({"agent_id": agent, "to": TO, "instructions": "Remind."});
        let placed = session.data("place_call", call.clone()).await;
        assert_eq!(placed.get("duplicate_of"), None);
        let again = session.data("place_call", call).await;
        assert_eq!(again["duplicate_of"], placed["call_id"]);
        assert_eq!(fixture.dialed().await, 1);
        lives.push((agent, placed["call_id"].clone()));
    }
    assert_eq!(lives[0], lives[1]);
}

#[tokio::test]
async fn windows_keys_and_purpose() {
    // A window of nothing: every repetition is outside it.
    let fixture = DialingFixture::new("[dialing]\nrepeat_window_seconds = 0\n", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let mut call = fixture.call(TO, "Remind.");
    let first = session.data("place_call", call.clone()).await;
    let second = session.data("place_call", call.clone()).await;
    assert_ne!(first["call_id"], second["call_id"]);
    assert_eq!(second.get("duplicate_of"), None);

    call["idempotency_key"] = json!("appointment-17");
    let third = session.data("place_call", call.clone()).await;
    assert_ne!(third["call_id"], second["call_id"]);
    // The limit of three a day is reached, and the key outlives the window.
    let replay = session.data("place_call", call.clone()).await;
    assert_eq!(replay["duplicate_of"], third["call_id"]);
    let note = replay["note"].as_str().unwrap();
    assert!(note.contains("use another idempotency_key and allow_repeat"), "{note}");
    let mut other = call.clone();
    other["instructions"] = json!("Something else.");
    let answer = session.call("place_call", other).await;
    let (class, done, message) = failure(&answer);
    assert_eq!((class, done), ("conflict", "nothing"));
    assert!(message.contains("use a new key"), "{message}");
    // Which call the key was used for is told.
    let known = &answer["result"]["_meta"]["callingbox-mcp/error"]["call_id"];
    assert_eq!(known, &third["call_id"], "{answer}");
    assert_eq!(fixture.dialed().await, 3);

    let fixture = DialingFixture::new("", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let mut call = fixture.call(TO, "Remind.");
    let first = session.data("place_call", call.clone()).await;
    // To the API, nothing and an empty object are the same.
    for empty in ["context", "metadata"] {
        let mut same = call.clone();
        same[empty] = json!({});
        let replay = session.data("place_call", same).await;
        assert_eq!(replay["duplicate_of"], first["call_id"], "{empty}");
    }
    call["allow_repeat"] = json!(true);
    let second = session.data("place_call", call).await;
    assert_ne!(first["call_id"], second["call_id"]);
    assert_eq!(fixture.dialed().await, 2);
}

#[tokio::test]
async fn a_server_killed_between_request_and_answer_leaves_a_call_that_the_next_one_finds() {
    let fixture = DialingFixture::new("", "").await;
    let late = json!({
        "method": "POST", "path": "/v1/calls", "when": "after", "kind": "delay", "delay_ms": 60_000,
    });
    fixture.control.fault(late).await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let call = fixture.call(TO, "Remind.");
    session.begin_call("place_call", call.clone()).await;
    fixture.control.wait_for_requests("POST", "/v1/calls", 1).await;
    // SIGKILL.
    drop(session);
    assert_eq!(fixture.receipts(&[]).await[0]["state"], "intent");

    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let found = session.data("place_call", call).await;
    let dialed = fixture.control.dialed().await;
    assert_eq!(dialed.len(), 1);
    assert_eq!(found["call_id"], dialed[0]["call_id"]);
    assert_eq!(found["duplicate_of"], dialed[0]["call_id"]);
    let receipts = fixture.receipts(&[]).await;
    assert_eq!((receipts.len(), &receipts[0]["state"]), (1, &json!("placed")));
}

#[tokio::test]
async fn a_refusal_of_the_provider_is_searched_for_and_reported_as_not_done() {
    let fixture = DialingFixture::new("", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let answer = session.call("place_call", fixture.call("+12025550110", "Remind.")).await;
    let (class, done, _) = failure(&answer);
    assert_eq!((class, done), ("unavailable", "nothing"));
    assert_eq!(fixture.dialed().await, 0);
}

#[tokio::test]
async fn without_a_ledger_nothing_is_dialed() {
    let fixture =
        DialingFixture::new("[dialing]\nledger = \"/dev/null/ledger.sqlite3\"\n", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let answer = session.call("place_call", fixture.call(TO, "Remind.")).await;
    let (class, done, message) = failure(&answer);
    assert_eq!((class, done), ("unavailable", "nothing"));
    assert!(message.starts_with("dialing is refused: the ledger"), "{message}");
    assert_eq!(fixture.dialed().await, 0);
}

#[tokio::test]
async fn a_ledger_that_another_process_locks_is_to_be_tried_later() {
    let fixture = DialingFixture::new("", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    session.data("place_call", fixture.call(TO, "First.")).await;
    let other = rusqlite::Connection::open(ledger(&fixture)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = session.call("place_call", fixture.call("+12025550124", "Second.")).await;
    let (class, done, message) = failure(&answer);
    assert_eq!((class, done), ("unavailable", "nothing"));
    assert!(message.contains("another process has locked the ledger"), "{message}");
    assert_eq!(answer["result"]["_meta"]["callingbox-mcp/error"]["retry"], "later", "{answer}");
    other.execute_batch("ROLLBACK").unwrap();
    session.data("place_call", fixture.call("+12025550124", "Second.")).await;
    assert_eq!(fixture.dialed().await, 2);
}

/// Writes into the ledger of this home what a server leaves that dies before it sends, so long ago.
async fn abandon(fixture: &DialingFixture, call: &Value, seconds_ago: i64) -> DispatchId {
    let place = LedgerLocation::File(ledger(fixture));
    let organization = fixture.control.request("GET", "/sandbox/organization", None).await;
    let incarnation = organization["incarnation"].as_str().unwrap();
    let ledger = open_ledger(&place, callingbox_mcp::account::Environment::Sandbox).await.unwrap();
    let secret = ledger.secret().await.unwrap();
    let base_url = BaseUrl::parse(&fixture.sandbox.url(), false).unwrap();
    let key = ApiKey::new(callingbox_mcp::simulator::KEY.to_owned()).unwrap();
    let key = KeyRef::for_simulator(key, &base_url, incarnation);
    let agents = fixture.control.request("GET", "/v1/agents", None).await;
    let organization = agents["data"][0]["org_id"].as_str().unwrap();
    let account = key.organization_account(&secret, organization);
    let create = CallCreate {
        agent_id: AgentId::new(fixture.agent.clone()),
        to: E164::parse(call["to"].as_str().unwrap()).unwrap(),
        from_number: agents["data"][0]["numbers"][0]["e164"]
            .as_str()
            .map(|e164| E164::parse(e164).unwrap()),
        instructions: call["instructions"].as_str().map(str::to_owned),
        context: None,
        webhook_url: None,
        metadata: None,
    };
    let order = Order::Call(Box::new(create));
    let caller = CallerName::local();
    let asked = DialRequest {
        order,
        caller,
        idempotency_key: None,
        allow_repeat: false,
        attempt: None,
        disclosing_instructions: None,
        metadata_source: Default::default(),
    };
    let passed = SignedDuration::from_secs(seconds_ago);
    let now = ClockReading {
        dialing: fixture.control.now().await - passed,
        machine: Timestamp::now() - passed,
    };
    let dispatch_id = DispatchId::new();
    let intent = NewIntent {
        dispatch_id,
        kind: asked.kind(),
        account_id: account.id().clone(),
        caller: asked.caller.clone(),
        fingerprint: asked.fingerprint(&account),
        arguments: asked.argument_hashes(&account),
        idempotency_key: None,
        callee: asked.callee(&account),
        agent_id: Some(fixture.agent.clone()),
        rule: "default".to_owned(),
        confirmed_by: ConfirmedBy::NotRequired,
        hold: asked.hold(),
        attempt: None,
    };
    let terms = BeginConstraints {
        now,
        lease_expires_at: now.machine,
        repeats_since: now.dialing,
        allow_repeat: false,
        limits: CallLimits::default(),
    };
    assert!(matches!(ledger.begin(intent, terms).await.unwrap(), BeginResult::Begun(_)));
    dispatch_id
}

fn ledger(fixture: &DialingFixture) -> std::path::PathBuf {
    fixture.home.path().join(".local/share/callingbox-mcp/ledger.sandbox.sqlite3")
}

#[tokio::test]
async fn an_unsent_order_is_dialed_once_it_can_no_longer_arrive() {
    let fixture = DialingFixture::new("", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let (old, young) = (fixture.call(TO, "Old."), fixture.call("+12025550124", "Young."));
    abandon(&fixture, &old, 180).await;
    abandon(&fixture, &young, 20).await;
    let both = [
        session.begin_call("place_call", old).await,
        session.begin_call("place_call", young).await,
    ];
    let answer = session.answer(both[0]).await;
    let dialed = fixture.control.dialed().await;
    assert_eq!(data(&answer)["call_id"], dialed[0]["call_id"]);
    assert_eq!(data(&answer).get("duplicate_of"), None);
    // This one may still be on its way: nothing rings.
    let answer = session.answer(both[1]).await;
    assert_eq!(data(&answer)["outcome"], "unknown");
    // Nobody is to fear that a real telephone may be ringing.
    assert_eq!(data(&answer)["simulated"], true);
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(
        text.starts_with("SIMULATED: nobody real is called and nothing is charged.\n"),
        "{text}"
    );
    let note = data(&answer)["note"].as_str().unwrap();
    assert!(note.contains("Do not place it again") && note.contains("list_calls"), "{note}");
    assert_eq!(fixture.dialed().await, 1);
    let states: Vec<_> = fixture.receipts(&[]).await.iter().map(|r| r["state"].clone()).collect();
    assert_eq!(states, ["placed", "unknown", "not_placed"]);
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let table = fixture.home.print(&["receipts", &flag]).await;
    let (_, below) = table.split_once("\n\n").expect("something is said below the table");
    assert!(below.starts_with("1 entry is unresolved (intent, unknown)"), "{table}");
}

#[tokio::test]
async fn the_id_is_returned_although_the_ledger_fails_after_the_request() {
    let fixture = DialingFixture::new("request_timeout_seconds = 1\n", "").await;
    let late = json!({
        "method": "POST", "path": "/v1/calls", "when": "after", "kind": "delay", "delay_ms": 5_000,
    });
    fixture.control.fault(late).await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let call = fixture.call(TO, "Remind.");
    let id = session.begin_call("place_call", call.clone()).await;
    fixture.control.wait_for_requests("POST", "/v1/calls", 1).await;
    let other = rusqlite::Connection::open(ledger(&fixture)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = session.answer(id).await;
    let dialed = fixture.control.dialed().await;
    assert_eq!(data(&answer)["call_id"], dialed[0]["call_id"]);
    other.execute_batch("ROLLBACK").unwrap();
    // It is written down as soon as somebody asks.
    let again = session.data("place_call", call).await;
    assert_eq!(again["duplicate_of"], dialed[0]["call_id"]);
    assert_eq!(fixture.receipts(&[]).await[0]["state"], "placed");
    assert_eq!(fixture.dialed().await, 1);
}

/// A call that its client takes back while the API takes so long to answer.
async fn taken_back(fixture: &DialingFixture, delay_ms: u64) -> Session {
    let late = json!({
        "method": "POST", "path": "/v1/calls", "when": "after", "kind": "delay",
        "delay_ms": delay_ms,
    });
    fixture.control.fault(late).await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let id = session.begin_call("place_call", fixture.call(TO, "Remind.")).await;
    fixture.control.wait_for_requests("POST", "/v1/calls", 1).await;
    session.notify("notifications/cancelled", json!({"requestId": id})).await;
    session
}

#[tokio::test]
async fn a_call_that_its_client_takes_back_too_late_is_written_down() {
    let fixture = DialingFixture::new("", "").await;
    let _session = taken_back(&fixture, 500).await;
    within_limit("the receipt", async {
        while fixture.receipts(&[]).await[0]["state"] != "placed" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(fixture.receipts(&[]).await[0]["id"], fixture.control.dialed().await[0]["call_id"]);
}

#[tokio::test]
async fn a_call_that_was_taken_back_is_written_down_before_the_program_ends() {
    let fixture = DialingFixture::new("", "").await;
    let session = taken_back(&fixture, 1_500).await;
    session.finish().await;
    let receipts = fixture.receipts(&[]).await;
    assert_eq!(receipts[0]["state"], "placed", "{receipts:?}");
    assert_eq!(receipts[0]["id"], fixture.control.dialed().await[0]["call_id"]);
}

#[tokio::test]
async fn a_call_that_a_dead_server_left_open_is_settled_with_the_next_order() {
    let fixture = DialingFixture::new("", "").await;
    let call = fixture.call(TO, "Remind.");
    let dispatch = abandon(&fixture, &call, 180).await;
    // It had left, and nobody wrote down its id.
    let mut sent = call.clone();
    sent["metadata"] = json!({"callingbox_mcp_dispatch_id": dispatch.to_string()});
    let placed = fixture.control.request("POST", "/v1/calls", Some(sent)).await;
    let other = abandon(&fixture, &fixture.call("+12025550124", "Other."), 180).await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    session.data("place_call", fixture.call("+12025550125", "Another.")).await;
    within_limit("the settlement", async {
        loop {
            let receipts = fixture.receipts(&[]).await;
            let of = |id: DispatchId| {
                receipts.iter().find(|row| row["dispatch_id"] == id.to_string()).unwrap()
            };
            if of(dispatch)["id"] == placed["id"] && of(other)["state"] == "not_placed" {
                return;
            }
        }
    })
    .await;
    assert_eq!(fixture.dialed().await, 2);
}

#[tokio::test]
async fn a_call_with_an_unknown_result_counts_as_in_progress() {
    let fixture = DialingFixture::new("", "[limits]\nconcurrent = 1\n").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    for fault in [
        json!({"method": "POST", "path": "/v1/calls", "when": "after", "kind": "reset"}),
        json!({"method": "GET", "path": "/v1/calls", "kind": "status", "status": 500, "times": 1_000}),
    ] {
        fixture.control.fault(fault).await;
    }
    let first = session.data("place_call", fixture.call(TO, "Remind.")).await;
    assert_eq!(first["outcome"], "unknown", "{first}");
    let answer = session.call("place_call", fixture.call("+12025550124", "Other.")).await;
    assert_eq!(failure(&answer).0, "refused_by_policy");
    assert_eq!(fixture.dialed().await, 1);
}

#[tokio::test]
async fn a_purchase_is_recorded_immediately_with_its_price() {
    let fixture = DialingFixture::new("", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let offers = session.data("search_numbers", json!({"limit": 1})).await;
    let number = &offers["numbers"][0]["phone_number"];
    let offer = json!({
        "phone_number": number, "number_type": "local", "country_code": "US",
        "monthly_cost_cents": 100, "upfront_cost_cents": 400,
    });
    let dear = json!({
        "method": "GET", "path": "/v1/numbers/available", "kind": "status", "status": 200,
        "body": [offer], "times": 10,
    });
    fixture.control.fault(dear).await;
    let bought = session.data("purchase_number", json!({"phone_number": number})).await;
    assert_eq!(bought["purchased"], true, "{bought}");
    let receipts = fixture.receipts(&[]).await;
    // $5.00, in thousandths of a cent.
    assert_eq!(receipts[0]["cost_milli_cents"], 500_000, "{receipts:?}");
}
