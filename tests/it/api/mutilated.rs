//! Mutilated answers: whatever is done to a good one, nothing panics, a text `id` survives, and no
//! other value is lost on the way through.

use callingbox::E164;
use callingbox::{
    Agent, AgentId, AvailableNumber, Call, CallId, DeliveryFilter, DeliveryId, EndpointId,
    NumberSearch, PageRequest, PhoneNumber, Transcript, WebhookDelivery, WebhookEndpoint,
};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use super::wire::{Reply, Server};

/// One record of each kind: call, agent, number, webhook endpoint, delivery, number for sale.
fn good() -> [Value; 6] {
    let number = json!({
        "id": "7a2d91c4", "e164": "+14155550123", "friendly_name": null, "country_code": "US",
        "number_type": "local", "status": "active", "monthly_cost_cents": 100,
        "purchased_at": "2026-04-01T09:00:00Z", "inbound_agent_id": null,
        "outbound_agent_ids": ["0b8f5c52"],
    });
    let call = json!({
        "id": "c4d9e3f0", "agent_id": "0b8f5c52", "to_number": "+13105550198",
        "from_number": "+14155550123", "status": "completed", "direction": "outbound",
        "persona": null, "instructions": "Remind.", "prompt": "Remind.",
        "context": {"patient": "Sam"}, "returns": {"ok": "boolean"}, "result": {"ok": true},
        "result_status": "completed", "result_error": null, "language": "en",
        "webhook_url": null, "webhook_status": "delivered", "webhook_error": null,
        "created_at": "2026-04-15T14:30:05Z", "started_at": "2026-04-15T14:30:10Z",
        "duration_seconds": 96, "billed_duration_seconds": 90,
        "billing_amount_milli_cents": 7500, "reservation_status": "settled",
        "metadata": {"visit": "v"}, "tools": [], "answered_by": "human",
    });
    let agent = json!({
        "id": "0b8f5c52", "name": "Reminders", "type": "outbound", "voice": null,
        "returns": {"ok": "boolean"}, "tools": [{"type": "builtin", "name": "end_call"}],
        "voicemail_action": "hangup", "primary_number_id": "7a2d91c4", "archived_at": null,
        "created_at": "2026-04-10T08:00:00Z", "numbers": [number],
    });
    let endpoint = json!({
        "id": "we_1", "org_id": "org_1", "url": "https://example.com/hooks", "description": "Mine",
        "enabled_events": ["call.completed", "*"], "status": "enabled", "disabled_reason": null,
        "disabled_at": null, "consecutive_failures": 0, "created_at": "2026-04-01T09:00:00Z",
        "updated_at": "2026-04-01T09:00:00Z",
    });
    let delivery = json!({
        "id": "evt_1", "org_id": "org_1", "endpoint_id": "we_1", "call_id": "c4d9e3f0",
        "event_type": "call.completed", "url": "https://example.com/hooks", "status": "pending",
        "attempt_count": 2, "manual_retry_count": 0, "next_attempt_at": "2026-04-15T14:40:00Z",
        "last_error": "HTTP 500", "last_response_status": 500, "delivered_at": null,
        "created_at": "2026-04-15T14:31:54Z", "updated_at": "2026-04-15T14:32:54Z",
    });
    let offer = json!({
        "phone_number": "+14155550123", "country_code": "US", "number_type": "local", "state": "CA",
        "locality": "San Francisco", "monthly_cost_cents": 100, "upfront_cost_cents": 0, "currency": "USD",
    });
    [call, agent, number, endpoint, delivery, offer]
}

fn transcript() -> Value {
    json!({"call_id": "c4d9e3f0", "segments": [
        {"sequence_no": 1, "role": "agent", "text": "Hello?", "started_at": "2026-04-15T14:30:16Z",
         "ended_at": "2026-04-15T14:30:17Z", "duration_ms": 900, "source": "agent"},
        {"sequence_no": 2, "role": "user", "text": "Yes.", "started_at": null, "duration_ms": 300},
    ]})
}

#[derive(Debug, Clone)]
enum Injury {
    Remove,
    Replace(Value),
    Nest,
    Wrap,
    Cut(Index),
}

fn injury() -> impl Strategy<Value = Injury> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!({"id": "other"})),
        Just(json!([{"id": 1}, null])),
    ];
    prop_oneof![
        Just(Injury::Remove),
        value.prop_map(Injury::Replace),
        Just(Injury::Nest),
        Just(Injury::Wrap),
        any::<Index>().prop_map(Injury::Cut),
    ]
}

/// Injures one node of the tree, picked by number.
fn injure(value: &mut Value, place: &mut usize, injury: &Injury) -> bool {
    if *place == 0 {
        *value = match (injury, value.take()) {
            (Injury::Remove, _) => Value::Null,
            (Injury::Replace(with), _) => with.clone(),
            (Injury::Nest, old) => json!([old]),
            (Injury::Wrap, old) => json!({"data": old}),
            (Injury::Cut(at), Value::String(text)) => {
                let length = at.index(text.chars().count() + 1);
                Value::String(text.chars().take(length).collect())
            }
            (Injury::Cut(_), old) => old,
        };
        return true;
    }
    *place -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| injure(item, place, injury)),
        Value::Object(fields) => {
            let mut removed = None;
            let hit = fields.iter_mut().any(|(name, field)| {
                if *place == 0 && matches!(injury, Injury::Remove) {
                    removed = Some(name.clone());
                    return true;
                }
                injure(field, place, injury)
            });
            removed.map(|name| fields.remove(&name));
            hit
        }
        _ => false,
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.values().map(size).sum(),
        _ => 0,
    }
}

/// A good answer with a few injuries.
fn injured(good: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    (good, prop::collection::vec((any::<Index>(), injury()), 0..10)).prop_map(
        |(mut value, injuries)| {
            for (place, injury) in injuries {
                let mut place = place.index(size(&value));
                injure(&mut value, &mut place, &injury);
            }
            value
        },
    )
}

fn mutilated() -> impl Strategy<Value = (usize, Value)> {
    (0..good().len()).prop_flat_map(|which| {
        injured(Just(good()[which].clone())).prop_map(move |value| (which, value))
    })
}

/// A list of some records in one of its envelopes.
fn page() -> impl Strategy<Value = Value> {
    let records = prop::collection::vec(mutilated().prop_map(|(_, record)| record), 0..4);
    (records, 0..3_u8).prop_map(|(records, envelope)| match envelope {
        0 => Value::Array(records),
        1 => json!({"data": records}),
        _ => json!({"data": records, "has_more": true}),
    })
}

/// The key that must survive: an id as text (or a whole number, as its digits) or a telephone number, in
/// the record, which is the answer or what stands under `data`.
fn record_of<'a>(body: &'a Value, key: &str) -> Option<(&'a Map<String, Value>, String)> {
    let own = |value: &Value| match value.get(key)? {
        Value::String(text) if key == "phone_number" => {
            E164::parse(text).ok().map(|_| text.clone())
        }
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if key == "id" && !number.is_f64() => Some(number.to_string()),
        _ => None,
    };
    [Some(body), body.get("data")]
        .into_iter()
        .flatten()
        .find_map(|value| Some((value.as_object()?, own(value)?)))
}

/// What the client does not tell apart: null and absent, an id's digits and its number, and a call's
/// empty status and none.
fn plain(name: &str, value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, value)| !(value.is_null() || (*name == "status" && *value == "")))
            .map(|(name, value)| (name.clone(), plain(name, value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(|item| plain(name, item)).collect(),
        Value::Number(number) if name.ends_with("id") || name.ends_with("ids") => {
            number.to_string().into()
        }
        other => other.clone(),
    }
}

fn read(which: usize, body: &Value) -> Option<(String, Value)> {
    fn seen<T: serde::Serialize>(id: &str, record: &T) -> (String, Value) {
        (id.to_owned(), serde_json::to_value(record).unwrap())
    }
    let body = body.clone();
    match which {
        0 => serde_json::from_value::<Call>(body).ok().map(|r| seen(r.id.as_str(), &r)),
        1 => serde_json::from_value::<Agent>(body).ok().map(|r| seen(r.id.as_str(), &r)),
        2 => serde_json::from_value::<PhoneNumber>(body).ok().map(|r| seen(r.id.as_str(), &r)),
        3 => serde_json::from_value::<WebhookEndpoint>(body).ok().map(|r| seen(r.id.as_str(), &r)),
        4 => serde_json::from_value::<WebhookDelivery>(body).ok().map(|r| seen(r.id.as_str(), &r)),
        _ => serde_json::from_value::<AvailableNumber>(body)
            .ok()
            .map(|r| seen(r.phone_number.as_str(), &r)),
    }
}

/// What a record is known by.
fn key(which: usize) -> &'static str {
    if which == 5 { "phone_number" } else { "id" }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_keeps_its_id_and_every_value((which, body) in mutilated()) {
        let read = read(which, &body);
        match record_of(&body, key(which)).filter(|(record, _)| body.as_object() == Some(record)) {
            Some((record, id)) => {
                let (read_id, written) = read.unwrap();
                prop_assert_eq!(read_id, id);
                let record = Value::Object(record.clone());
                prop_assert_eq!(plain("", &written), plain("", &record));
            }
            None => prop_assert_eq!(read, None),
        }
    }
}

/// The same over the wire, for everything that a client can be answered, where bytes are cut as well.
#[test]
fn mutilated_answers_over_the_wire() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, client) = runtime.block_on(async {
        let server = Server::new(vec![Reply::Reset]).await;
        let client = server.client();
        (server, client)
    });
    let body = prop_oneof![
        4 => mutilated().prop_map(|(_, record)| record),
        1 => injured(Just(transcript())),
        1 => injured(page()),
    ];
    let strategy = (body, prop::option::of(any::<Index>()));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&strategy, |(body, cut)| {
            let mut bytes = body.to_string().into_bytes();
            bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len() + 1)));
            let sent: Option<Value> = serde_json::from_slice(&bytes).ok();
            let length = bytes.len();
            let head = format!("HTTP/1.1 200 X\r\ncontent-length: {length}\r\n\r\n");
            server.say(Reply::Raw([head.into_bytes(), bytes].concat()));
            let (call, agent, endpoint, delivery) = runtime.block_on(async {
                let page = PageRequest::default();
                let id = EndpointId::new("w");
                let _ = client.list_numbers(&page).await;
                let _ = client.list_calls(&page).await;
                let _ = client.list_agents(None).await;
                let _ = client.search_numbers(&NumberSearch::default()).await;
                let _ = client.list_webhooks().await;
                let _ = client.list_webhook_deliveries(&DeliveryFilter::default()).await;
                let _ = client.get_transcript(&CallId::new("c")).await;
                (
                    client.get_call(&CallId::new("c")).await.ok().map(|r| r.id.as_str().to_owned()),
                    client
                        .get_agent(&AgentId::new("a"))
                        .await
                        .ok()
                        .map(|r| r.id.as_str().to_owned()),
                    client.get_webhook(&id).await.ok().map(|r| r.id.as_str().to_owned()),
                    client
                        .get_webhook_delivery(&DeliveryId::new("d"))
                        .await
                        .ok()
                        .map(|r| r.id.as_str().to_owned()),
                )
            });
            let expected = sent.as_ref().and_then(|sent| record_of(sent, "id")).map(|(_, id)| id);
            prop_assert_eq!([&call, &agent, &endpoint, &delivery], [&expected; 4]);
            Ok(())
        })
        .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_transcript_keeps_every_line_that_is_a_record(body in injured(Just(transcript()))) {
        let Some(segments) = body.get("segments").and_then(Value::as_array) else { return Ok(()) };
        let read: Transcript = serde_json::from_value(body.clone()).unwrap();
        let said = |segment: &Value| segment["text"].as_str().unwrap_or_default().to_owned();
        let words: Vec<String> = segments.iter().filter(|s| s.is_object()).map(said).collect();
        let kept: Vec<String> = read.segments.iter().map(|s| s.text.clone()).collect();
        prop_assert_eq!((kept, read.skipped), (words.clone(), segments.len() - words.len()));
    }
}
