//! Bad input: each is answered with a clear error, dials nothing, and leaves the session open.

use callingbox_mcp::stdio::MAX_LINE_BYTES;
use serde_json::{Value, json};

use crate::harness::{Era, Session};
use crate::http::support::read_memory_kib;

/// Asserts that the session still answers, and that nothing was called or created.
async fn assert_unharmed(session: &mut Session, after: &str) {
    let agents = session.call("list_numbers", json!({})).await;
    assert_eq!(agents["result"]["isError"], false, "after {after}: {agents}");
    assert_eq!(session.control().dialed().await, [Value::Null; 0], "after {after}");
}

#[tokio::test]
async fn bad_arguments_are_named() {
    let mut session = Session::modern().await;
    let agent = session.outbound_agent(json!({})).await;
    let inbound = json!({"name": "Desk", "type": "inbound"});
    let inbound = session.data("create_agent", inbound).await["agent_id"].clone();
    let numberless = json!({"name": "Mute", "type": "outbound"});
    let numberless = session.data("create_agent", numberless).await["agent_id"].clone();
    let archived = json!({"name": "Gone", "type": "outbound"});
    let archived = session.data("create_agent", archived).await["agent_id"].clone();
    session.data("archive_agent", json!({"agent_id": archived})).await;
    let made = session.data("list_agents", json!({})).await;

    let to = "+13105550100";
    let tool = json!({"type": "builtin", "name": "end_call", "description": "Hangs up."});
    let new = |more: Value| {
        let mut agent = json!({"name": "A", "type": "outbound"});
        agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        agent
    };
    let place = |more: Value| {
        let mut order = json!({"agent_id": agent, "to": to});
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order
    };
    let e164 = "`to`: ";
    for (tool, arguments, class, message) in [
        // Destinations.
        ("place_call", place(json!({"to": "3105550100"})), "invalid_argument", e164),
        ("place_call", place(json!({"to": "+1 310 555 0100"})), "invalid_argument", e164),
        ("place_call", place(json!({"to": "+03105550100"})), "invalid_argument", e164),
        ("place_call", place(json!({"to": ""})), "invalid_argument", e164),
        ("place_call", place(json!({"to": "+1".repeat(1_000_000)})), "invalid_argument", e164),
        ("place_call", place(json!({"to": "tel:+13105550100"})), "invalid_argument", e164),
        ("place_call", place(json!({"to": "+１３１０５５５０１００"})), "invalid_argument", e164),
        ("place_call", place(json!({"to": 13_105_550_100_u64})), "invalid_argument", e164),
        ("place_call", place(json!({"to": [to]})), "invalid_argument", e164),
        ("place_call", place(json!({"to": null})), "invalid_argument", "missing field `to`"),
        ("place_call", place(json!({"from_number": "415"})), "invalid_argument", "`from_number`: "),
        // Agents.
        ("place_call", place(json!({"agent_id": "nobody"})), "not_found", "GET /v1/agents/{id}"),
        ("place_call", place(json!({"agent_id": inbound})), "", "POST /v1/calls"),
        ("place_call", place(json!({"agent_id": archived})), "", "POST /v1/calls"),
        ("place_call", place(json!({"agent_id": numberless})), "", "POST /v1/calls"),
        ("place_call", place(json!({"from_number": "+12125550100"})), "", "POST /v1/calls"),
        ("place_call", place(json!({"agent_id": ""})), "invalid_argument", "`agent_id`: "),
        (
            "place_call",
            place(json!({"agent_id": "x".repeat(5_000_000)})),
            "invalid_argument",
            "`agent_id`: ",
        ),
        ("place_call", place(json!({"agent_id": {"id": 1}})), "invalid_argument", "`agent_id`: "),
        // The other arguments of a call.
        (
            "place_call",
            place(json!({"instructions": "x".repeat(20_001)})),
            "invalid_argument",
            "`instructions`: must have 1 to 20000 characters, and has 20001",
        ),
        ("place_call", place(json!({"context": "Sam"})), "invalid_argument", "`context`: "),
        (
            "place_call",
            place(json!({"context": "x".repeat(1_000_000)})),
            "invalid_argument",
            "`context`: ",
        ),
        (
            "place_call",
            place(json!({"x".repeat(1_000_000): 1})),
            "invalid_argument",
            "there is no argument `xxx",
        ),
        (
            "place_call",
            place(json!({"x".repeat(1_000_000): null})),
            "invalid_argument",
            "there is no argument `xxx",
        ),
        (
            "place_call",
            place(json!({"webhook_url": "x".repeat(1_000_000)})),
            "invalid_argument",
            "`webhook_url`: ",
        ),
        (
            "create_agent",
            new(json!({"type": "x".repeat(1_000_000)})),
            "invalid_argument",
            "`type`: ",
        ),
        (
            "create_agent",
            new(json!({"returns": {"x".repeat(1_000_000): "date"}})),
            "invalid_argument",
            "`returns",
        ),
        (
            "create_agent",
            new(json!({"returns": {"x": "y".repeat(1_000_000)}})),
            "invalid_argument",
            "`returns",
        ),
        ("place_call", place(json!({"context": [1]})), "invalid_argument", "`context`: "),
        // The dispatch id, by which a lost call is found, is reserved.
        (
            "place_call",
            place(json!({"metadata": {"callingbox_mcp_dispatch_id": "mine"}})),
            "invalid_argument",
            "`metadata.callingbox_mcp_dispatch_id` is reserved",
        ),
        (
            "place_call",
            place(json!({"context": {"x": "y".repeat(40_000)}})),
            "invalid_argument",
            "`context`: may have at most 32768 bytes as JSON",
        ),
        (
            "place_call",
            place(json!({"webhook_url": "http://example.com"})),
            "invalid_argument",
            "`webhook_url`: must be an address that begins with https://",
        ),
        (
            "place_call",
            place(json!({"webhook_url": "HTTPS://example.com"})),
            "invalid_argument",
            "`webhook_url`: must be an address that begins with https://",
        ),
        (
            "place_call",
            place(json!({"webhook_url": " https://example.com"})),
            "invalid_argument",
            "`webhook_url`: must be an address that begins with https://",
        ),
        (
            "create_agent",
            new(json!({"webhook_url": "https:example.com"})),
            "invalid_argument",
            "`webhook_url`: must be an address that begins with https://",
        ),
        // No full number is repeated.
        (
            "get_call_result",
            json!({"call_id": "c", "wait_seconds": 1, "+13105550100": 1}),
            "invalid_argument",
            "there is no argument `+***`; the valid arguments are `call_id`, `wait_seconds`",
        ),
        (
            "list_agents",
            json!({"type": "(310) 555-0100"}),
            "invalid_argument",
            "`type`: must be one of `inbound`, `outbound`",
        ),
        (
            "create_agent",
            new(json!({"number_ids": "+13105550100"})),
            "invalid_argument",
            "`number_ids`: invalid type: string \"+***\", expected a sequence",
        ),
        (
            "place_call",
            place(json!({"+13105550100": null})),
            "invalid_argument",
            "there is no argument `+***`",
        ),
        ("place_call", json!({"agent_id": agent}), "invalid_argument", "missing field `to`"),
        ("place_call", json!({"to": to}), "invalid_argument", "missing field `agent_id`"),
        (
            "place_call",
            place(json!({"phone": to})),
            "invalid_argument",
            "there is no argument `phone`; the valid arguments are `agent_id`, `to`, `from_number`",
        ),
        (
            "place_call",
            place(json!({"To": to})),
            "invalid_argument",
            "there is no argument `To`; the valid arguments are `agent_id`, `to`, `from_number`",
        ),
        // New agents.
        (
            "create_agent",
            new(json!({"tools": vec![tool.clone(); 17]})),
            "invalid_argument",
            "`tools`: may have at most 16 items, and has 17",
        ),
        ("create_agent", new(json!({"returns": {"when": "date"}})), "invalid_argument", "`returns"),
        (
            "create_agent",
            new(json!({"returns": {"when": {"type": "string"}}})),
            "invalid_argument",
            "`returns",
        ),
        ("create_agent", new(json!({"returns": ["when"]})), "invalid_argument", "`returns`"),
        ("create_agent", new(json!({"type": "both"})), "invalid_argument", "`type`: "),
        ("create_agent", new(json!({"name": ""})), "invalid_argument", "`name`: "),
        (
            "create_agent",
            new(json!({"tools": [{"type": "http", "name": "n", "description": "d"}]})),
            "invalid_argument",
            "`tools[0]`: an http tool needs `url`",
        ),
        (
            "create_agent",
            new(json!({"primary_number_id": "n1"})),
            "invalid_argument",
            "`primary_number_id` must be one of `number_ids`",
        ),
        (
            "update_agent",
            json!({"agent_id": agent, "persona": ""}),
            "invalid_argument",
            "`persona` may not be empty: leave it out to keep it, or name it in `clear` to empty it",
        ),
        (
            "update_agent",
            json!({"agent_id": agent, "voice": null, "persona": null}),
            "invalid_argument",
            "there is nothing to change",
        ),
        (
            "update_agent",
            json!({"agent_id": agent}),
            "invalid_argument",
            "there is nothing to change",
        ),
        (
            "update_agent",
            json!({"agent_id": agent, "clear": ["name"]}),
            "invalid_argument",
            "`clear[0]`: must be one of `persona`, `instructions`",
        ),
        (
            "update_agent",
            json!({"agent_id": agent, "persona": "P", "clear": ["persona"]}),
            "invalid_argument",
            "`persona` is set and also named in `clear`",
        ),
        (
            "set_agent_numbers",
            json!({"agent_id": agent}),
            "invalid_argument",
            "there is nothing to do",
        ),
        ("get_agent", json!({"agent_id": "../numbers/purchase"}), "not_found", "GET /v1/agents/"),
        // Reading.
        ("get_call_result", json!({"call_id": "none"}), "not_found", "GET /v1/calls/"),
        ("get_call_result", json!({"call_id": "a/b?c#d"}), "not_found", "GET /v1/calls/"),
        (
            "get_call_result",
            json!({"call_id": "c", "wait_seconds": -1}),
            "invalid_argument",
            "`wait_seconds`: must be a whole number from 0 to 3600",
        ),
        (
            "get_call_result",
            json!({"call_id": "c", "wait_seconds": 1e300}),
            "invalid_argument",
            "`wait_seconds`: must be a whole number from 0 to 3600",
        ),
        ("list_calls", json!({"limit": 101}), "invalid_argument", "`limit`: "),
        (
            "list_calls",
            json!({"outcomes": ["done"]}),
            "invalid_argument",
            "`outcomes[0]`: must be one of `in_progress`, ",
        ),
        (
            "list_calls",
            json!({"starting_after": "a", "ending_before": "b"}),
            "invalid_argument",
            "`starting_after` and `ending_before` exclude each other",
        ),
        ("list_calls", json!({"starting_after": "nowhere"}), "", "GET /v1/calls"),
        ("search_numbers", json!({"area_code": "41"}), "invalid_argument", "`area_code`: "),
        (
            "search_numbers",
            json!({"area_code": "415", "number_type": "toll_free"}),
            "invalid_argument",
            "`area_code` is for local numbers only",
        ),
        (
            "purchase_number",
            json!({"phone_number": "+19995550100"}),
            "",
            "POST /v1/numbers/purchase",
        ),
        (
            "list_agents",
            json!({"x": 1}),
            "invalid_argument",
            "there is no argument `x`; the valid arguments are `type`",
        ),
    ] {
        let shown: String = arguments.to_string().chars().take(200).collect();
        let error = session.failure(tool, arguments).await;
        // An error of the API is recognized by its request, which the text does not name.
        let source = if message.starts_with(['G', 'P']) { "request" } else { "message" };
        let found = error[source].as_str().unwrap();
        assert!(found.starts_with(message), "{tool} {shown}: {found}");
        assert!(found.len() < 600, "{tool} {shown}: an error is short, not {}", found.len());
        if class.is_empty() {
            let class = error["class"].as_str().unwrap();
            let fits = ["invalid_argument", "not_found", "conflict"].contains(&class);
            assert!(fits, "{tool} {shown}: {error}");
        } else {
            assert_eq!(error["class"], class, "{tool} {shown}: {found}");
        }
        assert_eq!(error["done"], "nothing", "{tool} {shown}");
        assert_eq!(error["retry"], "after_change", "{tool} {shown}");
        assert_unharmed(&mut session, &shown).await;
    }
    assert_eq!(session.data("list_agents", json!({})).await, made, "nothing was made");
    session.finish_well().await;
}

#[tokio::test]
async fn in_call_tools_that_the_api_would_refuse_are_not_sent() {
    let mut session = Session::modern().await;
    let agent = session.data("create_agent", json!({"name": "A", "type": "outbound"})).await;
    session.control().reset_counts().await;
    let tool = |more: Value| {
        let mut tool = json!({
            "type": "http", "name": "n", "description": "d", "url": "https://example.com/slots",
        });
        tool.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        tool
    };
    for (tool, message) in [
        (tool(json!({"parameters": {"type": "object"}})), "`parameters.properties` must be"),
        (
            tool(json!({"parameters": {"type": "object", "properties": {"day": {}}}})),
            "`parameters.properties.day.type` must be",
        ),
    ] {
        let message = format!("`tools[0]`: {message}");
        let new = json!({"name": "B", "type": "outbound", "tools": [tool]});
        let change = json!({"agent_id": agent["agent_id"], "tools": [tool]});
        for (name, arguments) in [("create_agent", new), ("update_agent", change)] {
            let error = session.failure(name, arguments).await;
            assert!(error["message"].as_str().unwrap().starts_with(&message), "{name}: {error}");
            assert_eq!(
                (&error["class"], &error["done"]),
                (&json!("invalid_argument"), &json!("nothing"))
            );
        }
    }
    let path = format!("/v1/agents/{}", agent["agent_id"].as_str().unwrap());
    assert_eq!(session.control().count("POST", "/v1/agents").await, 0);
    assert_eq!(session.control().count("PATCH", &path).await, 0);
    session.finish_well().await;
}

/// Sends one line unchanged, and returns the code, the id and the message of the error.
async fn send_invalid_line(session: &mut Session, line: &[u8]) -> (i64, Value, String) {
    session.send_bytes(line).await;
    session.send_bytes(b"\n").await;
    let answer = session.next().await.unwrap();
    let shown = String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned();
    let error = answer.get("error").unwrap_or_else(|| panic!("{shown}: {answer}"));
    let message = error["message"].as_str().unwrap().to_owned();
    assert!(message.len() > 15 && message.len() < 400, "{shown}: {message}");
    (error["code"].as_i64().unwrap(), answer["id"].clone(), message)
}

#[tokio::test]
async fn unreadable_messages_are_refused_with_their_id_if_they_have_one() {
    for era in Era::BOTH {
        let mut session = Session::new(era).await;
        let request = |id: Value, method: Value, params: Value| {
            let params = if params.is_object() { era.parameters(params) } else { params };
            json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
        };
        let mut old =
            serde_json::from_str::<Value>(&request(json!(91), json!("tools/list"), json!({})))
                .unwrap();
        old["jsonrpc"] = json!("1.0");
        let mut none = old.clone();
        none.as_object_mut().unwrap().remove("jsonrpc");
        let call = |params: Value| request(json!(92), json!("tools/call"), params).into_bytes();
        let mut huge =
            b"{\"jsonrpc\":\"2.0\",\"id\":93,\"method\":\"tools/call\",\"params\":{\"name\":\""
                .to_vec();
        huge.resize(16 * 1024 * 1024, b'x');
        huge.extend_from_slice(b"\"}}");
        for (line, code, id, message) in [
            (b"nonsense".to_vec(), -32700, Value::Null, "the message is not JSON"),
            (b"{\"jsonrpc\":\"2.0\",".to_vec(), -32700, Value::Null, "the message is not JSON"),
            (
                b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\xfe\"}".to_vec(),
                -32700,
                json!(1),
                "the message is not UTF-8",
            ),
            (vec![b'['; 100_000], -32700, Value::Null, "the message is not JSON"),
            (b"[]".to_vec(), -32600, Value::Null, "batches were removed"),
            (
                format!("[{}]", request(json!(1), json!("tools/list"), json!({}))).into_bytes(),
                -32600,
                Value::Null,
                "batches were removed",
            ),
            (b"42".to_vec(), -32600, Value::Null, "a message is a JSON object"),
            (b"\"tools/list\"".to_vec(), -32600, Value::Null, "a message is a JSON object"),
            (b"{}".to_vec(), -32600, Value::Null, "not a JSON-RPC 2.0 message"),
            (
                old.to_string().into_bytes(),
                -32600,
                json!(91),
                "not a JSON-RPC 2.0 message: `jsonrpc` must be \"2.0\"",
            ),
            (
                none.to_string().into_bytes(),
                -32600,
                json!(91),
                "not a JSON-RPC 2.0 message: `jsonrpc` must be \"2.0\"",
            ),
            (
                b"{\"jsonrpc\":\"2.0\",\"id\":94}".to_vec(),
                -32600,
                json!(94),
                "not a JSON-RPC 2.0 message: `method`",
            ),
            (
                b"{\"jsonrpc\":\"2.0\",\"id\":95,\"method\":5}".to_vec(),
                -32600,
                json!(95),
                "not a JSON-RPC 2.0 message: `method`",
            ),
            (
                b"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"tools/list\"}".to_vec(),
                -32600,
                Value::Null,
                "not a JSON-RPC 2.0 message: `id`",
            ),
            (
                b"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"tools/list\"}".to_vec(),
                -32600,
                Value::Null,
                "not a JSON-RPC 2.0 message: `id`",
            ),
            (
                b"{\"jsonrpc\":\"2.0\",\"id\":96,\"method\":\"ping\",\"result\":{}}".to_vec(),
                -32600,
                json!(96),
                "not a JSON-RPC 2.0 message: a request has no `result`",
            ),
            (
                request(json!("a"), json!("tools/list"), json!([1])).into_bytes(),
                -32602,
                json!("a"),
                "the parameters of tools/list cannot be read",
            ),
            (
                request(json!("a"), json!("tools/call"), json!("x")).into_bytes(),
                -32602,
                json!("a"),
                "the parameters of tools/call cannot be read",
            ),
            (
                call(json!({"arguments": {}})),
                -32602,
                json!(92),
                "the parameters of tools/call cannot be read",
            ),
            (
                call(json!({"name": 5})),
                -32602,
                json!(92),
                "the parameters of tools/call cannot be read",
            ),
            (
                call(json!({"name": "list_agents", "arguments": [1]})),
                -32602,
                json!(92),
                "the parameters of tools/call cannot be read",
            ),
            (
                call(json!({"name": "list_agents", "arguments": "limit: 1"})),
                -32602,
                json!(92),
                "the parameters of tools/call cannot be read",
            ),
            (
                call(json!({"name": "place_cal"})),
                -32602,
                json!(92),
                "there is no tool `place_cal`; did you mean `place_call`?",
            ),
            (
                call(json!({"name": "y".repeat(100_000)})),
                -32602,
                json!(92),
                "there is no tool `yyy",
            ),
            (
                request(json!(96), json!("tools/nope"), json!({})).into_bytes(),
                -32601,
                json!(96),
                "there is no method `tools/nope`",
            ),
            (
                request(json!(96), json!("z".repeat(100_000)), json!({})).into_bytes(),
                -32601,
                json!(96),
                "there is no method `zzz",
            ),
            (
                request(json!(97), json!("prompts/lists"), json!({})).into_bytes(),
                -32601,
                json!(97),
                "there is no method `prompts/lists`",
            ),
            (
                request(json!(97), json!("resources/lists"), json!({})).into_bytes(),
                -32601,
                json!(97),
                "there is no method `resources/lists`",
            ),
            (huge, -32600, Value::Null, "a message may have at most 8388608 bytes"),
        ] {
            let (found_code, found_id, found) = send_invalid_line(&mut session, &line).await;
            let shown = String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned();
            assert_eq!((found_code, found_id), (code, id), "{era:?} {shown}: {found}");
            assert!(found.starts_with(message), "{era:?} {shown}: {found}");
            assert_unharmed(&mut session, &shown).await;
        }
        // None of these is a request, so none is answered.
        for line in [
            "",
            "   ",
            "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/nope\"}",
            "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":77}}",
            "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":7}",
            "{\"jsonrpc\":\"2.0\",\"id\":\"never\",\"result\":{}}",
        ] {
            session.send_bytes(format!("{line}\r\n").as_bytes()).await;
            assert_unharmed(&mut session, line).await;
        }
        let (rest, status, log) = session.finish().await;
        assert_eq!((rest, status.code()), (vec![], Some(0)), "{era:?}");
        assert!(!log.contains("ERROR"), "{log}");
    }
}

#[tokio::test]
async fn the_error_for_bad_parameters_of_a_known_method_names_what_is_missing() {
    let tasks = "io.modelcontextprotocol/tasks";
    for era in Era::BOTH {
        let mut session = Session::new(era).await;
        session.capabilities = json!({"extensions": {tasks: {}}});
        for (method, params, problem) in [
            ("resources/read", json!({}), "missing field `uri`"),
            ("resources/read", json!({"uri": 5}), "invalid type: integer `5`, expected a string"),
            ("prompts/get", json!({}), "missing field `name`"),
            ("completion/complete", json!({}), "missing field `ref`"),
            ("tasks/get", json!({}), "missing field `taskId`"),
            ("tasks/update", json!({"taskId": "t"}), "missing field `inputResponses`"),
            ("tasks/cancel", json!({}), "missing field `taskId`"),
            ("skills/get", json!({}), "missing field `uri`"),
        ] {
            let error = session.request(method, params.clone()).await["error"].clone();
            let text = format!("the parameters of {method} cannot be read: {problem}");
            assert_eq!(error, json!({"code": -32602, "message": text}), "{era:?} {params}");
        }
        // Each era has a subscription method of its own, and does not know the other's.
        let (known, unknown, missing) = match era {
            Era::Modern => ("subscriptions/listen", "resources/subscribe", "notifications"),
            Era::Legacy(_) => ("resources/subscribe", "subscriptions/listen", "uri"),
        };
        let error = session.request(known, json!({})).await["error"].clone();
        let text = format!("the parameters of {known} cannot be read: missing field `{missing}`");
        assert_eq!(error, json!({"code": -32602, "message": text}), "{era:?}");
        let error = session.request(unknown, json!({})).await["error"].clone();
        assert_eq!(error["code"], -32601, "{era:?}");
        let (rest, status, _) = session.finish().await;
        assert_eq!((rest, status.code()), (vec![], Some(0)), "{era:?}");
    }
}

#[tokio::test]
async fn a_cursor_that_was_never_issued_is_refused_by_every_list() {
    for era in Era::BOTH {
        let mut session = Session::new(era).await;
        for method in [
            "tools/list",
            "prompts/list",
            "resources/list",
            "resources/templates/list",
            "skills/list",
        ] {
            for cursor in [json!("page-2"), json!(" ")] {
                let answer = session.request(method, json!({"cursor": cursor})).await;
                assert_eq!(answer["error"]["code"], -32602, "{era:?} {method} {cursor}: {answer}");
                assert!(
                    answer["error"]["message"].as_str().unwrap().contains("cursor"),
                    "{answer}"
                );
            }
            for params in [json!({}), json!({"cursor": null}), json!({"cursor": ""})] {
                let answer = session.request(method, params).await;
                assert!(answer["result"].is_object(), "{era:?} {method}: {answer}");
            }
        }
        session.finish_well().await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_endless_line_is_refused_once_and_not_stored() {
    const LIMIT_KIB: u64 = MAX_LINE_BYTES as u64 / 1024;
    let mut session = Session::modern().await;
    let before = read_memory_kib(session.process_id(), "VmHWM");
    for _ in 0..8 {
        session.send_bytes(&vec![b'{'; MAX_LINE_BYTES]).await;
    }
    session.send_bytes(b"\n").await;
    let refusal = session.next().await.unwrap();
    assert_eq!(refusal["error"]["code"], -32600, "{refusal}");
    assert!(refusal["error"]["message"].as_str().unwrap().contains("8388608"), "{refusal}");
    assert_unharmed(&mut session, "an endless line").await;
    // The buffer of the line exists twice while it grows.
    let grown = read_memory_kib(session.process_id(), "VmHWM") - before;
    assert!(grown < 3 * LIMIT_KIB, "{grown} KiB more");
    let (rest, status, log) = session.finish().await;
    assert_eq!((rest, status.code(), log.lines().count()), (vec![], Some(0), 1), "{log}");
}

#[tokio::test]
async fn a_tool_that_is_switched_off_says_why() {
    for (flags, tool, reason) in [
        (&[][..], "list_webhooks", "its toolset is not switched on (--toolsets, --tools)"),
        (&["--read-only"], "place_call", "the server is read-only (--read-only)"),
        (&["--exclude-tools", "place_call"], "place_call", "it is switched off by --exclude-tools"),
    ] {
        let mut session = Session::on_simulator(Era::Modern, flags, Default::default()).await;
        // Its arguments are not checked.
        let error = session.failure(tool, json!({"agent_id": "a", "to": "+13105550100"})).await;
        assert_eq!(error["class"], "switched_off");
        assert_eq!(error["done"], "nothing");
        assert_eq!(error["message"], format!("the tool `{tool}` is not offered here: {reason}"));
        assert_unharmed(&mut session, tool).await;
        session.finish_well().await;
    }
    let mut session = Session::with(Era::Modern, &[], &[]).await;
    let error = session.failure("simulate_inbound_call", json!({})).await;
    assert_eq!(
        error["message"],
        "the tool `simulate_inbound_call` is not offered here: it exists only with --sandbox"
    );
    session.finish_well().await;
}

#[tokio::test]
async fn an_emergency_number_is_refused_before_the_agent_is_read() {
    let mut session = Session::modern().await;
    for to in [json!("+1911"), json!("911"), json!(911), json!("9-1-1")] {
        let call = json!({"agent_id": "nobody", "to": to});
        let error = session.failure("place_call", call).await;
        assert_eq!((&error["class"], &error["retry"]), (&json!("refused_by_policy"), &json!("no")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("never dial emergency numbers"), "{error}");
    }
    assert_eq!(session.control().count("GET", "/v1/agents/{id}").await, 0);
    session.finish_well().await;
}
