//! Peers that are slow, large or many, and those beside them who must not notice.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::support::{Older, PATIENCE, Server, initialize, message};

/// That others are served, and soon.
async fn served(server: &Server) {
    let begun = Instant::now();
    server.tool(None, "list_agents", json!({})).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn slow_peers_are_sent_away_and_disturb_nobody() {
    let server = Server::start(&[]).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut peer = TcpStream::connect(server.address()).await.unwrap();
        peer.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow:").await.unwrap();
        slow.push(peer);
    }
    let mut body = TcpStream::connect(server.address()).await.unwrap();
    body.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: 1000\r\n\r\n{").await.unwrap();
    served(&server).await;
    for mut peer in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, peer.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a peer that sends no headers is still connected");
    }
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, body.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    served(&server).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let server = Server::start(&[]).await;
    let large = json!({"pad": "x".repeat(5 * 1024 * 1024)});
    // The server answers without reading on, so the client may find the connection closed first.
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
    served(&server).await;
}

#[tokio::test]
async fn abandoned_sessions_are_capped_and_new_ones_still_open() {
    let arguments = ["--max-sessions-per-tenant", "100", "--requests-per-second", "1000000"];
    let server = Server::start(&arguments).await;
    let first = server.open(None).await;
    // What it does to memory is measured over a day's worth in `load`.
    for _ in 0..400 {
        assert_eq!(server.initialize(None).await.status(), 200);
    }
    let new = server.open(None).await;
    assert!(new.tools().await.contains(&"place_call".to_owned()));
    assert_eq!(first.request("tools/list", json!({})).await.status(), 404);
}

#[tokio::test]
async fn a_thousand_wait_at_once() {
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
        served(&server).await;
    };
    let (outcomes, ()) = tokio::join!(waits, others);
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "in_progress").count(), 1_000);
}

#[tokio::test]
async fn sessions_in_use_are_not_ended_for_new_ones() {
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
async fn every_session_may_be_of_an_account_of_its_own() {
    const MANY: usize = 1_050;
    let home = tempfile::tempdir().unwrap();
    let people: Vec<String> = (0..MANY).map(|number| format!("cbmcp_{number}")).collect();
    let token = |(number, token): (usize, &String)| {
        let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "[[token]]\nname = \"t{number}\"\nhash = \"sha256:{hash}\"\ncreated = \"2026-11-22T08:00:00Z\"\n"
        )
    };
    let tokens: String = people.iter().enumerate().map(token).collect();
    let folder = home.path().join("config/callingbox-mcp");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("tokens.toml"), tokens).unwrap();
    let server = Server::start_in(home, &["--auth", "token"]).await;
    let opened = stream::iter(&people)
        .map(async |person| server.initialize(Some(person)).await.status().as_u16());
    let opened: Vec<u16> = opened.buffered(16).collect().await;
    assert_eq!(opened.iter().filter(|status| **status == 200).count(), MANY);
}

#[tokio::test]
async fn a_full_server_ends_nobodys_session_for_another() {
    let server = Server::start(&["--auth", "key", "--max-sessions", "1"]).await;
    let session = server.open(Some("sk_test_one")).await;
    let refused = server.initialize(Some("sk_test_other")).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "30");
    assert!(!session.tools().await.is_empty());
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back_and_others_are_served() {
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
async fn one_account_cannot_hold_more_streams_than_it_may() {
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

/// Makes requests, by their ids, that wait for a call longer than any test.
async fn long_wait(server: &Server) -> impl Fn(usize) -> Value {
    let wait = json!({"call_id": server.long_call().await, "wait_seconds": 300});
    let wait = json!({"name": "get_call_result", "arguments": wait});
    move |id| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": wait})
}

#[tokio::test]
async fn what_is_under_way_takes_a_place_though_its_client_has_left() {
    let server = Server::start(&["--max-streams-per-tenant", "4"]).await;
    let ask = long_wait(&server).await;
    let session = server.open(None).await;
    for _ in 0..10 {
        assert!(!session.tools().await.is_empty());
    }
    for id in 0..4 {
        assert_eq!(session.post(&ask(id)).send().await.unwrap().status(), 200, "{id}");
    }
    // The streams of before are closed, of which the server learns a moment later.
    for id in 4..24 {
        assert_eq!(session.post(&ask(id)).send().await.unwrap().status(), 429, "{id}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn messages_of_the_older_transport_take_places_too() {
    let server = Server::start(&["--max-streams-per-tenant", "4"]).await;
    let ask = long_wait(&server).await;
    let mut session = Older::open(&server).await;
    let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
    for _ in 0..10 {
        assert_eq!(session.post(&ping).await.status(), 202);
        assert_eq!(session.next().await["id"], "p");
    }
    // The stream takes one, and each message for as long as it is taken in.
    for (id, status) in [(0, 202), (1, 202), (2, 429), (3, 429)] {
        assert_eq!(session.post(&ask(id)).await.status(), status, "{id}");
    }
}

#[tokio::test]
async fn an_answer_is_not_held_up_by_the_network() {
    let server = Server::start(&[]).await;
    let session = server.open(None).await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        message(session.request("ping", json!({})).await).await;
        times.push(begun.elapsed());
    }
    times.sort();
    // With Nagle's algorithm on, each waits 40 ms for an acknowledgment.
    assert!(times[times.len() / 2] < Duration::from_millis(35), "{times:?}");
}

#[tokio::test]
async fn what_a_client_took_back_takes_no_place_in_its_session() {
    const MOST: usize = 128;
    let server = Server::start(&[]).await;
    let wait = json!({"call_id": server.long_call().await, "wait_seconds": 300});
    let wait = json!({"name": "get_call_result", "arguments": wait});
    let mut session = Older::open(&server).await;
    let ask =
        |id: usize| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": wait});
    let take_back = |id: usize| json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    for id in 0..=MOST {
        assert_eq!(session.post(&ask(id)).await.status(), 202, "{id}");
        assert_eq!(session.post(&take_back(id)).await.status(), 202, "{id}");
    }
    for id in 0..MOST {
        assert_eq!(session.post(&ask(id)).await.status(), 202, "{id}");
    }
    let full = session.post(&ask(MOST)).await;
    assert_eq!((full.status().as_u16(), full.headers().contains_key("retry-after")), (429, true));
    assert_eq!(session.post(&take_back(0)).await.status(), 202);
    // Of two with one id only one would be answered.
    assert_eq!(session.post(&ask(1)).await.status(), 400);
    let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
    // It is its turn once the one before is taken back.
    for _ in 0..2 {
        let mut taken = session.post(&ping).await.status();
        while taken == 429 {
            taken = session.post(&ping).await.status();
        }
        assert_eq!(taken, 202);
        assert_eq!(session.next().await, json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
    }
}
