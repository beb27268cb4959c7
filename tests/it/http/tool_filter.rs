//! The headers with which a client asks to be offered fewer tools, on every transport.

use callingbox_mcp::mcp::registry::selection::Selection;
use callingbox_mcp::toolset::Toolset;
use serde_json::json;

use crate::harness::tool_names;
use crate::http::support::{Events, SIMULATED, Server, Session, initialize, message, names};

/// Opens a session with the toolset `numbers` only.
async fn open_numbers_session(server: &Server) -> Session<'_> {
    let opened = server.post(&initialize()).header("X-MCP-Toolsets", "numbers");
    let opened = opened.send().await.unwrap();
    let id = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let session = Session { server, id, bearer: None };
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    session.post(&ready).send().await.unwrap();
    session
}

#[tokio::test]
async fn headers_remove_tools_from_a_request_and_add_none() {
    let server = Server::start(&[]).await;
    let tools = async |headers: &[(&str, &str)]| {
        let list = server.modern("tools/list", json!({}));
        let list = headers.iter().fold(list, |list, (name, value)| list.header(*name, *value));
        names(&message(list.send().await.unwrap()).await)
    };
    let all = tools(&[]).await;
    let numbers = tool_names(|tool| tool.toolset == Toolset::Numbers);
    assert_eq!(tools(&[("X-MCP-Toolsets", "numbers")]).await, numbers);
    assert_eq!(
        tools(&[("X-MCP-Toolsets", "numbers"), ("X-MCP-Readonly", "true")]).await,
        tool_names(|tool| tool.toolset == Toolset::Numbers && tool.effect.is_read_only())
    );
    assert_eq!(
        tools(&[("X-MCP-Tools", "place_call, get_agent")]).await,
        ["place_call", "get_agent"]
    );
    assert_eq!(tools(&[("X-MCP-Exclude-Tools", "place_call")]).await, all[1..]);
    // A header cannot add a tool that the server does not offer.
    assert_eq!(tools(&[("X-MCP-Toolsets", "webhooks")]).await, [""; 0]);

    let call = json!({"name": "create_agent", "arguments": {}});
    let call = server.modern("tools/call", call).header("X-MCP-Readonly", "true");
    let refused = message(call.send().await.unwrap()).await;
    let text = refused["result"]["content"][0]["text"].as_str().unwrap();
    let text = text.strip_prefix(SIMULATED).unwrap();
    assert!(
        text.starts_with("switched_off: the tool `create_agent` is not offered here"),
        "{text}"
    );

    // The instructions name only tools that are offered.
    for open in [server.modern("server/discover", json!({})), server.post(&initialize())] {
        let opened = open.header("X-MCP-Readonly", "true").send().await.unwrap();
        let instructions = message(opened).await["result"]["instructions"].to_string();
        assert!(instructions.contains("get_call_result"), "{instructions}");
        assert!(!instructions.contains("place_call"), "{instructions}");
    }

    let unknown = server.modern("tools/list", json!({})).header("X-MCP-Tools", "place_cal");
    let unknown = unknown.send().await.unwrap();
    assert_eq!(unknown.status(), 400);
    let text = unknown.text().await.unwrap();
    assert!(
        text.contains("x-mcp-tools: there is no tool `place_cal` (did you mean `place_call`?)"),
        "{text}"
    );
    let sse = server.http.get(format!("{}/sse", server.base)).header("X-MCP-Toolsets", "call");
    assert_eq!(sse.send().await.unwrap().status(), 400);

    // Web pages may send the headers too.
    let preflight = server.http.request(http::Method::OPTIONS, format!("{}/mcp", server.base));
    let preflight = preflight
        .header("origin", "http://localhost:5173")
        .header("access-control-request-method", "POST");
    let allowed = preflight.send().await.unwrap();
    let allowed = allowed.headers()["access-control-allow-headers"].to_str().unwrap().to_owned();
    for header in ["x-mcp-toolsets", "x-mcp-tools", "x-mcp-exclude-tools", "x-mcp-readonly"] {
        assert!(allowed.contains(header), "{allowed}");
    }
}

#[tokio::test]
async fn headers_limit_resources_and_subscriptions_too() {
    let server = Server::start(&[]).await;
    let call = format!("callingbox://calls/{}", server.long_call().await);
    let refused = json!(format!(
        "{call} is not available here: it needs the tool `get_call_result`, which is not offered"
    ));
    let filter = json!({"notifications": {"resourceSubscriptions": [call]}});
    let reading = |tools: &'static str| {
        let read = server.modern("resources/read", json!({"uri": call}));
        read.header("mcp-name", &call).header("X-MCP-Tools", tools)
    };
    let read = message(reading("get_call_result").send().await.unwrap()).await;
    assert_eq!(read["result"]["contents"][0]["uri"], call, "{read}");
    let read = message(reading("get_call_transcript").send().await.unwrap()).await;
    assert_eq!(read["error"]["message"], refused, "{read}");
    let listen = server.modern("subscriptions/listen", filter);
    let listen = listen.header("X-MCP-Tools", "get_call_transcript").send().await.unwrap();
    let answer = message(listen).await;
    assert_eq!(answer["error"]["message"], refused, "{answer}");

    // The headers of `initialize` limit the subscriptions of the session.
    let session = open_numbers_session(&server).await;
    for method in ["resources/read", "resources/subscribe"] {
        let answer = message(session.request(method, json!({"uri": call})).await).await;
        assert_eq!(answer["error"]["message"], refused, "{method}: {answer}");
    }
}

#[tokio::test]
async fn the_headers_of_initialize_apply_to_the_whole_session() {
    let server = Server::start(&[]).await;
    let session = open_numbers_session(&server).await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let tools_with = async |name: &str, value: &str| {
        names(&message(session.post(&list).header(name, value).send().await.unwrap()).await)
    };
    let numbers = tool_names(|tool| tool.toolset == Toolset::Numbers);
    let reading = tool_names(|tool| tool.toolset == Toolset::Numbers && tool.effect.is_read_only());
    assert_eq!(session.tools().await, numbers);
    assert_eq!(tools_with("X-MCP-Toolsets", "calls,agents,numbers").await, numbers);
    assert_eq!(tools_with("X-MCP-Readonly", "yes").await, reading);
    assert_eq!(session.tools().await, numbers);
}

#[tokio::test]
async fn the_headers_apply_to_the_sse_transport_too() {
    let server = Server::start(&[]).await;
    for path in ["/sse", "/mcp"] {
        let stream = server.http.get(format!("{}{path}", server.base));
        let stream = stream.header("accept", "text/event-stream").header("X-MCP-Readonly", "true");
        let mut events = Events::new(stream.send().await.unwrap());
        let endpoint = format!("{}{}", server.base, events.next().await.unwrap().1);
        let post = async |body: serde_json::Value, exclude: &str| {
            let post = server.http.post(&endpoint).header("X-MCP-Exclude-Tools", exclude);
            assert_eq!(post.body(body.to_string()).send().await.unwrap().status(), 202);
        };
        post(initialize(), "").await;
        events.next().await.unwrap();
        post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}), "").await;
        let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        post(list, "list_calls,list_agents").await;
        let answer = serde_json::from_str(&events.next().await.unwrap().1).unwrap();
        assert_eq!(
            names(&answer),
            tool_names(|tool| {
                tool.effect.is_read_only()
                    && Selection::default().active_toolsets().any(|set| set == tool.toolset)
                    && !["list_calls", "list_agents"].contains(&tool.name)
            }),
            "{path}"
        );
    }
}
