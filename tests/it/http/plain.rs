//! Plain calls of tools in the era without sessions go past rmcp's transport: the same request in a
//! form that does not is answered the same, and what is not exactly such a call is refused as ever.

use std::time::Duration;

use callingbox_sandbox::Options;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::harness::simulator;
use crate::http::support::{PATIENCE, Server, home_of_one_who_is_asked};

/// Status, content type and body.
async fn whole(request: RequestBuilder) -> (u16, String, Value) {
    let response = request.send().await.unwrap();
    let kind = response.headers().get("content-type");
    let kind = kind.map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
    let status = response.status().as_u16();
    assert!(!response.headers().contains_key("mcp-session-id"));
    (status, kind, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
}

/// A call of a tool in 2026-07-28 whose parts a test chooses.
struct Request {
    id: Value,
    name: &'static str,
    arguments: Value,
    capabilities: Value,
    accept: &'static str,
}

impl Request {
    fn of(name: &'static str, arguments: Value) -> Self {
        let accept = "application/json, text/event-stream";
        Self { id: json!(1), name, arguments, capabilities: json!({}), accept }
    }

    fn on(&self, server: &Server) -> RequestBuilder {
        let message = json!({
            "jsonrpc": "2.0", "id": self.id, "method": "tools/call",
            "params": {"name": self.name, "arguments": self.arguments, "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
                "io.modelcontextprotocol/clientCapabilities": self.capabilities,
            }},
        });
        let request = server.http.post(format!("{}/mcp", server.base));
        request
            .header("content-type", "application/json")
            .header("accept", self.accept)
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", self.name)
            .body(message.to_string())
    }
}

/// Asks once past rmcp's transport and once through it, and holds the answers against each other.
async fn both_ways(server: &Server, mut request: Request) -> Value {
    let mut past = whole(request.on(server)).await;
    // A weight says the same, in a form that is left to rmcp.
    request.accept = "application/json;q=1, text/event-stream;q=1";
    let mut through = whole(request.on(server)).await;
    // What is sealed for one question, and the time, differ in every answer.
    for (_, _, body) in [&mut past, &mut through] {
        for name in ["requestState", "createdAt", "lastUpdatedAt"] {
            if let Some(value) = body.pointer_mut(&format!("/result/{name}")) {
                assert!(value.take().is_string());
            }
        }
    }
    assert_eq!(past, through, "{}", request.name);
    assert_eq!((past.0, &past.2["id"]), (200, &request.id), "{}", past.2);
    past.2
}

#[tokio::test]
async fn a_plain_call_is_answered_as_rmcp_would_answer_it() {
    let sandbox = simulator(Options::default()).await;
    let server = Server::on(&sandbox, &[]).await;
    let agent = server.agent().await;
    let get_agent = || Request::of("get_agent", json!({"agent_id": agent}));
    let found = both_ways(&server, get_agent()).await;
    assert_eq!(found["result"]["structuredContent"]["agent_id"], agent);
    both_ways(&server, Request { id: json!("a \u{1f4de}"), ..get_agent() }).await;
    for (name, arguments, error) in [
        ("get_agent", json!({"agent_id": "unknown"}), "not_found"),
        ("get_agent", json!({"agent_id": 7, "more": true}), "invalid_argument"),
        ("get_agent", Value::Null, "invalid_argument"),
        ("get_webhook", json!({"webhook_id": "unknown"}), "switched_off"),
    ] {
        let answer = both_ways(&server, Request::of(name, arguments)).await;
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with(error), "{text}");
    }
    let unknown = both_ways(&server, Request::of("no_such_tool", json!({}))).await;
    assert_eq!(unknown["error"]["code"], -32602);

    let call = json!({"agent_id": agent, "to": "+13105550107"});
    let placed = server.tool(None, "place_call", call.clone()).await;
    let repeated = both_ways(&server, Request::of("place_call", call)).await;
    assert_eq!(repeated["result"]["structuredContent"]["duplicate_of"], placed["call_id"]);
    let capabilities = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let wait = json!({"call_id": placed["call_id"], "wait_seconds": 30});
    let request = Request { capabilities, ..Request::of("get_call_result", wait) };
    let task = both_ways(&server, request).await;
    assert_eq!(task["result"]["resultType"], "task");
    let id = task["result"]["taskId"].as_str().unwrap();
    assert!(id.starts_with(placed["call_id"].as_str().unwrap()), "{id}");
}

#[tokio::test]
async fn a_question_to_the_human_is_an_answer_like_any_other() {
    let server = Server::start_in(home_of_one_who_is_asked(), &[]).await;
    let agent = json!({
        "name": "A", "type": "outbound", "persona": "Mia.", "instructions": "Talk.",
    });
    let agent = server.tool(None, "create_agent", agent).await["agent_id"].clone();
    let call = json!({"agent_id": agent, "to": "+13105550100"});
    let capabilities = json!({"elicitation": {"form": {}}});
    let request = Request { capabilities, ..Request::of("place_call", call) };
    let asked = both_ways(&server, request).await;
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
}

#[tokio::test]
async fn what_contradicts_itself_is_refused_and_not_called() {
    let server = Server::start(&[]).await;
    let call = || json!({"name": "list_agents", "arguments": {}});
    let request = |name: &str, value: &str| {
        let request = server.modern("tools/call", call()).build().unwrap();
        let (client, mut request) = (server.http.clone(), request);
        let name = reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
        match value {
            "" => drop(request.headers_mut().remove(name)),
            value => drop(request.headers_mut().insert(name, value.parse().unwrap())),
        }
        RequestBuilder::from_parts(client, request)
    };
    let code = |answer: &(u16, String, Value)| answer.2["error"]["code"].as_i64();
    for (name, value, status, found) in [
        ("mcp-method", "", 400, Some(-32020)),
        ("mcp-method", "tools/list", 400, Some(-32020)),
        ("mcp-name", "", 400, Some(-32020)),
        ("mcp-name", "place_call", 400, Some(-32020)),
        ("mcp-protocol-version", "", 400, Some(-32020)),
        ("mcp-protocol-version", "2025-11-25", 400, Some(-32020)),
        ("accept", "application/json", 406, None),
        ("content-type", "text/plain", 415, None),
    ] {
        let answer = whole(request(name, value)).await;
        assert_eq!((answer.0, code(&answer)), (status, found), "{name}: {value}");
    }
    for name in ["mcp-method", "mcp-name"] {
        let twice = server.modern("tools/call", call()).header(name, "tools/call");
        let answer = whole(twice).await;
        assert_eq!((answer.0, code(&answer)), (400, Some(-32020)), "{name} twice");
    }
    let metrics = server.http.get(format!("{}/metrics", server.base)).send().await.unwrap();
    let text = metrics.text().await.unwrap();
    assert!(!text.contains("tool=\"list_agents\""), "{text}");
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_is_canceled_and_noted() {
    let server = Server::start(&[]).await;
    let call_id = server.long_call().await;
    let arguments = json!({"call_id": call_id, "wait_seconds": 3600});
    let request = Request::of("get_call_result", arguments).on(&server);
    let waited = tokio::time::timeout(Duration::from_millis(300), request.send()).await;
    assert!(waited.is_err(), "{waited:?}");
    let noted = "callingbox_mcp_tool_calls_total{tool=\"get_call_result\",outcome=\"canceled\"} 1";
    let metrics = async || {
        let answer = server.http.get(format!("{}/metrics", server.base)).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let seen = async {
        while !metrics().await.lines().any(|line| line == noted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
}
