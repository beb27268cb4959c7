//! Batches whose server is killed, stopped for longer than its lease, given another time, or whose batch is canceled, at each
//! point of the life of an attempt. Afterwards the simulator is asked what was dialed.

#![cfg(target_os = "linux")]

mod clocks;
mod gate;
pub(crate) mod machine_clock;
mod repeated;
mod scene;

use gate::{Held, Hold};
use scene::{CLOCK, CONCURRENT, Scene, Starter, signal};
use serde_json::json;

/// Where the first attempt of the list is when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    BeforeClaim,
    AfterClaim,
    /// The lease was renewed; no byte of the body has left.
    AfterRenewal,
    /// The last byte of the request has left; the simulator has not read it.
    AfterRequest,
    /// The simulator has answered; the ledger does not know it.
    AfterAnswer,
    DuringSearch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// kill -9
    Kill,
    /// The process stands still for five minutes, and meanwhile another one resumes the batch.
    Stop,
    /// The wall clock is set a day ahead or back.
    Jump(i64),
    Cancel,
}

const DAY: i64 = 86_400;
const FAULTS: [Fault; 5] =
    [Fault::Kill, Fault::Stop, Fault::Jump(DAY), Fault::Jump(-DAY), Fault::Cancel];
const MINUTES_TO_START: u64 = 30;

/// What keeps the process that runs the batch at a point.
struct AtPoint {
    held: Option<Held>,
    lock: Option<rusqlite::Connection>,
}

impl AtPoint {
    /// Lets everybody use the ledger again.
    fn unlock(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.execute_batch("ROLLBACK").unwrap();
        }
    }

    fn release(mut self, scene: &Scene) {
        self.unlock();
        scene.gate.hold(None);
        if let Some(held) = self.held {
            held.release();
        }
    }
}

/// Lets the start of the list come, and the first attempt get to the point.
async fn reach(scene: &Scene, point: Point) -> AtPoint {
    let hold = match point {
        Point::BeforeClaim | Point::AfterClaim | Point::AfterRenewal => CLOCK,
        Point::AfterRequest => Hold::Request("POST /v1/calls"),
        Point::AfterAnswer | Point::DuringSearch => Hold::Answer("POST /v1/calls"),
    };
    scene.hold(hold);
    scene.control.advance(MINUTES_TO_START * 60).await;
    let mut at_point = AtPoint { held: None, lock: None };
    match point {
        Point::BeforeClaim => {
            at_point.held = Some(scene.gate.next().await);
            assert_eq!(scene.count_begun(), 0);
        }
        Point::AfterClaim => {
            at_point.held = Some(scene.step_until_begun(1).await);
        }
        Point::AfterRenewal => {
            at_point.held = Some(scene.step_until_renewed().await);
        }
        Point::AfterRequest => {
            at_point.held = Some(scene.gate.next().await);
        }
        Point::AfterAnswer => {
            let held = scene.gate.next().await;
            let lock = scene.ledger();
            lock.execute_batch("BEGIN IMMEDIATE").unwrap();
            held.release();
            at_point.lock = Some(lock);
        }
        Point::DuringSearch => {
            let held = scene.gate.next().await;
            scene.hold(Hold::Request("GET /v1/calls"));
            held.cut();
            at_point.held = Some(scene.gate.next().await);
        }
    }
    let dialed = scene.control.dialed().await.len();
    match point {
        Point::BeforeClaim | Point::AfterClaim | Point::AfterRenewal => assert_eq!(dialed, 0),
        Point::AfterRequest => {}
        Point::AfterAnswer | Point::DuringSearch => assert!(dialed > 0),
    }
    at_point
}

/// Runs a list with one fault at one point.
async fn run(starter: Starter, point: Point, fault: Fault) {
    let mut scene = Scene::new().await;
    let batch = scene.start(starter).await;
    let mut at_point = reach(&scene, point).await;
    let mut begun = None;
    match fault {
        Fault::Kill => {
            signal(scene.runner_id(), "KILL").await;
            at_point.release(&scene);
            scene.machine.pass(120);
        }
        Fault::Stop => {
            scene.stop_runner(at_point.lock.is_some()).await;
            scene.machine.pass(300);
            at_point.unlock();
            let resume = json!({"batch_id": batch, "resume": true});
            let resumed = scene.second.data("place_calls", resume).await;
            assert_eq!(resumed["state"], "running", "{resumed}");
            signal(scene.runner_id(), "CONT").await;
            at_point.release(&scene);
        }
        Fault::Jump(seconds) => {
            scene.machine.jump(seconds);
            at_point.release(&scene);
        }
        Fault::Cancel => {
            // Both processes wait for the same ledger.
            at_point.unlock();
            let canceled = scene.second.data("cancel_batch", json!({"batch_id": batch})).await;
            assert_eq!(canceled["state"], "canceled", "{canceled}");
            begun = Some(scene.count_begun());
            at_point.release(&scene);
        }
    }
    let report = scene.run_to_end(&format!("{starter:?} {point:?} {fault:?}"), &batch).await;
    let dialed = scene.check(&batch).await;
    scene.wait_for_terminal().await;
    let context = format!("{starter:?} {point:?} {fault:?}: {dialed} dialed, {report:#}");
    match begun {
        Some(begun) => {
            assert_eq!(report["state"], "canceled", "{context}");
            assert_eq!(scene.count_begun(), begun, "{context}");
            let had_left =
                matches!(point, Point::AfterRequest | Point::AfterAnswer | Point::DuringSearch);
            assert!(had_left || dialed == 0, "{context}");
        }
        None => {
            assert_eq!(report["state"], "ended", "{context}");
            // All are called, two of them twice, and one had to wait for its hour; but not who may have been called, and
            // nobody while such calls take up every line.
            let unknown = report["counts"]["unknown"].as_u64().unwrap_or(0) as usize;
            assert!(unknown == CONCURRENT || dialed + 2 * unknown >= 7, "{context}");
            assert!(scene.has_waited_for_its_hour().await || unknown > 0, "{context}");
        }
    }
}

async fn run_all(starter: Starter, point: Point) {
    futures::future::join_all(FAULTS.map(|fault| run(starter, point, fault))).await;
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
    let at_point = reach(&scene, Point::DuringSearch).await;
    scene.stop_runner(false).await;
    scene.machine.pass(300);
    let resume = json!({"batch_id": batch, "resume": true});
    scene.second.data("place_calls", resume).await;
    let report = scene.run_to_end("while its first process is stopped", &batch).await;
    assert_eq!(report["state"], "ended", "{report:#}");
    let rows = scene.rows();
    signal(scene.runner_id(), "CONT").await;
    at_point.release(&scene);
    scene.wait_for_terminal().await;
    assert_eq!(scene.rows(), rows);
}
