//! What `--state` takes, and a server whose Redis was never there. These need no Redis.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::house::{listening, program};

#[tokio::test]
async fn an_address_that_cannot_be_meant_is_refused_and_never_repeated() {
    let ledger = "[dialing]\nledger = \"/tmp/ledger.sqlite3\"\n";
    let redis = "[dialing]\nledger = \"redis://:hunter2@127.0.0.1/\"\n";
    for (config, address, expected) in [
        ("", "http://:hunter2@127.0.0.1/", "--state: the address must begin with redis://"),
        ("", "redis://a,redis://:hunter2@b", "begin each with redis-cluster://"),
        ("", "redis://127.0.0.1:hunter2", "the address is malformed"),
        (ledger, "redis://:hunter2@127.0.0.1/", "take one of them out"),
        (redis, "", "a Redis is named by `http --state`"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("config/callingbox-mcp");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.toml"), config).unwrap();
        let mut command = program(home.path());
        command.args(["--sandbox", "http", "--listen", "127.0.0.1:0"]);
        if !address.is_empty() {
            command.args(["--state", address]);
        }
        let output = command.stderr(std::process::Stdio::piped()).output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(expected), "{address}: {text}");
        // The line of a file that is wrong is not shown either.
        assert!(!text.contains("hunter2"), "{address}: {text}");
    }
}

#[tokio::test]
async fn a_server_whose_redis_is_not_there_reads_and_does_not_dial() {
    let home = tempfile::tempdir().unwrap();
    let mut sandbox = program(home.path());
    let (_sandbox, simulator) =
        listening(sandbox.args(["sandbox", "--listen", "127.0.0.1:0", "--manual"])).await;
    let mut server = program(home.path());
    server.arg(format!("--sandbox={simulator}"));
    // Nobody listens on port 1.
    server.args(["http", "--listen", "127.0.0.1:0", "--state", "redis://127.0.0.1:1/"]);
    let (_server, base) = listening(&mut server).await;
    let client = crate::client::Client::new(base);
    assert_eq!(client.get("/healthz").await.0, 200);
    let (status, said) = client.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(said.contains("\"state\":\"cannot be reached\""), "{said}");
    let begun = Instant::now();
    for _ in 0..20 {
        let calls = client.tool("list_calls", json!({})).await.unwrap();
        assert_eq!(calls["isError"], json!(false), "{calls}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let refused = client.place_call("agent", "+13105550100").await.unwrap();
    let text = refused["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("dialing is refused: the ledger's Redis server"), "{text}");
    // It comes back by itself, and nothing has to be changed for that.
    assert!(
        text.contains("Nothing was done.") && text.contains("Retrying later is safe."),
        "{text}"
    );
    // A session begins, and goes on where it began.
    let session = client.open().await;
    assert_eq!(session.request(&client, 1, "tools/list", json!({})).await.status(), 200);
    let unknown = crate::client::Session { id: "unknown".to_owned() };
    assert_eq!(unknown.request(&client, 1, "tools/list", json!({})).await.status(), 404);
}
