//! Slow, large and many requests, and other clients, who must not notice them.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::support::{Server, SseSession, TEST_TIMEOUT, initialize, message};

/// Checks that another client is served without delay.
async fn assert_served(server: &Server) {
    let started = Instant::now();
    server.tool(None, "list_agents", json!({})).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn slow_clients_are_disconnected_and_delay_no_other_client() {
    let server = Server::start(&[]).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut peer = TcpStream::connect(server.address()).await.unwrap();
        peer.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow:").await.unwrap();
        slow.push(peer);
    }
    let mut body = TcpStream::connect(server.address()).await.unwrap();
    body.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: 1000\r\n\r\n{").await.unwrap();
    assert_served(&server).await;
    for mut peer in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(TEST_TIMEOUT, peer.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a client that sends no headers is still connected");
    }
    let mut answer = [0; 12];
    tokio::time::timeout(TEST_TIMEOUT, body.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert_served(&server).await;
}

#[tokio::test]
async fn large_bodies_and_headers_are_refused() {
    let server = Server::start(&[]).await;
    let large = json!({"pad": "x".repeat(5 * 1024 * 1024)});
    // The server responds before it has read the body, so the client may see a closed connection first.
    for chunked in [false, true] {
        let request = server.post(&json!({}));
        let request = match chunked {
            false => request.body(large.to_string()),
            true => {
                let parts = large.to_string().into_bytes();
                let parts: Vec<_> = parts
                    .chunks(65_536)
                    .map(|part| Ok::<_, std::io::Error>(part.to_vec()))
                    .collect();
                request.body(reqwest::Body::wrap_stream(futures::stream::iter(parts)))
            }
        };
        match request.send().await {
            Ok(answer) => {
                assert_eq!(answer.status(), 413, "chunked: {chunked}");
                assert_eq!(answer.headers()["connection"], "close");
            }
            Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
        }
    }
    let with_header =
        |bytes| server.post(&initialize()).header("x-large", "x".repeat(bytes)).send();
    assert_eq!(with_header(63 * 1024).await.unwrap().status(), 200);
    for bytes in [64, 80, 100, 150, 300].map(|kibibytes| kibibytes * 1024) {
        if let Ok(answer) = with_header(bytes).await {
            assert_eq!(answer.status(), 431, "{bytes}");
        }
    }
    assert_served(&server).await;
}

#[tokio::test]
async fn abandoned_sessions_are_limited_and_new_ones_can_be_opened() {
    let arguments = ["--max-sessions-per-tenant", "100", "--requests-per-second", "1000000"];
    let server = Server::start(&arguments).await;
    let first = server.open(None).await;
    // `load` measures the memory of a day's sessions.
    for _ in 0..400 {
        assert_eq!(server.initialize(None).await.status(), 200);
    }
    let new = server.open(None).await;
    assert!(new.tools().await.contains(&"place_call".to_owned()));
    assert_eq!(first.request("tools/list", json!({})).await.status(), 404);
}

#[tokio::test]
async fn a_thousand_requests_wait_concurrently() {
    let server = Server::start(&["--requests-per-second", "1000", "--threads", "4"]).await;
    let call_id = server.long_call().await;
    let arguments = json!({"call_id": call_id, "wait_seconds": 3});
    let params = json!({"name": "get_call_result", "arguments": arguments});
    let waits = (0..1_000).map(|_| async {
        let answer = server.modern("tools/call", params.clone()).send().await.unwrap();
        message(answer).await["result"]["structuredContent"]["outcome"].clone()
    });
    let waits = futures::future::join_all(waits);
    let others = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_served(&server).await;
    };
    let (outcomes, ()) = tokio::join!(waits, others);
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "in_progress").count(), 1_000);
}

#[tokio::test]
async fn sessions_in_use_are_not_evicted_for_new_ones() {
    let server = Server::start(&["--max-sessions-per-tenant", "2"]).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let stream = server.http.get(format!("{}/sse", server.base)).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    let refused = server.initialize(None).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "30");
}

#[tokio::test]
async fn each_session_may_belong_to_another_tenant() {
    const TENANTS: usize = 1_050;
    let home = tempfile::tempdir().unwrap();
    let tokens: Vec<String> = (0..TENANTS).map(|number| format!("cbmcp_{number}")).collect();
    let entry = |(number, token): (usize, &String)| {
        let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "[[token]]\nname = \"t{number}\"\nhash = \"sha256:{hash}\"\ncreated = \"2026-11-22T08:00:00Z\"\n"
        )
    };
    let file: String = tokens.iter().enumerate().map(entry).collect();
    let folder = home.path().join("config/callingbox-mcp");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("tokens.toml"), file).unwrap();
    let server = Server::start_in(home, &["--auth", "token"]).await;
    let opened = stream::iter(&tokens)
        .map(async |token| server.initialize(Some(token)).await.status().as_u16());
    let opened: Vec<u16> = opened.buffered(16).collect().await;
    assert_eq!(opened.iter().filter(|status| **status == 200).count(), TENANTS);
}

#[tokio::test]
async fn a_full_server_evicts_no_session_of_another_tenant() {
    let server = Server::start(&["--auth", "key", "--max-sessions", "1"]).await;
    let session = server.open(Some("sk_test_one")).await;
    let refused = server.initialize(Some("sk_test_other")).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "30");
    assert!(!session.tools().await.is_empty());
}

#[tokio::test]
async fn too_many_requests_get_retry_after_and_other_tenants_are_served() {
    let server = Server::start(&["--requests-per-second", "1", "--auth", "key"]).await;
    let list = |key| server.modern("tools/list", json!({})).bearer_auth(key).send();
    let mut statuses = Vec::new();
    for _ in 0..12 {
        let answer = list("sk_test_one").await.unwrap();
        if answer.status() == 429 {
            assert_eq!(answer.headers()["retry-after"], "1");
        }
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count().min(10), 10);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(list("sk_test_other").await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_streams_of_a_tenant_are_limited() {
    let server = Server::start(&["--max-streams-per-tenant", "1", "--auth", "key"]).await;
    let sse = |key: &str| server.http.get(format!("{}/sse", server.base)).bearer_auth(key).send();
    let held = sse("sk_test_one").await.unwrap();
    assert_eq!(held.status(), 200);
    assert_eq!(sse("sk_test_one").await.unwrap().status(), 429);
    assert_eq!(sse("sk_test_other").await.unwrap().status(), 200);
    drop(held);
    let mut status = 429;
    for _ in 0..200 {
        status = sse("sk_test_one").await.unwrap().status().as_u16();
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status, 200);
}

/// Builds requests, by id, that wait for a call longer than any test runs.
async fn long_wait_builder(server: &Server) -> impl Fn(usize) -> Value {
    let wait = json!({"call_id": server.long_call().await, "wait_seconds": 300});
    let wait = json!({"name": "get_call_result", "arguments": wait});
    move |id| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": wait})
}

#[tokio::test]
async fn a_pending_request_counts_after_its_client_has_disconnected() {
    let server = Server::start(&["--max-streams-per-tenant", "4"]).await;
    let request = long_wait_builder(&server).await;
    let session = server.open(None).await;
    for _ in 0..10 {
        assert!(!session.tools().await.is_empty());
    }
    for id in 0..4 {
        assert_eq!(session.post(&request(id)).send().await.unwrap().status(), 200, "{id}");
    }
    // The earlier streams are closed, which the server notices a moment later.
    for id in 4..24 {
        assert_eq!(session.post(&request(id)).send().await.unwrap().status(), 429, "{id}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn messages_of_the_sse_transport_count_as_requests() {
    let server = Server::start(&["--max-streams-per-tenant", "4"]).await;
    let request = long_wait_builder(&server).await;
    let mut session = SseSession::open(&server).await;
    let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
    for _ in 0..10 {
        assert_eq!(session.post(&ping).await.status(), 202);
        assert_eq!(session.next().await["id"], "p");
    }
    // The stream counts as one, and each message while it is received.
    for (id, status) in [(0, 202), (1, 202), (2, 429), (3, 429)] {
        assert_eq!(session.post(&request(id)).await.status(), status, "{id}");
    }
}

#[tokio::test]
async fn responses_are_sent_without_nagle_delay() {
    let server = Server::start(&[]).await;
    let session = server.open(None).await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        message(session.request("ping", json!({})).await).await;
        times.push(started.elapsed());
    }
    // With Nagle's algorithm each response waits 40 ms for an acknowledgment. On a busy machine some take as long without it.
    let fastest = times.iter().min().unwrap();
    assert!(*fastest < Duration::from_millis(35), "{times:?}");
}

#[tokio::test]
async fn a_cancelled_request_no_longer_counts_in_its_session() {
    const MAX_PENDING: usize = 128;
    let server = Server::start(&[]).await;
    let wait = json!({"call_id": server.long_call().await, "wait_seconds": 300});
    let wait = json!({"name": "get_call_result", "arguments": wait});
    let mut session = SseSession::open(&server).await;
    let request =
        |id: usize| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": wait});
    let cancel = |id: usize| json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    for id in 0..=MAX_PENDING {
        assert_eq!(session.post(&request(id)).await.status(), 202, "{id}");
        assert_eq!(session.post(&cancel(id)).await.status(), 202, "{id}");
    }
    for id in 0..MAX_PENDING {
        assert_eq!(session.post(&request(id)).await.status(), 202, "{id}");
    }
    let full = session.post(&request(MAX_PENDING)).await;
    assert_eq!((full.status().as_u16(), full.headers().contains_key("retry-after")), (429, true));
    assert_eq!(session.post(&cancel(0)).await.status(), 202);
    // Only one of two requests with one id would be answered.
    assert_eq!(session.post(&request(1)).await.status(), 400);
    let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
    // It is accepted once the cancellation has been processed.
    for _ in 0..2 {
        let mut status = session.post(&ping).await.status();
        while status == 429 {
            status = session.post(&ping).await.status();
        }
        assert_eq!(status, 202);
        assert_eq!(session.next().await, json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
    }
}
