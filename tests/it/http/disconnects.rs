//! Clients that disconnect while their call is placed. The call is placed once, and its id is recorded.

use std::time::Duration;

use callingbox_sandbox::Options;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{Control, simulator, within_limit};
use crate::http::support::{Events, Server, initialize, program};

/// The receipts of a server on this simulator, newest first.
async fn list_receipts(server: &Server, simulator: &str) -> Vec<Value> {
    let mut program = program(server.home.path());
    program.args(["receipts", "--json", &format!("--sandbox={simulator}")]);
    let output = program.output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_call_is_placed_once_and_recorded_although_its_client_disconnects() {
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let server = Server::start_on(&sandbox, &[]).await;
    let agent = server.agent().await;
    control.credit(100_000_000).await;
    for (number, transport) in ["session", "sse", "plain", "following"].into_iter().enumerate() {
        control.reset_counts().await;
        let delay = json!({
            "method": "POST", "path": "/v1/calls", "when": "after", "kind": "delay", "delay_ms": 500,
        });
        control.fault(delay).await;
        let to = format!("+1310555010{number}");
        let mut call = json!({"name": "place_call", "arguments": {"agent_id": agent, "to": to}});
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call});
        let arrived = control.wait_for_requests("POST", "/v1/calls", 1);
        match transport {
            "session" => {
                let session = server.open(None).await;
                let request = tokio::spawn(session.post(&message).send());
                arrived.await;
                let delete = server.http.delete(format!("{}/mcp", server.base));
                let delete = delete.header("mcp-session-id", &session.id).send().await.unwrap();
                assert_eq!(delete.status(), 204);
                request.abort();
            }
            "sse" => {
                let stream = server.http.get(format!("{}/sse", server.base)).send().await.unwrap();
                let mut events = Events::new(stream);
                let endpoint = format!("{}{}", server.base, events.next().await.unwrap().1);
                let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
                for body in [initialize(), ready, message] {
                    let post = server.http.post(&endpoint).body(body.to_string());
                    assert_eq!(post.send().await.unwrap().status(), 202);
                }
                arrived.await;
                drop(events);
            }
            _ => {
                if transport == "following" {
                    call["_meta"]["progressToken"] = json!("p");
                }
                let request = tokio::spawn(server.modern("tools/call", call).send());
                arrived.await;
                request.abort();
            }
        }
        let receipt = within_limit(transport, async {
            loop {
                let newest = list_receipts(&server, &sandbox.url()).await.swap_remove(0);
                if newest["state"] == "placed" {
                    return newest;
                }
            }
        })
        .await;
        let dialed = control.dialed().await;
        assert_eq!(dialed.len(), number + 1, "{transport}");
        assert_eq!(receipt["id"], dialed[number]["call_id"], "{transport}");
    }
}

/// Waits until the server counts one canceled call of this tool.
async fn wait_for_canceled(server: &Server, tool: &str) {
    let line = format!("callingbox_mcp_tool_calls_total{{tool=\"{tool}\",outcome=\"canceled\"}} 1");
    let metrics = format!("{}/metrics", server.base);
    within_limit("the canceled call", async {
        loop {
            let page = server.http.get(&metrics).send().await.unwrap().text().await.unwrap();
            if page.contains(&line) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_wait_is_canceled_when_its_client_disconnects() {
    let server = Server::start(&[]).await;
    let arguments = json!({"call_id": server.long_call().await, "wait_seconds": 3600});
    let wait = json!({"name": "get_call_result", "arguments": arguments});
    let request = server.modern("tools/call", wait).send();
    let answer = tokio::time::timeout(Duration::from_millis(300), request).await;
    assert!(answer.is_err(), "{answer:?}");
    wait_for_canceled(&server, "get_call_result").await;
}

#[tokio::test]
async fn a_call_without_a_client_is_recorded_before_the_server_ends() {
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let mut server = Server::start_on(&sandbox, &[]).await;
    let agent = server.agent().await;
    let delay = json!({
        "method": "POST", "path": "/v1/calls", "when": "after", "kind": "delay", "delay_ms": 1_500,
    });
    control.fault(delay).await;
    let call = json!({"agent_id": agent, "to": "+13105550100"});
    let call = json!({"name": "place_call", "arguments": call});
    let request = tokio::spawn(server.modern("tools/call", call).send());
    control.wait_for_requests("POST", "/v1/calls", 1).await;
    request.abort();
    wait_for_canceled(&server, "place_call").await;
    let id = server.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    assert!(within_limit("the end", server.child.wait()).await.unwrap().success());
    let receipt = list_receipts(&server, &sandbox.url()).await.swap_remove(0);
    assert_eq!(receipt["state"], "placed", "{receipt}");
    assert_eq!(receipt["id"], control.dialed().await[0]["call_id"]);
}
