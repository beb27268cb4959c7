//! A client of one organization of a simulator on a free port.

use callingbox_sandbox::{ClockMode, Options, Sandbox};
use http::Method;
use serde_json::{Value, json};

/// Options of a simulator whose clock stands still at a fixed time.
pub(crate) fn manual_options() -> Options {
    Options {
        clock: ClockMode::Manual,
        start_at: Some("2026-04-15T14:00:00Z".parse().unwrap()),
        allow_private_webhooks: true,
        ..Options::default()
    }
}

pub(crate) async fn start_sandbox(options: Options) -> Sandbox {
    Sandbox::start("127.0.0.1:0".parse().unwrap(), options).await.unwrap()
}

/// A client of one organization.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) base: String,
    key: String,
}

/// An agent with a number.
pub(crate) struct Agent {
    pub(crate) id: String,
    pub(crate) number: Value,
}

impl Client {
    pub(crate) fn new(sandbox: &Sandbox, key: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, base: sandbox.url(), key: key.to_owned() }
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> reqwest::RequestBuilder {
        let method = method.parse::<Method>().unwrap();
        self.http
            .request(method, format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.key))
            .body(body.to_owned())
    }

    /// Sends a request and returns status and body; every answer must have the simulator's header.
    pub(crate) async fn send_raw(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let response = self.request(method, path, body).send().await.unwrap();
        assert_eq!(response.headers()["x-callingbox-sandbox"], "1", "{method} {path}");
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    pub(crate) async fn send_json(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.send_raw(method, path, &body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send_raw("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Sends a request that must succeed.
    pub(crate) async fn send_ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, body) = self.send_json(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }

    pub(crate) async fn advance_clock(&self, seconds: f64) {
        self.send_ok("POST", "/sandbox/clock", json!({"advance_seconds": seconds})).await;
    }

    pub(crate) async fn set_credit(&self, milli_cents: u64) {
        let body = json!({"balance_milli_cents": milli_cents});
        self.send_ok("POST", "/sandbox/credits", body).await;
    }

    pub(crate) async fn buy_number(&self) -> Value {
        let offers = self.get("/v1/numbers/available?limit=1").await;
        let body = json!({"phone_number": offers[0]["phone_number"]});
        self.send_ok("POST", "/v1/numbers/purchase", body).await
    }

    /// Creates an agent with a number, `returns` of each type and the fields of `more`.
    pub(crate) async fn create_agent(&self, kind: &str, more: Value) -> Agent {
        let number = self.buy_number().await;
        let mut body = json!({
            "name": "Reminders",
            "type": kind,
            "persona": "You are Mia, a calm assistant of Northside Dental.",
            "instructions": "Remind the patient of the appointment.",
            "returns": {"confirmed": "boolean", "new_time": "string", "party_size": "number"},
            "number_ids": [number["id"]],
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let agent = self.send_ok("POST", "/v1/agents", body).await;
        Agent { id: agent["id"].as_str().unwrap().to_owned(), number }
    }

    pub(crate) async fn place_call(&self, agent: &Agent, to: &str) -> Value {
        self.send_ok("POST", "/v1/calls", json!({"agent_id": agent.id, "to": to})).await
    }

    pub(crate) async fn refetch_call(&self, call: &Value) -> Value {
        self.get(&format!("/v1/calls/{}", call["id"].as_str().unwrap())).await
    }

    pub(crate) async fn get_segments(&self, call: &Value) -> Vec<Value> {
        let path = format!("/v1/calls/{}/transcript", call["id"].as_str().unwrap());
        self.get(&path).await["segments"].as_array().unwrap().clone()
    }

    /// The destination of every outbound call, oldest first.
    pub(crate) async fn list_dialed(&self) -> Vec<Value> {
        let dialed = self.get("/sandbox/dialed").await;
        dialed["data"].as_array().unwrap().iter().map(|call| call["to"].clone()).collect()
    }
}

/// The named fields of an object.
pub(crate) fn select_fields(object: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), object[name].clone())).collect()
}

/// Polls until the condition holds. The number of polls bounds the wait, and not the clock.
pub(crate) async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..5_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{what} did not happen");
}
