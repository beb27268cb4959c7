//! The values of `--state`, and a server whose Redis was never there. These tests need neither Redis nor HAProxy.

use std::process::Stdio;

use serde_json::json;

use crate::client::Client;
use crate::deployment::{home_with, program, spawn_listener};

#[tokio::test]
async fn an_invalid_address_is_refused_and_never_repeated() {
    let ledger = "[dialing]\nledger = \"/tmp/ledger.sqlite3\"\n";
    let redis = "[dialing]\nledger = \"redis://:hunter2@127.0.0.1/\"\n";
    for (config, address, expected) in [
        ("", "http://:hunter2@127.0.0.1/", "--state: the address must begin with redis://"),
        ("", "redis://a,redis://:hunter2@b", "begin each with redis-cluster://"),
        ("", "redis://127.0.0.1:hunter2", "the address is malformed"),
        (ledger, "redis://:hunter2@127.0.0.1/", "both name a ledger; remove one of them"),
        (redis, "", "name a Redis with `http --state`"),
    ] {
        let home = home_with(config, "");
        let mut command = program(home.path());
        command.args(["--sandbox", "http", "--listen", "127.0.0.1:0"]);
        if !address.is_empty() {
            command.args(["--state", address]);
        }
        let output = command.stderr(Stdio::piped()).output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(expected), "{address}: {text}");
        // The wrong line of a file is not shown either.
        assert!(!text.contains("hunter2"), "{address}: {text}");
    }
}

#[tokio::test]
async fn a_server_without_its_redis_reads_and_does_not_dial() {
    let home = tempfile::tempdir().unwrap();
    let mut sandbox = program(home.path());
    let (_sandbox, simulator) =
        spawn_listener(sandbox.args(["sandbox", "--listen", "127.0.0.1:0", "--manual"])).await;
    let mut server = program(home.path());
    server.arg(format!("--sandbox={simulator}"));
    // No program listens on port 1.
    server.args(["http", "--listen", "127.0.0.1:0", "--state", "redis://127.0.0.1:1/"]);
    let (_server, base) = spawn_listener(&mut server).await;
    let client = Client::new(base);
    assert_eq!(client.get("/healthz").await.0, 200);
    let (status, report) = client.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(report.contains("\"state\":\"cannot be reached\""), "{report}");
    for _ in 0..20 {
        let calls = client.call_tool("list_calls", json!({})).await.unwrap();
        assert_eq!(calls["isError"], json!(false), "{calls}");
    }
    let agent = json!({"name": "Caller", "type": "outbound"});
    let agent = client.call_tool("create_agent", agent).await.unwrap();
    let agent = agent["structuredContent"]["agent_id"].as_str().unwrap();
    let refused = client.place_call(agent, "+13105550100").await.unwrap();
    let text = refused["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("dialing is refused: the ledger's Redis server"), "{text}");
    // The server needs no change to dial again when Redis is back.
    let is_safe = text.contains("Nothing was done.") && text.contains("Retrying later is safe.");
    assert!(is_safe, "{text}");
    let session = client.open_session().await;
    assert_eq!(session.list_tools().await, 200);
}
