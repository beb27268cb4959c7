//! The control endpoints of a simulator, from the side of a test.

use std::net::{Ipv4Addr, SocketAddr};

use callingbox_sandbox::{ClockMode, Options, Sandbox};
use serde_json::{Value, json};

use super::soon;

/// The key that the binary uses on a simulator (`callingbox_mcp::simulator::KEY`): the one whose
/// organization a test looks into.
const KEY: &str = callingbox_mcp::simulator::KEY;

/// A simulator whose every answer is the same each time: one seed, one beginning, a clock that
/// stands still until it is moved.
pub(crate) async fn simulator(options: Options) -> Sandbox {
    let options = Options {
        clock: ClockMode::Manual,
        start_at: Some("2026-11-02T15:00:00Z".parse().unwrap()),
        ..options
    };
    Sandbox::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options).await.unwrap()
}

/// The controls of one simulator.
pub(crate) struct Control {
    url: String,
    http: reqwest::Client,
}

impl Control {
    pub(crate) fn of(sandbox: &Sandbox) -> Self {
        // One that is there already serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url: sandbox.url(), http }
    }

    /// Asks a control endpoint.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let mut request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.url))
            .bearer_auth(KEY);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        soon(path, async {
            let answer = request.send().await.unwrap();
            let good = answer.status().is_success();
            let body = answer.bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert!(good, "{method} {path}: {body}");
            body
        })
        .await
    }

    /// Moves the clock.
    pub(crate) async fn advance(&self, seconds: u64) {
        self.ask("POST", "/sandbox/clock", Some(json!({"advance_seconds": seconds}))).await;
    }

    /// The calls that were really placed, oldest first.
    pub(crate) async fn dialed(&self) -> Vec<Value> {
        let answer = self.ask("GET", "/sandbox/dialed", None).await;
        answer["data"].as_array().unwrap().clone()
    }

    /// Lets something go wrong.
    pub(crate) async fn fault(&self, fault: Value) {
        self.ask("POST", "/sandbox/faults", Some(fault)).await;
    }

    /// How many requests of this kind arrived.
    pub(crate) async fn count(&self, method: &str, path: &str) -> u64 {
        let answer = self.ask("GET", "/sandbox/requests", None).await;
        let rows = answer["data"].as_array().unwrap();
        let row = rows.iter().find(|row| row["method"] == method && row["path"] == path);
        row.map_or(0, |row| row["count"].as_u64().unwrap())
    }

    /// Begins to count anew.
    pub(crate) async fn forget(&self) {
        self.ask("DELETE", "/sandbox/requests", None).await;
    }

    /// Waits until a request of this kind has arrived.
    pub(crate) async fn arrived(&self, method: &str, path: &str, count: u64) {
        soon(&format!("{method} {path}"), async {
            while self.count(method, path).await < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Gives the account this much credit, in thousandths of a cent.
    pub(crate) async fn credit(&self, balance: u64) {
        self.ask("POST", "/sandbox/credits", Some(json!({"balance_milli_cents": balance}))).await;
    }

    /// What the account still has, in thousandths of a cent.
    pub(crate) async fn balance(&self) -> u64 {
        let answer = self.ask("GET", "/sandbox/credits", None).await;
        answer["balance_milli_cents"].as_u64().unwrap()
    }
}
