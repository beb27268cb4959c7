//! Successful responses: envelopes, missing and unexpected fields, text that is not quite JSON, secrets.

use callingbox::{
    Agent, AgentId, AgentType, Call, CallDirection, CallId, CallStatus, Effect, EndpointId,
    ErrorKind, NumberSearch, OpenEnum, PageRequest, ResultStatus, WebhookCreate,
};
use serde_json::{Value, json};

use super::wire::{Reply, Server, json as reply, text};

#[tokio::test]
async fn a_list_comes_in_any_envelope() {
    let table = [
        (json!({"data": [{"id": "a"}, {"id": "b"}], "has_more": true}), (2, true, 0)),
        (json!({"data": [{"id": "a"}], "has_more": false}), (1, false, 0)),
        (json!({"data": [{"id": "a"}]}), (1, false, 0)),
        (json!([{"id": "a"}]), (1, false, 0)),
        (json!([]), (0, false, 0)),
        (json!({"data": [1, null, "x", {}, {"id": {}}, {"id": ""}, {"id": "a"}]}), (1, false, 6)),
        (json!({"data": [], "has_more": "yes"}), (0, false, 0)),
    ];
    for (body, expected) in table {
        let client = Server::new(vec![reply(200, &body)]).await.client();
        let page = client.list_calls(&PageRequest::default()).await.unwrap();
        assert_eq!((page.data.len(), page.has_more, page.skipped), expected, "{body}");
    }
    for body in [json!({}), json!({"data": {}}), json!("x"), Value::Null] {
        let client = Server::new(vec![reply(200, &body)]).await.client();
        let error = client.list_calls(&PageRequest::default()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unreadable { status: 200, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_record_comes_bare_or_under_data_with_any_2xx() {
    for status in [200, 201, 202] {
        for body in
            [json!({"id": "c"}), json!({"data": {"id": "c"}}), json!({"id": "c", "data": {}})]
        {
            let client = Server::new(vec![reply(status, &body)]).await.client();
            assert_eq!(client.get_call(&CallId::new("c")).await.unwrap().id.as_str(), "c");
        }
    }
}

#[tokio::test]
async fn a_body_is_not_needed_where_the_contract_promises_none() {
    let empty = || vec![text(204, "", "")];
    let archived = Server::new(empty()).await.client().archive_agent(&AgentId::new("a")).await;
    assert_eq!(archived, Ok(None));
    let deleted = Server::new(empty()).await.client().delete_webhook(&EndpointId::new("e")).await;
    assert_eq!(deleted, Ok(()));
    let server = Server::new(vec![text(200, "", "ok"), reply(200, &json!({"id": "a"}))]).await;
    let number = callingbox::NumberId::new("n");
    let agent = server.client().attach_number(&AgentId::new("a"), &number).await.unwrap();
    assert_eq!(agent.id.as_str(), "a");
    assert_eq!(server.targets(), ["POST /v1/agents/a/numbers", "GET /v1/agents/a"]);
    let server = Server::new(vec![text(200, "", "ok"), reply(404, &json!({"error": "no"}))]).await;
    let error = server.client().attach_number(&AgentId::new("a"), &number).await.unwrap_err();
    assert_eq!(error.operation().to_string(), "POST /v1/agents/{id}/numbers");
    assert_eq!(error.effect(), Effect::Whole);
}

#[tokio::test]
async fn another_record_is_not_taken_for_the_one_that_was_changed() {
    let number = callingbox::NumberId::new("n");
    let other = reply(200, &json!({"id": "n", "e164": "+14155550123"}));
    let server = Server::new(vec![other.clone(), reply(200, &json!({"id": "a"}))]).await;
    let agent = server.client().attach_number(&AgentId::new("a"), &number).await.unwrap();
    assert_eq!(agent.id.as_str(), "a");
    let server = Server::new(vec![other.clone(), reply(200, &json!({"id": "e"}))]).await;
    let (id, update) = (EndpointId::new("e"), callingbox::WebhookUpdate::default());
    let endpoint = server.client().update_webhook(&id, &update).await.unwrap();
    assert_eq!(endpoint.id.as_str(), "e");
    let server = Server::new(vec![other, reply(404, &json!({"error": "no"}))]).await;
    let error = server.client().detach_number(&AgentId::new("a"), &number).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Whole, "{error}");
}

#[tokio::test]
async fn numbers_for_sale_are_those_that_can_be_bought() {
    let body = json!([
        {"phone_number": "+14155550123", "country_code": "US", "number_type": "satellite",
         "state": null, "monthly_cost_cents": 100, "upfront_cost_cents": "0"},
        {"phone_number": "call us"},
    ]);
    let client = Server::new(vec![reply(200, &body)]).await.client();
    let found = client.search_numbers(&NumberSearch::default()).await.unwrap().data;
    assert_eq!(
        serde_json::to_value(&found).unwrap(),
        json!([{"phone_number": "+14155550123", "country_code": "US", "number_type": "satellite",
                "monthly_cost_cents": 100, "upfront_cost_cents": "0"}])
    );
    assert_eq!(found[0].number_type, Some(OpenEnum::Other("satellite".to_owned())));
    assert!(!format!("{found:?}").contains("4155550123"));
}

#[test]
fn values_that_do_not_fit_are_kept_unchanged() {
    let body = json!({
        "id": "c", "status": "parked", "direction": 7, "result_status": "completed",
        "duration_seconds": "96", "billed_duration_seconds": 90, "from_number": "anonymous",
        "to_number": "+14155550123", "created_at": "yesterday", "started_at": 1776263410,
        "answered_at": "2026-04-15T14:30:16Z", "metadata": {"language": "es"},
        "result": ["odd"], "mood": "sunny",
    });
    let call: Call = serde_json::from_value(body.clone()).unwrap();
    assert_eq!(call.status, CallStatus::Other("parked".to_owned()));
    assert!(!call.status.is_terminal());
    assert_eq!(call.direction, None);
    assert_eq!(call.result_status, Some(ResultStatus::Completed));
    assert_eq!((call.duration_seconds, call.billed_duration_seconds), (None, Some(90)));
    assert_eq!(call.from_number, None);
    assert_eq!(call.created_at.as_ref().map(|at| at.instant()), Some(None));
    let answered = call.answered_at.as_ref().and_then(|at| at.instant());
    assert_eq!(answered, Some("2026-04-15T14:30:16Z".parse().unwrap()));
    assert_eq!(call.language(), Some("es"));
    let mut kept: Vec<_> = call.extra.keys().map(String::as_str).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["direction", "duration_seconds", "from_number", "mood", "started_at"]);
    assert_eq!(serde_json::to_value(&call).unwrap(), body);
    let shown = format!("{call:?}");
    assert!(shown.contains("\"c\"") && !shown.contains("4155550123"), "{shown}");
}

#[test]
fn each_documented_word_is_known() {
    let over = ["completed", "no_answer", "busy", "canceled", "failed"];
    for word in ["queued", "initiated", "ringing", "in_progress"].into_iter().chain(over) {
        let call: Call = serde_json::from_value(json!({"id": "c", "status": word})).unwrap();
        assert!(!matches!(call.status, CallStatus::Other(_)), "{word}");
        assert_eq!((call.status.as_str(), call.status.is_terminal()), (word, over.contains(&word)));
    }
    let call: Call = serde_json::from_value(json!({"id": 7, "direction": "inbound"})).unwrap();
    assert_eq!(call.id.as_str(), "7");
    assert_eq!(call.direction, Some(CallDirection::Inbound));
    assert_eq!(call.status, CallStatus::default());
    let agent: Agent = serde_json::from_value(json!({"id": "a", "type": "inbound"})).unwrap();
    assert!(agent.r#type.unwrap().is(&AgentType::Inbound));
}

#[tokio::test]
async fn a_transcript_comes_in_any_envelope() {
    let line = json!({"sequence_no": 1, "role": "agent", "text": "Hello.", "mood": "calm"});
    for body in [
        json!({"call_id": "c", "segments": [line, 3]}),
        json!({"data": {"call_id": "c", "segments": [line, 3]}}),
        json!({"call_id": "c", "data": [line, 3]}),
        json!([line, 3]),
    ] {
        let client = Server::new(vec![reply(200, &body)]).await.client();
        let transcript = client.get_transcript(&CallId::new("c")).await.unwrap();
        assert_eq!(serde_json::to_value(&transcript.segments).unwrap(), json!([line]), "{body}");
        assert_eq!(transcript.skipped, 1);
        assert!(!format!("{transcript:?} {:?}", transcript.segments).contains("Hello"));
    }
    let client = Server::new(vec![reply(200, &json!({"call_id": "c"}))]).await.client();
    let error = client.get_transcript(&CallId::new("c")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unreadable { .. }));
}

#[tokio::test]
async fn one_bad_value_costs_neither_a_list_nor_a_transcript_nor_a_record() {
    for bad in [&br#""\ud83d""#[..], b"\"caf\xe9\"", b"NaN", b"1e999", b"\"a\nb\""] {
        let body = |parts: &[&[u8]]| {
            let body = parts.concat();
            let head = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n", body.len());
            Reply::Raw([head.as_bytes(), &body].concat())
        };
        let list =
            body(&[b"\xef\xbb\xbf{\"data\":[{\"id\":\"a\",\"x\":", bad, b"},{\"id\":\"b\"}]}"]);
        let client = Server::new(vec![list]).await.client();
        let page = client.list_calls(&PageRequest::default()).await.unwrap();
        assert_eq!(page.data.iter().map(|call| call.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let call = body(&[b"{\"id\":\"c\",\"x\":", bad, b"}"]);
        let client = Server::new(vec![call]).await.client();
        assert_eq!(client.get_call(&CallId::new("c")).await.unwrap().id.as_str(), "c");
        let transcript = body(&[
            b"{\"segments\":[{\"sequence_no\":1,\"role\":\"user\",\"text\":",
            bad,
            b"},{\"sequence_no\":2,\"role\":\"agent\",\"text\":\"Bye.\"}]}",
        ]);
        let client = Server::new(vec![transcript]).await.client();
        let transcript = client.get_transcript(&CallId::new("c")).await.unwrap();
        let last = transcript.segments.last().unwrap();
        assert_eq!(serde_json::to_value(last).unwrap()["text"], "Bye.");
    }
}

#[tokio::test]
async fn a_signing_secret_is_given_on_purpose_only() {
    const SECRET: &str = "whsec_00112233445566778899aabbccddeeff";
    let body = json!({"id": "e", "signing_secret": SECRET});
    let client = Server::new(vec![reply(201, &body)]).await.client();
    let webhook = WebhookCreate {
        url: "https://example.com/?token=t".to_owned(),
        description: None,
        enabled_events: None,
    };
    assert!(!format!("{webhook:?}").contains("token"));
    let endpoint = client.create_webhook(&webhook).await.unwrap();
    assert!(!format!("{endpoint:?}").contains(SECRET));
    assert!(!serde_json::to_string(&endpoint).unwrap().contains(SECRET));
    assert_eq!(endpoint.signing_secret.unwrap().expose(), SECRET);
}
