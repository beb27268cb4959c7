//! Replicas that are killed, and a Redis that goes away and comes back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::house::{House, program, until};

const OFF: &str = "mode = \"off\"\n";

/// Whether this is a line of its figures.
async fn has(replica: &Client, figure: &str) -> bool {
    replica.get("/metrics").await.1.lines().any(|line| line == figure)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_replica_that_is_killed_in_mid_wait_loses_nothing() {
    let mut house = House::open("", OFF, &[]).await;
    let agent = house.agent().await;
    let a = house.replicas[0].client.clone();
    let session = a.open().await;
    let placed = a.place_call(&agent, "+13105550100").await.unwrap();
    let call_id = placed["structuredContent"]["call_id"].as_str().unwrap().to_owned();
    let wait = json!({"call_id": call_id, "wait_seconds": 30});
    let mut waiting = session.call(&a, 1, "get_call_result", wait.clone()).await;
    waiting.until(|message| message["method"] == "notifications/progress").await.unwrap();
    house.replicas[0].process.kill().await.unwrap();
    assert_eq!(waiting.result(1).await, None);
    // A session elsewhere, the same question.
    let b = house.replicas[1].client.clone();
    let other = session.request(&b, 2, "tools/list", json!({})).await;
    assert_eq!(other.status(), 404);
    let again = b.open().await;
    let mut again = again.call(&b, 2, "get_call_result", wait).await;
    again.until(|message| message["method"] == "notifications/progress").await.unwrap();
    house.simulator("POST", "/sandbox/clock", Some(json!({"advance_seconds": 600}))).await;
    let result = again.result(2).await.unwrap();
    assert_eq!(result["structuredContent"]["outcome"], "completed", "{result}");
    assert_eq!(house.dialed().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_replica_that_is_killed_in_mid_dispatch_leaves_a_call_that_is_found() {
    let mut house = House::open("request_timeout_seconds = 2\n", OFF, &[]).await;
    let agent = house.agent().await;
    house
        .fault(json!({
            "method": "POST", "path": "/v1/calls", "when": "after",
            "kind": "delay", "delay_ms": 600_000,
        }))
        .await;
    let a = house.replicas[0].client.clone();
    let asked = {
        let agent = agent.clone();
        tokio::spawn(async move { a.place_call(&agent, "+13105550107").await })
    };
    until("it rings", async || house.dialed().await.len() == 1).await;
    house.replicas[0].process.kill().await.unwrap();
    assert_eq!(asked.await.unwrap(), None);
    let call_id = house.dialed().await[0].1.clone();
    // Until the dead one's lease is over it is told that the call is being placed; then it is found.
    let mut found = Value::Null;
    until("the call is found", async || {
        let result = house.client.place_call(&agent, "+13105550107").await.unwrap();
        found = result["structuredContent"]["call_id"].clone();
        !found.is_null()
    })
    .await;
    assert_eq!(found, json!(call_id));
    assert_eq!(house.dialed().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn without_redis_reads_go_on_and_nothing_is_dialed_and_then_all_is_well_again() {
    let mut house = House::open("", OFF, &[]).await;
    let agent = house.agent().await;
    let a = house.replicas[0].client.clone();
    let session = a.open().await;
    let placed = house.client.place_call(&agent, "+13105550100").await.unwrap();
    let call_id = placed["structuredContent"]["call_id"].as_str().unwrap().to_owned();
    house.redis.stop().await;

    for turn in 0..9 {
        let begun = Instant::now();
        let read = json!({"call_id": call_id, "wait_seconds": 0});
        let result = house.client.tool("get_call_result", read.clone()).await.unwrap();
        assert_eq!(result["structuredContent"]["call_id"], json!(call_id), "{result}");
        let mut events = session.call(&a, 10 + turn, "get_call_result", read).await;
        let result = events.result(10 + turn).await.unwrap();
        assert_eq!(result["structuredContent"]["call_id"], json!(call_id), "{result}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{turn}: {:?}", begun.elapsed());
        let refused = house.client.place_call(&agent, "+14155550100").await.unwrap();
        assert_eq!(refused["isError"], json!(true), "{refused}");
        let text = refused["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("dialing is refused: the ledger's Redis server"), "{text}");
        assert!(text.contains(" Retrying later is safe."), "{text}");
    }
    for replica in &house.replicas {
        let mut said = String::new();
        until("it is not ready", async || {
            let (status, text) = replica.client.get("/readyz").await;
            said = text;
            status == 503
        })
        .await;
        assert!(said.contains("\"state\":\"cannot be reached\""), "{said}");
        assert!(has(&replica.client, "callingbox_mcp_shared_state_up 0").await);
    }
    assert_eq!(house.dialed().await.len(), 1);

    house.redis.start_again().await;
    for replica in &house.replicas {
        until("it is ready", async || replica.client.get("/readyz").await.0 == 200).await;
        assert!(has(&replica.client, "callingbox_mcp_shared_state_up 1").await);
    }
    // The ledger was kept: the same call is still known, and a new one rings.
    let mut same = Value::Null;
    until("the ledger answers", async || {
        let result = house.client.place_call(&agent, "+13105550100").await.unwrap();
        same = result["structuredContent"]["call_id"].clone();
        result["isError"] == json!(false)
    })
    .await;
    assert_eq!(same, json!(call_id));
    let placed = house.client.place_call(&agent, "+14155550100").await.unwrap();
    assert_eq!(placed["isError"], json!(false), "{placed}");
    assert_eq!(house.dialed().await.len(), 2);
    // The session was never gone.
    assert_eq!(session.request(&a, 1, "tools/list", json!({})).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_server_whose_redis_hangs_reads_and_does_not_dial() {
    let house = House::open("", OFF, &[]).await;
    let agent = house.agent().await;
    let placed = house.client.place_call(&agent, "+13105550100").await.unwrap();
    let call_id = placed["structuredContent"]["call_id"].as_str().unwrap().to_owned();
    house.simulator("POST", "/sandbox/clock", Some(json!({"advance_seconds": 600}))).await;
    house.redis.hang(true).await;
    for _ in 0..3 {
        let read = json!({"call_id": call_id, "wait_seconds": 0});
        let result = house.client.tool("get_call_result", read).await.unwrap();
        assert_eq!(result["structuredContent"]["outcome"], "completed", "{result}");
    }
    let refused = house.client.place_call(&agent, "+14155550100").await.unwrap();
    let text = refused["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("dialing is refused"), "{text}");
    house.redis.hang(false).await;
    until("dialing goes on", async || {
        let placed = house.client.place_call(&agent, "+14155550100").await.unwrap();
        placed["isError"] == json!(false)
    })
    .await;
    assert_eq!(house.dialed().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn doctor_looks_where_the_replicas_do() {
    let mut house = House::open("", "", &[]).await;
    let url = house.redis.url();
    let look = async || {
        let home = tempfile::tempdir().unwrap();
        let mut doctor = program(home.path());
        let doctor =
            doctor.args(["doctor", "--sandbox", "--json"]).env("CALLINGBOX_MCP_STATE", &url);
        let report: Value = serde_json::from_slice(&doctor.output().await.unwrap().stdout).unwrap();
        let findings = report["findings"].as_array().unwrap().clone();
        ["state", "ledger"].map(|check| {
            let found = findings.iter().find(|finding| finding["check"] == check).unwrap();
            (
                found["level"].as_str().unwrap().to_owned(),
                found["message"].as_str().unwrap().to_owned(),
            )
        })
    };
    let [state, ledger] = look().await;
    assert_eq!((state.0.as_str(), ledger.0.as_str()), ("ok", "ok"), "{state:?} {ledger:?}");
    assert!(ledger.1.starts_with("the Redis server can be written"), "{ledger:?}");
    house.redis.stop().await;
    let [state, ledger] = look().await;
    assert_eq!((state.0.as_str(), ledger.0.as_str()), ("fail", "warn"), "{state:?} {ledger:?}");
    assert!(
        state.1.ends_with("the shared state is unavailable: the connection was refused"),
        "{state:?}"
    );
}
