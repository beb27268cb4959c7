//! With the feature: the spans that arrive, their attributes, and the data that they never have.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use callingbox_sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::traces::collector::{Collector, Span};
use crate::traces::support::{Server, TEST_TIMEOUT, message, program};
use crate::traces::upstream::Upstream;

const KEY: &str = "sk_test_5ecret";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const OTHER: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "b7ad6b7169203331";

/// Starts a server on this upstream that sends its traces to this collector.
async fn start_server(upstream: &str, collector: &str) -> Server {
    let home = tempfile::tempdir().unwrap();
    let mut program = program(home.path());
    program.env("CALLINGBOX_BASE_URL", upstream).env("CALLINGBOX_API_KEY", KEY);
    program.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
    program.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
    Server::run(home, program, &[]).await
}

async fn stop_server(mut server: Server) {
    let id = server.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let ended = tokio::time::timeout(TEST_TIMEOUT, server.child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
}

/// Calls a tool with this trace context in `_meta` and in the headers.
async fn call_tool(
    server: &Server,
    tool: &str,
    meta: &[(&str, &str)],
    headers: &[(&str, &str)],
) -> Value {
    let arguments = match tool {
        "get_agent" => json!({"agent_id": "agent-1"}),
        _ => json!({}),
    };
    let params = json!({"name": tool, "arguments": arguments});
    let mut body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    body["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    for (name, value) in meta {
        body["params"]["_meta"][*name] = json!(value);
    }
    let mut request = server.post(&body).header("mcp-protocol-version", "2026-07-28");
    request = request.header("mcp-method", "tools/call").header("mcp-name", tool);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    message(request.send().await.unwrap()).await
}

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{PARENT}-{flags}")
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_tool_call_is_a_span_of_its_callers_trace_and_its_requests_are_children() {
    let (collector, url) = Collector::start().await;
    let (upstream, api) = Upstream::start().await;
    let server = start_server(&api, &url).await;
    let (inside, outside) = (traceparent(TRACE, "01"), traceparent(OTHER, "01"));
    let state = "rojo=00f067aa0ba902b7";
    let meta = [("traceparent", inside.as_str()), ("tracestate", state)];
    // The message has precedence over the headers.
    call_tool(&server, "list_agents", &meta, &[("traceparent", &outside)]).await;
    call_tool(&server, "get_agent", &[], &[("traceparent", &outside)]).await;
    call_tool(&server, "list_numbers", &[("traceparent", "00-nonsense")], &[]).await;
    stop_server(server).await;

    let (spans, resource) = collector.read();
    assert_eq!(
        (&resource["service.name"], &resource["service.version"]),
        (&"callingbox-mcp".to_owned(), &env!("CARGO_PKG_VERSION").to_owned())
    );
    assert_eq!(resource["deployment.environment.name"], "test");
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let expected = [
        "GET /v1/agents",
        "GET /v1/agents/{id}",
        "GET /v1/numbers",
        "tools/call get_agent",
        "tools/call list_agents",
        "tools/call list_numbers",
    ];
    assert_eq!(names, expected);
    let [agents, agent, numbers, get_agent, list_agents, list_numbers]: [Span; 6] =
        spans.try_into().unwrap();

    let tenant = list_agents.attributes["callingbox.tenant"].clone();
    assert_eq!(tenant.len(), 12, "{tenant}");
    let tool = |tool: &str, outcome: &str, more: &[(&str, &str)]| {
        let mut attributes = pairs(&[
            ("mcp.method.name", "tools/call"),
            ("gen_ai.operation.name", "execute_tool"),
            ("gen_ai.tool.name", tool),
            ("callingbox.tenant", &tenant),
            ("callingbox.outcome", outcome),
        ]);
        attributes.extend(pairs(more));
        attributes
    };
    for (span, trace, parent, attributes, status) in [
        (&list_agents, TRACE, PARENT, tool("list_agents", "ok", &[]), 0),
        (
            &get_agent,
            OTHER,
            PARENT,
            tool("get_agent", "not_found", &[("error.type", "tool_error")]),
            2,
        ),
        (&list_numbers, list_numbers.trace.as_str(), "", tool("list_numbers", "ok", &[]), 0),
    ] {
        assert_eq!((span.trace.as_str(), span.parent.as_str(), span.kind), (trace, parent, 2));
        assert_eq!((&span.attributes, span.status), (&attributes, status));
        assert!(span.took > 0);
    }
    assert_eq!((list_agents.state.as_str(), get_agent.state.as_str()), (state, ""));
    let request = |route: &str, status: &str, more: &[(&str, &str)]| {
        let mut attributes = pairs(&[
            ("http.request.method", "GET"),
            ("url.template", route),
            ("http.response.status_code", status),
        ]);
        attributes.extend(pairs(more));
        attributes
    };
    for (span, parent, attributes, status) in [
        (&agents, &list_agents, request("/v1/agents", "200", &[]), 0),
        (&agent, &get_agent, request("/v1/agents/{id}", "404", &[("error.type", "404")]), 2),
        (&numbers, &list_numbers, request("/v1/numbers", "200", &[]), 0),
    ] {
        assert_eq!((&span.trace, &span.parent, span.kind), (&parent.trace, &parent.id, 3));
        assert_eq!((&span.attributes, span.status), (&attributes, status));
    }

    // The request to CallingBox names the span of that request.
    let told = |span: &Span| Some(format!("00-{}-{}-01", span.trace, span.id));
    let get = |path: &str, span: &Span, state: Option<&str>| {
        ("GET".to_owned(), path.to_owned(), told(span), state.map(str::to_owned))
    };
    let asked = upstream.requests();
    assert_eq!(
        asked,
        [
            get("/v1/agents", &agents, Some(state)),
            get("/v1/agents/agent-1", &agent, None),
            get("/v1/numbers", &numbers, None),
        ]
    );
}

#[tokio::test]
async fn an_unsampled_trace_is_not_sent_and_an_invalid_context_is_not_forwarded() {
    let (collector, url) = Collector::start().await;
    let (upstream, api) = Upstream::start().await;
    let server = start_server(&api, &url).await;
    call_tool(&server, "list_agents", &[("traceparent", &traceparent(TRACE, "00"))], &[]).await;
    let context = traceparent(OTHER, "00");
    for state in [format!("a={}", "b".repeat(600)), "a=+14155550123".into(), "a=sk_live_1".into()] {
        call_tool(
            &server,
            "list_numbers",
            &[("traceparent", &context), ("tracestate", &state)],
            &[],
        )
        .await;
    }
    stop_server(server).await;
    assert_eq!(collector.read().0, []);
    let asked = upstream.requests();
    assert_eq!(asked.len(), 4);
    for (at, (_, _, parent, state)) in asked.into_iter().enumerate() {
        let parent = parent.unwrap();
        let trace = if at == 0 { TRACE } else { OTHER };
        assert!(parent.starts_with(&format!("00-{trace}-")) && parent.ends_with("-00"), "{parent}");
        assert_eq!(state, None);
    }
}

#[tokio::test]
async fn spans_have_no_key_no_number_no_id_and_no_spoken_word() {
    let (collector, url) = Collector::start().await;
    let sandbox = Sandbox::start("127.0.0.1:0".parse().unwrap(), Options::default()).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut program = program(home.path());
    program.arg(format!("--sandbox={}", sandbox.url())).env("OTEL_EXPORTER_OTLP_ENDPOINT", &url);
    let server = Server::run(home, program, &[]).await;
    let call_id = server.long_call().await;
    stop_server(server).await;

    let (spans, _) = collector.read();
    let placed = spans.iter().find(|span| span.name == "tools/call place_call").unwrap();
    let sent = spans.iter().find(|span| span.name == "POST /v1/calls").unwrap();
    // The call is dialed in another task, but its span is still a child.
    assert_eq!((&sent.trace, &sent.parent), (&placed.trace, &placed.id));
    let bytes = String::from_utf8_lossy(&collector.bytes()).into_owned();
    for private in ["sk_", "whsec_", "3105550107", "+1415", &call_id, "Talk.", "Mia"] {
        assert!(!bytes.contains(private), "{private}");
    }
}

#[tokio::test]
async fn each_attempt_is_a_span_and_a_lost_one_is_an_error() {
    let (collector, url) = Collector::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let server = start_server(&api, &url).await;
    call_tool(&server, "list_agents", &[], &[]).await;
    stop_server(server).await;
    let (mut spans, _) = collector.read();
    let tool = spans.pop().unwrap();
    let outcome = (&tool.attributes["callingbox.outcome"], &tool.attributes["error.type"]);
    assert_eq!(outcome, (&"unavailable".to_owned(), &"tool_error".to_owned()));
    assert!(spans.len() > 1, "{spans:?}");
    for span in spans {
        let attributes = pairs(&[
            ("http.request.method", "GET"),
            ("url.template", "/v1/agents"),
            ("error.type", "transport"),
        ]);
        assert_eq!((span.name.as_str(), &span.parent), ("GET /v1/agents", &tool.id));
        assert_eq!((span.attributes, span.status), (attributes, 2));
    }
}

/// A session over standard input with one tool call in it, on the simulator.
async fn call_over_stdio(collector: &str) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut child = program(home.path())
        .arg("--sandbox")
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{collector}/v1/traces"))
        .env("OTEL_SERVICE_NAME", "front desk")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "list_agents",
        "arguments": {},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "traceparent": traceparent(TRACE, "01"),
        },
    }});
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("{call}\n").as_bytes()).await.unwrap();
    drop(input);
    let output =
        tokio::time::timeout(TEST_TIMEOUT, child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    output
}

#[tokio::test]
async fn over_stdio_the_last_spans_are_sent_at_the_end_of_input() {
    let (collector, url) = Collector::start().await;
    call_over_stdio(&url).await;
    let (spans, resource) = collector.read();
    assert_eq!(resource["service.name"], "front desk");
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["GET /v1/agents", "tools/call list_agents"]);
    assert_eq!((spans[1].trace.as_str(), spans[1].parent.as_str()), (TRACE, PARENT));
}

#[tokio::test]
async fn an_unreachable_collector_is_logged_once_with_the_reason() {
    let output = call_over_stdio("http://127.0.0.1:1").await;
    let log = String::from_utf8(output.stderr).unwrap();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    let [only] = warnings[..] else { panic!("{log}") };
    assert!(only.contains("traces: the collector cannot be reached; spans are lost"), "{only}");
    assert!(only.contains("Connection refused"), "{only}");
}

#[tokio::test]
async fn a_silent_collector_delays_neither_calls_nor_the_exit() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (_upstream, api) = Upstream::start().await;
    let server = start_server(&api, &url).await;
    // More than the queue holds (2,048).
    for _ in 0..30 {
        let calls = (0..100).map(|_| call_tool(&server, "list_agents", &[], &[]));
        for answer in futures::future::join_all(calls).await {
            let limited = answer.get("error").is_some();
            assert!(limited || answer["result"]["isError"] == false, "{answer}");
        }
    }
    let start = Instant::now();
    stop_server(server).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
