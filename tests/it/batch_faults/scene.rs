//! Two servers over stdio and a terminal on one machine, one ledger and one simulator, and a list of people whom the first server
//! or `batch run` calls. Counts at the simulator what was really dialed.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use callingbox_sandbox::{Options, Sandbox};
use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::call_list::{self, BegunAttempt, CONFIG, END_BY, PEOPLE, POLICY, START_AT};
use super::gate::Gate;
use super::machine_clock::MachineClock;
use super::points::{FaultScene, signal};
use crate::harness::{Control, Era, Home, Session, simulator, within_limit};

/// Each scene has four processes, which must answer in real time.
static SCENES: Semaphore = Semaphore::const_new(8);

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
    /// Keeps everybody from writing to the ledger.
    lock: Option<Connection>,
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
        let _sandbox = sandbox;
        let (terminal, lock) = (None, None);
        Self {
            control,
            gate,
            machine,
            home,
            _permit,
            _sandbox,
            first,
            second,
            terminal,
            lock,
            agent,
        }
    }

    /// The arguments of the list.
    pub(super) fn list(&self) -> Value {
        call_list::list(&self.agent)
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

    /// `batch run` ends with its batch, and if it has lost it.
    pub(super) async fn wait_for_terminal(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            within_limit("the end of `batch run`", terminal.wait()).await.unwrap();
        }
    }

    fn ledger(&self) -> Connection {
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
}

impl FaultScene for Scene {
    fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    fn machine(&self) -> &MachineClock {
        &self.machine
    }

    fn control(&self) -> &Control {
        &self.control
    }

    fn runner_id(&self) -> u32 {
        let terminal = self.terminal.as_ref().and_then(Child::id);
        terminal.unwrap_or_else(|| self.first.process_id())
    }

    async fn call_tool(&mut self, tool: &str, arguments: Value) -> Value {
        // Both processes wait for the same ledger.
        self.unblock_ledger().await;
        self.second.call(tool, arguments).await["result"].clone()
    }

    async fn begun(&self) -> Vec<BegunAttempt> {
        let ledger = self.ledger();
        let mut query =
            ledger.prepare("SELECT record FROM dispatch WHERE batch_id IS NOT NULL").unwrap();
        let records = query.query_map((), |row| row.get::<_, String>(0)).unwrap();
        records.map(|record| BegunAttempt::read(&record.unwrap())).collect()
    }

    async fn lease_expires_at(&self, batch: &str) -> Timestamp {
        let query = "SELECT record ->> 'lease_expires_at' FROM batch WHERE batch_id = ?1";
        let text: String = self.ledger().query_row(query, [batch], |row| row.get(0)).unwrap();
        text.parse().unwrap()
    }

    async fn block_ledger(&mut self) {
        let lock = self.ledger();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        self.lock = Some(lock);
    }

    async fn unblock_ledger(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.execute_batch("ROLLBACK").unwrap();
        }
    }

    /// Not while it writes to the ledger, which would stop the others too.
    async fn stop_runner(&mut self) {
        loop {
            signal(self.runner_id(), "STOP").await;
            let ledger = self.ledger();
            ledger.busy_timeout(Duration::ZERO).unwrap();
            if self.lock.is_some() || ledger.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
                return;
            }
            signal(self.runner_id(), "CONT").await;
        }
    }

    fn cut_off(&mut self, _is_cut: bool) {
        panic!("a file cannot be cut off");
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
