//! Two servers over stdio and a terminal on one machine, one ledger and one simulator, and a list of people whom the first server
//! or `batch run` calls. Counts at the simulator what was really dialed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use callingbox_mcp::dialing::order::DISPATCH_KEY;
use callingbox_sandbox::{Options, Sandbox};
use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::gate::{Gate, Held, Hold};
use super::machine_clock::MachineClock;
use crate::harness::{Control, Era, Home, Session, simulator, within_limit};

/// How many calls may run at the same time.
pub(super) const CONCURRENT: usize = 2;
const POLICY: &str = "[limits]\nconcurrent = 2\n";
const CONFIG: &str = "request_timeout_seconds = 3\n\n[dialing]\nsandbox_quiet_hours = true\n";
/// One is in Los Angeles, where it is half past seven when the list starts; two are called twice.
const PEOPLE: [&str; 5] =
    ["+12125550100", "+13125550102", "+13105550100", "+16175550100", "+16465550101"];
const IN_LOS_ANGELES: &str = "+13105550100";
/// The simulator's clock begins at 15:00.
const START_AT: &str = "2026-11-02T15:30:00Z";
const QUIET_UNTIL: &str = "2026-11-02T16:00:00Z";
/// Late enough for those who wait for a call whose result is unknown.
const END_BY: &str = "2026-11-02T18:40:00Z";
/// Each scene has four processes, which must answer in real time.
static SCENES: Semaphore = Semaphore::const_new(8);

pub(super) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Which process starts the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Starter {
    /// The first server.
    Server,
    /// `batch run`.
    Terminal,
}

pub(super) struct Scene {
    pub(super) control: Control,
    pub(super) gate: Arc<Gate>,
    pub(super) machine: MachineClock,
    home: Arc<Home>,
    _permit: SemaphorePermit<'static>,
    _sandbox: Sandbox,
    /// Starts the batch, unless the terminal does.
    pub(super) first: Session,
    pub(super) second: Session,
    /// `batch run`
    terminal: Option<Child>,
    pub(super) agent: String,
}

impl Scene {
    pub(super) async fn new() -> Self {
        let _permit = SCENES.acquire().await.unwrap();
        let sandbox = simulator(Options::default()).await;
        let control = Control::new(&sandbox);
        let gate = Gate::start(sandbox.address()).await;
        let machine = MachineClock::new();
        let home = Arc::new(Home::new());
        home.write(".config/callingbox-mcp/config.toml", CONFIG);
        home.write(".config/callingbox-mcp/policy.toml", POLICY);
        let mut first = start_server(&home, &gate.url(), &machine).await;
        let second = start_server(&home, &gate.url(), &machine).await;
        let agent = first.outbound_agent(json!({})).await;
        let (_sandbox, terminal) = (sandbox, None);
        Self { control, gate, machine, home, _permit, _sandbox, first, second, terminal, agent }
    }

    /// The arguments of the list.
    pub(super) fn list(&self) -> Value {
        let people: Vec<Value> = PEOPLE.iter().map(|to| json!({"to": to, "name": "Ada"})).collect();
        json!({
            "agent_id": self.agent,
            "people": people,
            "instructions": "Call {name}.",
            "retry": {"max_attempts": 2, "after_minutes": 5},
            "start_at": START_AT,
            "end_by": END_BY,
        })
    }

    /// Starts the list, which waits for its time.
    pub(super) async fn start(&mut self, starter: Starter) -> String {
        if starter == Starter::Terminal {
            return self.start_terminal().await;
        }
        let list = self.list();
        let batch = self.first.data("place_calls", list).await;
        assert_eq!((&batch["state"], &batch["waiting"]), (&json!("running"), &json!(PEOPLE.len())));
        batch["batch_id"].as_str().unwrap().to_owned()
    }

    async fn start_terminal(&mut self) -> String {
        let people: String = PEOPLE.iter().map(|to| format!("{to},Ada\n")).collect();
        self.home.write("people.csv", &format!("to,name\n{people}"));
        let flag = format!("--sandbox={}", self.gate.url());
        let arguments = ["batch", "run", "people.csv", "--yes", &flag, "--agent", &self.agent];
        let window = ["--task", "Call {name}.", "--start", START_AT, "--until", END_BY];
        let retry = ["--attempts", "2", "--retry-after", "5m"];
        let arguments = [&arguments[..], &window, &retry].concat();
        let environment = self.machine.environment();
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        let mut command = self.home.command(&arguments, &environment);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.terminal = Some(command.spawn().unwrap());
        within_limit("the batch of the terminal", async {
            loop {
                let listed = self.second.data("get_batch", json!({})).await;
                let batch = &listed["batches"][0];
                if batch["state"] == "running" {
                    break batch["batch_id"].as_str().unwrap().to_owned();
                }
            }
        })
        .await
    }

    /// The process that runs the batch.
    pub(super) fn runner_id(&self) -> u32 {
        let terminal = self.terminal.as_ref().and_then(Child::id);
        terminal.unwrap_or_else(|| self.first.process_id())
    }

    /// Holds these requests of the process that runs the batch.
    pub(super) fn hold(&self, hold: Hold) {
        self.gate.hold(Some((self.runner_id(), hold)));
    }

    /// `batch run` ends with its batch, and if it has lost it.
    pub(super) async fn wait_for_terminal(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            within_limit("the end of `batch run`", terminal.wait()).await.unwrap();
        }
    }

    pub(super) fn ledger(&self) -> Connection {
        let folder = self.home.path().join(".local/share/callingbox-mcp");
        let mut files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let is_ledger =
            |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "sqlite3");
        Connection::open(files.find(is_ledger).unwrap()).unwrap()
    }

    /// The rows of all batches, as the ledger has them.
    pub(super) fn rows(&self) -> Vec<String> {
        let ledger = self.ledger();
        let mut rows = ledger.prepare("SELECT record FROM batch_row ORDER BY batch_row").unwrap();
        rows.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// How many attempts have begun, according to the ledger.
    pub(super) fn count_begun(&self) -> u32 {
        self.ledger()
            .query_row("SELECT count(batch_id) FROM dispatch", (), |row| row.get(0))
            .unwrap()
    }

    /// Waits until a list is in the ledger.
    pub(super) async fn wait_for_a_batch(&self) {
        within_limit("a batch in the ledger", async {
            let ledger = self.ledger();
            let count = || ledger.query_row("SELECT count(*) FROM batch", (), |row| row.get(0));
            while count().unwrap_or(0) == 0_u32 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Reads the dialing clock step by step until so many attempts have begun, and holds the server there.
    pub(super) async fn step_until_begun(&self, count: u32) -> Held {
        loop {
            let held = self.gate.next().await;
            if self.count_begun() >= count {
                return held;
            }
            held.release();
        }
    }

    /// Reads the dialing clock step by step until the lease of an attempt was renewed, and holds its process there. Before
    /// each step the wall clock is set back, so the renewal is not recent when the request is to be written: the process
    /// renews the lease again before the body, for which it reads the clock.
    pub(super) async fn step_until_renewed(&self) -> Held {
        let mut held = self.step_until_begun(1).await;
        let lease = "SELECT record ->> '$.lease_expires_at' FROM dispatch WHERE batch_row = 1";
        let read = || self.ledger().query_row(lease, (), |row| row.get::<_, String>(0)).unwrap();
        let first = read();
        while read() == first {
            self.machine.jump(-6);
            held.release();
            held = self.gate.next().await;
        }
        held
    }

    /// Stops the process that runs the batch (SIGSTOP); not while it writes to the ledger, which would stop the others too.
    pub(super) async fn stop_runner(&self, waits_for_the_ledger: bool) {
        loop {
            signal(self.runner_id(), "STOP").await;
            let ledger = self.ledger();
            ledger.busy_timeout(Duration::ZERO).unwrap();
            if waits_for_the_ledger || ledger.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
                return;
            }
            signal(self.runner_id(), "CONT").await;
        }
    }

    /// Lets the list come to its end, and resumes it where that needs a request. Returns its last report.
    pub(super) async fn run_to_end(&mut self, context: &str, batch: &str) -> Value {
        self.gate.hold(None);
        for _ in 0..400 {
            let report = self.second.data("get_batch", json!({"batch_id": batch})).await;
            let state = report["state"].as_str().unwrap().to_owned();
            let is_open = |name: &str| report["counts"].get(name).is_some();
            match state.as_str() {
                "ended" | "canceled" if !is_open("calling") && !is_open("waiting") => {
                    return report;
                }
                "interrupted" | "paused" => {
                    let resume = json!({"batch_id": batch, "resume": true});
                    let resumed = self.second.call("place_calls", resume).await;
                    // After its window nobody is called, and the rows say so.
                    assert_eq!(resumed["result"]["isError"], false, "{resumed}");
                }
                _ => {}
            }
            self.control.advance(60).await;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let report = self.second.data("get_batch", json!({"batch_id": batch})).await;
        panic!("{context}: the batch does not end: {report:#}");
    }

    /// What was dialed for the batch: at most once for each row and attempt, within the window and the hours, and never
    /// more at the same time than allowed. Returns how many calls it was.
    pub(super) async fn check(&self, batch: &str) -> usize {
        let ledger = self.ledger();
        let mut attempts = BTreeMap::new();
        let mut rows = ledger
            .prepare("SELECT dispatch_id, batch_row, record ->> '$.attempt.attempt' FROM dispatch WHERE batch_id = ?1")
            .unwrap();
        let rows = rows.query_map([batch], |row| {
            Ok((row.get::<_, String>(0)?, (row.get::<_, u32>(1)?, row.get::<_, u32>(2)?)))
        });
        attempts.extend(rows.unwrap().map(Result::unwrap));
        let dialed = self.control.dialed().await;
        let mut seen = BTreeSet::new();
        for call in &dialed {
            let dispatch = call["metadata"][DISPATCH_KEY].as_str().unwrap();
            let attempt = attempts.get(dispatch).unwrap_or_else(|| panic!("{call} is not known"));
            assert!(seen.insert(*attempt), "row and attempt {attempt:?} rang twice: {dialed:#?}");
            let at = time(call["dialed_at"].as_str().unwrap());
            assert!((time(START_AT)..time(END_BY)).contains(&at), "{call}");
            if call["to"] == IN_LOS_ANGELES {
                assert!(at >= time(QUIET_UNTIL), "{call}");
            }
        }
        self.check_concurrency().await;
        dialed.len()
    }

    /// Whether the person was called in whose place it was too early when the list started.
    pub(super) async fn has_waited_for_its_hour(&self) -> bool {
        self.control.dialed().await.iter().any(|call| call["to"] == IN_LOS_ANGELES)
    }

    async fn check_concurrency(&self) {
        let calls = self.control.request("GET", "/v1/calls?limit=100", None).await;
        let instant = |call: &Value, name: &str| call[name].as_str().map(time);
        let calls = calls["data"].as_array().unwrap();
        for call in calls {
            let begun = instant(call, "created_at").unwrap();
            let runs = |other: &&Value| {
                instant(other, "created_at").unwrap() <= begun
                    && instant(other, "ended_at").is_none_or(|ended| ended > begun)
            };
            let running = calls.iter().filter(runs).count();
            assert!(running <= CONCURRENT, "{running} calls at {begun}: {calls:#?}");
        }
    }
}

async fn start_server(home: &Arc<Home>, url: &str, machine: &MachineClock) -> Session {
    let environment = machine.environment();
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let flag = format!("--sandbox={url}");
    let arguments = [flag.as_str(), "--toolsets", "calls,account,agents,numbers"];
    let mut session = Session::start_in(Arc::clone(home), &arguments, &environment);
    session.open(Era::Modern).await;
    session
}

/// Sends a signal to a process that this test started.
pub(super) async fn signal(process: u32, name: &str) {
    let status = tokio::process::Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status()
        .await;
    assert!(status.unwrap().success(), "kill -{name}");
}

/// The reading of the dialing clock.
pub(super) const CLOCK: Hold = Hold::Request("GET /sandbox/clock");
