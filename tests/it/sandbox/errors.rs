//! Every error, with its status and text, and the proof that it changes nothing.

use callingbox_sandbox::Options;
use serde_json::{Value, json};

use crate::sandbox::support::{Client, manual_options, start_sandbox};

const UNKNOWN_ID: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn only_a_bearer_key_that_begins_with_sk_is_accepted() {
    let sandbox = start_sandbox(manual_options()).await;
    for (key, status) in [("sk_live_x", 200), ("sk_", 200), ("pk_live_x", 401), ("", 401)] {
        let (found, body) = Client::new(&sandbox, key).send_raw("GET", "/v1/calls", "").await;
        assert_eq!(found, status, "{key}: {body}");
        assert_eq!(body["error"].is_string(), status == 401);
    }
    let basic = reqwest::Client::builder().no_proxy().build().unwrap();
    let basic = basic.get(format!("{}/v1/calls", sandbox.url()));
    assert_eq!(basic.try_clone().unwrap().send().await.unwrap().status(), 401);
    assert_eq!(
        basic.header("authorization", "Basic sk_live_x").send().await.unwrap().status(),
        401
    );
}

#[tokio::test]
async fn a_foreign_host_or_web_page_is_refused() {
    let sandbox = start_sandbox(manual_options()).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (name, value, status) in [
        ("host", "localhost:4010", 200),
        ("host", "evil.example", 403),
        ("host", "127.0.0.1.evil.example", 403),
        ("origin", "http://localhost:5173", 200),
        ("origin", "https://evil.example", 403),
    ] {
        for (method, path) in [("GET", "/sandbox"), ("POST", "/sandbox/clock"), ("GET", "/nothing")]
        {
            let url = format!("{}{path}", sandbox.url());
            let request = http.request(method.parse().unwrap(), url).header(name, value);
            let found = request.body("{\"advance_seconds\": 1}").send().await.unwrap().status();
            let expected = if status == 200 && path == "/nothing" { 404 } else { status };
            assert_eq!(found, expected, "{method} {path} {name}: {value}");
        }
    }
    assert_eq!(Client::new(&sandbox, "sk_a").get("/sandbox/clock").await["speed"], Value::Null);
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let sandbox = start_sandbox(manual_options()).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (coding, status) in [("gzip", 415), ("identity", 200)] {
        let request = http.post(format!("{}/sandbox/clock", sandbox.url()));
        let request = request.header("content-encoding", coding);
        let response = request.body("{\"advance_seconds\": 1}").send().await.unwrap();
        assert_eq!(response.status(), status, "{coding}");
    }
}

#[tokio::test]
async fn organizations_are_isolated_from_each_other() {
    let sandbox = start_sandbox(manual_options()).await;
    let (one, other) = (Client::new(&sandbox, "sk_one"), Client::new(&sandbox, "sk_other"));
    let agent = one.create_agent("outbound", json!({})).await;
    let call = one.place_call(&agent, "+13105550100").await;
    let id = call["id"].as_str().unwrap();
    let (status, body) = other.send_raw("GET", &format!("/v1/calls/{id}"), "").await;
    assert_eq!((status, &body["error"]), (404, &json!(format!("call {id} not found"))));
    assert_eq!(other.get("/v1/agents").await, json!({"data": []}));
    let (status, _) = other
        .send_json("POST", "/v1/numbers/purchase", json!({"phone_number": agent.number["e164"]}))
        .await;
    assert_eq!(status, 409, "a number that another organization owns is not for sale");
}

#[tokio::test]
async fn bad_requests_are_rejected_and_change_nothing() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_errors");
    client.set_credit(1_000_000).await;
    let outbound = client.create_agent("outbound", json!({})).await;
    let inbound = client.create_agent("inbound", json!({})).await;
    let spare = client.buy_number().await;
    let bare =
        client.send_ok("POST", "/v1/agents", json!({"name": "Bare", "type": "outbound"})).await;
    let gone = client
        .send_ok(
            "POST",
            "/v1/agents",
            json!({"name": "Gone", "type": "outbound", "number_ids": [spare["id"]]}),
        )
        .await;
    let gone = gone["id"].as_str().unwrap();
    client.send_ok("DELETE", &format!("/v1/agents/{gone}"), json!({})).await;
    let endpoint = client
        .send_ok("POST", "/v1/webhook_endpoints", json!({"url": "https://example.com/h"}))
        .await;
    let endpoint = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    let agent = format!("/v1/agents/{}", outbound.id);
    let numbers = format!("{agent}/numbers");
    let primary = format!("{agent}/primary-number");
    let to = "+13105550100";
    let call = |more: Value| {
        let mut order = json!({"agent_id": outbound.id, "to": to});
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order
    };
    let new = |more: Value| {
        let mut order = json!({"name": "A", "type": "outbound"});
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order
    };
    let tool = json!({"type": "builtin", "name": "end_call", "description": "d", "policy": "read",
        "builtin": "end_call", "parameters": {"type": "object", "properties": {}}});
    let cases: Vec<(&str, String, Value, u16, &str)> = vec![
        ("POST", "/v1/calls".into(), json!([]), 400, "the body must be a JSON object"),
        ("POST", "/v1/calls".into(), json!({"to": to}), 400, "agent_id is required"),
        ("POST", "/v1/calls".into(), json!({"agent_id": outbound.id}), 400, "to is required"),
        (
            "POST",
            "/v1/calls".into(),
            call(json!({"to": "911"})),
            400,
            "to must be a number in E.164",
        ),
        ("POST", "/v1/calls".into(), call(json!({"to": null})), 400, "to must be a string"),
        ("POST", "/v1/calls".into(), call(json!({"from_number": "x"})), 400, "from_number must be"),
        (
            "POST",
            "/v1/calls".into(),
            call(json!({"from_number": spare["e164"]})),
            400,
            "from_number is not attached",
        ),
        (
            "POST",
            "/v1/calls".into(),
            call(json!({"context": []})),
            400,
            "context must be an object",
        ),
        (
            "POST",
            "/v1/calls".into(),
            call(json!({"metadata": "x"})),
            400,
            "metadata must be an object",
        ),
        ("POST", "/v1/calls".into(), call(json!({"persona": "x"})), 400, "unknown field persona"),
        ("POST", "/v1/calls".into(), call(json!({"returns": {}})), 400, "unknown field returns"),
        (
            "POST",
            "/v1/calls".into(),
            call(json!({"webhook_url": "nope"})),
            400,
            "webhook_url must be",
        ),
        ("POST", "/v1/calls".into(), call(json!({"agent_id": UNKNOWN_ID})), 404, "agent 00000000"),
        (
            "POST",
            "/v1/calls".into(),
            call(json!({"agent_id": "pn_abc"})),
            404,
            "agent pn_abc not found",
        ),
        ("POST", "/v1/calls".into(), call(json!({"agent_id": inbound.id})), 400, "agent "),
        ("POST", "/v1/calls".into(), call(json!({"agent_id": bare["id"]})), 400, "agent "),
        ("POST", "/v1/calls".into(), call(json!({"agent_id": gone})), 400, "agent "),
        ("GET", "/v1/calls?limit=0".into(), Value::Null, 400, "limit must be"),
        ("GET", "/v1/calls?status=completed".into(), Value::Null, 400, "unknown parameter status"),
        (
            "GET",
            format!("/v1/calls?starting_after={UNKNOWN_ID}"),
            Value::Null,
            400,
            "starting_after names no item",
        ),
        ("GET", format!("/v1/calls/{UNKNOWN_ID}"), Value::Null, 404, "call 00000000"),
        (
            "GET",
            "/v1/calls/..%2Fnumbers%2Fpurchase".into(),
            Value::Null,
            404,
            "call ../numbers/purchase not found",
        ),
        ("GET", format!("/v1/calls/{UNKNOWN_ID}/transcript"), Value::Null, 404, "call 00000000"),
        ("PUT", "/v1/calls".into(), Value::Null, 405, "this path"),
        ("GET", "/v1/nothing".into(), Value::Null, 404, "no such path"),
        ("POST", "/v1/agents".into(), json!({"name": "A"}), 400, "type is required"),
        ("POST", "/v1/agents".into(), json!({"type": "outbound"}), 400, "name is required"),
        (
            "POST",
            "/v1/agents".into(),
            new(json!({"type": "both"})),
            400,
            "type must be one of inbound, outbound",
        ),
        (
            "POST",
            "/v1/agents".into(),
            new(json!({"returns": {"a": "integer"}})),
            400,
            "returns.a must be one of",
        ),
        (
            "POST",
            "/v1/agents".into(),
            new(json!({"returns": {"a": {"b": "string"}}})),
            400,
            "returns.a must be",
        ),
        (
            "POST",
            "/v1/agents".into(),
            new(json!({"tools": vec![tool.clone(); 17]})),
            400,
            "at most 16 tools",
        ),
        ("POST", "/v1/agents".into(), new(json!({"tools": [{"type": "mcp"}]})), 400, "tools[0]"),
        (
            "POST",
            "/v1/agents".into(),
            new(json!({"number_ids": [UNKNOWN_ID]})),
            404,
            "number 00000000",
        ),
        (
            "POST",
            "/v1/agents".into(),
            new(json!({"type": "inbound", "number_ids": [inbound.number["id"]]})),
            409,
            "number ",
        ),
        (
            "POST",
            "/v1/agents".into(),
            new(json!({"primary_number_id": spare["id"]})),
            400,
            "primary_number_id must be one of",
        ),
        (
            "POST",
            "/v1/agents".into(),
            new(json!({"voicemail_action": "beep"})),
            400,
            "voicemail_action must be one of",
        ),
        (
            "POST",
            "/v1/agents".into(),
            new(json!({"temperature": 1})),
            400,
            "unknown field temperature",
        ),
        ("GET", "/v1/agents?type=x".into(), Value::Null, 400, "type must be one of"),
        ("GET", format!("/v1/agents/{UNKNOWN_ID}"), Value::Null, 404, "agent 00000000"),
        ("PATCH", agent.clone(), json!({"type": "inbound"}), 400, "unknown field type"),
        ("PATCH", agent.clone(), json!({"name": null}), 400, "name must be a string"),
        ("PATCH", agent.clone(), json!({"returns": null}), 400, "returns must be an object"),
        ("POST", numbers.clone(), json!({}), 400, "number_id is required"),
        ("POST", numbers.clone(), json!({"number_id": UNKNOWN_ID}), 404, "number 00000000"),
        (
            "POST",
            format!("/v1/agents/{}/numbers", inbound.id),
            json!({"number_id": UNKNOWN_ID}),
            404,
            "number",
        ),
        (
            "DELETE",
            format!("{numbers}/{}", spare["id"].as_str().unwrap()),
            Value::Null,
            404,
            "attached number",
        ),
        ("PUT", primary.clone(), json!({"number_id": spare["id"]}), 400, "number "),
        ("PUT", primary, json!({"number_id": UNKNOWN_ID}), 404, "number "),
        (
            "GET",
            "/v1/numbers/available?limit=51".into(),
            Value::Null,
            400,
            "limit must be a whole number from 1 to 50",
        ),
        (
            "GET",
            "/v1/numbers/available?country_code=us".into(),
            Value::Null,
            400,
            "country_code must be",
        ),
        (
            "GET",
            "/v1/numbers/available?number_type=mobile".into(),
            Value::Null,
            400,
            "number_type must be one of",
        ),
        (
            "POST",
            "/v1/numbers/purchase".into(),
            json!({"phone_number": "1"}),
            400,
            "phone_number must be",
        ),
        (
            "POST",
            "/v1/numbers/purchase".into(),
            json!({"phone_number": spare["e164"]}),
            409,
            "number +1",
        ),
        (
            "POST",
            "/v1/numbers/purchase".into(),
            json!({"phone_number": "+14155552671"}),
            409,
            "number +1",
        ),
        ("POST", "/v1/webhook_endpoints".into(), json!({}), 400, "url is required"),
        (
            "POST",
            "/v1/webhook_endpoints".into(),
            json!({"url": "ftp://example.com"}),
            400,
            "url must be",
        ),
        (
            "POST",
            "/v1/webhook_endpoints".into(),
            json!({"url": "https://example.com", "enabled_events": ["call.lost"]}),
            400,
            "enabled_events must be",
        ),
        (
            "PATCH",
            endpoint.clone(),
            json!({"status": "paused"}),
            400,
            "status must be one of enabled, disabled",
        ),
        ("PATCH", endpoint, json!({"signing_secret": "x"}), 400, "unknown field signing_secret"),
        (
            "GET",
            format!("/v1/webhook_endpoints/{UNKNOWN_ID}"),
            Value::Null,
            404,
            "webhook endpoint",
        ),
        ("DELETE", "/v1/webhook_endpoints/x".into(), Value::Null, 404, "webhook endpoint"),
        (
            "POST",
            format!("/v1/webhook_endpoints/{UNKNOWN_ID}/rotate_secret"),
            Value::Null,
            404,
            "webhook endpoint",
        ),
        ("GET", "/v1/webhook_deliveries?limit=201".into(), Value::Null, 400, "limit must be"),
        (
            "GET",
            "/v1/webhook_deliveries?call_id=x".into(),
            Value::Null,
            400,
            "call_id must be a UUID",
        ),
        (
            "GET",
            format!("/v1/webhook_deliveries/{UNKNOWN_ID}"),
            Value::Null,
            404,
            "webhook delivery",
        ),
        (
            "POST",
            format!("/v1/webhook_deliveries/{UNKNOWN_ID}/redeliver"),
            Value::Null,
            404,
            "webhook delivery",
        ),
        (
            "POST",
            "/sandbox/clock".into(),
            json!({"advance_seconds": -1}),
            400,
            "advance_seconds must be",
        ),
        ("POST", "/sandbox/clock".into(), json!({"speed": 0}), 400, "speed must be"),
        (
            "POST",
            "/sandbox/clock".into(),
            json!({"speed": 1, "manual": true}),
            400,
            "give exactly one",
        ),
        ("POST", "/sandbox/credits".into(), json!({"balance": 1}), 400, "unknown field balance"),
        (
            "POST",
            "/sandbox/faults".into(),
            json!({"path": "/sandbox", "kind": "reset"}),
            400,
            "path must begin",
        ),
        (
            "POST",
            "/sandbox/faults".into(),
            json!({"path": "/v1/calls", "kind": "explode"}),
            400,
            "kind must be one of",
        ),
        (
            "POST",
            "/sandbox/faults".into(),
            json!({"path": "/v1/calls", "kind": "status"}),
            400,
            "a fault of kind status needs status",
        ),
        (
            "POST",
            "/sandbox/faults".into(),
            json!({"path": "/v1/calls", "kind": "reset", "delay_ms": 1}),
            400,
            "status, retry_after",
        ),
        (
            "POST",
            "/sandbox/inbound_calls".into(),
            json!({"to": to, "from": to, "scenario": "0199"}),
            400,
            "scenario 0199 cannot",
        ),
    ];
    let state = async || {
        let mut all = Vec::new();
        for path in [
            "/v1/agents",
            "/v1/calls",
            "/v1/numbers",
            "/v1/webhook_endpoints",
            "/v1/webhook_deliveries",
            "/sandbox/dialed",
            "/sandbox/credits",
            "/sandbox/clock",
            "/sandbox/faults",
        ] {
            all.push(client.get(path).await);
        }
        all
    };
    let before = state().await;
    for (method, path, body, status, text) in cases {
        let sent = if body.is_null() { String::new() } else { body.to_string() };
        let (found, answer) = client.send_raw(method, &path, &sent).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(
            found == status && error.starts_with(text),
            "{method} {path} {body}: {found} {answer}"
        );
    }
    for body in
        ["", "{", "nul", "\"x\"", "{\"to\": \"\u{fffd}", &"[".repeat(500), &" ".repeat(300_000)]
    {
        assert_eq!(client.send_raw("POST", "/v1/calls", body).await.0, 400);
    }
    assert_eq!(state().await, before);
}

#[tokio::test]
async fn too_little_credit_pauses_calls_and_purchases() {
    // The credit of a new account.
    let options = Options { credit_milli_cents: 500_000, ..manual_options() };
    let sandbox = start_sandbox(options).await;
    let client = Client::new(&sandbox, "sk_live_poor");
    let agent = client.create_agent("outbound", json!({})).await;
    // $4.00 remain: one call holds $3.00, and the next would need $2.00 more.
    client.place_call(&agent, "+13105550107").await;
    let (status, body) = client
        .send_json("POST", "/v1/calls", json!({"agent_id": agent.id, "to": "+13105550100"}))
        .await;
    assert_eq!(
        (status, body["error"].as_str().unwrap()),
        (
            402,
            "Calls paused. Your balance of $1.00 is below the $3.00 held for each call; the hold \
            is given back when nobody answers. Add at least $2.00 to go on."
        )
    );
    assert_eq!(client.list_dialed().await, ["+13105550107"]);
    client.set_credit(399_999).await;
    let offer = client.get("/v1/numbers/available").await[0]["phone_number"].clone();
    let (status, body) =
        client.send_json("POST", "/v1/numbers/purchase", json!({"phone_number": offer})).await;
    assert_eq!(
        (status, body["error"].as_str().unwrap().starts_with("insufficient credit")),
        (402, true)
    );
    client.set_credit(400_000).await;
    client.send_ok("POST", "/v1/numbers/purchase", json!({"phone_number": offer})).await;
    assert_eq!(client.get("/sandbox/credits").await["available_milli_cents"], 0);
}

#[tokio::test]
async fn attaching_detaching_and_archiving_keep_the_primary_number_valid() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_numbers");
    let agent = client.create_agent("outbound", json!({})).await;
    let second = client.buy_number().await;
    let path = format!("/v1/agents/{}", agent.id);
    let view = |agent: &Value| {
        let ids: Vec<Value> =
            agent["numbers"].as_array().unwrap().iter().map(|n| n["id"].clone()).collect();
        (agent["primary_number_id"].clone(), ids)
    };
    let (a, b) = (agent.number["id"].clone(), second["id"].clone());
    let found = client.send_ok("POST", &format!("{path}/numbers"), json!({"number_id": b})).await;
    assert_eq!(view(&found), (a.clone(), vec![a.clone(), b.clone()]));
    let found =
        client.send_ok("PUT", &format!("{path}/primary-number"), json!({"number_id": b})).await;
    assert_eq!(view(&found), (b.clone(), vec![a.clone(), b.clone()]));
    let found = client
        .send_ok("DELETE", &format!("{path}/numbers/{}", b.as_str().unwrap()), json!({}))
        .await;
    assert_eq!(view(&found), (a.clone(), vec![a.clone()]));
    let listed = client.get("/v1/numbers?limit=1").await;
    assert_eq!((&listed["data"][0]["id"], &listed["has_more"]), (&b, &json!(true)));
    let first = client.get(&format!("/v1/numbers?starting_after={}", b.as_str().unwrap())).await;
    assert_eq!(first["data"][0]["outbound_agent_ids"], json!([agent.id]));
    let archived = client.send_ok("DELETE", &path, json!({})).await;
    assert_eq!(view(&archived), (Value::Null, vec![]));
    assert_eq!(
        client.send_ok("DELETE", &path, json!({})).await,
        archived,
        "archiving twice changes nothing"
    );
    assert_eq!(client.get(&path).await, archived);
    assert_eq!(client.get("/v1/agents").await, json!({"data": []}));
}

#[tokio::test]
async fn a_number_has_one_inbound_agent_and_any_number_of_outbound_ones() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_shared");
    client.set_credit(1_000_000).await;
    let desk = client.create_agent("inbound", json!({})).await;
    let other = client.create_agent("inbound", json!({})).await;
    let caller = client.create_agent("outbound", json!({})).await;
    let attach = async |agent: &str| {
        let body = json!({"number_id": desk.number["id"]});
        client.send_json("POST", &format!("/v1/agents/{agent}/numbers"), body).await
    };
    let (status, body) = attach(&other.id).await;
    assert_eq!(status, 409, "{body}");
    let is_attached = |agent: &Value| {
        agent["numbers"].as_array().unwrap().iter().any(|n| n["id"] == desk.number["id"])
    };
    assert!(!is_attached(&client.get(&format!("/v1/agents/{}", other.id)).await));
    for agent in [&desk.id, &caller.id] {
        let (status, body) = attach(agent).await;
        assert!(status == 200 && is_attached(&body), "{status} {body}");
    }
    let numbers = client.get("/v1/numbers").await;
    let shared = numbers["data"].as_array().unwrap();
    let shared = shared.iter().find(|n| n["id"] == desk.number["id"]).unwrap();
    assert_eq!(
        (&shared["inbound_agent_id"], &shared["outbound_agent_ids"]),
        (&json!(desk.id), &json!([caller.id]))
    );
    // An archived agent frees its numbers.
    client.send_ok("DELETE", &format!("/v1/agents/{}", desk.id), json!({})).await;
    assert_eq!(attach(&desk.id).await.0, 400, "an archived agent accepts no number");
    assert_eq!(attach(&other.id).await.0, 200);
}
