//! Places a simulated call and reads its result: `cargo run -p callingbox-sandbox --example place_call`.

#![expect(clippy::print_stdout, reason = "an example prints what it shows")]

use callingbox_sandbox::{ClockMode, Options, Sandbox};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A client of one organization of the sandbox.
struct Client {
    http: reqwest::Client,
    base_url: String,
}

impl Client {
    async fn send(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        let request = self
            .http
            .request(method.parse()?, format!("{}{path}", self.base_url))
            .header("authorization", "Bearer sk_test_example")
            .body(if body.is_null() { String::new() } else { body.to_string() });
        let answer = request.send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // This workspace builds reqwest without a TLS provider of its own.
    rustls::crypto::ring::default_provider().install_default().ok();
    let options = Options { clock: ClockMode::Manual, ..Options::default() };
    let sandbox = Sandbox::start("127.0.0.1:0".parse()?, options).await?;
    let client = Client { http: reqwest::Client::new(), base_url: sandbox.url() };

    let offers = client.send("GET", "/v1/numbers/available", Value::Null).await?;
    let order = json!({"phone_number": offers.pointer("/0/phone_number")});
    let number = client.send("POST", "/v1/numbers/purchase", order).await?;
    let agent = json!({
        "name": "Reminders",
        "type": "outbound",
        "instructions": "Confirm the appointment on Tuesday.",
        "returns": {"confirmed": "boolean", "new_time": "string"},
        "number_ids": [number.get("id")],
    });
    let agent = client.send("POST", "/v1/agents", agent).await?;

    // The last four digits choose the scenario: a conversation that is completed with a result.
    let order = json!({"agent_id": agent.get("id"), "to": "+14155550100"});
    let call = client.send("POST", "/v1/calls", order).await?;
    client.send("POST", "/sandbox/clock", json!({"advance_seconds": 600})).await?;

    let path = format!("/v1/calls/{}", call.get("id").and_then(Value::as_str).unwrap_or_default());
    let call = client.send("GET", &path, Value::Null).await?;
    assert_eq!(call.get("status"), Some(&json!("completed")));
    println!("{:#}", json!({"result": call.get("result")}));
    let transcript = client.send("GET", &format!("{path}/transcript"), Value::Null).await?;
    println!("{transcript:#}");
    Ok(sandbox.shutdown().await?)
}
