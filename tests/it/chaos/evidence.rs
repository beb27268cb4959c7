//! What was requested, what the servers reported, and what the simulator really did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use callingbox_mcp::dialing::order::DISPATCH_KEY;
use serde_json::{Value, json};

/// The simulator without the proxy.
pub(crate) struct ChaosControl {
    url: String,
    http: reqwest::Client,
}

/// An account with an agent that may call.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) key: String,
    pub(crate) agent: String,
    /// For sale.
    pub(crate) numbers: Vec<String>,
}

/// A call that was really dialed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DialedCall {
    pub(crate) call: String,
    pub(crate) dispatch: String,
    /// Which distinct request it was for.
    pub(crate) request: String,
}

impl ChaosControl {
    pub(crate) fn new(url: String) -> Self {
        Self { url, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    pub(crate) async fn ask(&self, key: &str, method: &str, path: &str, body: Value) -> Value {
        let mut request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.url))
            .bearer_auth(key);
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let good = answer.status().is_success();
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert!(good, "{method} {path}: {body}");
        body
    }

    pub(crate) async fn open_account(&self, name: &str) -> Account {
        let key = format!("sk_chaos_{name}");
        let credit = json!({"balance_milli_cents": 1_000_000_000_000_u64});
        self.ask(&key, "POST", "/sandbox/credits", credit).await;
        let offers = self.ask(&key, "GET", "/v1/numbers/available?limit=20", Value::Null).await;
        let mut numbers =
            rows(&offers).map(|offer| offer["phone_number"].as_str().unwrap().to_owned());
        let own = json!({"phone_number": numbers.next().unwrap()});
        let own = self.ask(&key, "POST", "/v1/numbers/purchase", own).await;
        let agent = json!({"name": "Chaos", "type": "outbound", "number_ids": [own["id"]]});
        let agent = self.ask(&key, "POST", "/v1/agents", agent).await;
        let agent = agent["id"].as_str().unwrap().to_owned();
        Account { numbers: numbers.collect(), key, agent }
    }

    /// Every call that was really dialed.
    pub(crate) async fn rung(&self, account: &Account) -> Vec<DialedCall> {
        let answer = self.ask(&account.key, "GET", "/sandbox/dialed", Value::Null).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rung = rows(&answer).map(|call| DialedCall {
            call: text(&call["call_id"]),
            dispatch: text(&call["metadata"][DISPATCH_KEY]),
            request: text(&call["metadata"]["request"]),
        });
        rung.collect()
    }

    /// The numbers that were really bought, with their ids.
    pub(crate) async fn owned(&self, account: &Account) -> Vec<(String, String)> {
        let answer = self.ask(&account.key, "GET", "/v1/numbers?limit=100", Value::Null).await;
        rows(&answer)
            .map(|row| {
                let number = row["e164"].as_str().or(row["phone_number"].as_str()).unwrap();
                (number.to_owned(), row["id"].as_str().unwrap().to_owned())
            })
            .collect()
    }
}

/// The rows of a list, bare or under `data`.
fn rows(answer: &Value) -> std::slice::Iter<'_, Value> {
    answer.as_array().or(answer["data"].as_array()).unwrap().iter()
}

/// No dispatch and no request rang twice.
pub(crate) fn nothing_twice(rung: &[DialedCall]) {
    let count = |of: fn(&DialedCall) -> &String| rung.iter().map(of).collect::<BTreeSet<_>>().len();
    assert_eq!(count(|rung| &rung.dispatch), rung.len(), "a dispatch rang twice: {rung:#?}");
    assert_eq!(count(|rung| &rung.request), rung.len(), "a request rang twice: {rung:#?}");
}

/// What one request was answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Report {
    /// It was done now.
    Done(String),
    /// It is this earlier one.
    Repeat(String),
    Unknown,
    InFlight,
    /// Certainly not done, for this reason.
    NotPlaced(String),
    /// The caller went away.
    Gone,
}

/// How often each answer was given.
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    pub(crate) fn add(&self, report: &Report) {
        let name = match report {
            Report::Done(_) => "done",
            Report::Repeat(_) => "the one before",
            Report::Unknown => "unknown",
            Report::InFlight => "in flight",
            Report::NotPlaced(_) => "not placed",
            Report::Gone => "the caller or the server was gone",
        };
        *self.0.lock().unwrap().entry(name).or_default() += 1;
    }

    pub(crate) fn asked(&self) -> u64 {
        self.0.lock().unwrap().values().sum()
    }

    pub(crate) fn print(&self) {
        println!("chaos: {} requests were answered:", self.asked());
        for (report, count) in self.0.lock().unwrap().iter() {
            println!("chaos: {count:>6} {report}");
        }
    }
}
