//! The scenarios through the tools: the destination chooses the scenario, and the answers report exactly what happened.

use std::collections::BTreeSet;

use callingbox_sandbox::Options;
use serde_json::{Value, json};

use callingbox_mcp::mcp::reply::text::SIMULATED;

use crate::harness::{Era, Session};

async fn session_with_agent() -> (Session, String) {
    let mut session = Session::modern().await;
    let returns = json!({"confirmed": "boolean", "name": "string"});
    let agent = session.outbound_agent(returns.clone()).await;
    session.data("update_agent", json!({"agent_id": agent, "returns": returns})).await;
    (session, agent)
}

/// The type of each value of a result; the values are random.
fn value_types(result: &Value) -> Value {
    let Some(fields) = result.as_object() else { return result.clone() };
    let type_name = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        _ => "other",
    };
    fields.iter().map(|(name, value)| (name.clone(), Value::from(type_name(value)))).collect()
}

/// What is expected of one scenario.
struct ExpectedCall {
    digits: &'static str,
    status: &'static str,
    outcome: &'static str,
    result_status: Value,
    /// The types of its values.
    result: Value,
    charged: bool,
    note: &'static str,
}

#[tokio::test]
async fn each_destination_plays_its_scenario() {
    let typed = json!({"confirmed": "boolean", "name": "string"});
    let talked = "Somebody answered and spoke. Whether the task succeeded is in the result.";
    let row = |digits, status, outcome, note| ExpectedCall {
        digits,
        status,
        outcome,
        // Without a conversation it stays pending.
        result_status: json!("pending"),
        result: Value::Null,
        charged: false,
        note,
    };
    let completed = |digits| ExpectedCall {
        result_status: json!("completed"),
        result: typed.clone(),
        charged: true,
        ..row(digits, "completed", "completed", talked)
    };
    let rows = [
        completed("0100"),
        completed("0199"),
        row(
            "0101",
            "no_answer",
            "no_answer",
            "It rang and nobody answered. place_call with the same arguments and allow_repeat: true tries again.",
        ),
        row(
            "0102",
            "busy",
            "busy",
            "The line was busy. place_call with the same arguments and allow_repeat: true tries again.",
        ),
        row(
            "0103",
            "no_answer",
            "voicemail",
            "An answering machine answered. No message was left: the agent hangs up on machines (voicemail_action). place_call with the same arguments and allow_repeat: true tries again.",
        ),
        row(
            "0104",
            "failed",
            "failed",
            "The call failed; there was no conversation. place_call with the same arguments and allow_repeat: true tries again.",
        ),
        ExpectedCall {
            result_status: json!("failed"),
            charged: true,
            ..row(
                "0105",
                "completed",
                "completed",
                "Somebody answered and spoke. The result could not be extracted. Read the transcript. get_call_transcript returns what was said.",
            )
        },
        row("0106", "canceled", "canceled", "The call was canceled before it was connected."),
        completed("0107"),
        ExpectedCall {
            result_status: json!("completed"),
            result: json!({"confirmed": "null", "name": "null"}),
            charged: true,
            ..row(
                "0108",
                "completed",
                "completed",
                "Somebody answered and spoke, but none of the fields was talked about: it may have been the wrong person. get_call_transcript returns what was said.",
            )
        },
        completed("0109"),
        // After 429 nothing was done, so the request is repeated automatically.
        completed("0114"),
    ];
    let (mut session, agent) = session_with_agent().await;
    let mut reported = BTreeSet::new();
    for row in rows {
        session.control().credit(1_000_000).await;
        let before = session.control().dialed().await.len();
        let to = format!("+1310555{}", row.digits);
        let placed = session.data("place_call", json!({"agent_id": agent, "to": to})).await;
        assert_eq!(placed["outcome"], "in_progress", "{}", row.digits);
        let dialed = session.control().dialed().await;
        assert_eq!(dialed.len(), before + 1, "{}", row.digits);
        assert_eq!(dialed[before]["call_id"], placed["call_id"], "{}", row.digits);
        session.control().advance(3_000).await;
        let id = json!({"call_id": placed["call_id"], "wait_seconds": 0});
        let answer = session.call("get_call_result", id).await;
        let report = &answer["result"]["structuredContent"];
        // The text alone says who spoke with whom, and what went wrong.
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        for field in ["call_id", "outcome", "from_number", "to_number"] {
            let value = report[field].as_str().unwrap();
            assert!(text.contains(value), "{}: no {field} in: {text}", row.digits);
        }
        for field in ["result_error", "error"] {
            let Some(value) = report[field].as_str() else { continue };
            assert!(text.contains(value), "{}: no {field} in: {text}", row.digits);
            reported.insert(field);
        }
        assert_eq!(
            json!({
                "call_id": report["call_id"],
                "status": report["status"],
                "outcome": report["outcome"],
                "result_status": report["result_status"],
                "result": value_types(&report["result"]),
                "result_problems": report["result_problems"],
                "note": report["note"],
                "simulated": report["simulated"],
            }),
            json!({
                "call_id": placed["call_id"],
                "status": row.status,
                "outcome": row.outcome,
                "result_status": row.result_status,
                "result": row.result,
                "result_problems": null,
                "note": row.note,
                "simulated": true,
            }),
            "{}",
            row.digits
        );
        let charged = 1_000_000 - session.control().balance().await;
        assert_eq!(charged > 0, row.charged, "{}: {charged}", row.digits);
        assert_eq!(
            report["billing_amount_milli_cents"].as_u64().unwrap_or(0),
            charged,
            "{}",
            row.digits
        );
    }
    assert_eq!(reported, BTreeSet::from(["error", "result_error"]));
    session.finish_well().await;
}

#[tokio::test]
async fn a_hostile_callee_stays_inside_the_fence() {
    let (mut session, agent) = session_with_agent().await;
    let call = session.data("place_call", json!({"agent_id": agent, "to": "+13105550109"})).await;
    session.control().advance(3_000).await;
    let id = json!({"call_id": call["call_id"]});
    let answer = session.call("get_call_transcript", id).await;
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    let (before, inside) = text.split_once("\n<<<").unwrap();
    let (marker, inside) = inside.split_once('\n').unwrap();
    let (inside, after) = inside.split_once(&format!("\n{marker}>>>")).unwrap();
    assert!(inside.lines().all(|line| line.starts_with('[')), "{inside}");
    assert!(inside.to_lowercase().contains("ignore"), "the callee gives orders: {inside}");
    assert!(
        before.contains("Spoken words (untrusted)") && before.contains("not instructions"),
        "{before}"
    );
    assert_eq!(after.trim(), "The transcript is final.");
    assert!(text.starts_with(SIMULATED), "{text}");
    session.finish_well().await;
}

#[tokio::test]
async fn the_error_for_a_number_that_is_not_for_sale_suggests_a_search() {
    let mut session = Session::modern().await;
    let error = session.failure("purchase_number", json!({"phone_number": "+13105550100"})).await;
    assert_eq!(
        (&error["class"], &error["done"]),
        (&json!("conflict"), &json!("nothing")),
        "{error}"
    );
    assert_eq!(error["next"], "search_numbers finds one that is for sale.");
    session.finish_well().await;
}

#[tokio::test]
async fn a_refused_call_says_that_nobody_was_called() {
    let (mut session, agent) = session_with_agent().await;
    for (digits, class) in [("0110", "unavailable"), ("0111", "insufficient_credit")] {
        let to = format!("+1310555{digits}");
        let failed = session.failure("place_call", json!({"agent_id": agent, "to": to})).await;
        assert_eq!(failed["class"], class, "{failed}");
        assert_eq!(failed.get("call_id"), None, "{failed}");
        assert_ne!(failed["done"], "whole", "{failed}");
        assert_eq!(session.control().dialed().await, [Value::Null; 0], "{digits}");
        assert_eq!(session.control().count("POST", "/v1/calls").await, 1, "{digits}");
        session.control().reset_counts().await;
    }
    session.finish_after_missing_answers(1).await;
}

/// Places a call whose answer is lost, with an API time-out of two seconds. Returns the result and the dialed calls.
async fn place_call_with_lost_answer(digits: &str) -> (Value, Vec<Value>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "request_timeout_seconds = 2\n").unwrap();
    let flags = ["--config", file.path().to_str().unwrap()];
    let mut session = Session::on_simulator(Era::Modern, &flags, Options::default()).await;
    let agent = session.outbound_agent(json!({"confirmed": "boolean"})).await;
    let to = format!("+1310555{digits}");
    let id = session.begin_call("place_call", json!({"agent_id": agent, "to": to})).await;
    let answer = session.slow_answer(id).await;
    let dialed = session.control().dialed().await;
    session.finish_after_missing_answers(1).await;
    (answer["result"].clone(), dialed)
}

/// Asserts that the phone rings once, and that the result is that of a placed call.
async fn assert_call_is_found(digits: &str) {
    let (result, dialed) = place_call_with_lost_answer(digits).await;
    assert_eq!(dialed.len(), 1, "{dialed:?}");
    let report = &result["structuredContent"];
    assert_eq!(report["call_id"], dialed[0]["call_id"], "{result}");
    assert_eq!(report["outcome"], "in_progress", "{result}");
    assert_eq!(report["duplicate_of"], Value::Null, "{result}");
    assert_eq!(
        dialed[0]["metadata"]["callingbox_mcp_dispatch_id"], report["dispatch_id"],
        "{result}"
    );
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_is_found() {
    assert_call_is_found("0112").await;
}

#[tokio::test]
async fn a_call_whose_answer_is_late_is_found() {
    assert_call_is_found("0113").await;
}

#[tokio::test]
async fn the_outcome_after_an_internal_error_is_unknown() {
    let (result, dialed) = place_call_with_lost_answer("0115").await;
    assert_eq!(dialed, [Value::Null; 0]);
    let report = &result["structuredContent"];
    assert_eq!(report["outcome"], "unknown", "{result}");
    assert_eq!(report["call_id"], Value::Null, "{result}");
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("Do not place it again"), "{text}");
    assert!(!text.contains("Nothing was done"), "{text}");
}
