//! The end of a session, cancelled and concurrent requests, and sessions with a missing or wrong key or without a
//! network.

use std::time::{Duration, Instant};

use callingbox_mcp::mcp::catalogue::Catalogue;
use callingbox_mcp::mcp::registry::selection::Selection;
use callingbox_sandbox::Options;
use serde_json::{Value, json};

use crate::harness::{Era, Home, Session, simulator};

const CALL: &str = "/v1/calls/{id}";

/// A session that waits for a call of half an hour; the id of the call and of the waiting request.
async fn start_wait(era: Era) -> (Session, Value, i64) {
    let mut session = Session::new(era).await;
    let agent = session.outbound_agent(json!({})).await;
    let order = json!({"agent_id": agent, "to": "+13105550107"});
    let call = session.data("place_call", order).await["call_id"].clone();
    let wait = json!({"call_id": call, "wait_seconds": 300});
    let id = session.begin_call("get_call_result", wait).await;
    session.control().wait_for_requests("GET", CALL, 1).await;
    (session, call, id)
}

#[tokio::test]
async fn running_requests_are_answered_at_the_end_of_input() {
    for era in Era::BOTH {
        let (mut session, _, id) = start_wait(era).await;
        let start = Instant::now();
        session.end_input();
        let answer = session.answer(id).await;
        assert_eq!(answer["result"]["structuredContent"]["outcome"], "in_progress", "{answer}");
        session.finish_well().await;
        assert!(start.elapsed() < Duration::from_secs(5), "{era:?}: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_client_that_exits_during_a_wait_causes_no_error() {
    for era in Era::BOTH {
        let (session, _, _) = start_wait(era).await;
        let start = Instant::now();
        let (status, log) = session.close().await;
        assert_eq!((status.code(), log.as_str()), (Some(0), ""), "{era:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{era:?}: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_slow_request_does_not_delay_the_exit() {
    let mut session = Session::new(Era::Modern).await;
    let slow = json!({"path": "/v1/agents", "kind": "delay", "delay_ms": 60_000});
    session.control().fault(slow).await;
    session.begin_call("list_agents", json!({})).await;
    session.control().wait_for_requests("GET", "/v1/agents", 1).await;
    let start = Instant::now();
    let (rest, status, _) = session.finish().await;
    assert_eq!((rest, status.code()), (vec![], Some(0)));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_slow_dispatch_does_not_delay_the_exit() {
    for era in Era::BOTH {
        let mut session = Session::new(era).await;
        let agent = session.outbound_agent(json!({})).await;
        let call = json!({"agent_id": agent, "to": "+13105550100"});
        let slow =
            json!({"method": "POST", "path": "/v1/calls", "kind": "delay", "delay_ms": 60_000});
        session.control().fault(slow).await;
        session.begin_call("place_call", call).await;
        session.control().wait_for_requests("POST", "/v1/calls", 1).await;
        let start = Instant::now();
        let (rest, status, _) = session.finish().await;
        assert!(start.elapsed() < Duration::from_secs(5), "{era:?}: {:?}", start.elapsed());
        assert_eq!(status.code(), Some(0));
        for answer in rest {
            assert!(answer.to_string().contains("this server ended"), "{era:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn sigterm_answers_a_long_wait_immediately() {
    for era in Era::BOTH {
        let (mut session, call, id) = start_wait(era).await;
        let start = Instant::now();
        session.terminate().await;
        let answer = session.answer(id).await;
        let content = &answer["result"]["structuredContent"];
        assert_eq!((&content["outcome"], &content["call_id"]), (&json!("in_progress"), &call));
        assert_eq!(session.next().await, None);
        session.finish_well().await;
        assert!(start.elapsed() < Duration::from_secs(3), "{era:?}: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_cancelled_request_gets_no_answer_and_stops() {
    for era in Era::BOTH {
        let (mut session, _, id) = start_wait(era).await;
        let slow = json!({"path": "/v1/agents", "kind": "delay", "delay_ms": 3_500});
        session.control().fault(slow).await;
        session
            .notify("notifications/cancelled", json!({"requestId": id, "reason": "enough"}))
            .await;
        // The session goes on, and the call is not polled for longer than the interval between polls.
        session.data("list_numbers", json!({})).await;
        let before = session.control().count("GET", CALL).await;
        session.data("list_agents", json!({})).await;
        let since = session.control().count("GET", CALL).await - before;
        assert_eq!(since, 0, "{era:?}: the cancelled wait still polls");
        let start = Instant::now();
        session.finish_well().await;
        assert!(start.elapsed() < Duration::from_secs(3), "{era:?}: no request was running");
    }
}

#[tokio::test]
async fn concurrent_requests_are_answered_independently() {
    for era in Era::BOTH {
        let mut session = Session::new(era).await;
        session
            .control()
            .fault(json!({"path": "/v1/agents", "kind": "delay", "delay_ms": 1500}))
            .await;
        let slow = session.begin_call("list_agents", json!({})).await;
        session.control().wait_for_requests("GET", "/v1/agents", 1).await;
        let mut quick = Vec::new();
        for index in 0..20 {
            let (tool, arguments) = match index % 4 {
                0 => ("list_numbers", json!({})),
                1 => ("get_agent", json!({"agent_id": format!("none-{index}")})),
                2 => ("list_numbers", json!({"nonsense": index})),
                _ => ("search_numbers", json!({"limit": 1})),
            };
            quick.push((index, session.begin_call(tool, arguments).await));
        }
        let mut order = Vec::new();
        for _ in 0..=quick.len() {
            order.push(session.next().await.unwrap());
        }
        assert_eq!(order.last().unwrap()["id"], slow, "the slow request delays no other");
        for (index, id) in quick {
            let answer = order.iter().find(|answer| answer["id"] == id).unwrap();
            assert_eq!(
                answer["result"]["isError"],
                matches!(index % 4, 1 | 2),
                "{index}: {answer}"
            );
            let text = answer["result"]["content"][0]["text"].as_str().unwrap();
            if index % 4 == 1 {
                assert!(text.contains(&format!("none-{index}")), "{index}: {text}");
            }
        }
        session.finish_well().await;
    }
}

#[tokio::test]
async fn messages_before_the_first_request_are_ignored() {
    for era in Era::BOTH {
        let mut session = Session::start(&[], &[]);
        session.notify("notifications/initialized", json!({})).await;
        session.notify("notifications/cancelled", json!({"requestId": 1})).await;
        session.send(&json!({"jsonrpc": "2.0", "id": 5, "result": {}})).await;
        session.send_bytes(b"\n\n").await;
        session.open(era).await;
        let answer = session.request("tools/list", json!({})).await;
        assert!(answer["result"]["tools"].is_array(), "{era:?}: {answer}");
        session.finish_well().await;
    }
    // A session without any message ends without an error too.
    Session::start(&[], &[]).finish_well().await;
}

/// Valid arguments for a tool of the default list.
fn valid_arguments(tool: &str) -> Value {
    match tool {
        "place_call" => json!({"agent_id": "a", "to": "+13105550100"}),
        "place_calls" => json!({"agent_id": "a", "people": [{"to": "+13105550100"}]}),
        "get_batch" | "cancel_batch" => json!({"batch_id": "batch_0123456789ab"}),
        "create_agent" => json!({"name": "A", "type": "outbound"}),
        "update_agent" => json!({"agent_id": "a", "name": "B"}),
        "set_agent_numbers" => json!({"agent_id": "a", "attach": ["n"]}),
        "get_agent" | "archive_agent" => json!({"agent_id": "a"}),
        "get_call_result" | "get_call_transcript" | "follow_call" => json!({"call_id": "c"}),
        "confirm_call" => json!({
            "tool": "place_call", "arguments": valid_arguments("place_call"), "token": "t", "accept": true,
        }),
        "record_opt_out" => json!({"call_id": "c"}),
        "purchase_number" => json!({"phone_number": "+14155550179"}),
        _ => json!({}),
    }
}

fn default_tools() -> Vec<&'static str> {
    Catalogue::new().offered(&Selection::default()).map(|tool| tool.meta.name).collect()
}

#[tokio::test]
async fn without_a_key_tools_are_listed_and_every_error_explains_how_to_set_one() {
    for era in Era::BOTH {
        let mut session = Session::with(era, &[], &[]).await;
        let answer = session.request("tools/list", json!({})).await;
        let listed = answer["result"]["tools"].as_array().unwrap().len();
        assert_eq!(listed, default_tools().len());
        for tool in default_tools() {
            let error = session.failure(tool, valid_arguments(tool)).await;
            assert_eq!((&error["class"], &error["done"]), (&json!("no_key"), &json!("nothing")));
            let next = error["next"].as_str().unwrap();
            for way in ["CALLINGBOX_API_KEY", "CALLINGBOX_API_KEY_FILE", "--sandbox"] {
                assert!(next.contains(way), "{tool}: {next}");
            }
        }
        session.finish_well().await;
    }
}

#[tokio::test]
async fn a_wrong_key_is_reported_and_never_shown() {
    let sandbox = simulator(Options::default()).await;
    let url = sandbox.url();
    let environment = [("CALLINGBOX_BASE_URL", url.as_str()), ("CALLINGBOX_API_KEY", "pk_5ecret")];
    for era in Era::BOTH {
        let mut session = Session::with(era, &["--log", "debug"], &environment).await;
        for tool in default_tools() {
            let answer = session.call(tool, valid_arguments(tool)).await;
            let error = &answer["result"]["_meta"]["callingbox-mcp/error"];
            assert_eq!(
                (&error["class"], &error["done"]),
                (&json!("unauthorized"), &json!("nothing")),
                "{tool}: {answer}"
            );
            let text = answer["result"]["content"][0]["text"].as_str().unwrap();
            assert!(error["status"] == 401 && !text.contains("401"), "{tool}: {answer}");
            assert!(text.contains("the API key was not accepted"), "{tool}: {text}");
            assert!(text.contains("CALLINGBOX_API_KEY or the key file"), "{tool}: {text}");
            assert!(!answer.to_string().contains("5ecret"), "{tool}: {answer}");
        }
        let (rest, status, log) = session.finish().await;
        assert_eq!((rest, status.code()), (vec![], Some(0)));
        assert!(log.contains("tool call") && !log.contains("5ecret"), "{log}");
        assert!(!log.contains("3105550100") && !log.contains("4155550179"), "{log}");
    }
}

#[tokio::test]
async fn without_a_network_every_call_fails_and_the_session_goes_on() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let environment = [("CALLINGBOX_BASE_URL", url.as_str()), ("CALLINGBOX_API_KEY", "sk_x")];
    let mut session = Session::with(Era::Modern, &[], &environment).await;
    // Concurrently, because each of them retries for a while.
    let mut requests = Vec::new();
    for tool in default_tools() {
        requests.push((tool, session.begin_call(tool, valid_arguments(tool)).await));
    }
    for (tool, id) in requests {
        let answer = session.answer(id).await;
        let error = &answer["result"]["_meta"]["callingbox-mcp/error"];
        assert_eq!(
            (&error["class"], &error["done"], &error["retry"]),
            (&json!("unavailable"), &json!("nothing"), &json!("later")),
            "{tool}: {answer}"
        );
    }
    session.finish_well().await;
}

#[tokio::test]
async fn an_error_at_the_start_has_each_reason_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, says) in [
        (vec!["--config", "/dev/null/none.toml"], "/dev/null/none.toml cannot be read"),
        (vec!["--log", "a=b=c"], "the log filter `a=b=c` cannot be read"),
        (vec!["--sandbox=http://127.0.0.1:1"], "Connection refused"),
        (vec!["sandbox", "--listen", &taken], "the sandbox cannot listen on"),
        (vec!["http", "--listen", &taken], "cannot listen on"),
        (vec!["healthcheck", "http://127.0.0.1:1/healthz"], "Connection refused"),
        (vec!["token", "list", "--tokens", "/"], "the tokens in / cannot be read"),
    ] {
        let output = Home::new().run(&arguments, &[]).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(says), "{text}");
        let reasons: Vec<&str> = text.trim().split(": ").collect();
        for (number, reason) in reasons.iter().enumerate() {
            assert!(!reasons[..number].contains(reason), "twice `{reason}`: {text}");
        }
    }
}

#[tokio::test]
async fn an_invalid_simulator_address_is_refused_at_the_start() {
    for (flag, reason) in [
        ("--sandbox=https://api.callingbox.io", "a simulator must run on this machine"),
        ("--sandbox=http://phone.example", "a simulator must run on this machine"),
        (
            "--sandbox=http://127.0.0.1:1",
            "no simulator answers at http://127.0.0.1:1; `callingbox-mcp sandbox` starts one: \
             error sending request: client error",
        ),
        ("--sandbox=nonsense", "--sandbox=nonsense"),
        ("--sandbox=127.0.0.1:4010", "write the simulator's URL like http://127.0.0.1:4010"),
    ] {
        let (rest, status, log) = Session::start(&[flag], &[]).finish().await;
        assert_eq!((rest, status.code()), (vec![], Some(1)), "{flag}");
        assert!(log.contains(reason), "{flag}: {log}");
    }
}

#[tokio::test]
async fn the_log_filter_is_followed_and_requests_are_never_logged() {
    for (filter, says) in [
        ("off", None),
        ("error", None),
        ("rmcp::service=trace,rmcp=trace,hyper=trace,info", Some("tool call")),
        ("trace", Some("tool call")),
        ("INFO", Some("tool call")),
        ("4", Some("tool call")),
        ("warn, callingbox_mcp", Some("tool call")),
        ("callingbox_mcp=info,rmcp=warn", Some("tool call")),
    ] {
        let mut session = Session::with(Era::Modern, &["--log", filter], &[]).await;
        session.failure("create_agent", json!({"name": "Secret words", "type": "inbound"})).await;
        session.request("nonsense", json!({})).await;
        let (_, status, log) = session.finish().await;
        assert_eq!(status.code(), Some(0));
        assert!(!log.contains("Secret words"), "{filter}: {log}");
        match says {
            None => assert_eq!(log, "", "{filter}"),
            Some(line) => assert!(log.contains(line), "{filter}: {log}"),
        }
    }
}
