//! Requests as clients in the field send them, over HTTP and over standard input: an `Accept` header with one form or none,
//! a byte order mark, an incomplete `initialize`, text that is nearly JSON, and much of what nobody reads.

use futures::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};

use crate::harness::{Era, Session as StdioSession};
use crate::http::support::{
    Events, Server, Session, home_with_confirmation, initialize, message, names, program, with,
};

const BOM: &str = "\u{feff}";

/// Sends a message with this `Accept` header, or without one.
async fn post(session: &Session<'_>, accept: Option<&str>, body: &Value) -> Response {
    let mut request = session.post(body).build().unwrap();
    request.headers_mut().remove("accept");
    if let Some(accept) = accept {
        request.headers_mut().insert("accept", accept.parse().unwrap());
    }
    session.server.http.execute(request).await.unwrap()
}

fn content_type(response: &Response) -> &str {
    response.headers()["content-type"].to_str().unwrap()
}

#[tokio::test]
async fn an_answer_has_the_form_that_the_client_accepts() {
    let server = Server::start(&[]).await;
    let session = server.open(None).await;
    let (json_type, stream_type) = ("application/json", "text/event-stream");
    let list = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {}});
    for (accept, modern_type, session_type) in [
        (None, json_type, stream_type),
        (Some("*/*"), json_type, stream_type),
        (Some("application/json, text/event-stream"), json_type, stream_type),
        (Some("application/json"), json_type, json_type),
        (Some("application/*;q=0.9, text/html"), json_type, json_type),
        (Some("text/event-stream"), stream_type, stream_type),
        (Some("*/*, application/json;q=0"), stream_type, stream_type),
    ] {
        let modern = server.modern("tools/list", json!({})).build().unwrap();
        let modern_list: Value =
            serde_json::from_slice(modern.body().unwrap().as_bytes().unwrap()).unwrap();
        let mut modern = modern;
        modern.headers_mut().remove("accept");
        if let Some(accept) = accept {
            modern.headers_mut().insert("accept", accept.parse().unwrap());
        }
        let modern = server.http.execute(modern).await.unwrap();
        assert_eq!(
            (modern.status().as_u16(), content_type(&modern)),
            (200, modern_type),
            "{accept:?} {modern_list}"
        );
        assert!(names(&message(modern).await).contains(&"place_call".to_owned()), "{accept:?}");
        let listed = post(&session, accept, &list).await;
        assert_eq!(
            (listed.status().as_u16(), content_type(&listed)),
            (200, session_type),
            "{accept:?}"
        );
        assert!(names(&message(listed).await).contains(&"place_call".to_owned()), "{accept:?}");
    }
    assert_eq!(post(&session, Some("text/html"), &list).await.status(), 406);
    let listen = server.modern("subscriptions/listen", json!({"notifications": {}}));
    let listen = listen.build().unwrap();
    let mut listen = listen;
    listen.headers_mut().insert("accept", "application/json".parse().unwrap());
    assert_eq!(server.http.execute(listen).await.unwrap().status(), 406);
}

/// RFC 9110 section 15.5.16.
#[tokio::test]
async fn a_compressed_body_is_refused_and_the_answer_says_how_to_send_it() {
    let home = tempfile::tempdir().unwrap();
    let mut command = program(home.path());
    command.arg("--sandbox").env("CALLINGBOX_WEBHOOK_SECRET", "whsec_a");
    let arguments = ["--webhook-public-url", "https://phone.example.com"];
    let server = Server::run(home, command, &arguments).await;
    let compressed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    for path in ["/mcp", "/mcp/", "/messages?session_id=x", "/webhooks/callingbox"] {
        for coding in ["gzip", "BR", "identity, deflate"] {
            let request = server.http.post(format!("{}{path}", server.base));
            let request = request
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .header("content-encoding", coding)
                .header("origin", "http://localhost:5173");
            let response = request.body(compressed.clone()).send().await.unwrap();
            assert_eq!(response.status(), 415, "{path} {coding}");
            assert_eq!(response.headers()["accept-encoding"], "identity");
            assert!(response.headers().contains_key("access-control-allow-origin"), "{path}");
            let text = response.text().await.unwrap();
            assert!(text.contains("send it without Content-Encoding"), "{path}: {text}");
        }
    }
    let identity = server.post(&initialize()).header("content-encoding", "identity");
    assert_eq!(identity.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_takes_json_alone_gets_a_waiting_answer_and_is_asked_nothing() {
    let server = Server::start_in(home_with_confirmation(), &[]).await;
    let mut hello = initialize();
    hello["params"]["capabilities"] = json!({"elicitation": {"form": {}}});
    let opened = server.post(&hello).send().await.unwrap();
    let id = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let session = Session { server: &server, id, bearer: None };
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    session.post(&ready).send().await.unwrap();
    let agent =
        json!({"name": "A", "type": "outbound", "persona": "Mia.", "instructions": "Talk."});
    let agent = server.tool(None, "create_agent", agent).await["agent_id"].clone();
    let call = |meta: Value| {
        let arguments = json!({"agent_id": agent, "to": "+13105550100"});
        json!({
            "jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": {"name": "place_call", "arguments": arguments, "_meta": meta},
        })
    };
    // It gets the preview of a client that cannot ask its human.
    let preview =
        post(&session, Some("application/json"), &call(json!({"progressToken": 1}))).await;
    assert_eq!(content_type(&preview), "application/json");
    let preview = message(preview).await;
    assert_eq!(preview["id"], 7);
    assert!(preview.to_string().contains("confirmation_token"), "{preview}");
    let mut events = Events::new(post(&session, None, &call(json!({}))).await);
    let question = events.message(|message| message["method"] == "elicitation/create").await;
    assert!(question["params"]["message"].as_str().unwrap().contains("+13105550100"));
}

#[tokio::test]
async fn a_slash_at_the_end_of_an_address_is_ignored() {
    let server = Server::start(&[]).await;
    let list = server.modern("tools/list", json!({})).build().unwrap();
    let mut list = list;
    list.url_mut().set_path("/mcp/");
    assert_eq!(server.http.execute(list).await.unwrap().status(), 200);
    let stream = server.http.get(format!("{}/sse/", server.base)).send().await.unwrap();
    assert!(Events::new(stream).next().await.unwrap().1.starts_with("/messages?"));
}

/// An `initialize` with these parameters, which leave something out.
fn opening(id: u64, params: &Value) -> Value {
    let mut opening = json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": params});
    opening["params"]["protocolVersion"] = json!("2025-06-18");
    opening
}

#[tokio::test]
async fn an_incomplete_initialize_opens_a_session_over_both_transports() {
    let server = Server::start(&[]).await;
    let named = json!({"name": "x", "version": "1"});
    for params in [
        json!({}),
        json!({"clientInfo": named}),
        json!({"capabilities": {}, "clientInfo": {"name": "x"}}),
        json!({"capabilities": {"roots": true, "sampling": false}, "clientInfo": named}),
        json!({"capabilities": null, "clientInfo": {"name": "x", "version": null}}),
        json!({"capabilities": {"elicitation": {"form": true}}, "clientInfo": named}),
    ] {
        let opening = opening(0, &params);
        let opened = server.post(&opening).send().await.unwrap();
        assert_eq!(opened.status(), 200, "{params}");
        assert!(opened.headers().contains_key("mcp-session-id"), "{params}");
        let opened = message(opened).await;
        assert_eq!(opened["result"]["protocolVersion"], "2025-06-18", "{opened}");

        let mut stdio = StdioSession::start(&["--sandbox"], &[]);
        stdio.send_bytes(format!("{BOM}{opening}\r\n").as_bytes()).await;
        let opened = stdio.next().await.unwrap();
        assert_eq!(opened["result"]["protocolVersion"], "2025-06-18", "{opened}");
        stdio.finish_well().await;
    }
    let mut unversioned = opening(3, &json!({}));
    unversioned["params"].as_object_mut().unwrap().remove("protocolVersion");
    let refused = server.post(&unversioned).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    let refused = message(refused).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(3), &json!(-32602)));
    let text = refused["error"]["message"].as_str().unwrap();
    assert!(text.contains("`protocolVersion` is missing"), "{text}");
}

#[tokio::test]
async fn empty_parameters_written_as_a_list_are_read_over_both_transports() {
    let server = Server::start(&[]).await;
    let session = server.open(None).await;
    let mut stdio = StdioSession::new(Era::BOTH[0]).await;
    for params in [json!([]), json!({"_meta": []}), json!(null)] {
        let list = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": params});
        let listed = message(session.post(&list).send().await.unwrap()).await;
        assert!(!names(&listed).is_empty(), "{params}: {listed}");
        stdio.send_bytes(format!("{list}\n").as_bytes()).await;
        let listed = stdio.next().await.unwrap();
        assert!(!names(&listed).is_empty(), "{params}: {listed}");
    }
    stdio.finish_well().await;
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    let server = Server::start(&[]).await;
    let list = server.modern("tools/list", json!({})).build().unwrap();
    let body = String::from_utf8(list.body().unwrap().as_bytes().unwrap().to_vec()).unwrap();
    let mut list = list;
    *list.body_mut() = Some(format!("{BOM}{body}").into());
    let listed = server.http.execute(list).await.unwrap();
    assert_eq!(listed.status(), 200);
    assert!(!names(&message(listed).await).is_empty());
    let mut events =
        Events::new(server.http.get(format!("{}/sse", server.base)).send().await.unwrap());
    let endpoint = format!("{}{}", server.base, events.next().await.unwrap().1);
    let hello = format!("{BOM}{}", initialize());
    assert_eq!(server.http.post(endpoint).body(hello).send().await.unwrap().status(), 202);
    assert_eq!(events.message(|message| message["id"] == 0).await["id"], 0);
}

#[tokio::test]
async fn a_request_that_is_nearly_json_is_refused_under_its_id() {
    let server = Server::start(&[]).await;
    for era in Era::BOTH {
        let mut stdio = StdioSession::new(era).await;
        for bad in [&br#""\ud83d""#[..], b"\"caf\xe9\"", b"NaN", b"1e999", b"\"\x01\""] {
            let params = era.parameters(json!({"name": "list_agents", "arguments": {"x": "@"}}));
            let request = json!({
                "jsonrpc": "2.0", "method": "tools/call", "params": params, "id": 41,
            });
            let text = request.to_string();
            let (before, after) = text.split_once("\"@\"").unwrap();
            let line = [before.as_bytes(), bad, after.as_bytes()].concat();
            stdio.send_bytes(&[&line[..], b"\n"].concat()).await;
            let refused = stdio.next().await.unwrap();
            assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(41), &json!(-32700)));
            let sent = server.post(&json!({})).body(line).send().await.unwrap();
            assert_eq!(sent.status(), 400);
            let refused = message(sent).await;
            assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(41), &json!(-32700)));
        }
        // An answer of the client is not a request, and its id is one of the server's.
        stdio.send_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":41,\"result\":{\"x\":NaN}}\n").await;
        assert_eq!(stdio.next().await.unwrap()["id"], Value::Null);
        let (rest, status, _) = stdio.finish().await;
        assert_eq!((rest, status.code()), (vec![], Some(0)));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn large_waiting_requests_use_little_memory() {
    const REQUESTS: usize = 60;
    let server = Server::start(&[]).await;
    let wait = json!({"call_id": server.long_call().await, "wait_seconds": 300});
    let params = json!({"name": "get_call_result", "arguments": wait, "_meta": {"x": "@"}});
    let small = server.modern("tools/call", params).build().unwrap();
    let text = str::from_utf8(small.body().unwrap().as_bytes().unwrap()).unwrap();
    // Shared, because other tests measure the memory of this process.
    let body = bytes::Bytes::from(text.replace("\"@\"", &format!("[{}0]", "0,".repeat(250_000))));
    let request = || {
        let mut request = small.try_clone().unwrap();
        *request.body_mut() = Some(body.clone().into());
        server.http.execute(request)
    };
    let before = server.resident_kib();
    let waiting: Vec<_> = (0..REQUESTS).map(|_| tokio::spawn(request())).collect();
    // One thread serves all, and has read them when it has time for these.
    for _ in 0..REQUESTS {
        server.tool(None, "list_agents", json!({})).await;
    }
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB for {REQUESTS} requests");
    let (refused, waiting): (Vec<_>, Vec<_>) =
        waiting.into_iter().partition(tokio::task::JoinHandle::is_finished);
    // All of them together are larger than the budget, if they arrive at the same time.
    assert!(waiting.len() >= 30, "{} wait", waiting.len());
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    for refused in refused {
        assert_eq!(refused.await.unwrap().unwrap().status(), 503);
    }
}

#[tokio::test]
async fn bodies_above_the_budget_of_a_tenant_are_refused_with_retry_after() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const HELD: usize = 512 * 1024 - 1;
    let server = Server::start(&["--auth", "key", "--requests-per-second", "1000000"]).await;
    let begin = async |key: &str| {
        let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            HELD + 1
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // It fails if the server refuses the body before its end.
        let _ = stream.write_all(&vec![b' '; HELD]).await;
        stream
    };
    let list = async |key: &str| {
        let list = server.modern("tools/list", json!({"_meta": {"x": "y".repeat(1_000)}}));
        with(list, Some(key)).send().await.unwrap()
    };
    // A new key is checked once, and not in the middle of the test.
    for key in ["sk_test_one", "sk_test_other"] {
        assert_eq!(list(key).await.status(), 200);
    }
    // Thirty-two times 512 KiB are the 16 MiB of a tenant.
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(begin("sk_test_one").await);
    }
    let mut refused = list("sk_test_one").await;
    // The bodies before may still be on their way, or this request took the last place of one of them.
    while refused.status() == 200 {
        held.push(begin("sk_test_one").await);
        refused = list("sk_test_one").await;
    }
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    let text = refused.text().await.unwrap();
    assert!(text.contains("too large together"), "{text}");
    assert_eq!(list("sk_test_other").await.status(), 200);
    // What is answered counts no longer.
    let mut one = held.remove(0);
    one.write_all(b" ").await.unwrap();
    let mut answer = [0; 12];
    one.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
    assert_eq!(list("sk_test_one").await.status(), 200);
    let answers = join_all((0..4).map(|_| list("sk_test_one"))).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
}
