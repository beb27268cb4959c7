//! What leaves: paths, headers, bodies, connections.

use std::collections::BTreeMap;

use callingbox::E164;
use callingbox::{
    AgentCreate, AgentId, AgentType, AgentUpdate, CallCreate, CallId, Change, DeliveryFilter,
    DeliveryId, DeliveryStatus, EndpointId, EndpointStatus, ErrorKind, EventSubscription, NumberId,
    NumberSearch, NumberType, PageCursor, PageRequest, ReturnType, VoicemailAction, WebhookCreate,
    WebhookUpdate,
};
use serde_json::{Value, json};

use super::wire::{KEY, Reply, Server, config, json as reply, text};

fn number(text: &str) -> E164 {
    E164::parse(text).unwrap()
}

#[tokio::test]
async fn an_id_cannot_reach_another_path() {
    let server = Server::new(vec![reply(404, &json!({"error": "not found"}))]).await;
    let long = "x".repeat(129);
    let table = [
        ("../numbers/purchase", Some("..%2Fnumbers%2Fpurchase")),
        ("%2e%2e/numbers", Some("%252e%252e%2Fnumbers")),
        ("%2e%2e", Some("%252e%252e")),
        (".%2e", Some(".%252e")),
        ("..\\x", Some("..%5Cx")),
        ("a/../../b", Some("a%2F..%2F..%2Fb")),
        ("a?limit=1#b", Some("a%3Flimit%3D1%23b")),
        ("a b\r\n\té", Some("a%20b%0D%0A%09%C3%A9")),
        ("...", Some("...")),
        ("c4d9e3f0-2b61_~.X", Some("c4d9e3f0-2b61_~.X")),
        ("{id}", Some("%7Bid%7D")),
        ("..", None),
        (".", None),
        ("", None),
        (long.as_str(), None),
    ];
    for base in ["", "/gateway/", "/a%20b"] {
        let client =
            callingbox::ApiClient::new(config(&format!("http://{}{base}", server.address)));
        for (id, segment) in table {
            let before = server.seen().len();
            let error = client.get_call(&CallId::new(id)).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{id}: {error}");
            let base = base.trim_end_matches('/');
            let expected: Vec<_> =
                segment.iter().map(|segment| format!("GET {base}/v1/calls/{segment}")).collect();
            assert_eq!(server.targets()[before..], expected, "{id:?}");
        }
    }
    let before = server.seen().len();
    for (agent, number) in [("..", "n"), ("a", ".."), ("a", "")] {
        let (agent, number) = (AgentId::new(agent), NumberId::new(number));
        server.client().detach_number(&agent, &number).await.unwrap_err();
    }
    assert_eq!(server.seen().len(), before);
}

/// Every endpoint: what is sent for it.
#[tokio::test]
async fn each_endpoint_sends_the_request_of_the_contract() {
    let record = json!({"id": "a1", "call_id": "x", "segments": []});
    let server = Server::new(vec![reply(200, &record)]).await;
    let client = server.client();
    let (agent, call) = (AgentId::new("a1"), CallId::new("c1"));
    let (owned, endpoint) = (NumberId::new("n1"), EndpointId::new("e1"));
    let delivery = DeliveryId::new("d1");

    let mut create = AgentCreate::new("Mia", AgentType::Outbound);
    create.returns = Some(BTreeMap::from([("ok".to_owned(), ReturnType::Boolean)]));
    create.voicemail_action = Some(VoicemailAction::LeaveMessage);
    create.number_ids = Some(vec![owned.clone()]);
    create.tools = serde_json::from_value(json!([
        {"type": "builtin", "name": "end_call", "description": "Hangs up.", "builtin": "end_call"},
        {"type": "http", "name": "slots", "description": "Finds.", "url": "https://example.com",
         "policy": "confirm_first_write", "headers": {"X-K": "v"}, "timeout_ms": 5000},
    ]))
    .unwrap();
    client.create_agent(&create).await.unwrap();
    client.get_agent(&agent).await.unwrap();
    let update = AgentUpdate {
        name: Some("Max".to_owned()),
        persona: Change::Clear,
        instructions: Change::Set("Ask.".to_owned()),
        ..AgentUpdate::default()
    };
    client.update_agent(&agent, &update).await.unwrap();
    client.archive_agent(&agent).await.unwrap();
    client.attach_number(&agent, &owned).await.unwrap();
    client.detach_number(&agent, &owned).await.unwrap();
    client.set_primary_number(&agent, &owned).await.unwrap();
    let mut place = CallCreate::new(agent, number("+14155550100"));
    client.place_call(&place).await.unwrap();
    place.from_number = Some(number("+14155550123"));
    place.context = Some(serde_json::Map::from_iter([("a".to_owned(), json!(1))]));
    client.place_call(&place).await.unwrap();
    client.get_call(&call).await.unwrap();
    client.get_transcript(&call).await.unwrap();
    client.purchase_number(&number("+14155550123")).await.unwrap();
    let webhook = WebhookCreate {
        url: "https://example.com/h".to_owned(),
        description: None,
        enabled_events: Some(vec![EventSubscription::All, EventSubscription::NoAnswer]),
    };
    client.create_webhook(&webhook).await.unwrap();
    client.get_webhook(&endpoint).await.unwrap();
    let update = WebhookUpdate {
        description: Change::Clear,
        status: Some(EndpointStatus::Enabled),
        ..WebhookUpdate::default()
    };
    server.say(reply(200, &json!({"id": "e1"})));
    client.update_webhook(&endpoint, &update).await.unwrap();
    client.delete_webhook(&endpoint).await.unwrap();
    client.rotate_webhook_secret(&endpoint).await.unwrap();
    client.get_webhook_delivery(&delivery).await.unwrap();
    client.redeliver_webhook(&delivery).await.unwrap();

    server.say(reply(200, &json!([])));
    client.list_agents(None).await.unwrap();
    client.list_agents(Some(AgentType::Inbound)).await.unwrap();
    client.list_calls(&PageRequest::default()).await.unwrap();
    let after = PageRequest { limit: Some(5), cursor: Some(PageCursor::After("c/1&x".to_owned())) };
    client.list_calls(&after).await.unwrap();
    let before = PageRequest { limit: None, cursor: Some(PageCursor::Before("n1".to_owned())) };
    client.list_numbers(&before).await.unwrap();
    let search = NumberSearch {
        country_code: Some("US".to_owned()),
        area_code: Some("415".to_owned()),
        number_type: Some(NumberType::TollFree),
        limit: Some(3),
    };
    client.search_numbers(&search).await.unwrap();
    client.list_webhooks().await.unwrap();
    let filter = DeliveryFilter {
        endpoint_id: Some(endpoint),
        call_id: Some(call),
        status: Some(DeliveryStatus::Exhausted),
        limit: Some(200),
    };
    client.list_webhook_deliveries(&filter).await.unwrap();

    let no_parameters = json!(
        {"type": "object", "properties": {}, "required": [], "additionalProperties": false}
    );
    let number_ref = json!({"number_id": "n1"});
    let expected: Vec<(&str, Value)> = vec![
        (
            "POST /v1/agents",
            json!({
                "name": "Mia", "type": "outbound", "returns": {"ok": "boolean"},
                "tools": [
                    {"type": "builtin", "name": "end_call", "description": "Hangs up.",
                     "policy": "read", "builtin": "end_call", "parameters": no_parameters},
                    {"type": "http", "name": "slots", "description": "Finds.",
                     "policy": "confirm_first_write", "url": "https://example.com",
                     "parameters": no_parameters, "headers": {"X-K": "v"}, "timeout_ms": 5000},
                ],
                "voicemail_action": "leave_message", "number_ids": ["n1"],
            }),
        ),
        ("GET /v1/agents/a1", Value::Null),
        ("PATCH /v1/agents/a1", json!({"name": "Max", "persona": null, "instructions": "Ask."})),
        ("DELETE /v1/agents/a1", Value::Null),
        ("POST /v1/agents/a1/numbers", number_ref.clone()),
        ("DELETE /v1/agents/a1/numbers/n1", Value::Null),
        ("PUT /v1/agents/a1/primary-number", number_ref),
        ("POST /v1/calls", json!({"agent_id": "a1", "to": "+14155550100"})),
        (
            "POST /v1/calls",
            json!({"agent_id": "a1", "to": "+14155550100", "from_number": "+14155550123",
                   "context": {"a": 1}}),
        ),
        ("GET /v1/calls/c1", Value::Null),
        ("GET /v1/calls/c1/transcript", Value::Null),
        ("POST /v1/numbers/purchase", json!({"phone_number": "+14155550123"})),
        (
            "POST /v1/webhook_endpoints",
            json!({"url": "https://example.com/h", "enabled_events": ["*", "call.no_answer"]}),
        ),
        ("GET /v1/webhook_endpoints/e1", Value::Null),
        ("PATCH /v1/webhook_endpoints/e1", json!({"description": null, "status": "enabled"})),
        ("DELETE /v1/webhook_endpoints/e1", Value::Null),
        ("POST /v1/webhook_endpoints/e1/rotate_secret", Value::Null),
        ("GET /v1/webhook_deliveries/d1", Value::Null),
        ("POST /v1/webhook_deliveries/d1/redeliver", Value::Null),
        ("GET /v1/agents", Value::Null),
        ("GET /v1/agents?type=inbound", Value::Null),
        ("GET /v1/calls", Value::Null),
        ("GET /v1/calls?limit=5&starting_after=c%2F1%26x", Value::Null),
        ("GET /v1/numbers?ending_before=n1", Value::Null),
        (
            "GET /v1/numbers/available?country_code=US&area_code=415&number_type=toll_free&limit=3",
            Value::Null,
        ),
        ("GET /v1/webhook_endpoints", Value::Null),
        (
            "GET /v1/webhook_deliveries?endpoint_id=e1&call_id=c1&status=exhausted&limit=200",
            Value::Null,
        ),
    ];
    let seen = server.seen();
    let sent: Vec<(&str, Value)> = seen
        .iter()
        .map(|seen| (seen.target(), serde_json::from_str(&seen.body).unwrap_or_default()))
        .collect();
    assert_eq!(sent, expected);

    let bearer = format!("Bearer {KEY}");
    for seen in &seen {
        assert_eq!(seen.header("authorization"), Some(bearer.as_str()));
        let agent = concat!("callingbox-rust/", env!("CARGO_PKG_VERSION"));
        assert_eq!(seen.header("user-agent"), Some(agent));
        let json = (!seen.body.is_empty()).then_some("application/json");
        assert_eq!(seen.header("content-type"), json, "{}", seen.line);
    }
}

#[tokio::test]
async fn reads_share_a_connection_and_each_post_has_its_own() {
    let server = Server::new(vec![reply(200, &json!({"id": "a"}))]).await;
    let client = server.client();
    let place = CallCreate::new(AgentId::new("a"), number("+14155550100"));
    for _ in 0..3 {
        client.get_call(&CallId::new("c")).await.unwrap();
        client.clone().update_agent(&AgentId::new("a"), &AgentUpdate::default()).await.unwrap();
        client.place_call(&place).await.unwrap();
    }
    let mut connections: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for seen in server.seen() {
        connections.entry(seen.connection).or_default().push(seen.target().to_owned());
    }
    let reads = ["GET /v1/calls/c", "PATCH /v1/agents/a"].repeat(3);
    let post = vec!["POST /v1/calls"];
    assert_eq!(
        connections.into_values().collect::<Vec<_>>(),
        [reads, post.clone(), post.clone(), post]
    );
}

#[tokio::test]
async fn a_post_is_not_lost_to_a_connection_that_was_just_closed() {
    let Reply::Raw(bytes) = reply(200, &json!({"id": "x"})) else { panic!() };
    let server = Server::new(vec![Reply::Close(bytes)]).await;
    let client = server.client();
    let place = CallCreate::new(AgentId::new("a"), number("+14155550100"));
    for _ in 0..20 {
        client.get_call(&CallId::new("c")).await.unwrap();
        client.place_call(&place).await.unwrap();
    }
    let posts = server.targets().iter().filter(|target| target.starts_with("POST")).count();
    assert_eq!(posts, 20);
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let other = Server::new(vec![reply(200, &json!({"id": "stolen"}))]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: http://{}/v1/calls/x\r\n", other.address);
        let server = Server::new(vec![text(status, &location, "")]).await;
        let client = server.client();
        let get = client.get_call(&CallId::new("c")).await.unwrap_err();
        assert_eq!(get.kind(), &ErrorKind::Redirect { status });
        let place = CallCreate::new(AgentId::new("a"), number("+14155550100"));
        let post = client.place_call(&place).await.unwrap_err();
        assert_eq!(post.kind(), &ErrorKind::Redirect { status });
        assert_eq!(server.targets(), ["GET /v1/calls/c", "POST /v1/calls"]);
    }
    assert_eq!(other.seen(), []);
}
