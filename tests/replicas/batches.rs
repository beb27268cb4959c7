//! Lists of people at three replicas: one of them is cut off from Redis or killed while it calls a list, or the list is sent to
//! several. Counts at the simulator what was really dialed.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::client::Client;
use crate::deployment::{Deployment, wait_until};

/// Who answers, and who is called twice: no answer and busy.
const PEOPLE: [&str; 6] = [
    "+12125550100",
    "+13105550101",
    "+14155550100",
    "+16175550102",
    "+13125550100",
    "+17185550100",
];
/// How many calls they need.
const CALLS: usize = 8;
/// Two at the same time, so that the list is not over when something happens.
const POLICY: &str = "[limits]\nconcurrent = 2\nper_hour = \"off\"\n";

fn list(agent: &str, key: Option<&str>) -> Value {
    let people: Vec<Value> = PEOPLE.iter().map(|to| json!({"to": to, "name": "Ada"})).collect();
    let mut list = json!({
        "agent_id": agent, "people": people, "instructions": "Call {name}.",
        "retry": {"max_attempts": 2, "after_minutes": 5},
    });
    if let Some(key) = key {
        list["idempotency_key"] = json!(key);
    }
    list
}

async fn data(client: &Client, tool: &str, arguments: Value) -> Value {
    let result = client.call_tool(tool, arguments).await.unwrap();
    assert_eq!(result["isError"], false, "{tool}: {result}");
    result["structuredContent"].clone()
}

async fn report(client: &Client, batch: &str) -> Value {
    data(client, "get_batch", json!({"batch_id": batch})).await
}

impl Deployment {
    fn at(&self, replica: usize) -> &Client {
        &self.replicas[replica].client
    }

    /// The row and the attempt of each call that the simulator dialed, by the ledger.
    async fn dialed_attempts(&self) -> Vec<(u64, u64)> {
        let dialed = self.simulator("GET", "/sandbox/dialed", None).await;
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        let mut attempts = Vec::new();
        for call in dialed["data"].as_array().unwrap() {
            let dispatch = call["metadata"]["callingbox_mcp_dispatch_id"].as_str().unwrap();
            let mut keys = redis::cmd("KEYS");
            keys.arg(format!("*:d:{dispatch}"));
            let keys: Vec<String> = keys.query_async(&mut redis).await.unwrap();
            let [key] = keys.as_slice() else { panic!("{keys:?}") };
            let stored: String = redis::cmd("GET").arg(key).query_async(&mut redis).await.unwrap();
            let stored: Value = serde_json::from_str(&stored).unwrap();
            let attempt = &stored["record"]["attempt"];
            attempts.push((attempt["row"].as_u64().unwrap(), attempt["attempt"].as_u64().unwrap()));
        }
        attempts
    }

    /// Lets the list come to its end, and asserts that no row was called twice for one attempt.
    async fn run_to_end(&self, client: &Client, batch: &str) -> Value {
        let mut last = Value::Null;
        wait_until("the list ends", async || {
            self.advance_clock(60).await;
            last = report(client, batch).await;
            last["state"] == "ended"
        })
        .await;
        let is_over = |row: &Value| ["done", "unknown"].contains(&row["state"].as_str().unwrap());
        assert!(last["rows"].as_array().unwrap().iter().all(is_over), "{last}");
        let attempts = self.dialed_attempts().await;
        let different: BTreeSet<_> = attempts.iter().collect();
        assert_eq!(different.len(), attempts.len(), "{attempts:?} {last}");
        last
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn a_replica_that_loses_redis_calls_nobody_and_another_resumes_its_list() {
    // It gets Redis back before somebody resumes the list, right after that, or after the end.
    for reconnects in ["before", "after", "never"] {
        let deployment = Deployment::start("", POLICY, &[]).await;
        let agent = deployment.create_agent().await;
        let started = data(deployment.at(0), "place_calls", list(&agent, None)).await;
        let batch = started["batch_id"].as_str().unwrap();
        wait_until("calls", async || deployment.dialed().await.len() == 2).await;
        deployment.replicas[0].redis.cut(true);

        // Its calls end, which makes room for others; it starts none.
        for _ in 0..20 {
            deployment.advance_clock(60).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(deployment.dialed().await.len(), 2, "{reconnects}");
        assert_eq!(report(deployment.at(1), batch).await["state"], "running");
        match reconnects {
            "never" => deployment.machine.jump(86_400),
            _ => deployment.machine.pass(120),
        }
        for replica in [1, 2] {
            let seen = report(deployment.at(replica), batch).await;
            assert_eq!(seen["state"], "interrupted", "{reconnects} {seen}");
        }
        // A terminal beside the replicas sees it too.
        let url = deployment.redis.url();
        let listed = deployment.run_command(POLICY, &["batch", "list", "--state", &url]).await;
        assert!(listed.contains(batch) && listed.contains("interrupted"), "{listed}");
        if reconnects == "before" {
            deployment.replicas[0].redis.cut(false);
            wait_until("the replica is ready", async || {
                deployment.at(0).get("/readyz").await.0 == 200
            })
            .await;
        }
        for _ in 0..10 {
            deployment.advance_clock(60).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let seen = report(deployment.at(2), batch).await;
        assert_eq!(seen["state"], "interrupted", "{reconnects} {seen}");
        assert_eq!(deployment.dialed().await.len(), 2, "{reconnects}");

        let resume = json!({"batch_id": batch, "resume": true});
        let resumed = data(deployment.at(1), "place_calls", resume).await;
        assert_eq!(resumed["state"], "running", "{reconnects} {resumed}");
        if reconnects == "after" {
            deployment.replicas[0].redis.cut(false);
        }
        let ended = deployment.run_to_end(deployment.at(2), batch).await;
        assert_eq!(ended["counts"], json!({"done": PEOPLE.len()}), "{reconnects} {ended}");
        assert_eq!(deployment.dialed().await.len(), CALLS, "{reconnects} {ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn the_same_list_sent_to_several_replicas_is_one_batch() {
    for (is_killed, key) in
        [(false, None), (false, Some("visits")), (true, None), (true, Some("visits"))]
    {
        let context = format!("killed: {is_killed}, key: {key:?}");
        let mut deployment = Deployment::start("", POLICY, &[]).await;
        let agent = deployment.create_agent().await;
        let list = list(&agent, key);
        let mut batches = BTreeSet::new();
        let id = |answer: &Value| {
            let id = answer["batch_id"].as_str();
            id.unwrap_or_else(|| panic!("{answer}")).to_owned()
        };
        if is_killed {
            let request = {
                let (client, list) = (deployment.at(0).clone(), list.clone());
                tokio::spawn(async move { client.call_tool("place_calls", list).await })
            };
            wait_until("a batch", async || {
                let listed = data(deployment.at(1), "get_batch", json!({})).await;
                listed["batches"].as_array().is_some_and(|batches| !batches.is_empty())
            })
            .await;
            deployment.replicas[0].process.kill().await.unwrap();
            drop(request.await.unwrap());
            batches.insert(id(&data(deployment.at(1), "place_calls", list.clone()).await));
            deployment.machine.pass(120);
        } else {
            let send = [0, 1, 2, 0, 1, 2]
                .map(|replica| data(deployment.at(replica), "place_calls", list.clone()));
            batches.extend(join_all(send).await.iter().map(id));
        }
        batches.insert(id(&data(deployment.at(2), "place_calls", list).await));
        assert_eq!(batches.len(), 1, "{context}: {batches:?}");
        let batch = batches.first().unwrap();
        if report(deployment.at(1), batch).await["state"] == "interrupted" {
            let resume = json!({"batch_id": batch, "resume": true});
            data(deployment.at(1), "place_calls", resume).await;
        }
        let ended = deployment.run_to_end(deployment.at(2), batch).await;
        let unknown = ended["counts"]["unknown"].as_u64().unwrap_or(0);
        assert!(is_killed || unknown == 0, "{context}: {ended}");
        let dialed = deployment.dialed().await.len();
        assert!(dialed + 2 * usize::try_from(unknown).unwrap() >= CALLS, "{context}: {ended}");
    }
}
