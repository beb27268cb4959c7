//! Batches whose clocks disagree or cannot be read: nobody is called until they agree for a minute.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use super::call_list::{CALLS, check_dialed};
use super::live_list::{LiveList, wait_for};
use super::points::{CLOCK, FaultScene as _, run_to_end};
use super::scene::{Scene, Starter};

const NO_RULES: &str = "mode = \"off\"\n";
/// One call at a time, at any hour.
const ONE_AFTER_THE_OTHER: &str =
    "[quiet_hours]\nmode = \"off\"\n[limits]\nconcurrent = 1\nper_hour = \"off\"\n";
const DAY: i64 = 86_400;
/// How far a clock may be off.
const DRIFT: i64 = 120;
/// How long a batch is held without a renewal.
const LEASE: i64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_list_pauses_while_the_clock_is_not_that_of_callingbox() {
    let mut list = LiveList::start(-180, NO_RULES, 2).await;
    list.wait_for_clock_pause().await;
    assert_eq!(list.count_dialed().await, 0);

    // It catches up by five seconds with each request.
    list.wait_for("running").await;
    list.control.wait_for_requests("POST", "/v1/calls", 2).await;
    assert_eq!(list.count_dialed().await, 2);
    let (_, log) = list.session.close().await;
    assert!(log.contains("a batch starts no calls for now"), "{log}");
}

/// The clock jumps while the list runs, and back.
async fn jump_there_and_back(seconds: i64) {
    // It is slow at first, because it goes on by five seconds with each request, and that of CallingBox does not.
    let mut list = LiveList::start(-100, ONE_AFTER_THE_OTHER, 3).await;
    list.control.wait_for_requests("POST", "/v1/calls", 1).await;
    list.wait_for("running").await;

    list.machine.jump(seconds);
    list.wait_for_clock_pause().await;
    // The call ends, which makes room for others.
    list.control.advance(600).await;
    for _ in 0..4 {
        list.wait_for_clock_pause().await;
        list.machine.pass(5);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(list.count_dialed().await, 1, "{seconds}");

    list.machine.jump(-seconds);
    list.wait_for_clock_pause().await;
    assert_eq!(list.count_dialed().await, 1, "{seconds}");
    list.wait_for("running").await;
    let ended = list.run_to_end().await;
    assert_eq!(ended["counts"], json!({"done": 3}), "{seconds} {ended}");
    assert_eq!(list.count_dialed().await, 3, "{seconds} {ended}");
    let (_, log) = list.session.close().await;
    assert_eq!(log.matches("a batch starts no calls for now").count(), 1, "{seconds} {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_pauses_after_a_jump_of_the_clock_until_a_minute_after_it_jumps_back() {
    join_all([DAY, -DAY, LEASE + 90].map(jump_there_and_back)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_by_less_than_a_clock_may_be_off_neither_pauses_nor_interrupts_a_list() {
    let seconds = DRIFT - 10;
    assert!(seconds > LEASE);
    let mut list = LiveList::start(-seconds / 2, ONE_AFTER_THE_OTHER, 3).await;
    list.control.wait_for_requests("POST", "/v1/calls", 1).await;
    list.machine.jump(seconds);
    // The process that runs it renews its lease, which looked expired.
    list.wait_for("running").await;
    let ended = list.run_to_end().await;
    assert_eq!(ended["counts"], json!({"done": 3}), "{ended}");
    let (_, log) = list.session.close().await;
    assert!(!log.contains("a batch starts no calls for now"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_pauses_while_the_clock_of_the_simulator_cannot_be_read() {
    let mut scene = Scene::new().await;
    let batch = scene.start(Starter::Server).await;
    scene.hold(CLOCK);
    let gate = Arc::clone(&scene.gate);
    let cutting = tokio::spawn(async move {
        loop {
            gate.next().await.cut();
        }
    });
    let paused = wait_for(&mut scene.second, &json!(batch), "paused", &scene.machine).await;
    let note = paused["note"].as_str().unwrap();
    assert!(note.starts_with("paused (the clock of this machine jumped"), "{paused}");
    let call = json!({"agent_id": scene.agent, "to": "+13055550100"});
    let refused = scene.first.failure("place_call", call).await;
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("the simulator's clock cannot be read"), "{refused}");
    scene.control.advance(3_600).await;
    wait_for(&mut scene.second, &json!(batch), "paused", &scene.machine).await;
    assert_eq!(scene.control.dialed().await.len(), 0);
    cutting.abort();
    let _ = cutting.await;
    scene.gate.hold(None);
    wait_for(&mut scene.second, &json!(batch), "running", &scene.machine).await;
    let report = run_to_end(&mut scene, "", &batch, false).await;
    assert_eq!(report["state"], "ended", "{report}");
    let dialed = check_dialed(&scene.control, &batch, &scene.begun().await).await;
    assert_eq!(dialed, CALLS, "{report}");
}
