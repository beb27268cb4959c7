//! A call is placed at most once and never above a limit, whichever replicas are asked.

use std::time::Instant;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::deployment::{Deployment, NO_RULES};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn the_same_call_requested_of_all_replicas_concurrently_is_dialed_once() {
    let deployment = Deployment::start("", NO_RULES, &[]).await;
    let agent = deployment.create_agent().await;
    let requests = deployment.replicas.iter().cycle().take(9).map(|replica| async {
        let result = replica.client.place_call(&agent, "+13105550107").await.unwrap();
        result["structuredContent"]["call_id"].as_str().map(str::to_owned)
    });
    let ids: Vec<Option<String>> = join_all(requests).await;
    let dialed = deployment.dialed().await;
    assert_eq!(dialed.len(), 1, "{dialed:?}");
    let id = &dialed[0].1;
    // A request during the dispatch gets no id and is asked to try again; then it gets the same id.
    assert!(ids.iter().flatten().all(|other| other == id), "{ids:?}");
    for replica in &deployment.replicas {
        let result = replica.client.place_call(&agent, "+13105550107").await.unwrap();
        assert_eq!(result["structuredContent"]["call_id"], json!(id), "{result}");
    }
    assert_eq!(deployment.dialed().await.len(), 1);
    let receipts = deployment.receipts().await;
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert!(receipts[0].to_string().contains(id.as_str()), "{receipts:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn the_limits_of_the_calling_rules_apply_over_all_replicas() {
    for (limits, number) in [
        ("per_hour = 4\nconcurrent = \"off\"\nper_destination_per_day = \"off\"\n", 4),
        ("concurrent = 2\nper_destination_per_day = \"off\"\n", 2),
        ("per_destination_per_day = 3\nconcurrent = \"off\"\n", 3),
    ] {
        let policy = format!("[limits]\n{limits}");
        let deployment = Deployment::start("", &policy, &[]).await;
        let agent = deployment.create_agent().await;
        let requests = (0..9).map(|turn| {
            let client = &deployment.replicas[turn % 3].client;
            let call = json!({
                "agent_id": agent, "to": "+13105550107", "instructions": format!("Call {turn}."),
                "allow_repeat": true,
            });
            client.call_tool("place_call", call)
        });
        let results: Vec<Value> =
            join_all(requests).await.into_iter().map(Option::unwrap).collect();
        let placed = results.iter().filter(|result| result["isError"] == json!(false)).count();
        let refused = results.iter().filter(|result| {
            let text = result["content"][0]["text"].as_str().unwrap();
            text.contains("\nrefused_by_policy: Refused by the calling rule `limits.")
        });
        assert_eq!((placed, refused.count()), (number, 9 - number), "{limits} {results:?}");
        assert_eq!(deployment.dialed().await.len(), number, "{limits}");
        let check = ["policy", "check", "+13105550107"];
        let checked = deployment.run_command(&policy, &check).await;
        let is_refused = checked.contains("decision   refuse. ") && checked.contains("`limits.");
        assert!(is_refused, "{checked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn the_request_rate_is_counted_over_all_replicas() {
    let arguments = ["--requests-per-second", "2"];
    let deployment = Deployment::start("", NO_RULES, &arguments).await;
    let begun = Instant::now();
    // A burst of 20, up to a quarter more at each replica, where requests far from the limit do not wait for the
    // count, and 2 each second. Replicas that count alone would allow 60.
    let requests = (0..90).map(|_| deployment.client.send_modern("tools/list", json!({})));
    let responses = join_all(requests).await;
    let statuses: Vec<u16> =
        responses.into_iter().map(|response| response.unwrap().status().as_u16()).collect();
    let allowed = statuses.iter().filter(|status| **status == 200).count();
    let refilled = usize::try_from(begun.elapsed().as_secs() * 2).unwrap() + 2;
    assert!((20..=20 + 3 * 5 + refilled).contains(&allowed), "{allowed} {statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn a_confirmation_requested_at_one_replica_is_accepted_once_at_another() {
    let ask_always = "[dialing]\nconfirm = \"always\"\n";
    let deployment = Deployment::start(ask_always, NO_RULES, &[]).await;
    let agent = deployment.create_agent().await;
    let [a, b, c] = [0, 1, 2].map(|index| &deployment.replicas[index].client);
    let call = json!({
        "name": "place_call",
        "arguments": {"agent_id": agent, "to": "+13105550107", "allow_repeat": true},
    });
    let required = a.call_tool_with(call.clone()).await.unwrap();
    assert_eq!(required["resultType"], "input_required", "{required}");
    let mut answered = call;
    answered["requestState"] = required["requestState"].clone();
    answered["inputResponses"] =
        json!({"confirm": {"action": "accept", "content": {"confirm": true}}});
    let placed = b.call_tool_with(answered.clone()).await.unwrap();
    assert_eq!(placed["isError"], json!(false), "{placed}");
    // The same answer at a third replica dials nothing, because it was used.
    let again = c.call_tool_with(answered).await.unwrap();
    let text = again["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("used before"), "{text}");
    assert_eq!(deployment.dialed().await.len(), 1);
}
