//! Both protocol eras, the HTTP+SSE transport, and the checks of host and origin.

use callingbox_sandbox::Options;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::harness::{Control, simulator};
use crate::http::issuer::Issuer;
use crate::http::support::{
    Events, SIMULATED, Server, Session, home_with_confirmation, initialize, message, names, with,
};

#[tokio::test]
async fn both_eras_are_served_and_agree_on_the_tools() {
    let server = Server::start(&[]).await;
    let modern = server.modern("tools/list", json!({})).send().await.unwrap();
    assert_eq!(modern.headers()["content-type"], "application/json");
    assert!(!modern.headers().contains_key("mcp-session-id"));
    let modern = names(&message(modern).await);
    assert!(modern.contains(&"place_call".to_owned()));

    let session = server.open(None).await;
    assert_eq!(session.tools().await, modern);
    let call = json!({"name": "list_agents", "arguments": {}});
    let answer = message(session.request("tools/call", call.clone()).await).await;
    assert_eq!((&answer["id"], &answer["result"]["isError"]), (&json!(7), &json!(false)));
    let modern = message(server.modern("tools/call", call).send().await.unwrap()).await;
    assert_eq!(modern["result"]["structuredContent"], answer["result"]["structuredContent"]);
}

#[tokio::test]
async fn a_known_method_with_invalid_parameters_is_not_reported_as_unknown() {
    let server = Server::start(&[]).await;
    for (method, status, code) in [("resources/read", 200, -32602), ("resources/nope", 404, -32601)]
    {
        let answer = server.modern(method, json!({})).send().await.unwrap();
        assert_eq!(answer.status(), status, "{method}");
        assert_eq!(message(answer).await["error"]["code"], code, "{method}");
    }
}

#[tokio::test]
async fn a_call_whose_headers_contradict_its_body_is_refused_and_not_run() {
    let server = Server::start(&[]).await;
    let call = || server.modern("tools/call", json!({"name": "list_agents", "arguments": {}}));
    let status_and_code = async |request: RequestBuilder| {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default();
        (status, body["error"]["code"].as_i64())
    };
    for (name, value, expected) in [
        ("mcp-method", "", (400, Some(-32020))),
        ("mcp-method", "tools/list", (400, Some(-32020))),
        ("mcp-name", "", (400, Some(-32020))),
        ("mcp-name", "place_call", (400, Some(-32020))),
        ("mcp-protocol-version", "", (400, Some(-32020))),
        ("mcp-protocol-version", "2025-11-25", (400, Some(-32020))),
        ("accept", "text/html", (406, None)),
        ("content-type", "text/plain", (415, None)),
    ] {
        let mut request = call().build().unwrap();
        match value {
            "" => drop(request.headers_mut().remove(name)),
            value => drop(request.headers_mut().insert(name, value.parse().unwrap())),
        }
        let request = RequestBuilder::from_parts(server.http.clone(), request);
        assert_eq!(status_and_code(request).await, expected, "{name}: {value}");
    }
    for name in ["mcp-method", "mcp-name"] {
        let twice = call().header(name, "tools/call");
        assert_eq!(status_and_code(twice).await, (400, Some(-32020)), "{name} twice");
    }
    let metrics = server.http.get(format!("{}/metrics", server.base)).send().await.unwrap();
    let text = metrics.text().await.unwrap();
    assert!(!text.contains("tool=\"list_agents\""), "{text}");
}

#[tokio::test]
async fn a_progress_token_selects_a_stream_and_its_absence_json() {
    let server = Server::start(&[]).await;
    let call_id = server.long_call().await;
    let arguments = json!({"call_id": call_id, "wait_seconds": 1});
    let params = json!({"name": "get_call_result", "arguments": arguments});
    let plain = server.modern("tools/call", params.clone()).send().await.unwrap();
    assert_eq!(plain.headers()["content-type"], "application/json");
    let answer = message(plain).await;
    assert_eq!(answer["result"]["structuredContent"]["outcome"], "in_progress");
    let session = server.open(None).await;
    let mut params = params;
    params["_meta"] = json!({"progressToken": "p"});
    let streamed = session.request("tools/call", params).await;
    let text = streamed.text().await.unwrap();
    assert!(text.contains("notifications/progress"), "{text}");
    assert!(text.contains("in_progress"), "{text}");
}

#[tokio::test]
async fn metrics_count_calls_decisions_and_refusals() {
    let server = Server::start(&[]).await;
    let _session = server.open(None).await;
    let _call = server.long_call().await;
    let unknown = json!({"name": "get_agent", "arguments": {"agent_id": "unknown"}});
    server.modern("tools/call", unknown).send().await.unwrap();
    let nowhere = server.http.get(format!("{}/nowhere", server.base));
    let nowhere = nowhere.send().await.unwrap();
    assert_eq!(nowhere.status(), 404);
    let text = nowhere.text().await.unwrap();
    assert_eq!(text, "{\"error\":\"there is nothing here; MCP is at /mcp\"}");
    for _ in 0..2 {
        let elsewhere =
            server.http.get(format!("{}/mcp", server.base)).header("host", "example.com");
        assert_eq!(elsewhere.send().await.unwrap().status(), 403);
    }
    let metrics = server.http.get(format!("{}/metrics", server.base)).send().await.unwrap();
    let text = metrics.text().await.unwrap();
    for line in [
        "callingbox_mcp_sessions 1",
        "callingbox_mcp_tenants 1",
        "callingbox_mcp_watched_calls 0",
        "callingbox_mcp_tool_calls_total{tool=\"place_call\",outcome=\"ok\"} 1",
        "callingbox_mcp_tool_calls_total{tool=\"get_agent\",outcome=\"not_found\"} 1",
        "callingbox_mcp_dialing_decisions_total{decision=\"dispatched\"} 2",
        "callingbox_mcp_http_refusals_total{status=\"404\"} 1",
        "callingbox_mcp_http_refusals_total{status=\"403\"} 2",
        "callingbox_mcp_tool_call_seconds_count{tool=\"place_call\"} 1",
        "callingbox_mcp_api_requests_total{method=\"POST\",path=\"/v1/calls\",status=\"2xx\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("+1310"), "{text}");
}

#[tokio::test]
async fn a_client_can_end_its_session() {
    let server = Server::start(&[]).await;
    let session = server.open(None).await;
    let delete = |id: &str| {
        server.http.delete(format!("{}/mcp", server.base)).header("mcp-session-id", id.to_owned())
    };
    assert_eq!(delete(&session.id).send().await.unwrap().status(), 204);
    assert_eq!(session.request("tools/list", json!({})).await.status(), 404);
    assert_eq!(delete(&session.id).send().await.unwrap().status(), 404);
    let unknown = server.post(&initialize()).header("mcp-session-id", "unknown");
    assert_eq!(unknown.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn older_clients_are_served_without_sessions() {
    let server = Server::start(&["--stateless"]).await;
    let opened = server.initialize(None).await;
    assert_eq!(opened.status(), 200);
    assert!(!opened.headers().contains_key("mcp-session-id"));
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let listed = server.post(&list).header("mcp-protocol-version", "2025-11-25");
    let listed = listed.send().await.unwrap();
    assert_eq!(listed.headers()["content-type"], "application/json");
    assert!(names(&message(listed).await).contains(&"place_call".to_owned()));
    let stream = server.http.get(format!("{}/mcp", server.base));
    let stream = stream.header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!(
        (stream.status().as_u16(), &stream.headers()["allow"]),
        (405, &"POST".parse().unwrap())
    );
    let said = stream.text().await.unwrap();
    assert!(said.contains("--stateless") && said.contains("streamable HTTP"), "{said}");
    let sse = server.http.get(format!("{}/sse", server.base)).send().await.unwrap();
    let body: Value = serde_json::from_str(&sse.text().await.unwrap()).unwrap();
    assert!(body["error"].as_str().unwrap().contains("streamable HTTP at /mcp"));
}

#[tokio::test]
async fn subscriptions_belong_to_one_session() {
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let server = Server::start_on(&sandbox, &[]).await;
    let uri = format!("callingbox://calls/{}", server.long_call().await);
    let (first, second) = (server.open(None).await, server.open(None).await);
    let streamed = async |session: &Session<'_>| {
        let stream = server.http.get(format!("{}/mcp", server.base));
        let stream = stream.header("accept", "text/event-stream");
        let stream = stream.header("mcp-session-id", &session.id);
        Events::new(stream.send().await.unwrap())
    };
    let (mut to_first, mut to_second) = (streamed(&first).await, streamed(&second).await);
    let asked = async |session: &Session<'_>, method: &str| {
        let answer = message(session.request(method, json!({"uri": uri})).await).await;
        assert_eq!(answer["result"], json!({}), "{answer}");
    };
    asked(&first, "resources/subscribe").await;
    asked(&second, "resources/subscribe").await;
    control.advance(20).await;
    let updated = |message: &Value| message["params"]["uri"] == uri;
    to_first.message(updated).await;
    to_second.message(updated).await;
    asked(&second, "resources/unsubscribe").await;
    control.advance(3_000).await;
    to_first.message(updated).await;
}

/// Runs a whole HTTP+SSE session that starts at `path`.
async fn run_sse_session(server: &Server, path: &str) {
    let stream = server.http.get(format!("{}{path}", server.base));
    let stream = stream.header("accept", "text/event-stream").send().await.unwrap();
    let mut events = Events::new(stream);
    let (kind, endpoint) = events.next().await.unwrap();
    assert_eq!(kind, "endpoint");
    assert!(endpoint.starts_with("/messages?session_id="), "{endpoint}");
    let post = async |message: Value| {
        let request = server.http.post(format!("{}{endpoint}", server.base));
        let request = request.header("content-type", "application/json").body(message.to_string());
        assert_eq!(request.send().await.unwrap().status(), 202);
    };
    post(initialize()).await;
    let (kind, answer) = events.next().await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((kind.as_str(), &answer["id"]), ("message", &json!(0)));
    assert_eq!(answer["result"]["serverInfo"]["name"], "callingbox-mcp");
    post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    post(json!({"jsonrpc": "2.0", "id": "a", "method": "tools/list"})).await;
    let (_, answer) = events.next().await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(names(&answer).contains(&"place_call".to_owned()));
    drop(events);
    // The session ends when its stream is closed.
    let mut status = 202;
    for _ in 0..200 {
        let request = server.http.post(format!("{}{endpoint}", server.base));
        let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}).to_string();
        status = request.body(ping).send().await.unwrap().status().as_u16();
        if status == 404 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(status, 404);
}

#[tokio::test]
async fn the_sse_transport_is_served_at_both_paths() {
    let server = Server::start(&[]).await;
    run_sse_session(&server, "/sse").await;
    // OpenClaw expects HTTP+SSE at a URL without a transport.
    run_sse_session(&server, "/mcp").await;
}

#[tokio::test]
async fn a_message_without_a_session_is_refused() {
    let server = Server::start(&[]).await;
    let stream = server.http.get(format!("{}/sse", server.base)).send().await.unwrap();
    let (_, endpoint) = Events::new(stream).next().await.unwrap();
    for (path, body, status) in [
        ("/messages", "{}", 400),
        ("/messages?session_id=unknown", "{}", 404),
        (endpoint.as_str(), "not json", 404),
    ] {
        let request = server.http.post(format!("{}{path}", server.base)).body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let said = answer.text().await.unwrap();
        assert!(body == "not json" || status == 400 || said.contains("GET /sse"), "{said}");
    }
}

#[tokio::test]
async fn an_invalid_message_gets_the_error_of_json_rpc() {
    let issuer = Issuer::start().await;
    let (open, scoped) = (Server::start(&[]).await, issuer.start_server().await);
    let token = issuer.token("mia", "calls:read");
    for (server, bearer) in [(&open, None), (&scoped, Some(token.as_str()))] {
        let stream = with(server.http.get(format!("{}/sse", server.base)), bearer);
        let mut events = Events::new(stream.send().await.unwrap());
        let endpoint = events.next().await.unwrap().1;
        for (body, code, id, says) in [
            ("", -32700, Value::Null, "the message is not JSON"),
            ("{", -32700, Value::Null, "the message is not JSON"),
            ("[{}", -32700, Value::Null, "the message is not JSON"),
            ("call me", -32700, Value::Null, "the message is not JSON"),
            ("[]", -32600, Value::Null, "batches were removed"),
            (
                r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
                -32600,
                Value::Null,
                "batches were removed",
            ),
            ("7", -32600, Value::Null, "a message is a JSON object"),
            ("{}", -32600, Value::Null, "not a JSON-RPC 2.0 message"),
            (r#"{"id":"a","method":"ping"}"#, -32600, json!("a"), "not a JSON-RPC 2.0 message"),
            (
                r#"{"jsonrpc":"2.0","id":2,"method":"ping","method":"tools/list"}"#,
                -32600,
                json!(2),
                "duplicate field `method`",
            ),
            (
                r#"{"jsonrpc":"2.0","id":4,"method":"ping","error":{"code":1,"message":"x"}}"#,
                -32600,
                json!(4),
                "a request has no `result` and no `error`",
            ),
            (
                r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":["list_calls"]}"#,
                -32602,
                json!(3),
                "an object",
            ),
        ] {
            for path in ["/mcp", endpoint.as_str()] {
                let post = server.http.post(format!("{}{path}", server.base));
                let post = post.header("content-type", "application/json");
                let post = post.header("accept", "application/json, text/event-stream");
                let answer = with(post, bearer).body(body).send().await.unwrap();
                assert_eq!(answer.status(), 400, "{path}: {body}");
                let answer = message(answer).await;
                assert_eq!(
                    (&answer["jsonrpc"], &answer["error"]["code"], &answer["id"]),
                    (&json!("2.0"), &json!(code), &id),
                    "{path}: {body}: {answer}"
                );
                let text = answer["error"]["message"].as_str().unwrap();
                assert!(text.contains(says), "{path}: {body}: {text}");
            }
        }
        // A message with another content type is still refused.
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
        let post = server.http.post(format!("{}/mcp", server.base)).body(ping);
        let post = post.header("accept", "application/json, text/event-stream");
        let post = with(post.header("content-type", "text/plain"), bearer);
        assert_eq!(post.send().await.unwrap().status(), 415);
    }
}

#[tokio::test]
async fn every_route_checks_host_and_origin() {
    let hosts = ["--allowed-host", "phone.example.com"];
    let origins = ["--allowed-origin", "https://app.example.com"];
    let server = Server::start(&[hosts, origins].concat()).await;
    for path in ["/mcp", "/sse", "/messages", "/healthz", "/readyz", "/nothing"] {
        let status = async |name: &'static str, value: &str| {
            let get = server.http.get(format!("{}{path}", server.base)).header(name, value);
            get.send().await.unwrap().status().as_u16()
        };
        assert_eq!(status("host", "evil.example").await, 403, "{path}");
        assert_eq!(status("origin", "https://evil.example").await, 403, "{path}");
        assert_eq!(status("origin", "null").await, 403, "{path}");
        assert_ne!(status("host", "phone.example.com").await, 403, "{path}");
        assert_ne!(status("origin", "https://app.example.com").await, 403, "{path}");
        assert_ne!(status("origin", "http://localhost:5173").await, 403, "{path}");
    }
    let asked = server.http.request(http::Method::OPTIONS, format!("{}/mcp", server.base));
    let asked = asked
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST");
    let asked = asked.send().await.unwrap();
    assert_eq!(asked.status(), 204);
    assert_eq!(asked.headers()["access-control-allow-origin"], "https://app.example.com");
}

#[tokio::test]
async fn a_session_carries_an_elicitation_and_its_response() {
    let asking = Server::start_in(home_with_confirmation(), &[]).await;
    let agent = json!({
        "name": "A", "type": "outbound", "persona": "Mia.", "instructions": "Talk.",
    });
    let agent_id = asking.tool(None, "create_agent", agent).await["agent_id"].clone();
    let mut hello = initialize();
    hello["params"]["capabilities"] = json!({"elicitation": {"form": {}}});
    let opened = asking.post(&hello).send().await.unwrap();
    let id = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let session = crate::http::support::Session { server: &asking, id, bearer: None };
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    session.post(&initialized).send().await.unwrap();
    // After the approval CallingBox refuses the call, since the agent has no number.
    for (answer, outcome) in [
        (json!({"action": "decline"}), "declined"),
        (
            json!({"action": "accept", "content": {"confirm": true}}),
            "invalid_argument: the request was refused: agent ",
        ),
    ] {
        let call = json!({"agent_id": agent_id, "to": "+13105550100"});
        let params = json!({"name": "place_call", "arguments": call});
        let mut events = Events::new(session.request("tools/call", params).await);
        let question = events.message(|message| message["method"] == "elicitation/create").await;
        let text = question["params"]["message"].as_str().unwrap();
        assert!(text.contains("+13105550100"), "{text}");
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": answer});
        assert_eq!(session.post(&answer).send().await.unwrap().status(), 202);
        let answer = events.message(|message| message["id"] == 7).await;
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        let text = text.strip_prefix(SIMULATED).unwrap();
        assert!(text.starts_with(outcome), "{text}");
    }
}

#[tokio::test]
async fn a_confirmation_token_is_accepted_only_in_its_session() {
    let server = Server::start_in(home_with_confirmation(), &[]).await;
    let agent = json!({
        "name": "A", "type": "outbound", "persona": "Mia.", "instructions": "Talk.",
    });
    let agent = server.tool(None, "create_agent", agent).await["agent_id"].clone();
    let (one, other) = (server.open(None).await, server.open(None).await);
    let call = json!({"agent_id": agent, "to": "+13105550100"});
    let place = async |session: &crate::http::support::Session<'_>, arguments: &Value| {
        let params = json!({"name": "place_call", "arguments": arguments});
        message(session.request("tools/call", params).await).await["result"].clone()
    };
    let mut confirmed = call.clone();
    let preview = place(&one, &call).await;
    confirmed["confirmation_token"] = preview["structuredContent"]["confirmation_token"].clone();
    assert!(confirmed["confirmation_token"].is_string(), "{preview}");
    let refused = place(&other, &confirmed).await;
    let text = refused["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("declined: ") && text.contains("does not match"), "{text}");
    // After the approval CallingBox refuses the call, since the agent has no number.
    let accepted = place(&one, &confirmed).await;
    let text = accepted["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("invalid_argument: the request was refused: agent "), "{text}");
}
