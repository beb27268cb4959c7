//! Load: the memory of a session and of a wait, and the effect of slow and large peers on others. These tests measure,
//! so they run only on request: `cargo test --test it http::load -- --ignored --nocapture --test-threads 1`.

use std::time::{Duration, Instant};

use callingbox_sandbox::Options;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Control, simulator};
use crate::http::shutdown::{ended, terminate};
use crate::http::support::{Server, Session, message};

/// No limit on the request rate.
const ALL: [&str; 2] = ["--requests-per-second", "1000000"];

/// The median time of calls that are made one after the other.
async fn pace(session: &Session<'_>, calls: usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..calls {
        let begun = Instant::now();
        let list = json!({"name": "list_agents", "arguments": {}});
        let answer = message(session.request("tools/call", list).await).await;
        assert_eq!(answer["result"]["isError"], false, "{answer}");
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[calls / 2]
}

#[tokio::test]
#[ignore = "perf: measures memory and time"]
async fn a_thousand_waits_of_a_thousand_sessions_are_answered_at_shutdown() {
    const MANY: usize = 1_000;
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    control.credit(1_000_000_000).await;
    let mut server = Server::start_on(&sandbox, &ALL).await;
    let agent = server.agent().await;
    // Calls of others: the server's own rules would not let it place so many.
    let call = json!({"agent_id": agent, "to": "+13105550107"}).to_string();
    let calls: Vec<String> = futures::stream::iter(0..MANY)
        .map(|_| async {
            let post = server.http.post(format!("{}/v1/calls", sandbox.url()));
            let post = post.bearer_auth(callingbox_mcp::simulator::KEY).body(call.clone());
            let call = post.header("content-type", "application/json").send().await.unwrap();
            let call: Value = serde_json::from_str(&call.text().await.unwrap()).unwrap();
            call["id"].as_str().unwrap().to_owned()
        })
        .buffered(8)
        .collect()
        .await;
    control.advance(60).await;

    // What is made once, however many come, is not counted.
    for _ in 0..20 {
        server.open(None).await.tools().await;
    }
    let before = server.resident_kib();
    let sessions: Vec<Session<'_>> =
        futures::stream::iter(0..MANY).map(|_| server.open(None)).buffered(16).collect().await;
    let opened = server.resident_kib();
    let waits: Vec<_> = sessions
        .iter()
        .zip(&calls)
        .map(|(session, call)| {
            let arguments = json!({"call_id": call, "wait_seconds": 300});
            let params = json!({"name": "get_call_result", "arguments": arguments});
            let wait = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params});
            tokio::spawn(session.post(&wait).timeout(Duration::from_secs(60)).send())
        })
        .collect();
    let watched = format!("callingbox_mcp_watched_calls {MANY}");
    loop {
        let metrics = server.http.get(format!("{}/metrics", server.base)).send().await.unwrap();
        if metrics.text().await.unwrap().lines().any(|line| line == watched) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let waiting = server.resident_kib();
    let other = server.open(None).await;
    let pace = pace(&other, 20).await;
    let each = |after: u64, before: u64| after.saturating_sub(before) / MANY as u64;
    let (session, wait) = (each(opened, before), each(waiting, opened));
    println!(
        "{MANY} sessions: {session} KiB each; {MANY} waits: {wait} KiB each; {waiting} KiB in all; another's call beside them takes {pace:?}"
    );
    assert!(session < 100 && wait < 100, "{before} {opened} {waiting}");

    // Every call has been looked at: by pages, not one by one.
    control.wait_for_requests("GET", "/v1/calls", MANY as u64 / 100).await;
    let begun = Instant::now();
    terminate(&server).await;
    for (wait, call) in waits.into_iter().zip(&calls) {
        let answer = message(wait.await.unwrap().unwrap()).await;
        let content = &answer["result"]["structuredContent"];
        assert_eq!(
            (&content["outcome"], &content["call_id"]),
            (&json!("in_progress"), &json!(call))
        );
    }
    drop((sessions, other));
    ended(&mut server).await;
    println!("all answered and ended in {:?}", begun.elapsed());
}

/// Bodies just below the limit, of many small values, arrive while another client asks whether the server is healthy.
#[tokio::test]
#[ignore = "perf: measures time"]
async fn large_bodies_do_not_delay_the_health_check() {
    const BODIES: usize = 60;
    let server = Server::start(&ALL).await;
    let params = json!({"name": "list_agents", "arguments": {}, "_meta": {"x": "@"}});
    let small = server.modern("tools/call", params).build().unwrap();
    let text = str::from_utf8(small.body().unwrap().as_bytes().unwrap()).unwrap();
    let numbers = format!("[{}0]", "0,".repeat(261_700));
    let body = bytes::Bytes::from(text.replace("\"@\"", &numbers));
    assert!((511 * 1024..512 * 1024).contains(&body.len()), "{}", body.len());
    let health = async || {
        let begun = Instant::now();
        let answer = server.http.get(format!("{}/healthz", server.base)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        begun.elapsed()
    };
    let alone = health().await;
    let bodies: Vec<_> = (0..BODIES)
        .map(|_| {
            let mut request = small.try_clone().unwrap();
            *request.body_mut() = Some(body.clone().into());
            tokio::spawn(server.http.execute(request))
        })
        .collect();
    let mut longest = Duration::ZERO;
    while !bodies.iter().all(tokio::task::JoinHandle::is_finished) {
        longest = longest.max(health().await);
    }
    let mut answered = 0;
    for body in bodies {
        let status = body.await.unwrap().unwrap().status().as_u16();
        assert!([200, 503].contains(&status), "{status}");
        answered += usize::from(status == 200);
    }
    println!(
        "/healthz: {alone:?} alone, at most {longest:?} beside {BODIES} bodies of 511 KiB, of which {answered} were answered with 200"
    );
    assert!(longest < Duration::from_millis(500), "{longest:?}");
}

#[tokio::test]
#[ignore = "perf: measures time"]
async fn slow_and_large_peers_do_not_delay_others() {
    let server = Server::start(&ALL).await;
    let session = server.open(None).await;
    pace(&session, 50).await;
    let alone = pace(&session, 100).await;

    let mut peers = Vec::new();
    // Headers that come letter by letter, and bodies likewise.
    for at in 0..400 {
        let mut peer = TcpStream::connect(server.address()).await.unwrap();
        peer.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
        if at % 2 == 0 {
            let rest = b"Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: 1000\r\n\r\n";
            peer.write_all(rest).await.unwrap();
        }
        peers.push(tokio::spawn(async move {
            while peer.write_all(b"X").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }));
    }
    // Bodies without an end; the server says no and closes, and they come again.
    for _ in 0..4 {
        let address = server.address().to_owned();
        peers.push(tokio::spawn(async move {
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            loop {
                let mut peer = TcpStream::connect(&address).await.unwrap();
                let head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                peer.write_all(head).await.unwrap();
                let mut sent = 0;
                while peer.write_all(chunk.as_bytes()).await.is_ok() {
                    sent += 0x10000;
                    assert!(sent < 64 * 1024 * 1024, "a body without an end is read on and on");
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                let mut answer = [0; 12];
                if peer.read_exact(&mut answer).await.is_ok() {
                    assert_eq!(&answer, b"HTTP/1.1 413");
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let beside = pace(&session, 200).await;
    println!("alone {alone:?}, beside 400 slow and 4 large peers {beside:?}");
    assert!(beside < alone * 8, "alone {alone:?}, beside them {beside:?}");
    for peer in peers {
        assert!(!peer.is_finished() || peer.await.is_ok());
    }
}
