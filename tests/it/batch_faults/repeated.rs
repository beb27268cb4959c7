//! The same list requested again: concurrently, after its answer was lost, after its server was killed, and from two servers,
//! with an idempotency key and without. It is one batch, and nobody is rung twice.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::call_list::{CALLS, check_dialed};
use super::points::{FaultScene as _, run_to_end, signal};
use super::scene::Scene;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Two requests of one client.
    Concurrently,
    /// Requests of two clients.
    FromTwoServers,
    /// The client does not read the answer.
    AfterALostAnswer,
    /// The server is killed right after the request was written.
    AfterAKill,
}

async fn run(again: Again, key: Option<&str>) {
    let mut scene = Scene::new().await;
    let mut list = scene.list();
    if let Some(key) = key {
        list["idempotency_key"] = json!(key);
    }
    let mut answers = Vec::new();
    match again {
        Again::Concurrently => {
            let first = scene.first.begin_call("place_calls", list.clone()).await;
            let second = scene.first.begin_call("place_calls", list.clone()).await;
            answers.push(scene.first.answer(first).await);
            answers.push(scene.first.answer(second).await);
        }
        Again::FromTwoServers => {
            let first = scene.first.begin_call("place_calls", list.clone()).await;
            let second = scene.second.begin_call("place_calls", list.clone()).await;
            answers.push(scene.first.answer(first).await);
            answers.push(scene.second.answer(second).await);
        }
        Again::AfterALostAnswer => {
            scene.first.begin_call("place_calls", list.clone()).await;
        }
        Again::AfterAKill => {
            scene.first.begin_call("place_calls", list.clone()).await;
            scene.wait_for_a_batch().await;
            signal(scene.first.process_id(), "KILL").await;
            scene.machine.pass(120);
        }
    }
    answers.push(scene.second.call("place_calls", list).await);
    let batches: BTreeSet<String> = answers.iter().map(batch_id).collect();
    let context = format!("{again:?} {key:?}: {answers:#?}");
    assert_eq!(batches.len(), 1, "{context}");
    let batch = batches.first().unwrap();
    let report = run_to_end(&mut scene, &context, batch, true).await;
    assert_eq!(report["state"], "ended", "{context}");
    let listed = scene.second.data("get_batch", json!({})).await;
    assert_eq!(listed["batches"].as_array().unwrap().len(), 1, "{context} {listed}");
    let dialed = check_dialed(&scene.control, batch, &scene.begun().await).await;
    assert_eq!(dialed, CALLS, "{context} {report}");
}

fn batch_id(answer: &Value) -> String {
    let data = &answer["result"]["structuredContent"];
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    data["batch_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_sent_again_is_one_batch() {
    let cases =
        [Again::Concurrently, Again::FromTwoServers, Again::AfterALostAnswer, Again::AfterAKill];
    for key in [None, Some("appointments")] {
        futures::future::join_all(cases.map(|again| run(again, key))).await;
    }
}
