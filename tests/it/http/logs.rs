//! What the log says about a tool call, and what it never contains.

use callingbox::ApiKey;
use callingbox_mcp::dialing::caller::CallerName;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::support::{
    Events, Server, Session, TEST_TIMEOUT, home_with_confirmation, initialize, message, program,
};

const KEY: &str = "sk_test_very_secret_one";
const NUMBER: &str = "3105550123";

/// Starts a server that logs at the finest level to a file.
async fn start_logging(log: &Path, arguments: &[&str], more: &[&str]) -> Server {
    let home = tempfile::tempdir().unwrap();
    let mut program = program(home.path());
    program.args(["--sandbox", "--sandbox-speed=1", "--log", "trace", "--log-format", "json"]);
    program.args(arguments).env("RUST_LOG", "trace").stderr(File::create(log).unwrap());
    Server::run(home, program, more).await
}

fn read_lines(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The log lines of tool calls, without the fields that differ between runs.
fn tool_call_lines(log: &Path) -> Vec<Value> {
    let mut calls = read_lines(log);
    calls.retain(|line| line["message"] == "tool call");
    for call in &mut calls {
        assert!(call["milliseconds"].is_u64(), "{call}");
        assert_eq!(call["tenant"].as_str().unwrap().len(), 12, "{call}");
        for field in ["timestamp", "target", "milliseconds", "tenant"] {
            call.as_object_mut().unwrap().remove(field);
        }
    }
    calls
}

fn call_request(id: &Value, name: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": arguments}})
}

/// Calls tools on every transport with arguments that must not be logged.
async fn call_with_secrets(server: &Server) {
    let arguments = json!({
        "agent_id": "a", "to": format!("+1{NUMBER}"),
        "instructions": format!("Ring +1{NUMBER}, or {NUMBER}, with {KEY} and cbmcp_0011aabb."),
    });
    let modern = server.modern("tools/call", json!({"name": "place_call", "arguments": arguments}));
    modern.bearer_auth(KEY).send().await.unwrap().text().await.unwrap();
    let session = server.open(Some(KEY)).await;
    let wrong = json!({"to": format!("+1{NUMBER}")});
    for (id, tool, arguments) in [
        (json!("two\nlines"), "list_agents", &json!({})),
        (json!(9), "list_numbers", &wrong),
        (json!(10), "no_such_tool", &wrong),
    ] {
        session
            .post(&call_request(&id, tool, arguments))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
    }

    let stream = server.http.get(format!("{}/sse", server.base)).bearer_auth(KEY);
    let mut events = Events::new(stream.send().await.unwrap());
    let endpoint = format!("{}{}", server.base, events.next().await.unwrap().1);
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    for (body, answered) in [
        (initialize(), true),
        (ready, false),
        (call_request(&json!("s"), "place_call", &arguments), true),
    ] {
        let post = server.http.post(&endpoint).bearer_auth(KEY).body(body.to_string());
        assert_eq!(post.send().await.unwrap().status(), 202);
        if answered {
            events.next().await.unwrap();
        }
    }
    // Requests that are refused before they reach a tool.
    let bad = server.http.post(format!("{}/mcp", server.base)).bearer_auth(KEY);
    bad.body(format!("+1{NUMBER} {KEY}")).send().await.unwrap();
    let other = server.modern("tools/list", json!({})).bearer_auth("eyJhbGciOiJub25lIn0.e30.");
    assert_eq!(other.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn each_call_has_one_line_and_no_line_has_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let server = start_logging(&log, &[], &["--auth", "key"]).await;
    call_with_secrets(&server).await;
    let caller = CallerName::from_api_key(&ApiKey::new(KEY.to_owned()).unwrap());
    let line = |tool: &str, outcome: &str, id: &str| json!({"level": "INFO", "message": "tool call", "tool": tool, "outcome": outcome, "caller": caller, "request_id": id});
    assert_eq!(
        tool_call_lines(&log),
        [
            line("place_call", "not_found", "1"),
            line("list_agents", "ok", "two lines"),
            line("list_numbers", "invalid_argument", "9"),
            line("no_such_tool", "unknown_tool", "10"),
            line("place_call", "not_found", "s"),
        ]
    );
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("\"DEBUG\""), "{text}");
    for secret in [NUMBER, "very_secret", "0011aabb", "eyJhbGci"] {
        let found: Vec<_> = text.lines().filter(|line| line.contains(secret)).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[tokio::test]
async fn arguments_are_logged_on_request_only_and_masked() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let server = start_logging(&log, &["--log-arguments"], &["--auth", "key"]).await;
    call_with_secrets(&server).await;
    let calls = tool_call_lines(&log);
    let arguments = r#"{"agent_id":"a","to":"+***","instructions":"Ring +***, or ***, with sk_*** and cbmcp_***."}"#;
    assert_eq!(calls[0]["arguments"], arguments);
    assert_eq!(calls[1]["arguments"], "{}");
    let text = std::fs::read_to_string(&log).unwrap();
    for secret in [NUMBER, "very_secret", "0011aabb"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn the_flag_overrides_the_environment_and_the_environment_the_file() {
    for (flag, variable, file, logged) in [
        (None, None, true, true),
        (None, Some("false"), true, false),
        (None, Some("true"), false, true),
        (Some("--log-arguments"), Some("false"), false, true),
        (Some("--log-arguments=false"), Some("true"), true, false),
    ] {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("log");
        let config = home.path().join("config.toml");
        std::fs::write(&config, format!("log_arguments = {file}\n")).unwrap();
        let mut program = program(home.path());
        program.args(["--sandbox", "--log-format=json", "--config"]).arg(config).args(flag);
        program.envs(variable.map(|value| ("CALLINGBOX_MCP_LOG_ARGUMENTS", value)));
        program.stderr(File::create(&log).unwrap());
        let server = Server::run(home, program, &[]).await;
        let call = server.modern("tools/call", json!({"name": "list_agents", "arguments": {}}));
        call.send().await.unwrap().text().await.unwrap();
        let case = format!("{flag:?} {variable:?} {file}");
        assert_eq!(tool_call_lines(&log)[0].get("arguments").is_some(), logged, "{case}");
    }
}

/// Waits until the log contains `part` this many times.
async fn wait_for_log(log: &Path, part: &str, count: usize) {
    let wait = async {
        // Read as text: the last line may be incomplete.
        let occurrences = || std::fs::read_to_string(log).unwrap().matches(part).count();
        while occurrences() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, wait).await.unwrap_or_else(|_| panic!("{part}"));
}

#[tokio::test]
async fn clients_that_disconnect_during_a_wait_cause_no_warning() {
    const POLLED: &str = r#""path":"/v1/calls/{id}""#;
    const CANCELED: &str = r#""outcome":"canceled""#;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let server = start_logging(&log, &[], &[]).await;
    let wait = json!({"call_id": server.long_call().await, "wait_seconds": 300});
    let request = call_request(&json!(1), "get_call_result", &wait);

    let modern = server.modern("tools/call", json!({"name": "get_call_result", "arguments": wait}));
    let gone = tokio::spawn(modern.send());
    wait_for_log(&log, POLLED, 1).await;
    gone.abort();
    wait_for_log(&log, CANCELED, 1).await;

    let mut params = json!({"name": "get_call_result", "arguments": wait});
    params["_meta"]["progressToken"] = json!("p");
    let following = server.modern("tools/call", params).send().await.unwrap();
    assert_eq!(following.status(), 200);
    drop(following);
    wait_for_log(&log, CANCELED, 2).await;

    let filter = json!({"notifications": {"resourceSubscriptions": ["callingbox://numbers"]}});
    let listening = server.modern("subscriptions/listen", filter).send().await.unwrap();
    assert_eq!(listening.status(), 200);
    drop(listening);

    let stream = server.http.get(format!("{}/sse", server.base)).send().await.unwrap();
    let mut events = Events::new(stream);
    let endpoint = format!("{}{}", server.base, events.next().await.unwrap().1);
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    for body in [initialize(), ready, request.clone()] {
        let post = server.http.post(&endpoint).body(body.to_string()).send().await.unwrap();
        assert_eq!(post.status(), 202);
    }
    wait_for_log(&log, POLLED, 3).await;
    drop(events);
    wait_for_log(&log, CANCELED, 3).await;

    let session = server.open(None).await;
    let waiting = tokio::spawn(session.post(&request).send());
    wait_for_log(&log, POLLED, 4).await;
    let url = format!("{}/mcp", server.base);
    let delete = server.http.delete(url).header("mcp-session-id", &session.id);
    assert_eq!(delete.send().await.unwrap().status(), 204);
    wait_for_log(&log, CANCELED, 4).await;
    waiting.abort();
    // Gives the server, which has one thread, time to log more.
    for _ in 0..10 {
        server.http.get(format!("{}/healthz", server.base)).send().await.unwrap();
    }

    let warnings: Vec<_> = read_lines(&log)
        .into_iter()
        .filter(|line| ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap()))
        .collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
}

#[tokio::test]
async fn an_http_server_logs_its_calls_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let home = tempfile::tempdir().unwrap();
    let mut program = program(home.path());
    program.args(["--sandbox", "--log-format", "json"]).stderr(File::create(&log).unwrap());
    let server = Server::run(home, program, &[]).await;
    let listed = server.modern("tools/call", json!({"name": "list_agents", "arguments": {}}));
    message(listed.send().await.unwrap()).await;
    let tools: Vec<_> = read_lines(&log).into_iter().map(|line| line["tool"].clone()).collect();
    assert_eq!(tools, ["list_agents"]);
}

#[tokio::test]
async fn client_input_forges_no_log_line_and_its_numbers_are_masked() {
    const FORGED: &str = "no\r\n2026-01-01T00:00:00.000000Z  INFO callingbox_mcp::mcp::pipeline: tool call tenant=\"forged\"\u{85}a\u{2028}b\u{2029}\u{1b}[2J\u{9b}";
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let home = home_with_confirmation();
        let mut program = program(home.path());
        program.args(["--sandbox", "--log-format", format]).stderr(File::create(&log).unwrap());
        let server = Server::run(home, program, &[]).await;
        let mut hello = initialize();
        hello["params"]["capabilities"] = json!({"elicitation": {"form": {}}});
        let opened = server.post(&hello).send().await.unwrap();
        let id = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let session = Session { server: &server, id, bearer: None };
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(session.post(&initialized).send().await.unwrap().status(), 202);

        // In the id of a request and in its texts, each answered with an error.
        let numbers = ["3105550123", "+1 310 555 0123", "(310) 555-0123", "+13105550123"];
        for number in numbers {
            let text = format!("{FORGED} {number}");
            for (method, id) in
                [("tools/call", json!(text)), (text.as_str(), json!(3105550123_u64))]
            {
                let request =
                    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"name": text}});
                assert!(
                    message(session.post(&request).send().await.unwrap()).await["error"]
                        .is_object()
                );
            }
            // In the response to an elicitation.
            let buy =
                json!({"name": "purchase_number", "arguments": {"phone_number": "+14155550179"}});
            let mut events = Events::new(session.request("tools/call", buy).await);
            let question = loop {
                let (_, data) = events.next().await.unwrap();
                if !data.is_empty() {
                    break serde_json::from_str::<Value>(&data).unwrap();
                }
            };
            assert_eq!(question["method"], "elicitation/create", "{question}");
            let answer = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": 1, "message": text}});
            assert_eq!(session.post(&answer).send().await.unwrap().status(), 202);
            while events.next().await.is_some() {}
        }

        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains("the question to the human failed"), "{text}");
        let other = text.chars().filter(|c| c.is_control() || ['\u{2028}', '\u{2029}'].contains(c));
        assert!(other.clone().all(|c| c == '\n'), "{text:?}");
        for line in text.lines() {
            let ours = ["tool call", "the question to the human failed"];
            let said: Vec<_> = match format {
                "json" => {
                    let line: Value = serde_json::from_str(line).unwrap();
                    ours.into_iter().filter(|said| line["message"] == *said).collect()
                }
                _ => {
                    let (head, said) = line.split_once(": ").unwrap();
                    assert_eq!(head.split_whitespace().count(), 3, "{line}");
                    ours.into_iter().filter(|ours| said.starts_with(ours)).collect()
                }
            };
            assert_eq!(said.len(), 1, "{line}");
        }
        assert_eq!(text.lines().count(), 3 * numbers.len(), "{text}");
        for number in ["3105550123", "555 0123", "555-0123"] {
            assert!(!text.contains(number), "{number}: {text}");
        }
    }
}
