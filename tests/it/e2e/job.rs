//! The main job, message by message: number, agent, call, wait, typed result, transcript.

use std::sync::Arc;

use callingbox_mcp::mcp::reply::text::SIMULATED;
use callingbox_sandbox::Options;
use serde_json::{Value, json};

use crate::harness::{Era, Home, Session, simulator};

/// Replaces the markers of fences and the dispatch ids, which are random.
fn without_markers(message: &Value) -> Value {
    let mut message = message.clone();
    if let Some(dispatch) = message.pointer_mut("/result/structuredContent/dispatch_id") {
        assert_eq!(dispatch.as_str().map(str::len), Some(36), "{dispatch}");
        *dispatch = json!("DISPATCH");
    }
    let mut text = message.to_string();
    while let Some((_, rest)) = text.split_once("<<<") {
        let marker: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
        assert_eq!(marker.len(), 12, "{text}");
        text = text.replace(&format!("<<<{marker}"), "<< <MARKER").replace(&marker, "MARKER");
    }
    serde_json::from_str(&text.replace("<< <", "<<<")).unwrap()
}

/// Does the main job and returns every answer.
async fn run_main_job(era: Era) -> Vec<Value> {
    let mut session = Session::new(era).await;
    let mut answers: Vec<Value> = Vec::new();
    let data = |answers: &Vec<Value>, pointer: &str| -> String {
        let content = &answers.last().unwrap()["result"]["structuredContent"];
        content.pointer(pointer).unwrap().as_str().unwrap().to_owned()
    };
    macro_rules! step {
        ($tool:expr, $arguments:expr) => {{
            let answer = session.call($tool, $arguments).await;
            assert_eq!(answer["result"]["isError"], false, "{answer}");
            answers.push(without_markers(&answer));
        }};
    }
    step!(
        "create_agent",
        json!({
            "name": "Reminders",
            "type": "outbound",
            "persona": "You are Mia of Northside Dental.",
            "instructions": "Remind of the appointment.",
            "returns": {"confirmed": "boolean", "new_time": "string", "party_size": "number"},
            "tools": [{"type": "builtin", "name": "end_call", "description": "Hangs up."}],
        })
    );
    let agent = data(&answers, "/agent_id");
    step!("search_numbers", json!({"area_code": "415", "limit": 2}));
    let number = data(&answers, "/numbers/0/phone_number");
    step!("purchase_number", json!({"phone_number": number}));
    let number_id = data(&answers, "/number/number_id");
    step!("set_agent_numbers", json!({"agent_id": agent, "attach": [number_id]}));
    step!(
        "place_call",
        json!({"agent_id": agent, "to": "+13105550100", "context": {"patient": "Sam Doe"}})
    );
    let call = data(&answers, "/call_id");
    step!("get_call_result", json!({"call_id": call, "wait_seconds": 0}));
    session.control().advance(20).await;
    step!("get_call_transcript", json!({"call_id": call}));
    session.control().advance(600).await;
    step!("get_call_result", json!({"call_id": call}));
    step!("get_call_transcript", json!({"call_id": call, "limit": 3}));
    step!("get_call_transcript", json!({"call_id": call, "limit": 500, "after_sequence_no": 3}));
    step!("list_calls", json!({}));
    session.finish_well().await;
    answers
}

#[tokio::test]
async fn the_main_job_answers_the_same_in_both_eras() {
    let legacy = run_main_job(Era::Legacy("2025-11-25")).await;
    insta::assert_json_snapshot!("the_main_job", legacy);
    let mut modern = run_main_job(Era::Modern).await;
    for answer in &mut modern {
        let removed = answer["result"].as_object_mut().unwrap().shift_remove("resultType");
        assert_eq!(removed, Some(json!("complete")));
    }
    assert_eq!(modern, legacy);
}

#[tokio::test]
async fn a_wait_reports_progress_and_ends_with_the_call() {
    let mut session = Session::modern().await;
    let agent = session.outbound_agent(json!({"confirmed": "boolean"})).await;
    let call = session.data("place_call", json!({"agent_id": agent, "to": "+13105550100"})).await;
    let arguments = json!({"call_id": call["call_id"], "wait_seconds": 15});
    let params = json!({
        "name": "get_call_result", "arguments": arguments, "_meta": {"progressToken": "p1"},
    });
    let id = session.begin("tools/call", params).await;
    let progress = session.next().await.unwrap();
    assert_eq!(progress["method"], "notifications/progress", "{progress}");
    assert_eq!(progress["params"]["progressToken"], "p1", "{progress}");
    session.control().advance(600).await;
    let answer = session.answer(id).await;
    assert_eq!(answer["result"]["structuredContent"]["outcome"], "completed", "{answer}");
    assert_eq!(
        answer["result"]["structuredContent"]["result"],
        json!({"confirmed": true, "do_not_call": false}),
        "{answer}"
    );
}

#[tokio::test]
async fn a_wait_that_times_out_answers_with_the_present_status() {
    let mut session = Session::modern().await;
    let agent = session.outbound_agent(json!({})).await;
    let call = session.data("place_call", json!({"agent_id": agent, "to": "+13105550107"})).await;
    let arguments = json!({"call_id": call["call_id"], "wait_seconds": 1});
    let report = session.data("get_call_result", arguments).await;
    assert_eq!(report["outcome"], "in_progress");
    assert_eq!(report["call_id"], call["call_id"]);
    session.finish_well().await;
}

#[tokio::test]
async fn calls_are_listed_with_filters_and_cursors_in_both_directions() {
    let mut session = Session::modern().await;
    let agent = session.outbound_agent(json!({})).await;
    session.control().credit(10_000_000).await;
    let mut placed = Vec::new();
    for to in ["+13105550100", "+13105550101", "+13105550102", "+12125550100", "+12125550101"] {
        let call = session.data("place_call", json!({"agent_id": agent, "to": to})).await;
        placed.push(call["call_id"].clone());
        session.control().advance(1).await;
    }
    session.control().advance(600).await;
    let ids = |listed: &Value| -> Vec<Value> {
        listed["calls"].as_array().unwrap().iter().map(|call| call["call_id"].clone()).collect()
    };
    let newest_first: Vec<Value> = placed.iter().rev().cloned().collect();

    let page = session.data("list_calls", json!({"limit": 2})).await;
    assert_eq!(ids(&page), newest_first[..2]);
    assert_eq!((&page["has_more"], &page["next_cursor"]), (&json!(true), &newest_first[1]));
    let next = json!({"limit": 2, "starting_after": page["next_cursor"]});
    let page = session.data("list_calls", next).await;
    assert_eq!(ids(&page), newest_first[2..4]);
    let next = json!({"limit": 2, "starting_after": page["next_cursor"]});
    let page = session.data("list_calls", next).await;
    assert_eq!((ids(&page), &page["has_more"]), (newest_first[4..].to_vec(), &json!(false)));
    assert_eq!(page.get("next_cursor"), None);
    let back = json!({"limit": 2, "ending_before": newest_first[4]});
    let page = session.data("list_calls", back).await;
    assert_eq!(ids(&page), newest_first[2..4], "the two that are next to the cursor");
    let beyond = json!({"starting_after": newest_first[4]});
    assert_eq!(ids(&session.data("list_calls", beyond).await), [Value::Null; 0]);

    for (filter, expected) in [
        (json!({"outcomes": ["no_answer"]}), vec![4, 1]),
        (json!({"outcomes": ["busy", "voicemail"]}), vec![2]),
        (json!({"outcomes": ["no_answer", "busy"]}), vec![4, 2, 1]),
        (
            json!({"since": "2026-11-02T15:00:02Z", "until": "2026-11-02T16:00:04+01:00"}),
            vec![3, 2],
        ),
        (json!({"outcomes": ["completed"], "number": "+12125550100"}), vec![3]),
        (json!({"number": "+12125550100"}), vec![3]),
        (json!({"direction": "outbound", "limit": 3}), vec![4, 3, 2]),
        (json!({"direction": "inbound"}), vec![]),
        (json!({"agent_id": agent, "outcomes": ["no_answer"], "limit": 1}), vec![4]),
        (json!({"agent_id": "another"}), vec![]),
    ] {
        let listed = session.data("list_calls", filter.clone()).await;
        let expected: Vec<Value> =
            expected.iter().map(|index: &usize| placed[*index].clone()).collect();
        assert_eq!(ids(&listed), expected, "{filter}");
    }
    for (arguments, says) in [
        (
            json!({"agent_id": "another"}),
            "None of the 5 calls looked at fits. Filters: agent_id another.\nOf those looked at: 1 busy, 2 completed, 2 no_answer.\nThese are all.",
        ),
        (
            json!({"outcomes": ["busy"], "direction": "inbound"}),
            "None of the 5 calls looked at fits. Filters: outcomes busy; direction inbound.\nOf those looked at: 1 busy, 2 completed, 2 no_answer.\nThese are all.",
        ),
        (
            json!({"outcomes": ["busy"], "starting_after": newest_first[4]}),
            "No more calls in this direction.",
        ),
        (json!({"ending_before": newest_first[0]}), "No more calls in this direction."),
    ] {
        let answer = session.call("list_calls", arguments.clone()).await;
        let says = format!("{SIMULATED}\n{says}");
        assert_eq!(answer["result"]["content"][0]["text"], says, "{arguments}");
    }
    let filtered = json!({"outcomes": ["no_answer"], "limit": 1});
    let first = session.data("list_calls", filtered).await;
    let next =
        json!({"outcomes": ["no_answer"], "limit": 1, "starting_after": first["next_cursor"]});
    assert_eq!(ids(&session.data("list_calls", next).await), [placed[1].clone()]);
    session.finish_well().await;
}

#[tokio::test]
async fn numbers_are_listed_page_by_page_in_both_directions() {
    let home = Home::new();
    let policy = "[limits]\npurchases_per_day = \"off\"\n";
    home.write(".config/callingbox-mcp/policy.toml", policy);
    let sandbox = simulator(Options::default()).await;
    let flag = format!("--sandbox={}", sandbox.url());
    let mut session = Session::start_in(Arc::new(home), &[&flag], &[]);
    session.open(Era::Modern).await;
    let offers = session.data("search_numbers", json!({"limit": 5})).await;
    session.data("create_agent", json!({"name": "A", "type": "inbound"})).await;
    let mut owned = Vec::new();
    for offer in offers["numbers"].as_array().unwrap() {
        let number = json!({"phone_number": offer["phone_number"]});
        let number = session.data("purchase_number", number).await;
        owned.push(number["number"]["number_id"].clone());
    }
    for (cursor, begin, pages) in
        [("starting_after", 4, [&[3, 2][..], &[1, 0]]), ("ending_before", 0, [&[2, 1], &[4, 3]])]
    {
        let mut arguments = json!({"limit": 2, cursor: owned[begin]});
        for (index, expected) in pages.iter().enumerate() {
            let page = session.data("list_numbers", arguments.clone()).await;
            let found: Vec<&Value> =
                page["numbers"].as_array().unwrap().iter().map(|n| &n["number_id"]).collect();
            let expected: Vec<&Value> = expected.iter().map(|index| &owned[*index]).collect();
            assert_eq!((found, &page["has_more"]), (expected, &json!(index == 0)), "{cursor}");
            arguments[cursor] = page["next_cursor"].clone();
        }
    }
    session.finish_well().await;
}

#[tokio::test]
async fn a_filter_reads_a_thousand_calls_and_returns_a_cursor() {
    let mut session = Session::modern().await;
    let agent = session.outbound_agent(json!({})).await;
    session.control().credit(1_000_000_000).await;
    let mut placed = Vec::new();
    let (oldest, newest, between) = ("+12125550101", "+12125550102", "+13105550103");
    for to in [oldest].into_iter().chain([between; 1_050]).chain([newest]) {
        let order = json!({"agent_id": agent, "to": to});
        let call = session.control().request("POST", "/v1/calls", Some(order)).await;
        placed.push(call["id"].clone());
    }
    let last = placed.len() - 1;
    // The call is the last one in the direction of the search, so the search takes two requests.
    for (number, begin, cursor, stops_at, finds) in [
        (oldest, None::<usize>, "starting_after", last - 999, 0),
        (newest, Some(0), "ending_before", 1_000, last),
    ] {
        session.control().reset_counts().await;
        let mut arguments = json!({"number": number});
        if let Some(index) = begin {
            arguments[cursor] = placed[index].clone();
        }
        let answer = session.call("list_calls", arguments.clone()).await;
        let stopped = placed[stops_at].clone();
        assert_eq!(
            answer["result"]["structuredContent"],
            json!({
                "calls": [], "has_more": true, "next_cursor": stopped, "searched": 1_000,
                "counts": {"in_progress": 1_000}, "cost_milli_cents": 0, "simulated": true,
            }),
        );
        let text = format!(
            "{SIMULATED}\nNone of the 1000 calls looked at fits. Filters: number {number}.\nOf those looked at: 1000 in_progress.\nThere are more: call again with {cursor} {}.",
            stopped.as_str().unwrap()
        );
        assert_eq!(answer["result"]["content"][0]["text"], text);
        assert_eq!(session.control().count("GET", "/v1/calls").await, 10);
        arguments[cursor] = stopped;
        let rest = session.data("list_calls", arguments).await;
        assert_eq!(rest["calls"][0]["call_id"], placed[finds], "{cursor}");
        assert_eq!(
            (rest["calls"].as_array().unwrap().len(), &rest["has_more"]),
            (1, &json!(false))
        );
    }
    // From older to newer calls, page by page; each page begins with its newest.
    let mut arguments = json!({"number": between, "limit": 2, "ending_before": placed[0]});
    for oldest in [1, 3] {
        let page = session.data("list_calls", arguments.clone()).await;
        let found: Vec<&Value> =
            page["calls"].as_array().unwrap().iter().map(|call| &call["call_id"]).collect();
        assert_eq!(found, [&placed[oldest + 1], &placed[oldest]]);
        assert_eq!((&page["next_cursor"], &page["searched"]), (&placed[oldest + 1], &json!(2)));
        arguments["ending_before"] = page["next_cursor"].clone();
    }
    session.finish_well().await;
}

#[tokio::test]
async fn an_inbound_agent_answers_a_caller() {
    let mut session = Session::modern().await;
    let offers = session.data("search_numbers", json!({"limit": 1})).await;
    let phone = offers["numbers"][0]["phone_number"].clone();
    let number = session.data("purchase_number", json!({"phone_number": phone})).await;
    let refused = session.failure("simulate_inbound_call", json!({"to": phone})).await;
    assert_eq!((&refused["class"], &refused["done"]), (&json!("conflict"), &json!("nothing")));

    let agent = json!({
        "name": "Front desk", "type": "inbound", "number_ids": [number["number"]["number_id"]],
        "returns": {"reason": "string"},
    });
    let agent = session.data("create_agent", agent).await;
    let call =
        session.data("simulate_inbound_call", json!({"to": phone, "from": "+12125550100"})).await;
    // The note does not mention place_call.
    let note = "The call is ringing. get_call_result with this call_id waits for its end.";
    assert_eq!(call["note"], note);
    session.control().advance(600).await;
    let report = session.data("get_call_result", json!({"call_id": call["call_id"]})).await;
    assert_eq!(report["outcome"], "completed");
    assert_eq!(report["direction"], "inbound");
    assert_eq!(report["agent_id"], agent["agent_id"]);
    assert_eq!((&report["from_number"], &report["to_number"]), (&json!("+12125550100"), &phone));
    assert!(report["result"]["reason"].is_string(), "{report}");
    // The caller's number chooses the scenario, as a destination does.
    for (from, outcome) in [
        ("+12125550104", "failed"),
        ("+13105550106", "canceled"),
        ("+12125550199", "completed"),
        ("+441632960000", "completed"),
    ] {
        let arguments = json!({"to": phone, "from": from});
        let call = session.data("simulate_inbound_call", arguments).await;
        session.control().advance(600).await;
        let report = session.data("get_call_result", json!({"call_id": call["call_id"]})).await;
        assert_eq!(report["outcome"], outcome, "{from}");
    }
    let arguments = json!({"to": phone, "from": "+12125550112"});
    let refused = session.failure("simulate_inbound_call", arguments).await;
    assert_eq!(
        refused["class"], "invalid_argument",
        "callers cannot play this scenario: {refused}"
    );
    let listed =
        session.data("list_calls", json!({"direction": "inbound", "number": "+12125550100"})).await;
    assert_eq!(listed["calls"][0]["call_id"], call["call_id"]);
    assert_eq!(session.control().dialed().await, [Value::Null; 0]);
    session.finish_well().await;
}
