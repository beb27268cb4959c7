//! Shutdown: the server ends immediately and answers every wait. Where only waiting for the grace period could hide a
//! fault, the period is an hour, so that the test would time out.

use callingbox_sandbox::Options;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{Control, simulator};
use crate::http::support::{
    Events, Server, SseSession, TEST_TIMEOUT, home_with_confirmation, initialize, message,
};

/// Longer than any test runs.
const LONG_GRACE: [&str; 2] = ["--grace", "3600"];
const CALL: &str = "/v1/calls/{id}";

pub(crate) async fn terminate(server: &Server) {
    let id = server.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
}

/// Waits for the process to end with success.
pub(crate) async fn ended(server: &mut Server) {
    let ended = tokio::time::timeout(TEST_TIMEOUT, server.child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
}

/// A wait of five minutes.
fn wait(call_id: &str) -> Value {
    let arguments = json!({"call_id": call_id, "wait_seconds": 300});
    json!({"name": "get_call_result", "arguments": arguments})
}

/// The next message of a stream; events that hold none are left out.
async fn next(events: &mut Events) -> Value {
    loop {
        let (_, data) = events.next().await.unwrap();
        if !data.is_empty() {
            return serde_json::from_str(&data).unwrap();
        }
    }
}

fn assert_parked(answer: &Value, call_id: &str) {
    let result = &answer["result"];
    assert_eq!(result["isError"], false, "{answer}");
    let (content, text) = (&result["structuredContent"], &result["content"][0]["text"]);
    assert_eq!(
        (&content["outcome"], &content["call_id"]),
        (&json!("in_progress"), &json!(call_id))
    );
    assert!(text.as_str().unwrap().contains(call_id), "{text}");
}

#[tokio::test]
async fn every_wait_is_answered_and_the_exit_is_clean() {
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let mut server = Server::start_on(&sandbox, &LONG_GRACE).await;
    let call_id = server.long_call().await;
    // The call has begun, so every wait has a state to report.
    control.advance(60).await;

    let modern = tokio::spawn(server.modern("tools/call", wait(&call_id)).send());
    let transcript = json!({"name": "get_call_transcript", "arguments": {"call_id": call_id, "after_sequence_no": 10_000, "wait_seconds": 300}});
    let transcript = tokio::spawn(server.modern("tools/call", transcript).send());
    let listen = json!({"notifications": {"resourceSubscriptions": [format!("callingbox://calls/{call_id}")]}});
    let listening = server.modern("subscriptions/listen", listen).send().await.unwrap();
    assert_eq!(listening.status(), 200);

    let session = server.open(None).await;
    let older = session.post(
        &json!({"jsonrpc": "2.0", "id": "older", "method": "tools/call", "params": wait(&call_id)}),
    );
    let older = tokio::spawn(older.send());
    let mut params = wait(&call_id);
    params["_meta"] = json!({"progressToken": "p"});
    let streamed = session.request("tools/call", params).await;

    let sse = SseSession::open(&server).await;
    let call = json!({"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": wait(&call_id)});
    assert_eq!(sse.post(&call).await.status(), 202);
    let mut events = sse.events;
    control.reset_counts().await;
    control.wait_for_requests("GET", CALL, 1).await;

    terminate(&server).await;
    for answer in [modern, older] {
        assert_parked(&message(answer.await.unwrap().unwrap()).await, &call_id);
    }
    assert_parked(&message(streamed).await, &call_id);
    assert_parked(&serde_json::from_str(&events.next().await.unwrap().1).unwrap(), &call_id);
    assert_eq!(events.next().await, None);
    let transcript = message(transcript.await.unwrap().unwrap()).await;
    assert_eq!(transcript["result"]["isError"], false, "{transcript}");
    listening.text().await.unwrap();
    ended(&mut server).await;
}

#[tokio::test]
async fn a_server_that_shuts_down_is_alive_but_not_ready_and_accepts_no_connections() {
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let mut server = Server::start_on(&sandbox, &["--admin-listen", "127.0.0.1:0"]).await;
    let order = json!({"agent_id": server.agent().await, "to": "+13105550100"});
    let slow = json!({"method": "POST", "path": "/v1/calls", "kind": "delay", "delay_ms": 3_000});
    control.fault(slow).await;
    let order = json!({"name": "place_call", "arguments": order});
    let dialing = tokio::spawn(server.modern("tools/call", order).send());
    control.wait_for_requests("POST", "/v1/calls", 1).await;
    terminate(&server).await;

    let admin = server.admin.clone().unwrap();
    let status = async |probe: &str| {
        server.http.get(format!("{admin}{probe}")).send().await.unwrap().status().as_u16()
    };
    let unready = async { while status("/readyz").await != 503 {} };
    tokio::time::timeout(TEST_TIMEOUT, unready).await.unwrap();
    assert_eq!(status("/healthz").await, 200);
    assert!(tokio::net::TcpStream::connect(server.address()).await.is_err());

    let answer = message(dialing.await.unwrap().unwrap()).await;
    let [dialed] = control.dialed().await.try_into().unwrap();
    assert_eq!(answer["result"]["structuredContent"]["call_id"], dialed["call_id"], "{answer}");
    ended(&mut server).await;
}

#[tokio::test]
async fn a_human_who_has_not_answered_yet_has_not_said_yes() {
    let home = home_with_confirmation();
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let mut program = crate::http::support::program(home.path());
    program.arg(format!("--sandbox={}", sandbox.url()));
    let mut server = Server::run(home, program, &[]).await;
    let mut hello = initialize();
    hello["params"]["capabilities"] = json!({"elicitation": {"form": {}}});
    let opened = server.post(&hello).send().await.unwrap();
    let id = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let session = crate::http::support::Session { server: &server, id, bearer: None };
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(session.post(&initialized).send().await.unwrap().status(), 202);
    let order = json!({"name": "purchase_number", "arguments": {"phone_number": "+14155550179"}});
    let mut events = Events::new(session.request("tools/call", order).await);
    let asked = next(&mut events).await;
    assert_eq!(asked["method"], "elicitation/create", "{asked}");
    terminate(&server).await;
    let mut answer = next(&mut events).await;
    while answer.get("result").is_none() {
        answer = next(&mut events).await;
    }
    let error = &answer["result"]["_meta"]["callingbox-mcp/error"];
    assert_eq!(
        (&error["class"], &error["done"], &error["retry"]),
        (&json!("unavailable"), &json!("nothing"), &json!("later")),
        "{answer}"
    );
    ended(&mut server).await;
    assert_eq!(control.count("POST", "/v1/numbers/purchase").await, 0);
}

#[tokio::test]
async fn a_wait_without_a_first_answer_of_the_api_is_answered_with_the_id() {
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let mut server = Server::start_on(&sandbox, &LONG_GRACE).await;
    let call_id = server.long_call().await;
    control.fault(json!({"path": "/v1/calls*", "kind": "delay", "delay_ms": 60_000})).await;
    let waiting = tokio::spawn(server.modern("tools/call", wait(&call_id)).send());
    control.wait_for_requests("GET", CALL, 1).await;
    terminate(&server).await;
    let answer = message(waiting.await.unwrap().unwrap()).await;
    let error = &answer["result"]["_meta"]["callingbox-mcp/error"];
    assert_eq!(
        (&error["class"], &error["retry"], &error["call_id"]),
        (&json!("timed_out"), &json!("later"), &json!(call_id)),
        "{answer}"
    );
    ended(&mut server).await;
}

#[tokio::test]
async fn a_cancelled_request_does_not_delay_the_shutdown() {
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let mut server = Server::start_on(&sandbox, &LONG_GRACE).await;
    let call_id = server.long_call().await;
    let session = SseSession::open(&server).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": wait(&call_id)});
    assert_eq!(session.post(&call).await.status(), 202);
    control.wait_for_requests("GET", CALL, 1).await;
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    assert_eq!(session.post(&cancel).await.status(), 202);
    let mut events = session.events;
    terminate(&server).await;
    assert_eq!(events.next().await, None);
    ended(&mut server).await;
}

#[tokio::test]
async fn the_grace_period_has_an_end() {
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let mut server = Server::start_on(&sandbox, &["--grace", "1"]).await;
    control.fault(json!({"path": "/v1/agents", "kind": "delay", "delay_ms": 60_000})).await;
    let list = json!({"name": "list_agents", "arguments": {}});
    let waiting = tokio::spawn(server.modern("tools/call", list).send());
    control.wait_for_requests("GET", "/v1/agents", 1).await;
    // The request would take a minute, which is longer than the test waits for the end.
    terminate(&server).await;
    ended(&mut server).await;
    drop(waiting);
}
