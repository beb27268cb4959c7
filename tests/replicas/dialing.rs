//! At most once, and never above a limit, whichever replica is asked.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn the_same_call_asked_of_all_at_once_rings_once() {
    let house = House::open("", "mode = \"off\"\n", &[]).await;
    let agent = house.agent().await;
    let asked = house.replicas.iter().cycle().take(9).map(|replica| async {
        let result = replica.client.place_call(&agent, "+13105550107").await.unwrap();
        result["structuredContent"]["call_id"].as_str().map(str::to_owned)
    });
    let told: Vec<Option<String>> = join_all(asked).await;
    let dialed = house.dialed().await;
    assert_eq!(dialed.len(), 1, "{dialed:?}");
    let id = &dialed[0].1;
    // Who asked while it was being placed is told to ask again, and then is told the same id.
    assert!(told.iter().flatten().all(|told| told == id), "{told:?}");
    for replica in &house.replicas {
        let result = replica.client.place_call(&agent, "+13105550107").await.unwrap();
        assert_eq!(result["structuredContent"]["call_id"], json!(id), "{result}");
    }
    assert_eq!(house.dialed().await.len(), 1);
    let receipts = house.receipts().await;
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert!(receipts[0].to_string().contains(id.as_str()), "{receipts:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn the_limits_of_the_calling_rules_hold_over_all() {
    for (limits, number) in [
        ("per_hour = 4\nat_once = \"off\"\nper_destination_per_day = \"off\"\n", 4),
        ("at_once = 2\nper_destination_per_day = \"off\"\n", 2),
        ("per_destination_per_day = 3\nat_once = \"off\"\n", 3),
    ] {
        let house = House::open("", &format!("[limits]\n{limits}"), &[]).await;
        let agent = house.agent().await;
        let asked = (0..9).map(|turn| {
            let client = &house.replicas[turn % 3].client;
            let call = json!({
                "agent_id": agent, "to": "+13105550107", "instructions": format!("Call {turn}."),
            });
            client.tool("place_call", call)
        });
        let results: Vec<Value> = join_all(asked).await.into_iter().map(Option::unwrap).collect();
        let placed = results.iter().filter(|result| result["isError"] == json!(false)).count();
        let refused = results.iter().filter(|result| {
            let text = result["content"][0]["text"].as_str().unwrap();
            text.starts_with("refused_by_policy: Refused by the calling rule `limits.")
        });
        assert_eq!((placed, refused.count()), (number, 9 - number), "{limits} {results:?}");
        assert_eq!(house.dialed().await.len(), number, "{limits}");
        let check = ["policy", "check", "+13105550107"];
        let told = house.printed(&format!("[limits]\n{limits}"), &check).await;
        assert!(told.contains("verdict    refuse. ") && told.contains("`limits."), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn requests_in_a_second_are_counted_over_all() {
    let house = House::open("", "mode = \"off\"\n", &["--requests-per-second", "2"]).await;
    let begun = std::time::Instant::now();
    // 20 at once, a quarter more at each replica that did not wait to be counted, and 2 each second.
    // Replicas that count alone would let 60 through.
    let asked = (0..90).map(|_| house.client.modern("tools/list", json!({})));
    let statuses: Vec<u16> =
        join_all(asked).await.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    let taken = statuses.iter().filter(|status| **status == 200).count();
    let more = usize::try_from(begun.elapsed().as_secs() * 2).unwrap() + 2;
    assert!((20..=20 + 3 * 5 + more).contains(&taken), "{taken} {statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_question_of_one_is_answered_at_another_and_once() {
    let house = House::open("[dialing]\nconfirm = \"always\"\n", "mode = \"off\"\n", &[]).await;
    let agent = house.agent().await;
    let [a, b, c] = [0, 1, 2].map(|at| &house.replicas[at].client);
    let call = json!({
        "name": "place_call",
        "arguments": {"agent_id": agent, "to": "+13105550107", "allow_repeat": true},
    });
    let asked = a.round(call.clone()).await.unwrap();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let mut carried = call;
    carried["requestState"] = asked["requestState"].clone();
    carried["inputResponses"] =
        json!({"confirm": {"action": "accept", "content": {"confirm": true}}});
    let placed = b.round(carried.clone()).await.unwrap();
    assert_eq!(placed["isError"], json!(false), "{placed}");
    // The same yes, carried to a third, rings nobody: it was used up.
    let again = c.round(carried).await.unwrap();
    let text = again["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("used before"), "{text}");
    assert_eq!(house.dialed().await.len(), 1);
}
