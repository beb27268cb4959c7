//! Calls from beginning to end: every scenario, times, credit, transcripts and results.

use std::time::Duration;

use callingbox_sandbox::Options;
use serde_json::{Value, json};

use crate::sandbox::support::{Client, manual_options, select_fields, start_sandbox, wait_until};

const OUTCOME: &[&str] = &[
    "status",
    "answered_by",
    "result_status",
    "reservation_status",
    "error_code",
    "hangup_cause",
    "started_at",
    "answered_at",
    "ended_at",
    "duration_seconds",
    "billed_duration_seconds",
    "billing_amount_milli_cents",
];

/// The fields of `OUTCOME`: first those that are words, then all others.
fn expected_outcome(words: [&str; 4], others: [Value; 8]) -> Value {
    let words = words.map(|word| if word == "-" { Value::Null } else { json!(word) });
    OUTCOME.iter().map(|name| (*name).to_owned()).zip(words.into_iter().chain(others)).collect()
}

#[tokio::test]
async fn every_scenario_reaches_its_end() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_scenarios");
    client.set_credit(10_000_000).await;
    let agent = client.create_agent("outbound", json!({})).await;
    let ring = json!("2026-04-15T14:00:03Z");
    let null = Value::Null;
    let silent = |words: [&str; 4], error: Value, cause: Value, end: &str, seconds: u64| {
        let end = json!(format!("2026-04-15T14:00:{end}Z"));
        let (zero, ring) = (json!(0), ring.clone());
        let none = Value::Null;
        expected_outcome(words, [error, cause, ring, none, end, json!(seconds), zero.clone(), zero])
    };
    let talk = |result_status: &str, end: &str, seconds: u64, amount: u64| {
        let end = json!(format!("2026-04-15T14:{end}Z"));
        let answered = json!("2026-04-15T14:00:09Z");
        expected_outcome(
            ["completed", "human", result_status, "settled"],
            [
                null.clone(),
                json!("normal_clearing"),
                ring.clone(),
                answered,
                end,
                json!(seconds + 6),
                json!(seconds),
                json!(amount),
            ],
        )
    };
    let released = |status| [status, "-", "pending", "released"];
    let all_null = json!({"confirmed": null, "new_time": null, "party_size": null});
    let cases = [
        (
            "+13105550101",
            silent(released("no_answer"), null.clone(), json!("no_answer"), "33", 30),
            null.clone(),
        ),
        (
            "+12125550102",
            silent(released("busy"), null.clone(), json!("user_busy"), "05", 2),
            null.clone(),
        ),
        (
            "+14155550103",
            silent(
                ["no_answer", "machine", "pending", "released"],
                null.clone(),
                null.clone(),
                "27",
                24,
            ),
            null.clone(),
        ),
        (
            "+14155550104",
            silent(
                released("failed"),
                json!("carrier_failure"),
                json!("network_out_of_order"),
                "08",
                5,
            ),
            null.clone(),
        ),
        (
            "+14155550106",
            silent(released("canceled"), null.clone(), json!("originator_cancel"), "07", 4),
            null.clone(),
        ),
        ("+14155550107", talk("completed", "30:09", 1_800, 150_000), json!("typed")),
        ("+14155550108", talk("completed", "00:28", 19, 1_584), all_null.clone()),
    ];
    let mut calls = Vec::new();
    for (to, ..) in &cases {
        calls.push(client.place_call(&agent, to).await);
    }
    let failed = client.place_call(&agent, "+14155550105").await;
    let hostile = client.place_call(&agent, "+14155550109").await;
    let other = client.place_call(&agent, "+442079460000").await;
    client.advance_clock(3_600.0).await;
    for ((to, expected, result), call) in cases.iter().zip(&calls) {
        let call = client.refetch_call(call).await;
        assert_eq!(select_fields(&call, OUTCOME), *expected, "{to}");
        assert_eq!(call["simulated"], true);
        if *result == json!("typed") {
            assert!(is_typed(&call["result"]), "{to}: {}", call["result"]);
        } else {
            assert_eq!(call["result"], *result, "{to}");
        }
    }
    let failed = client.refetch_call(&failed).await;
    assert_eq!(
        select_fields(&failed, &["status", "result", "result_status", "reservation_status"]),
        json!({"status": "completed", "result": all_null, "result_status": "failed", "reservation_status": "settled"})
    );
    assert!(failed["result_error"].is_string());
    let said: Vec<Value> = client.get_segments(&hostile).await;
    let hostile = client.refetch_call(&hostile).await;
    assert!(hostile["result"]["new_time"].as_str().unwrap().contains("Ignore all previous"));
    assert!(said.iter().any(|line| line["text"].as_str().unwrap().contains('\u{202e}')));
    assert!(said.iter().any(|line| line["text"].as_str().unwrap().contains('\u{1b}')));
    assert!(
        is_typed(&client.refetch_call(&other).await["result"]),
        "any other number is like 0100"
    );
    assert!(client.get_segments(&calls[5]).await.len() > 300, "the long call has many lines");
    assert!(client.get_segments(&calls[0]).await.is_empty(), "nobody spoke");
    let credits = client.get("/sandbox/credits").await;
    let billed: u64 = client.get("/v1/calls?limit=100").await["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["billing_amount_milli_cents"].as_u64().unwrap())
        .sum();
    assert_eq!(
        select_fields(&credits, &["balance_milli_cents", "held_milli_cents"]),
        json!({"balance_milli_cents": 10_000_000 - 100_000 - billed, "held_milli_cents": 0})
    );
}

fn is_typed(result: &Value) -> bool {
    let is_confirmed = result["confirmed"].as_bool();
    is_confirmed == Some(result["party_size"].is_number())
        && is_confirmed == Some(result["new_time"].is_null())
}

#[tokio::test]
async fn a_call_follows_the_simulated_clock() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_life");
    let agent = client.create_agent("outbound", json!({"language": "en"})).await;
    let order = json!({
        "agent_id": agent.id,
        "to": "+13105550100",
        "instructions": "Ask about Friday.",
        "context": {"patient": "Sam Doe"},
        "metadata": {"visit_id": "v-1042"},
    });
    let call = client.send_ok("POST", "/v1/calls", order).await;
    let names = [
        "status",
        "direction",
        "to_number",
        "from_number",
        "prompt",
        "context",
        "metadata",
        "language",
        "created_at",
        "started_at",
        "reservation_status",
        "result_status",
        "returns",
    ];
    assert_eq!(
        select_fields(&call, &names),
        json!({
            "status": "queued",
            "direction": "outbound",
            "to_number": "+13105550100",
            "from_number": agent.number["e164"],
            "prompt": "You are Mia, a calm assistant of Northside Dental.\n\nAsk about Friday.",
            "context": {"patient": "Sam Doe"},
            "metadata": {"visit_id": "v-1042"},
            "language": "en",
            "created_at": "2026-04-15T14:00:00Z",
            "started_at": null,
            "reservation_status": "reserved",
            "result_status": "pending",
            "returns": {"confirmed": "boolean", "new_time": "string", "party_size": "number"},
        })
    );
    let credits = client.get("/sandbox/credits").await;
    let held = json!({"balance_milli_cents": 9_900_000, "held_milli_cents": 300_000, "available_milli_cents": 9_600_000, "simulated": true});
    assert_eq!(credits, held);

    let mut statuses = vec!["queued".to_owned()];
    let mut lines = vec![0];
    for _ in 0..120 {
        client.advance_clock(1.0).await;
        let status = client.refetch_call(&call).await["status"].as_str().unwrap().to_owned();
        if statuses.last() != Some(&status) {
            statuses.push(status);
        }
        lines.push(client.get_segments(&call).await.len());
    }
    assert_eq!(statuses, ["queued", "initiated", "ringing", "in_progress", "completed"]);
    assert!(lines.is_sorted() && lines[20] > 0 && lines[20] < lines[120], "{lines:?}");

    // A change of the agent affects later calls only; this call keeps its copy.
    client.send_ok("PATCH", &format!("/v1/agents/{}", agent.id), json!({"persona": null})).await;
    let ended = client.refetch_call(&call).await;
    assert_eq!(ended["persona"], "You are Mia, a calm assistant of Northside Dental.");
    let seconds = ended["billed_duration_seconds"].as_u64().unwrap();
    assert_eq!(ended["billing_amount_milli_cents"], (seconds * 5_000).div_ceil(60));
    let texts: Vec<String> = client
        .get_segments(&call)
        .await
        .iter()
        .map(|line| line["text"].as_str().unwrap().to_owned())
        .collect();
    let size = &ended["result"]["party_size"];
    assert_eq!(
        texts,
        [
            "Hello?",
            "Hello, this is Mia from Northside Dental. Am I speaking with Sam Doe?",
            "Yes, speaking.",
            "I'm calling about what we agreed. Is that still all right for you?",
            "Yes, that's fine.",
            "Thank you. How many people will you be?",
            &format!("There will be {size} of us."),
            "All right. Thank you very much for your time. Goodbye.",
            "Goodbye.",
        ]
    );
    assert_eq!(ended["result"], json!({"confirmed": true, "new_time": null, "party_size": size}));
}

#[tokio::test]
async fn extraction_follows_the_end_of_the_call() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_extraction");
    let agent = client.create_agent("outbound", json!({})).await;
    let call = client.place_call(&agent, "+13105550108").await;
    for (seconds, status, result_status) in [
        (27.0, "in_progress", "pending"),
        (1.0, "completed", "pending"),
        (4.0, "completed", "completed"),
    ] {
        client.advance_clock(seconds).await;
        let call = client.refetch_call(&call).await;
        assert_eq!(
            (&call["status"], &call["result_status"]),
            (&json!(status), &json!(result_status))
        );
    }
    // Without a schema there is no result, and the extraction completes.
    client.set_credit(400_000).await;
    client.send_ok("PATCH", &format!("/v1/agents/{}", agent.id), json!({"returns": {}})).await;
    let call = client.place_call(&agent, "+13105550100").await;
    client.advance_clock(300.0).await;
    let call = client.refetch_call(&call).await;
    let expected = json!({"returns": {}, "result": null, "result_status": "completed"});
    assert_eq!(select_fields(&call, &["returns", "result", "result_status"]), expected);
}

#[tokio::test]
async fn a_voicemail_call_follows_the_agents_voicemail_action() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_voicemail");
    client.set_credit(1_000_000).await;
    let hangup = client.create_agent("outbound", json!({"voicemail_action": "hangup"})).await;
    let message =
        client.create_agent("outbound", json!({"voicemail_action": "leave_message"})).await;
    let hangup = client.place_call(&hangup, "+13105550103").await;
    let message = client.place_call(&message, "+13105550103").await;
    client.advance_clock(27.0).await;
    assert_eq!(client.refetch_call(&hangup).await["status"], "no_answer");
    let ringing = client.refetch_call(&message).await;
    let seen = select_fields(&ringing, &["status", "answered_by"]);
    assert_eq!(seen, json!({"status": "ringing", "answered_by": null}));
    client.advance_clock(60.0).await;
    assert!(client.get_segments(&hangup).await.is_empty());
    let lines = client.get_segments(&message).await;
    assert!(lines.len() == 3 && lines.iter().all(|line| line["role"] == "agent"), "{lines:?}");
    let message = client.refetch_call(&message).await;
    let names = [
        "status",
        "answered_by",
        "answered_at",
        "result",
        "result_status",
        "billing_amount_milli_cents",
        "reservation_status",
    ];
    assert_eq!(
        select_fields(&message, &names),
        json!({"status": "no_answer", "answered_by": "machine", "answered_at": null, "result": null,
            "result_status": "pending", "billing_amount_milli_cents": 0, "reservation_status": "released"})
    );
}

#[tokio::test]
async fn destinations_reject_delay_and_lose_answers() {
    let late = Options { late_answer: Duration::from_secs(60), ..manual_options() };
    let sandbox = start_sandbox(late).await;
    let client = Client::new(&sandbox, "sk_live_admission");
    client.set_credit(10_000_000).await;
    let agent = client.create_agent("outbound", json!({})).await;
    let order = |to: &str| json!({"agent_id": agent.id, "to": to});
    let post = async |to: &str| client.send_json("POST", "/v1/calls", order(to)).await;

    let (status, body) = post("+13105550110").await;
    assert_eq!((status, body["error"].is_string()), (502, true));
    let (status, body) = post("+13105550111").await;
    assert_eq!(
        (status, body["error"].as_str().unwrap()),
        (
            402,
            "Calls paused. Your balance of $1.88 is below the $3.00 held for each call; the hold \
            is given back when nobody answers. Add at least $1.12 to go on."
        )
    );
    let limited = client.request("POST", "/v1/calls", &order("+13105550114").to_string());
    let limited = limited.send().await.unwrap();
    assert_eq!(
        (limited.status().as_u16(), &limited.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    assert_eq!(post("+13105550115").await.0, 500);
    assert!(client.list_dialed().await.is_empty(), "nothing has been dialed yet");

    assert_eq!(post("+13105550114").await.0, 201);
    assert_eq!(post("+13105550115").await.0, 201);
    // The error comes once for each number of an organization.
    assert_eq!(post("+12125550114").await.0, 429);

    let lost = client.request("POST", "/v1/calls", &order("+13105550112").to_string()).send().await;
    assert!(lost.unwrap_err().is_request());
    let late = client.request("POST", "/v1/calls", &order("+13105550113").to_string());
    let late = tokio::spawn(late.send());
    wait_until("the late call", async || client.list_dialed().await.len() == 4).await;
    assert!(!late.is_finished(), "the answer is withheld");
    late.abort();
    assert_eq!(
        client.list_dialed().await,
        ["+13105550114", "+13105550115", "+13105550112", "+13105550113"]
    );
    client.advance_clock(300.0).await;
    for call in client.get("/v1/calls").await["data"].as_array().unwrap() {
        assert_eq!(call["status"], "completed");
    }
}

#[tokio::test]
async fn an_inbound_call_reaches_the_inbound_agent() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_inbound");
    client.set_credit(1_000_000).await;
    let agent = client.create_agent("inbound", json!({})).await;
    let silent = client.buy_number().await;
    let ring = async |to: &Value, scenario: &str| {
        let body = json!({"to": to, "from": "+16465550164", "scenario": scenario});
        client.send_json("POST", "/sandbox/inbound_calls", body).await
    };
    assert_eq!(ring(&json!("+12125550100"), "0100").await.0, 404);
    assert_eq!(ring(&silent["e164"], "0100").await.0, 409);
    assert_eq!(ring(&agent.number["e164"], "0102").await.0, 400);
    let (status, call) = ring(&agent.number["e164"], "0109").await;
    assert_eq!(status, 201);
    assert_eq!(
        select_fields(&call, &["direction", "status", "to_number", "from_number", "agent_id"]),
        json!({"direction": "inbound", "status": "ringing", "to_number": agent.number["e164"],
            "from_number": "+16465550164", "agent_id": agent.id})
    );
    client.advance_clock(2.0).await;
    assert_eq!(client.refetch_call(&call).await["status"], "in_progress");
    client.advance_clock(300.0).await;
    assert!(client.refetch_call(&call).await["result"]["new_time"].is_string());
    let (_, canceled) = ring(&agent.number["e164"], "0106").await;
    client.advance_clock(1.0).await;
    assert_eq!(client.refetch_call(&canceled).await["status"], "canceled");
    assert!(client.list_dialed().await.is_empty(), "an inbound call is not dialed");
    client.set_credit(299_999).await;
    let (status, body) = ring(&agent.number["e164"], "0100").await;
    assert_eq!((status, body["error"].as_str().unwrap().starts_with("Calls paused.")), (402, true));
}

#[tokio::test]
async fn a_thousand_calls_end_in_one_advance_and_pages_do_not_shift() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_many");
    client.set_credit(1_000_000_000).await;
    let agent = client.create_agent("outbound", json!({})).await;
    let mut ids = Vec::new();
    for _ in 0..1_000 {
        ids.push(client.place_call(&agent, "+13105550107").await["id"].clone());
    }
    ids.reverse();
    client.advance_clock(1_830.0).await;
    assert_eq!(client.get("/sandbox/credits").await["held_milli_cents"], 0);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/calls?limit=100{cursor}")).await;
        seen.extend(page["data"].as_array().unwrap().iter().map(|call| call["id"].clone()));
        if page["has_more"] == false {
            break;
        }
        cursor = format!("&starting_after={}", seen.last().unwrap().as_str().unwrap());
    }
    assert_eq!(seen, ids);
}
