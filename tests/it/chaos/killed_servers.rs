//! Servers that are killed at any instant: the real binary, each time with the ledger that the one
//! before it left behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::chaos::POLICY;
use crate::chaos::dialer_run::check_policy;
use crate::chaos::evidence::{Account, ChaosControl, Report, Tally, nothing_twice};
use crate::chaos::proxy::Proxy;
use crate::chaos::random::Random;
use crate::harness::{Era, Home, Session};

const WORKERS: usize = 6;
const LIVES: usize = 9;
/// New requests in each life.
const NEW: usize = 6;

const CONFIG_PATH: &str = ".config/callingbox-mcp/config.toml";
const CONFIG: &str = "request_timeout_seconds = 1\n\n[dialing]\nconfirm = \"never\"\n";
/// Without the short time-out, which a busy machine exceeds without any fault.
const SETTLING_CONFIG: &str = "[dialing]\nconfirm = \"never\"\n";

pub(crate) struct KilledServers {
    workers: Vec<Worker>,
}

struct Worker {
    account: Account,
    home: Arc<Home>,
    url: String,
    requests: BTreeMap<String, Vec<Report>>,
    kills: usize,
}

impl Worker {
    async fn start(&self) -> Session {
        let environment = [
            ("CALLINGBOX_API_KEY", self.account.key.as_str()),
            ("CALLINGBOX_BASE_URL", self.url.as_str()),
        ];
        let mut session = Session::start_in(Arc::clone(&self.home), &[], &environment);
        session.open(Era::Legacy("2025-11-25")).await;
        session
    }

    async fn send(&self, session: &mut Session, name: &str) -> i64 {
        let arguments = json!({
            "agent_id": self.account.agent,
            "to": number_of(name),
            "instructions": format!("Do {name}."),
            "metadata": {"request": name},
        });
        session.begin_call("place_call", arguments).await
    }

    async fn live(&mut self, life: usize, random: &Random, tally: &Tally) {
        let mut session = self.start().await;
        let open = |reports: &Vec<Report>| {
            !reports.iter().any(|report| matches!(report, Report::Done(_) | Report::Repeat(_)))
        };
        let mut names: Vec<String> =
            self.requests.iter().filter(|(_, r)| open(r)).map(|(n, _)| n.clone()).collect();
        // Some of those that got no answer are asked for again, at once in the next life.
        while names.len() > 4 {
            names.swap_remove(usize::try_from(random.below(names.len() as u64)).unwrap());
        }
        names.extend((0..NEW).map(|number| format!("life {life} call {number}")));
        let until = Instant::now() + Duration::from_millis(random.below(1_600));
        let mut asked = BTreeMap::new();
        for name in names {
            asked.insert(self.send(&mut session, &name).await, name.clone());
        }
        while let Ok(Some(message)) = timeout_at(until, session.next()).await {
            if let Some(name) = asked.remove(&message["id"].as_i64().unwrap()) {
                self.note(name, report(&message), tally);
            }
        }
        drop(session);
        self.kills += 1;
        for name in asked.into_values() {
            self.note(name, Report::Gone, tally);
        }
    }

    fn note(&mut self, name: String, report: Report, tally: &Tally) {
        tally.add(&report);
        self.requests.entry(name).or_default().push(report);
    }
}

/// A number for each request: calls to one number with other words would conflict.
fn number_of(name: &str) -> String {
    let mut parts = name.split(' ').filter_map(|word| word.parse::<usize>().ok());
    let (life, number) = (parts.next().unwrap(), parts.next().unwrap());
    format!("+1202555{:04}", 120 + life * NEW + number)
}

/// What the answer of the tool says.
fn report(message: &Value) -> Report {
    let result = &message["result"];
    if result["isError"] == true {
        let error = &result["_meta"]["callingbox-mcp/error"];
        assert_eq!(error["done"], "nothing", "{message}");
        return Report::NotPlaced(result["content"][0]["text"].to_string());
    }
    let data = &result["structuredContent"];
    match (data["call_id"].as_str(), data["duplicate_of"].as_str()) {
        (Some(id), None) => Report::Done(id.to_owned()),
        (Some(id), Some(first)) => {
            assert_eq!(id, first, "{message}");
            Report::Repeat(id.to_owned())
        }
        _ => {
            assert_eq!(data["outcome"], "unknown", "{message}");
            Report::Unknown
        }
    }
}

impl KilledServers {
    pub(crate) async fn prepare(control: &ChaosControl, proxy: &Proxy) -> Self {
        let home = Arc::new(Home::new());
        home.write(CONFIG_PATH, CONFIG);
        home.write(".config/callingbox-mcp/policy.toml", POLICY);
        let mut workers = Vec::new();
        for number in 0..WORKERS {
            workers.push(Worker {
                account: control.open_account(&format!("killed_{number}")).await,
                home: Arc::clone(&home),
                url: proxy.url(),
                requests: BTreeMap::new(),
                kills: 0,
            });
        }
        Self { workers }
    }

    pub(crate) async fn send_orders(&mut self, random: &Random, tally: &Tally) {
        join_all(self.workers.iter_mut().map(|worker| async move {
            for life in 0..LIVES {
                worker.live(life, random, tally).await;
            }
        }))
        .await;
    }

    /// Asks for everything once more; and again for what rang and is not known yet, because a busy
    /// machine breaks searches of its own accord.
    pub(crate) async fn settle(&mut self, control: &ChaosControl, tally: &Tally) {
        join_all(self.workers.iter_mut().map(|worker| async move {
            worker.home.write(CONFIG_PATH, SETTLING_CONFIG);
            let mut session = worker.start().await;
            let mut names: Vec<String> = worker.requests.keys().cloned().collect();
            for _ in 0..4 {
                let mut asked = Vec::new();
                for name in names {
                    asked.push((worker.send(&mut session, &name).await, name));
                }
                for (id, name) in asked {
                    let report = report(&session.answer(id).await);
                    worker.note(name, report, tally);
                }
                let rung = control.rung(&worker.account).await;
                names = rung.into_iter().map(|call| call.request).collect();
                // A busy machine also breaks the request for the agent, before anything is looked up.
                let is_open = |reports: &[Report]| {
                    matches!(reports.last(), Some(Report::Unknown | Report::NotPlaced(_)))
                };
                names.retain(|name| is_open(&worker.requests[name]));
            }
        }))
        .await;
    }

    /// Compares the reports with what was really dialed. Gives how much that was.
    pub(crate) async fn check(&self, control: &ChaosControl) -> usize {
        let mut dialed = 0;
        for worker in &self.workers {
            let rung = control.rung(&worker.account).await;
            nothing_twice(&rung);
            for (name, reports) in &worker.requests {
                let call = rung.iter().find(|call| call.request == *name);
                check_policy(name, call.map(|call| &call.call), reports);
            }
            dialed += rung.len();
        }
        dialed
    }

    pub(crate) fn kills(&self) -> usize {
        self.workers.iter().map(|worker| worker.kills).sum()
    }
}
