//! What happens when it does not succeed: how often it is sent, and what the error says.

use std::time::Duration;

use callingbox::E164;
use callingbox::{
    AgentId, AgentUpdate, ApiClient, CallCreate, CallId, Effect, EndpointId, Error, ErrorKind,
    NumberId, Phase,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::wire::{KEY, Reply, Server, config, json as reply, text};

fn call() -> CallCreate {
    CallCreate::new(AgentId::new("a"), E164::parse("+14155550100").unwrap())
}

fn phase(error: &Error) -> Option<(Phase, Option<u16>)> {
    match error.kind() {
        ErrorKind::Transport { phase, status, .. } => Some((*phase, *status)),
        _ => None,
    }
}

fn good() -> Reply {
    reply(200, &json!({"id": "x"}))
}

/// For each bad first answer: how often a GET and a dial are sent, and what the dial may have done.
#[tokio::test]
async fn a_call_is_dialed_again_only_when_nothing_was_done() {
    let bad = |status| reply(status, &json!({"error": "no"}));
    let waits = |status, after: &str| text(status, &format!("retry-after: {after}\r\n"), "no");
    let short = "HTTP/1.1 201 X\r\ncontent-length: 99\r\n\r\n{\"id\":";
    let table = [
        // reply, GETs sent, dials sent, effect of the dial (none: it succeeded)
        ("400", bad(400), 1, 1, Some(Effect::Nothing)),
        ("404", bad(404), 1, 1, Some(Effect::Nothing)),
        ("408", bad(408), 1, 1, Some(Effect::Unknown)),
        ("429", bad(429), 2, 2, None),
        ("429 later", waits(429, "0"), 2, 2, None),
        ("429 much later", waits(429, "3600"), 1, 1, Some(Effect::Nothing)),
        ("500", bad(500), 2, 1, Some(Effect::Unknown)),
        ("500 later", waits(500, "0"), 2, 1, Some(Effect::Unknown)),
        ("502", bad(502), 2, 1, Some(Effect::Unknown)),
        ("503", bad(503), 2, 1, Some(Effect::Unknown)),
        ("503 later", waits(503, "0"), 2, 1, Some(Effect::Unknown)),
        ("504", bad(504), 2, 1, Some(Effect::Unknown)),
        ("reset", Reply::Reset, 2, 1, Some(Effect::Unknown)),
        ("closed", Reply::Close(Vec::new()), 2, 1, Some(Effect::Unknown)),
        ("half a head", Reply::Close(b"HTTP/1.1 201".to_vec()), 2, 1, Some(Effect::Unknown)),
        ("not HTTP", Reply::Close(b"SSH-2.0-x\r\n\r\n".to_vec()), 2, 1, Some(Effect::Unknown)),
        ("half a body", Reply::Close(short.into()), 2, 1, Some(Effect::Whole)),
        ("not JSON", text(201, "", "{\"id\":"), 1, 1, Some(Effect::Whole)),
        ("no id", reply(201, &json!({"status": "queued"})), 1, 1, Some(Effect::Whole)),
        ("empty", text(201, "", ""), 1, 1, Some(Effect::Whole)),
    ];
    for (name, first, gets, dials, effect) in table {
        let server = Server::new(vec![first.clone(), good()]).await;
        let read = server.client().get_call(&CallId::new("c")).await;
        assert_eq!(server.seen().len(), gets, "{name}: GET, {read:?}");
        if let Err(error) = read {
            assert_eq!(error.effect(), Effect::Nothing, "{name}");
        }

        let server = Server::new(vec![first, good()]).await;
        let dialed = server.client().place_call(&call()).await;
        assert_eq!(server.seen().len(), dials, "{name}: POST, {dialed:?}");
        assert_eq!(dialed.as_ref().err().map(Error::effect), effect, "{name}: {dialed:?}");
        if let Err(error) = dialed {
            assert_eq!(error.retry_is_safe(), effect == Some(Effect::Nothing), "{name}");
        }
    }
}

#[tokio::test]
async fn silence_ends_in_time() {
    let half = "HTTP/1.1 200 X\r\ncontent-length: 99\r\n\r\n{";
    for (reply, status, effect) in [
        (Reply::Stall(Vec::new()), None, Effect::Unknown),
        (Reply::Stall(half.into()), Some(200), Effect::Whole),
    ] {
        let server = Server::new(vec![reply]).await;
        let mut config = server.config();
        config.timeouts.request = Duration::from_millis(200);
        config.timeouts.total = Duration::from_millis(700);
        let client = ApiClient::new(config);
        let begun = std::time::Instant::now();
        let error = client.get_call(&CallId::new("c")).await.unwrap_err();
        assert_eq!(phase(&error), Some((Phase::Timeout, status)));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let gets = server.seen().len();
        assert!((2..=4).contains(&gets), "{gets} attempts within the deadline");

        let error = client.place_call(&call()).await.unwrap_err();
        assert_eq!((phase(&error), error.effect()), (Some((Phase::Timeout, status)), effect));
        assert_eq!(server.seen().len(), gets + 1, "a dial is not repeated");
    }
}

#[tokio::test]
async fn a_refusal_whose_body_never_ends_is_still_a_refusal() {
    let half = "HTTP/1.1 400 X\r\ncontent-length: 99\r\n\r\n{";
    let server = Server::new(vec![Reply::Stall(half.into())]).await;
    let mut config = server.config();
    config.timeouts.request = Duration::from_millis(300);
    let error = ApiClient::new(config).place_call(&call()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::BadRequest { status: 400, message: String::new() });
    assert_eq!(error.effect(), Effect::Nothing);
}

#[tokio::test]
async fn nothing_listens() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = ApiClient::new(config(&format!("http://{free}")));
    let error = client.place_call(&call()).await.unwrap_err();
    assert_eq!(phase(&error), Some((Phase::Connect, None)));
    assert_eq!(error.effect(), Effect::Nothing);
    assert!(error.retry_is_safe() && error.is_transient());
}

#[tokio::test]
async fn a_server_without_tls_is_not_given_the_key() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = ApiClient::new(config(&format!("https://{}", listener.local_addr().unwrap())));
    let hello = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 X\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let mut hello = Vec::new();
        let _ = stream.read_to_end(&mut hello).await;
        hello
    });
    let error = client.place_call(&call()).await.unwrap_err();
    assert_eq!(phase(&error), Some((Phase::Tls, None)), "{error}");
    assert_eq!(error.effect(), Effect::Nothing);
    assert!(!error.is_transient(), "the same will be refused again");
    let sent = hello.await.unwrap();
    assert!(!sent.windows(KEY.len()).any(|bytes| bytes == KEY.as_bytes()));
}

#[tokio::test]
async fn a_possible_effect_of_an_earlier_attempt_is_reported() {
    let server = Server::new(vec![Reply::ResetAndLeave]).await;
    let error = server
        .client()
        .update_agent(&AgentId::new("a"), &AgentUpdate::default())
        .await
        .unwrap_err();
    assert_eq!(phase(&error), Some((Phase::Connect, None)));
    assert_eq!(error.effect(), Effect::Unknown);
    assert!(error.retry_is_safe(), "PATCH may be repeated all the same");
}

/// For each answer that is lost after a DELETE may have been done: the next attempt finds nothing left.
#[tokio::test]
async fn an_object_that_an_earlier_attempt_removed_is_removed() {
    let gone = || reply(404, &json!({"error": "not found"}));
    let (agent, number, endpoint) = (AgentId::new("a"), NumberId::new("n"), EndpointId::new("e"));
    for lost in [
        Reply::Reset,
        reply(502, &json!({})),
        Reply::Close("HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n{".into()),
    ] {
        let server = Server::new(vec![lost.clone(), gone()]).await;
        assert_eq!(server.client().delete_webhook(&endpoint).await, Ok(()));
        let server = Server::new(vec![lost.clone(), gone()]).await;
        assert_eq!(server.client().archive_agent(&agent).await, Ok(None));
        let there = reply(200, &json!({"id": "a"}));
        let server = Server::new(vec![lost.clone(), gone(), there]).await;
        assert_eq!(server.client().detach_number(&agent, &number).await.unwrap().id, agent);
        assert_eq!(server.targets().last().map(String::as_str), Some("GET /v1/agents/a"));
        // Where the agent cannot be read either, nobody knows.
        let server = Server::new(vec![lost, gone()]).await;
        let error = server.client().detach_number(&agent, &number).await.unwrap_err();
        assert_eq!(error.operation().to_string(), "DELETE /v1/agents/{id}/numbers/{number_id}");
        assert_ne!(error.effect(), Effect::Nothing);
    }
    // What was never done is not there.
    for before in [vec![], vec![reply(429, &json!({"error": "slow down"}))]] {
        let script = before.into_iter().chain([gone()]).collect();
        let error = Server::new(script).await.client().delete_webhook(&endpoint).await.unwrap_err();
        assert_eq!((error.status(), error.effect()), (Some(404), Effect::Nothing));
    }
    // Nor is what is to be changed.
    let server = Server::new(vec![Reply::Reset, gone()]).await;
    let error = server.client().update_agent(&agent, &AgentUpdate::default()).await.unwrap_err();
    assert_eq!((error.status(), error.effect()), (Some(404), Effect::Unknown));
}

#[tokio::test]
async fn an_answer_has_a_largest_size() {
    const LIMIT: usize = 8 * 1024 * 1024;
    let body = |length: usize| format!("{{\"id\":\"c\",\"x\":\"{}\"}}", "x".repeat(length - 17));
    let chunked = |body: &str| {
        let length = body.len();
        let head = "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n";
        Reply::Close(format!("{head}{length:x}\r\n{body}\r\n0\r\n\r\n").into())
    };
    let announced = "HTTP/1.1 200 X\r\ncontent-length: 99999999999\r\n\r\n";
    for (reply, too_large) in [
        (text(200, "", &body(LIMIT)), false),
        (chunked(&body(LIMIT)), false),
        (text(200, "", &body(LIMIT + 1)), true),
        (chunked(&body(LIMIT + 1)), true),
        (Reply::Stall(announced.into()), true),
    ] {
        let server = Server::new(vec![reply]).await;
        let result = server.client().get_call(&CallId::new("c")).await;
        let expected = ErrorKind::TooLarge { status: 200, limit: LIMIT };
        assert_eq!(result.err().map(|error| error.kind().clone()), too_large.then_some(expected));
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn errors_name_the_request_the_answer_and_the_next_step() {
    let error = |text: &str| json!({"error": text});
    let paused = "Calls paused. Balance $1.88, hold $3.00 (given back when nobody answers). \
                  Add at least $1.12.";
    let table = [
        (
            reply(400, &error("from_number +14155550123 is not attached")),
            "POST /v1/calls: CallingBox answered 400, the request was refused: from_number \
             +141******23 is not attached. Nothing was done. Trying again unchanged will not help.",
        ),
        (
            reply(401, &error(&format!("unknown key {KEY}"))),
            "POST /v1/calls: CallingBox answered 401, the API key was not accepted: unknown key \
             [key]. Nothing was done. Trying again unchanged will not help.",
        ),
        (
            reply(402, &error(paused)),
            "POST /v1/calls: CallingBox refused the call for too little credit: Calls paused. \
             Balance $1.88, hold $3.00 (given back when nobody answers). Add at least $1.12. \
             Nothing was done. Trying again unchanged will not help.",
        ),
        (
            text(429, "retry-after: 120\r\n", ""),
            "POST /v1/calls: CallingBox answered 429, too many requests. Nothing was done. It is \
             safe to try again after 120 s.",
        ),
        (
            reply(502, &error("carrier refused")),
            "POST /v1/calls: CallingBox answered 502, the telephony provider could not place the \
             call: carrier refused. It is not known whether it was done. It is not safe to try \
             again: check first whether it was done.",
        ),
        (
            text(201, "", "<html>"),
            "POST /v1/calls: the response could not be read: not JSON at line 1, column 1. It was \
             done. It is not safe to try again: check first whether it was done.",
        ),
    ];
    for (reply, expected) in table {
        let client = Server::new(vec![reply]).await.client();
        let error = client.place_call(&call()).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(!format!("{error:?} {client:?}").contains(KEY));
    }
    for (reply, expected) in [
        (
            text(200, "", "<html>"),
            "GET /v1/calls/{id}: the response could not be read: not JSON at line 1, column 1. Nothing \
             was done. It is safe to try again.",
        ),
        (
            text(403, "", r#"{"title":"Forbidden","detail":"not for this key"}"#),
            "GET /v1/calls/{id}: CallingBox answered 403, the API key may not do this: Forbidden: not \
             for this key. Nothing was done. Trying again unchanged will not help.",
        ),
        (
            text(451, "", ""),
            "GET /v1/calls/{id}: CallingBox answered 451, this is not available for legal reasons. \
             Nothing was done. Trying again unchanged will not help.",
        ),
    ] {
        let server = Server::new(vec![reply]).await;
        let error = server.client().get_call(&CallId::new("c1")).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let server = Server::new(vec![reply(404, &error("call c1 not found"))]).await;
    let error = server.client().get_call(&CallId::new("c1")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "GET /v1/calls/{id}: CallingBox answered 404, not found: call c1 not found. Nothing was \
         done. Trying again unchanged will not help."
    );
}
