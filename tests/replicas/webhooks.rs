//! Deliveries to another replica than the one with the wait.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::client::Client;
use crate::deployment::{API_KEY, Deployment, NO_RULES, WEBHOOK_SECRET, wait_until};

/// Delivers an event with this record of a call. Returns the status and the text of the answer.
async fn deliver(client: &Client, event: &str, call: &Value) -> (u16, String) {
    let body = json!({"id": event, "type": "call.completed", "data": {"call": call}}).to_string();
    let now = jiff::Timestamp::now().as_second();
    let mut mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).unwrap();
    mac.update(format!("{now}.{body}").as_bytes());
    let digest = mac.finalize().into_bytes();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let request = client.request("POST", "/webhooks/callingbox");
    let request = request.header("callingbox-signature", format!("t={now},v1={digest}"));
    let response = request.body(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn a_delivery_to_one_replica_ends_a_wait_at_another() {
    let deployment = Deployment::start("", NO_RULES, &[]).await;
    let agent = deployment.create_agent().await;
    let [a, b] = [0, 1].map(|index| deployment.replicas[index].client.clone());
    let placed = a.place_call(&agent, "+13105550107").await.unwrap();
    let call_id = placed["structuredContent"]["call_id"].as_str().unwrap().to_owned();
    let mut call = deployment.simulator("GET", &format!("/v1/calls/{call_id}"), None).await;
    let session = a.open_session().await;
    let wait = json!({"call_id": call_id, "wait_seconds": 3_000});
    let mut waiting = session.call_tool(1, "get_call_result", wait).await;
    waiting.next_progress().await;
    // From now on polling fails: only the delivery can end the wait.
    for path in ["/v1/calls".to_owned(), format!("/v1/calls/{call_id}")] {
        let fault = json!({
            "method": "GET", "path": path, "kind": "status", "status": 503, "times": 1_000_000,
        });
        deployment.add_fault(fault).await;
    }
    call["status"] = json!("completed");
    call["result_status"] = json!("completed");
    call["result"] = json!({"ok": true});
    assert_eq!(deliver(&b, "e1", &call).await, (200, String::new()));
    let result = waiting.result(1).await.unwrap();
    assert_eq!(result["structuredContent"]["outcome"], "completed", "{result}");
    assert_eq!(result["structuredContent"]["call_id"], json!(call_id));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn a_delivery_makes_callers_with_their_own_keys_only_look_again() {
    let deployment = Deployment::start("", NO_RULES, &["--auth", "key"]).await;
    let agent = deployment.create_agent().await;
    let [a, b] = [0, 1].map(|index| deployment.replicas[index].client.with_key(API_KEY));
    let placed = a.place_call(&agent, "+13105550107").await.unwrap();
    let call_id = placed["structuredContent"]["call_id"].as_str().unwrap().to_owned();
    let mut call = deployment.simulator("GET", &format!("/v1/calls/{call_id}"), None).await;
    let count_reads = async || {
        let requests = deployment.simulator("GET", "/sandbox/requests", None).await;
        let rows = requests["data"].as_array().unwrap().iter();
        let reads = rows.filter(|row| {
            row["method"] == "GET" && row["path"].as_str().unwrap().starts_with("/v1/calls")
        });
        reads.map(|row| row["count"].as_u64().unwrap()).sum::<u64>()
    };
    let session = a.open_session().await;
    let wait = json!({"call_id": call_id, "wait_seconds": 3_000});
    let mut waiting = session.call_tool(1, "get_call_result", wait).await;
    waiting.next_progress().await;
    call["status"] = json!("completed");
    let before = count_reads().await;
    assert_eq!(deliver(&b, "e1", &call).await, (200, String::new()));
    wait_until("replica A looks again", async || count_reads().await > before).await;
    // The delivered record is not believed: the call goes on, and so does the wait.
    let result = waiting.result(1);
    assert!(tokio::time::timeout(Duration::from_millis(500), result).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn an_event_that_one_replica_received_is_a_replay_at_the_others() {
    let deployment = Deployment::start("", NO_RULES, &[]).await;
    let call = json!({"id": "call-1"});
    let mut answers = Vec::new();
    for replica in &deployment.replicas {
        answers.push(deliver(&replica.client, "e1", &call).await);
    }
    let replayed = (200, "replayed".to_owned());
    assert_eq!(answers, [(200, String::new()), replayed.clone(), replayed]);
    let other = deliver(&deployment.replicas[1].client, "e2", &call).await;
    assert_eq!(other, (200, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn malformed_messages_between_replicas_are_ignored() {
    let deployment = Deployment::start("", NO_RULES, &[]).await;
    let agent = deployment.create_agent().await;
    let client = redis::Client::open(deployment.redis.url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let from = "00000000-0000-0000-0000-000000000000";
    for message in [
        String::new(),
        "garbage".to_owned(),
        "[".repeat(500_000),
        "x".repeat(3_000_000),
        json!({"from": "x", "call_id": "x"}).to_string(),
        json!({"from": from, "account": null, "call_id": 5}).to_string(),
        json!({"from": from, "account": null, "call_id": "x", "call": {"id": []}}).to_string(),
        json!({"from": from, "account": "0", "call_id": "x", "call": [[]]}).to_string(),
    ] {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg("callingbox-mcp:v1:calls").arg(message);
        let receivers: i64 = publish.query_async(&mut redis).await.unwrap();
        assert_eq!(receivers, 3);
    }
    for replica in &deployment.replicas {
        assert_eq!(replica.client.get("/readyz").await.0, 200);
        let listed = replica.client.send_modern("tools/list", json!({})).await.unwrap();
        assert_eq!(listed.status(), 200);
    }
    assert_eq!(deployment.dialed().await, []);
    let placed = deployment.client.place_call(&agent, "+13105550107").await.unwrap();
    assert_eq!(placed["isError"], json!(false), "{placed}");
}
