//! Deliveries that reach another replica than the one that waits.

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::client::Client;
use crate::house::{House, SECRET};

/// Delivers an event with this record, and answers with status and text.
async fn deliver(to: &Client, id: &str, call: &Value) -> (u16, String) {
    let body = json!({"id": id, "type": "call.completed", "data": {"call": call}}).to_string();
    let now = jiff::Timestamp::now().as_second();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{now}.{body}").as_bytes());
    let digits = mac.finalize().into_bytes();
    let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    let post = to.request("POST", "/webhooks/callingbox");
    let post = post.header("callingbox-signature", format!("t={now},v1={digits}")).body(body);
    let response = post.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_wait_ends_when_the_delivery_reaches_another_replica() {
    let house = House::open("", "mode = \"off\"\n", &[]).await;
    let agent = house.agent().await;
    let [a, b, _] = [0, 1, 2].map(|at| house.replicas[at].client.clone());
    let placed = a.place_call(&agent, "+13105550107").await.unwrap();
    let call_id = placed["structuredContent"]["call_id"].as_str().unwrap().to_owned();
    let mut call = house.simulator("GET", &format!("/v1/calls/{call_id}"), None).await;
    let session = a.open().await;
    let wait = json!({"call_id": call_id, "wait_seconds": 3_000});
    let mut waiting = session.call(&a, 1, "get_call_result", wait).await;
    waiting.until(|message| message["method"] == "notifications/progress").await.unwrap();
    // From now on A can learn nothing by asking: only the delivery can end its wait.
    for path in ["/v1/calls".to_owned(), format!("/v1/calls/{call_id}")] {
        house
            .fault(json!({
                "method": "GET", "path": path, "kind": "status", "status": 503,
                "times": 1_000_000,
            }))
            .await;
    }
    call["status"] = json!("completed");
    call["result_status"] = json!("completed");
    call["result"] = json!({"ok": true});
    let begun = Instant::now();
    assert_eq!(deliver(&b, "e1", &call).await, (200, String::new()));
    let result = waiting.result(1).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(result["structuredContent"]["outcome"], "completed", "{result}");
    assert_eq!(result["structuredContent"]["call_id"], json!(call_id));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn callers_with_keys_of_their_own_are_only_told_to_look() {
    let house = House::open("", "mode = \"off\"\n", &["--auth", "key"]).await;
    let agent = house.agent().await;
    let [a, b, _] = [0, 1, 2].map(|at| house.replicas[at].client.with_key(crate::house::KEY));
    let placed = a.place_call(&agent, "+13105550107").await.unwrap();
    let call_id = placed["structuredContent"]["call_id"].as_str().unwrap().to_owned();
    let mut call = house.simulator("GET", &format!("/v1/calls/{call_id}"), None).await;
    let asked = async || {
        let requests = house.simulator("GET", "/sandbox/requests", None).await;
        let data = requests["data"].as_array().unwrap().iter();
        let reads = data.filter(|row| {
            row["method"] == "GET" && row["path"].as_str().unwrap().starts_with("/v1/calls")
        });
        reads.map(|row| row["count"].as_u64().unwrap()).sum::<u64>()
    };
    let session = a.open().await;
    let wait = json!({"call_id": call_id, "wait_seconds": 3_000});
    let mut waiting = session.call(&a, 1, "get_call_result", wait).await;
    waiting.until(|message| message["method"] == "notifications/progress").await.unwrap();
    call["status"] = json!("completed");
    let before = asked().await;
    assert_eq!(deliver(&b, "e1", &call).await, (200, String::new()));
    crate::house::until("A looks", async || asked().await > before).await;
    // The record that was delivered is not believed: the call goes on, and so does the wait.
    let end = waiting.result(1);
    assert!(tokio::time::timeout(Duration::from_millis(500), end).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn an_event_that_one_has_seen_is_a_replay_at_the_others() {
    let house = House::open("", "mode = \"off\"\n", &[]).await;
    let call = json!({"id": "call-1"});
    let mut said = Vec::new();
    for replica in &house.replicas {
        said.push(deliver(&replica.client, "e1", &call).await);
    }
    let replayed = (200, "replayed".to_owned());
    assert_eq!(said, [(200, String::new()), replayed.clone(), replayed]);
    assert_eq!(deliver(&house.replicas[1].client, "e2", &call).await, (200, String::new()));
}
