//! How a server ends.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::process::Command;

use crate::support::{Events, PATIENCE, Server, message};

async fn terminate(server: &Server) {
    let id = server.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
}

#[tokio::test]
async fn what_is_under_way_is_finished_and_the_exit_is_clean() {
    let mut server = Server::start(&["--admin-listen", "127.0.0.1:0"]).await;
    let call_id = server.long_call().await;
    let arguments = json!({"call_id": call_id, "wait_seconds": 3});
    let params = json!({"name": "get_call_result", "arguments": arguments});
    let waiting = tokio::spawn(server.modern("tools/call", params).send());
    let stream = server.http.get(format!("{}/sse", server.base)).send().await.unwrap();
    let mut events = Events::of(stream);
    assert_eq!(events.next().await.unwrap().0, "endpoint");
    tokio::time::sleep(Duration::from_millis(500)).await;
    terminate(&server).await;
    let ready = format!("{}/readyz", server.admin.clone().unwrap());
    let begun = Instant::now();
    while server.http.get(&ready).send().await.unwrap().status() != 503 {
        assert!(begun.elapsed() < PATIENCE);
    }
    assert!(tokio::net::TcpStream::connect(server.address()).await.is_err());
    let answer = message(waiting.await.unwrap().unwrap()).await;
    assert_eq!(answer["result"]["structuredContent"]["outcome"], "in_progress");
    assert_eq!(events.next().await, None);
    let ended = tokio::time::timeout(PATIENCE, server.child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn the_grace_period_has_an_end() {
    let mut server = Server::start(&["--grace", "1"]).await;
    let call_id = server.long_call().await;
    let arguments = json!({"call_id": call_id, "wait_seconds": 60});
    let params = json!({"name": "get_call_result", "arguments": arguments});
    let waiting = tokio::spawn(server.modern("tools/call", params).send());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    terminate(&server).await;
    let ended = tokio::time::timeout(PATIENCE, server.child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    drop(waiting);
}
