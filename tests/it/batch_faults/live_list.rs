//! A server with a live account, whose API is the simulator, and a list that it calls. Such an account dials by the clock of its
//! machine, which the test shifts. Nobody resumes the list.

use std::sync::Arc;
use std::time::Duration;

use callingbox_sandbox::{Options, Sandbox};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::gate::Gate;
use super::machine_clock::MachineClock;
use crate::harness::{Control, Era, Home, Session, simulator, within_limit};

/// Requests the report until it is in this state. Each request wakes the server, whose clock goes on by five seconds before it.
pub(super) async fn wait_for(
    session: &mut Session,
    batch: &Value,
    state: &str,
    machine: &MachineClock,
) -> Value {
    let mut report = Value::Null;
    for _ in 0..40 {
        report = session.data("get_batch", json!({"batch_id": batch})).await;
        if report["state"] == state {
            return report;
        }
        assert_ne!(report["state"], "interrupted", "{report:#}");
        machine.pass(5);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the batch is not {state}: {report:#}");
}

pub(super) struct LiveList {
    _sandbox: Sandbox,
    pub(super) control: Control,
    /// Before the API.
    pub(super) gate: Arc<Gate>,
    pub(super) machine: MachineClock,
    home: Arc<Home>,
    pub(super) session: Session,
    pub(super) batch: Value,
    began: Instant,
    /// The seconds that [`LiveList::pass`] has let pass.
    passed: u64,
}

impl LiveList {
    /// Starts a list of so many people on a machine whose clock was off before the server started, so that no jump is seen.
    pub(super) async fn start(clock_is_off_by: i64, rules: &str, people: u32) -> Self {
        Self::start_with(clock_is_off_by, rules, people, json!({})).await
    }

    /// The same with more arguments of the list.
    pub(super) async fn start_with(
        clock_is_off_by: i64,
        rules: &str,
        people: u32,
        arguments: Value,
    ) -> Self {
        let sandbox = simulator(Options::default()).await;
        let control = Control::new(&sandbox);
        let gate = Gate::start(sandbox.address()).await;
        let home = Arc::new(Home::new());
        home.write(".config/callingbox-mcp/policy.toml", rules);
        let machine = MachineClock::new();
        let clock = machine.environment();
        let environment = [
            ("CALLINGBOX_API_KEY", callingbox_mcp::simulator::KEY),
            ("CALLINGBOX_BASE_URL", &gate.url()),
            (clock[0].0, &clock[0].1),
            (clock[1].0, &clock[1].1),
        ];
        let simulated = [&*format!("--sandbox={}", sandbox.url())];
        let mut setup = Session::start_in(Arc::clone(&home), &simulated, &[]);
        setup.open(Era::Modern).await;
        let agent = setup.outbound_agent(json!({})).await;
        setup.finish_well().await;
        control.credit(100_000_000).await;

        machine.jump(clock_is_off_by);
        let mut session = Session::start_in(Arc::clone(&home), &[], &environment);
        session.open(Era::Modern).await;
        let people: Value =
            (0..people).map(|n| json!({"to": format!("+1{}5550100", 212 + n * 10)})).collect();
        let mut list = json!({"agent_id": agent, "people": people});
        list.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
        let shown = session.data("place_calls", list).await;
        let batch = shown["batch_id"].clone();
        let yes = json!({"batch_id": batch, "confirmation_token": shown["confirmation_token"]});
        session.data("place_calls", yes).await;
        let (_sandbox, began) = (sandbox, Instant::now());
        Self { _sandbox, control, gate, machine, home, session, batch, began, passed: 0 }
    }

    pub(super) async fn report(&mut self) -> Value {
        self.session.data("get_batch", json!({"batch_id": self.batch})).await
    }

    pub(super) async fn wait_for(&mut self, state: &str) -> Value {
        wait_for(&mut self.session, &self.batch, state, &self.machine).await
    }

    pub(super) async fn wait_for_clock_pause(&mut self) {
        let paused = self.wait_for("paused").await;
        let note = paused["note"].as_str().unwrap();
        assert!(note.starts_with("paused (the clock of this machine jumped"), "{paused}");
    }

    pub(super) async fn count_dialed(&self) -> usize {
        self.control.dialed().await.len()
    }

    /// Lets each call end until the list has ended.
    pub(super) async fn run_to_end(&mut self) -> Value {
        within_limit("the end of the list", async {
            loop {
                self.control.advance(600).await;
                let wait = json!({"batch_id": self.batch, "wait_seconds": 1});
                let report = self.session.data("get_batch", wait).await;
                if report["state"] == "ended" {
                    return report;
                }
                assert_eq!(report["state"], "running", "{report}");
            }
        })
        .await
    }

    pub(super) fn ledger(&self) -> Connection {
        let path = self.home.path().join(".local/share/callingbox-mcp/ledger.sqlite3");
        Connection::open(path).unwrap()
    }

    /// How many attempts have begun, according to the ledger.
    pub(super) fn count_begun(&self) -> u32 {
        self.ledger()
            .query_row("SELECT count(batch_id) FROM dispatch", (), |row| row.get(0))
            .unwrap()
    }

    /// The batch as the ledger has it, with its lease.
    fn record(&self) -> String {
        self.ledger().query_row("SELECT record FROM batch", (), |row| row.get(0)).unwrap()
    }

    /// How many seconds have passed for the machine.
    pub(super) fn elapsed(&self) -> u64 {
        self.began.elapsed().as_secs() + self.passed
    }

    /// Lets seconds pass: so many that the process has to renew its lease, which shows that it has seen the time, and so few
    /// that it still holds the lease.
    pub(super) async fn pass(&mut self, seconds: u64) {
        assert!((15..=40).contains(&seconds));
        let before = self.record();
        self.passed += seconds;
        self.machine.pass(i64::try_from(seconds).unwrap());
        within_limit("a renewal of the lease", async {
            // A request wakes the server.
            while self.report().await["state"] != "ended" && self.record() == before {}
        })
        .await;
    }
}
