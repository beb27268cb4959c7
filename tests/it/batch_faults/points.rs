//! The points of the life of an attempt, what may happen there to the process that runs its batch, and what must hold
//! afterwards, whatever keeps the ledger. `tests/replicas` includes this file too.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::call_list::{
    BegunAttempt, CALLS, CONCURRENT, MINUTES_TO_START, check_dialed, has_waited_for_its_hour,
};
use super::gate::{Gate, Held, Hold};
use super::machine_clock::MachineClock;
use crate::harness::{Control, within_limit};

/// Where the first attempt of the list is when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
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
pub(crate) enum Fault {
    /// kill -9
    Kill,
    /// The process stands still for five minutes, and meanwhile another one resumes the batch.
    Stop,
    /// The wall clock is set a day ahead or back.
    Jump(i64),
    Cancel,
    /// The process cannot reach the ledger, and everything else. Another one resumes the batch, then it reaches the ledger again.
    CutOff,
}

impl Fault {
    pub(crate) const ALL: [Self; 6] =
        [Self::Kill, Self::Stop, Self::Jump(DAY), Self::Jump(-DAY), Self::Cancel, Self::CutOff];
}

const DAY: i64 = 86_400;
/// The reading of the dialing clock.
pub(crate) const CLOCK: Hold = Hold::Request("GET /sandbox/clock");

/// A list that one process calls, and others that see it. All of them share a ledger, a clock and a simulator behind a gate.
pub(crate) trait FaultScene {
    fn gate(&self) -> &Arc<Gate>;
    fn machine(&self) -> &MachineClock;
    fn control(&self) -> &Control;

    /// The process that runs the batch.
    fn runner_id(&self) -> u32;

    /// The result of a tool, by a process that does not run the batch. It must not wait for a ledger that is blocked.
    async fn call_tool(&mut self, tool: &str, arguments: Value) -> Value;

    /// The attempts that have begun, according to the ledger.
    async fn begun(&self) -> Vec<BegunAttempt>;

    /// When the lease of the batch expires, according to the ledger.
    async fn lease_expires_at(&self, batch: &str) -> Timestamp;

    /// Lets the process that runs the batch wait for its next write to the ledger, until [`FaultScene::unblock_ledger`].
    async fn block_ledger(&mut self);

    async fn unblock_ledger(&mut self);

    /// Stops the process that runs the batch (SIGSTOP).
    async fn stop_runner(&mut self);

    /// Cuts the process that runs the batch off from the ledger alone, or lets it pass again.
    fn cut_off(&mut self, is_cut: bool);

    /// Holds these requests of the process that runs the batch.
    fn hold(&self, hold: Hold) {
        self.gate().hold(Some((self.runner_id(), hold)));
    }

    async fn data(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.call_tool(tool, arguments).await;
        assert_eq!(result["isError"], false, "{tool}: {result}");
        result["structuredContent"].clone()
    }

    async fn report(&mut self, batch: &str) -> Value {
        self.data("get_batch", json!({"batch_id": batch})).await
    }

    async fn resume(&mut self, batch: &str) -> Value {
        self.data("place_calls", json!({"batch_id": batch, "resume": true})).await
    }
}

/// Sends a signal to a process that this test started.
pub(crate) async fn signal(process: u32, name: &str) {
    let status = tokio::process::Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status()
        .await;
    assert!(status.unwrap().success(), "kill -{name}");
}

/// Waits until a signal has arrived.
async fn wait_for_process(process: u32, states: &[Option<char>]) {
    within_limit("the state of a process", async {
        while !states.contains(&process_state(process)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// The letter for the state of a process: `T` is stopped, `Z` has ended; `None`: there is no such process.
fn process_state(process: u32) -> Option<char> {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = status.rsplit_once(") ")?;
    after_name.chars().next()
}

/// Reads the dialing clock step by step until so many attempts have begun, and holds the server there.
async fn step_until_begun(scene: &impl FaultScene, count: usize) -> Held {
    loop {
        let held = scene.gate().next().await;
        if scene.begun().await.len() >= count {
            return held;
        }
        held.release();
    }
}

/// Reads the dialing clock step by step until the lease of an attempt was renewed, and holds its process there. Before each
/// step the wall clock is set back, so the renewal is not recent when the request is to be written: the process renews the
/// lease again before the body, for which it reads the clock.
async fn step_until_renewed(scene: &impl FaultScene) -> Held {
    let mut held = step_until_begun(scene, 1).await;
    let read = async || {
        let begun = scene.begun().await;
        begun.into_iter().find(|begun| begun.row == 1).map(|begun| begun.lease_expires_at)
    };
    let first = read().await;
    while read().await == first {
        scene.machine().jump(-6);
        held.release();
        held = scene.gate().next().await;
    }
    held
}

/// Lets the start of the list come, and the first attempt get to the point.
pub(crate) async fn reach(scene: &mut impl FaultScene, point: Point) -> Option<Held> {
    let hold = match point {
        Point::BeforeClaim | Point::AfterClaim | Point::AfterRenewal => CLOCK,
        Point::AfterRequest => Hold::Request("POST /v1/calls"),
        Point::AfterAnswer | Point::DuringSearch => Hold::Answer("POST /v1/calls"),
    };
    scene.hold(hold);
    scene.control().advance(MINUTES_TO_START * 60).await;
    let held = match point {
        Point::BeforeClaim => {
            let held = scene.gate().next().await;
            assert_eq!(scene.begun().await.len(), 0);
            Some(held)
        }
        Point::AfterClaim => Some(step_until_begun(scene, 1).await),
        Point::AfterRenewal => Some(step_until_renewed(scene).await),
        Point::AfterRequest => Some(scene.gate().next().await),
        Point::AfterAnswer => {
            let held = scene.gate().next().await;
            scene.block_ledger().await;
            held.release();
            None
        }
        Point::DuringSearch => {
            let held = scene.gate().next().await;
            scene.hold(Hold::Request("GET /v1/calls"));
            held.cut();
            Some(scene.gate().next().await)
        }
    };
    let dialed = scene.control().dialed().await.len();
    match point {
        Point::BeforeClaim | Point::AfterClaim | Point::AfterRenewal => assert_eq!(dialed, 0),
        Point::AfterRequest => {}
        Point::AfterAnswer | Point::DuringSearch => assert!(dialed > 0),
    }
    held
}

/// Lets the process go on.
pub(crate) async fn release(scene: &mut impl FaultScene, held: Option<Held>) {
    scene.unblock_ledger().await;
    scene.gate().hold(None);
    if let Some(held) = held {
        held.release();
    }
}

/// Lets a fault happen at a point that the list has reached, and the list come to its end.
pub(crate) async fn run_fault(
    scene: &mut impl FaultScene,
    batch: &str,
    point: Point,
    fault: Fault,
    context: &str,
) {
    let held = reach(scene, point).await;
    let mut begun = None;
    match fault {
        Fault::Kill => {
            let runner = scene.runner_id();
            signal(runner, "KILL").await;
            release(scene, held).await;
            wait_for_process(runner, &[None, Some('Z')]).await;
            scene.machine().pass(120);
            assert_eq!(scene.report(batch).await["state"], "interrupted", "{context}");
        }
        Fault::Stop => {
            scene.stop_runner().await;
            wait_for_process(scene.runner_id(), &[Some('T')]).await;
            scene.machine().pass(300);
            let resumed = scene.resume(batch).await;
            assert_eq!(resumed["state"], "running", "{context}: {resumed}");
            signal(scene.runner_id(), "CONT").await;
            release(scene, held).await;
        }
        Fault::Jump(seconds) => {
            scene.machine().jump(seconds);
            release(scene, held).await;
        }
        Fault::Cancel => {
            let canceled = scene.data("cancel_batch", json!({"batch_id": batch})).await;
            assert_eq!(canceled["state"], "canceled", "{context}: {canceled}");
            begun = Some(scene.begun().await.len());
            release(scene, held).await;
        }
        Fault::CutOff => {
            scene.cut_off(true);
            release(scene, held).await;
            // A process that reaches the ledger renews its lease in each step.
            for _ in 0..6 {
                scene.machine().pass(20);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let resumed = scene.resume(batch).await;
            assert_eq!(resumed["state"], "running", "{context}: {resumed}");
            scene.cut_off(false);
        }
    }
    let report = match fault {
        Fault::Jump(seconds) => {
            let report = run_to_end(scene, context, batch, false).await;
            // Nobody resumed it. Its process has renewed the lease by the clock that has jumped.
            let jumped = Timestamp::now() + SignedDuration::from_secs(seconds);
            let lease = scene.lease_expires_at(batch).await.duration_since(jumped);
            assert!(lease.abs() < SignedDuration::from_mins(5), "{context}: {lease}");
            report
        }
        _ => run_to_end(scene, context, batch, true).await,
    };
    let attempts = scene.begun().await;
    let dialed = check_dialed(scene.control(), batch, &attempts).await;
    let context = format!("{context}: {dialed} dialed, {report:#}");
    match begun {
        Some(begun) => {
            assert_eq!(report["state"], "canceled", "{context}");
            assert_eq!(attempts.len(), begun, "{context}");
            let had_left =
                matches!(point, Point::AfterRequest | Point::AfterAnswer | Point::DuringSearch);
            assert!(had_left || dialed == 0, "{context}");
        }
        None => {
            assert_eq!(report["state"], "ended", "{context}");
            // All are called, two of them twice, and one had to wait for its hour; but not who may have been called, and
            // nobody while such calls take up every line.
            let unknown = report["counts"]["unknown"].as_u64().unwrap_or(0) as usize;
            assert!(unknown == CONCURRENT || dialed + 2 * unknown >= CALLS, "{context}");
            assert!(has_waited_for_its_hour(scene.control()).await || unknown > 0, "{context}");
        }
    }
}

/// Lets the list come to its end, and resumes it where that needs a request. If nobody may resume it, it may look interrupted
/// until its process renews its lease, and must not pause. Returns its last report.
pub(crate) async fn run_to_end(
    scene: &mut impl FaultScene,
    context: &str,
    batch: &str,
    may_resume: bool,
) -> Value {
    scene.gate().hold(None);
    for _ in 0..400 {
        let report = scene.report(batch).await;
        let state = report["state"].as_str().unwrap();
        let is_open = |name: &str| report["counts"].get(name).is_some();
        match state {
            "ended" | "canceled" if !is_open("calling") && !is_open("waiting") => return report,
            // After its window nobody is called, and the rows say so.
            "interrupted" | "paused" if may_resume => drop(scene.resume(batch).await),
            "paused" => panic!("{context}: the batch pauses: {report:#}"),
            _ => {}
        }
        if may_resume || state != "interrupted" {
            scene.control().advance(60).await;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{context}: the batch does not end: {:#}", scene.report(batch).await);
}
