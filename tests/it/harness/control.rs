//! A client for the control endpoints of a simulator.

use std::net::{Ipv4Addr, SocketAddr};

use callingbox_sandbox::{ClockMode, Options, Sandbox};
use serde_json::{Value, json};

use super::within_limit;

/// The key that the binary uses on a simulator, so that a test sees the same organization.
const KEY: &str = callingbox_mcp::simulator::KEY;

/// A simulator that answers the same in every run: a fixed seed, a fixed start, and a clock that only a test moves.
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
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url: sandbox.url(), http }
    }

    /// Sends a request to a control endpoint.
    pub(crate) async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let mut request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.url))
            .bearer_auth(KEY);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        within_limit(path, async {
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
        self.request("POST", "/sandbox/clock", Some(json!({"advance_seconds": seconds}))).await;
    }

    /// The simulated time.
    pub(crate) async fn now(&self) -> jiff::Timestamp {
        let answer = self.request("GET", "/sandbox/clock", None).await;
        answer["now"].as_str().unwrap().parse().unwrap()
    }

    /// The calls that were placed, oldest first.
    pub(crate) async fn dialed(&self) -> Vec<Value> {
        let answer = self.request("GET", "/sandbox/dialed", None).await;
        answer["data"].as_array().unwrap().clone()
    }

    /// Adds a fault.
    pub(crate) async fn fault(&self, fault: Value) {
        self.request("POST", "/sandbox/faults", Some(fault)).await;
    }

    /// The number of requests that arrived with this method and path.
    pub(crate) async fn count(&self, method: &str, path: &str) -> u64 {
        let answer = self.request("GET", "/sandbox/requests", None).await;
        let rows = answer["data"].as_array().unwrap();
        let row = rows.iter().find(|row| row["method"] == method && row["path"] == path);
        row.map_or(0, |row| row["count"].as_u64().unwrap())
    }

    /// Sets the counts of requests to zero.
    pub(crate) async fn reset_counts(&self) {
        self.request("DELETE", "/sandbox/requests", None).await;
    }

    /// Waits until so many requests arrived with this method and path.
    pub(crate) async fn wait_for_requests(&self, method: &str, path: &str, count: u64) {
        within_limit(&format!("{method} {path}"), async {
            while self.count(method, path).await < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Sets the account's credit, in thousandths of a cent.
    pub(crate) async fn credit(&self, balance: u64) {
        self.request("POST", "/sandbox/credits", Some(json!({"balance_milli_cents": balance})))
            .await;
    }

    /// The account's credit, in thousandths of a cent.
    pub(crate) async fn balance(&self) -> u64 {
        let answer = self.request("GET", "/sandbox/credits", None).await;
        answer["balance_milli_cents"].as_u64().unwrap()
    }
}
