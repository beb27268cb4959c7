//! Batches whose server is killed, stopped for longer than its lease, given another time, or whose batch is canceled, at each
//! point of the life of an attempt. Afterwards the simulator is asked what was dialed.

#![cfg(target_os = "linux")]

mod call_list;
mod clocks;
mod failures;
mod gate;
mod live_list;
pub(crate) mod machine_clock;
mod points;
mod repeated;
mod scene;
mod unwritable_ledger;

use points::{Fault, FaultScene as _, Point, reach, release, run_fault, run_to_end, signal};
use scene::{Scene, Starter};

/// Runs a list with one fault at one point.
async fn run(starter: Starter, point: Point, fault: Fault) {
    let mut scene = Scene::new().await;
    let batch = scene.start(starter).await;
    let context = format!("{starter:?} {point:?} {fault:?}");
    run_fault(&mut scene, &batch, point, fault, &context).await;
    scene.wait_for_terminal().await;
}

async fn run_all(starter: Starter, point: Point) {
    // A file cannot be cut off.
    let faults = Fault::ALL.into_iter().filter(|fault| *fault != Fault::CutOff);
    futures::future::join_all(faults.map(|fault| run(starter, point, fault))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_claim() {
    run_all(Starter::Server, Point::BeforeClaim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_claim() {
    run_all(Starter::Server, Point::AfterClaim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_renewal() {
    run_all(Starter::Server, Point::AfterRenewal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_request() {
    run_all(Starter::Server, Point::AfterRequest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_answer() {
    run_all(Starter::Server, Point::AfterAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn during_the_search() {
    run_all(Starter::Server, Point::DuringSearch).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "keeps two processors busy for a minute: a step of .ci/run"]
async fn each_point_of_batch_run() {
    let points = [
        Point::BeforeClaim,
        Point::AfterClaim,
        Point::AfterRenewal,
        Point::AfterRequest,
        Point::AfterAnswer,
        Point::DuringSearch,
    ];
    for point in points {
        run_all(Starter::Terminal, point).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_wakes_after_its_batch_has_ended_changes_no_row() {
    let mut scene = Scene::new().await;
    let batch = scene.start(Starter::Terminal).await;
    let held = reach(&mut scene, Point::DuringSearch).await;
    scene.stop_runner().await;
    scene.machine.pass(300);
    scene.resume(&batch).await;
    let context = "while its first process is stopped";
    let report = run_to_end(&mut scene, context, &batch, true).await;
    assert_eq!(report["state"], "ended", "{report:#}");
    let rows = scene.rows();
    signal(scene.runner_id(), "CONT").await;
    release(&mut scene, held).await;
    scene.wait_for_terminal().await;
    assert_eq!(scene.rows(), rows);
}
