//! A replica that is killed, and a Redis that goes away or hangs and comes back.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::deployment::{Deployment, NO_RULES, program, wait_until};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn a_call_of_a_replica_that_is_killed_during_the_dispatch_is_found() {
    let mut deployment = Deployment::start("request_timeout_seconds = 2\n", NO_RULES, &[]).await;
    let agent = deployment.create_agent().await;
    let lost_answer = json!({
        "method": "POST", "path": "/v1/calls", "when": "after",
        "kind": "delay", "delay_ms": 600_000,
    });
    deployment.add_fault(lost_answer).await;
    let first = deployment.replicas[0].client.clone();
    let request = {
        let agent = agent.clone();
        tokio::spawn(async move { first.place_call(&agent, "+13105550107").await })
    };
    wait_until("the call is dialed", async || deployment.dialed().await.len() == 1).await;
    deployment.replicas[0].process.kill().await.unwrap();
    assert_eq!(request.await.unwrap(), None);
    let call_id = deployment.dialed().await[0].1.clone();
    // Until the lease of the killed replica expires, the answer is that the call is being placed.
    let mut found = Value::Null;
    wait_until("the call is found", async || {
        let result = deployment.client.place_call(&agent, "+13105550107").await.unwrap();
        found = result["structuredContent"]["call_id"].clone();
        !found.is_null()
    })
    .await;
    assert_eq!(found, json!(call_id));
    assert_eq!(deployment.dialed().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn without_redis_a_server_reads_and_does_not_dial_until_redis_is_back() {
    let mut deployment = Deployment::start("", NO_RULES, &[]).await;
    let agent = deployment.create_agent().await;
    let session = deployment.client.open_session().await;
    let placed = deployment.client.place_call(&agent, "+13105550100").await.unwrap();
    let call_id = placed["structuredContent"]["call_id"].clone();
    deployment.redis.stop().await;

    for turn in 0..9 {
        let read = json!({"call_id": call_id, "wait_seconds": 0});
        let result = deployment.client.call_tool("get_call_result", read.clone()).await.unwrap();
        assert_eq!(result["structuredContent"]["call_id"], call_id, "{result}");
        let mut events = session.call_tool(turn, "get_call_result", read).await;
        let result = events.result(turn).await.unwrap();
        assert_eq!(result["structuredContent"]["call_id"], call_id, "{result}");
        let refused = deployment.client.place_call(&agent, "+14155550100").await.unwrap();
        assert_eq!(refused["isError"], json!(true), "{refused}");
        let text = refused["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("dialing is refused: the ledger's Redis server"), "{text}");
        assert!(text.contains(" Retrying later is safe."), "{text}");
    }
    for replica in &deployment.replicas {
        let mut report = String::new();
        wait_until("the replica is not ready", async || {
            let (status, text) = replica.client.get("/readyz").await;
            report = text;
            status == 503
        })
        .await;
        assert!(report.contains("\"state\":\"cannot be reached\""), "{report}");
        assert!(replica.has_metric("callingbox_mcp_shared_state_up 0").await);
    }
    assert_eq!(deployment.dialed().await.len(), 1);

    deployment.redis.restart().await;
    for replica in &deployment.replicas {
        let is_ready = async || replica.client.get("/readyz").await.0 == 200;
        wait_until("the replica is ready", is_ready).await;
        assert!(replica.has_metric("callingbox_mcp_shared_state_up 1").await);
    }
    // The ledger was kept: the first call is still known, and a new one is dialed.
    let mut known = Value::Null;
    wait_until("the ledger answers", async || {
        let result = deployment.client.place_call(&agent, "+13105550100").await.unwrap();
        known = result["structuredContent"]["call_id"].clone();
        result["isError"] == json!(false)
    })
    .await;
    assert_eq!(known, call_id);
    let placed = deployment.client.place_call(&agent, "+14155550100").await.unwrap();
    assert_eq!(placed["isError"], json!(false), "{placed}");
    assert_eq!(deployment.dialed().await.len(), 2);
    assert_eq!(session.list_tools().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn a_server_whose_redis_hangs_reads_and_does_not_dial() {
    let deployment = Deployment::start("", NO_RULES, &[]).await;
    let agent = deployment.create_agent().await;
    let placed = deployment.client.place_call(&agent, "+13105550100").await.unwrap();
    let call_id = placed["structuredContent"]["call_id"].clone();
    deployment.advance_clock(600).await;
    send_signal(&deployment, "-STOP").await;
    for _ in 0..3 {
        let read = json!({"call_id": call_id, "wait_seconds": 0});
        let result = deployment.client.call_tool("get_call_result", read).await.unwrap();
        assert_eq!(result["structuredContent"]["outcome"], "completed", "{result}");
    }
    let refused = deployment.client.place_call(&agent, "+14155550100").await.unwrap();
    let text = refused["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("dialing is refused"), "{text}");
    send_signal(&deployment, "-CONT").await;
    wait_until("dialing goes on", async || {
        let placed = deployment.client.place_call(&agent, "+14155550100").await.unwrap();
        placed["isError"] == json!(false)
    })
    .await;
    assert_eq!(deployment.dialed().await.len(), 2);
}

/// Sends a signal to the Redis server: a stopped one accepts connections and replies to nothing.
async fn send_signal(deployment: &Deployment, signal: &str) {
    let process = deployment.redis.process.id().unwrap().to_string();
    let sent = Command::new("kill").args([signal, &process]).status().await.unwrap();
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn doctor_checks_the_redis_of_the_replicas() {
    let mut deployment = Deployment::start("", "", &[]).await;
    let url = deployment.redis.url();
    let diagnose = async || {
        let home = tempfile::tempdir().unwrap();
        let mut doctor = program(home.path());
        doctor.args(["doctor", "--sandbox", "--json"]).env("CALLINGBOX_MCP_STATE", &url);
        let report: Value = serde_json::from_slice(&doctor.output().await.unwrap().stdout).unwrap();
        let findings = report["findings"].as_array().unwrap().clone();
        ["state", "ledger"].map(|check| {
            let found = findings.iter().find(|finding| finding["check"] == check).unwrap();
            let text = |field: &str| found[field].as_str().unwrap().to_owned();
            (text("level"), text("message"))
        })
    };
    let [state, ledger] = diagnose().await;
    assert_eq!((state.0.as_str(), ledger.0.as_str()), ("ok", "ok"), "{state:?} {ledger:?}");
    assert!(ledger.1.starts_with("the Redis server can be written"), "{ledger:?}");
    deployment.redis.stop().await;
    let [state, ledger] = diagnose().await;
    assert_eq!((state.0.as_str(), ledger.0.as_str()), ("fail", "warn"), "{state:?} {ledger:?}");
    let expected = "the shared state is unavailable: the connection was refused";
    assert!(state.1.ends_with(expected), "{state:?}");
}
