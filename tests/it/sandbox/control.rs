//! The control endpoints, the state file, scenario files, start and shutdown.

use std::time::Duration;

use callingbox_sandbox::{ClockMode, Options, Sandbox, SandboxError};
use serde_json::{Value, json};

use crate::sandbox::support::{Client, manual_options, select_fields, start_sandbox, wait_until};

#[tokio::test]
async fn a_fault_applies_before_or_after_the_request_takes_effect() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_faults");
    client.set_credit(10_000_000).await;
    let agent = client.create_agent("outbound", json!({})).await;
    let order = json!({"agent_id": agent.id, "to": "+13105550100"});
    let fault = async |kind: &str, more: Value| {
        let mut body = json!({"method": "POST", "path": "/v1/calls", "kind": kind});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.send_ok("POST", "/sandbox/faults", body).await;
    };
    let place = || client.request("POST", "/v1/calls", &order.to_string());

    fault("status", json!({"status": 503, "retry_after": 7, "when": "before"})).await;
    let response = place().send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"7".parse().unwrap())
    );
    fault("reset", json!({"when": "before", "times": 2})).await;
    assert!(place().send().await.is_err());
    assert!(place().send().await.is_err());
    assert_eq!(client.list_dialed().await.len(), 0, "a fault before the effect prevents the call");

    fault("status", json!({"status": 500, "body": "<html>", "when": "after"})).await;
    let response = place().send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.text().await.unwrap().as_str()),
        (500, "<html>")
    );
    fault("reset", json!({"when": "after"})).await;
    assert!(place().send().await.is_err());
    fault("truncate", json!({})).await;
    let response = place().send().await.unwrap();
    assert_eq!(response.status(), 201);
    assert!(response.bytes().await.is_err(), "half of the body is missing");
    fault("slow_body", json!({"delay_ms": 60_000})).await;
    let response = place().send().await.unwrap();
    let body = tokio::time::timeout(Duration::from_millis(100), response.bytes()).await;
    assert!(body.is_err(), "most of the body is still to come");
    fault("delay", json!({"delay_ms": 60_000, "when": "after"})).await;
    let delayed = tokio::spawn(place().send());
    wait_until("the delayed call", async || client.list_dialed().await.len() == 5).await;
    assert!(!delayed.is_finished(), "the answer is withheld");
    delayed.abort();

    fault("delay", json!({"delay_ms": 60_000, "when": "before"})).await;
    let delayed = tokio::spawn(place().send());
    let is_applied = async || client.get("/sandbox/faults").await == json!({"data": []});
    wait_until("the fault", is_applied).await;
    assert!(!delayed.is_finished());
    delayed.abort();
    assert_eq!(client.list_dialed().await.len(), 5, "the delayed request has not taken effect");

    // A fault belongs to one organization, a * matches any rest, and the remaining count is shown.
    let body = json!({"path": "/v1/*", "kind": "status", "status": 418, "times": 3});
    client.send_ok("POST", "/sandbox/faults", body).await;
    assert_eq!(Client::new(&sandbox, "sk_other").send_raw("GET", "/v1/calls", "").await.0, 200);
    assert_eq!(client.send_raw("GET", "/v1/agents", "").await.0, 418);
    assert_eq!(
        client.get("/sandbox/faults").await,
        json!({"data": [{"method": null, "path": "/v1/*", "when": "before", "times": 2,
            "kind": "status", "status": 418, "body": null, "retry_after": null}]})
    );
    client.send_ok("DELETE", "/sandbox/faults", json!({})).await;
    assert_eq!(client.send_raw("GET", "/v1/agents", "").await.0, 200);
}

#[tokio::test]
async fn requests_are_counted_and_scenarios_listed() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_counts");
    client.get("/v1/calls").await;
    client.get("/v1/calls?limit=5").await;
    client.send_raw("GET", "/v1/calls/x", "").await;
    assert_eq!(
        client.get("/sandbox/requests").await,
        json!({"total": 3, "data": [
            {"method": "GET", "path": "/v1/calls", "count": 2},
            {"method": "GET", "path": "/v1/calls/{id}", "count": 1},
        ]})
    );
    client.send_ok("DELETE", "/sandbox/requests", json!({})).await;
    assert_eq!(client.get("/sandbox/requests").await, json!({"total": 0, "data": []}));
    let table = client.get("/sandbox").await;
    assert_eq!(
        select_fields(&table, &["simulator", "now", "clock", "seed"]),
        json!({"simulator": "callingbox-sandbox", "now": "2026-04-15T14:00:00Z",
            "clock": {"mode": "manual", "speed": null}, "seed": 1})
    );
    assert_eq!(table["scenarios"].as_array().unwrap().len(), 17);
}

#[tokio::test]
async fn the_clock_runs_and_a_reset_replaces_the_organization() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_clock");
    let agent = client.create_agent("outbound", json!({})).await;
    let call = client.place_call(&agent, "+13105550107").await;
    client.send_ok("POST", "/sandbox/clock", json!({"speed": 1_000_000})).await;
    let is_completed = async || client.refetch_call(&call).await["status"] == "completed";
    wait_until("the end of the call", is_completed).await;
    client.send_ok("POST", "/sandbox/clock", json!({"manual": true})).await;
    let now = client.get("/sandbox/clock").await;
    assert_eq!(client.get("/sandbox/clock").await, now);
    let old = client.get("/sandbox/organization").await;
    client.send_ok("POST", "/sandbox/reset", json!({})).await;
    let new = client.get("/sandbox/organization").await;
    assert_eq!(new["id"], old["id"]);
    assert_ne!(new["incarnation"], old["incarnation"]);
    assert_eq!(client.get("/sandbox/credits").await["balance_milli_cents"], 10_000_000);
    assert_eq!(client.get("/v1/numbers").await, json!({"data": [], "has_more": false}));
    let again = client.create_agent("outbound", json!({})).await;
    assert_eq!(again.id, agent.id, "the same seed gives the same ids");
    assert_eq!(again.number["e164"], agent.number["e164"], "the number is for sale again");
}

/// Plays a few calls and returns every record that results.
async fn play_calls(seed: u64) -> Vec<Value> {
    let sandbox = start_sandbox(Options { seed, ..manual_options() }).await;
    let client = Client::new(&sandbox, "sk_live_seed");
    client.set_credit(10_000_000).await;
    let agent =
        client.create_agent("outbound", json!({"webhook_url": "http://127.0.0.1:1/closed"})).await;
    for to in ["+13105550100", "+13105550107", "+13105550109"] {
        client.place_call(&agent, to).await;
    }
    client.advance_clock(7_200.0).await;
    let mut all = Vec::new();
    for path in ["/v1/agents", "/v1/calls", "/v1/numbers", "/v1/webhook_deliveries"] {
        all.push(client.get(path).await);
    }
    for call in client.get("/v1/calls").await["data"].as_array().unwrap() {
        all.push(json!(client.get_segments(call).await));
    }
    all
}

#[tokio::test]
async fn one_seed_gives_the_same_records_twice() {
    assert_eq!(play_calls(7).await, play_calls(7).await);
    assert_ne!(play_calls(7).await, play_calls(8).await);
}

#[tokio::test]
async fn the_state_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let kept = || Options { state_file: Some(file.clone()), ..manual_options() };
    let sandbox = start_sandbox(kept()).await;
    let client = Client::new(&sandbox, "sk_live_state");
    let agent = client.create_agent("outbound", json!({})).await;
    client
        .send_ok("POST", "/v1/webhook_endpoints", json!({"url": "http://127.0.0.1:1/closed"}))
        .await;
    let call = client.place_call(&agent, "+13105550100").await;
    client.advance_clock(15.0).await;
    let paths = [
        "/v1/agents",
        "/v1/calls",
        "/v1/numbers",
        "/v1/webhook_endpoints",
        "/v1/webhook_deliveries",
        "/sandbox/organization",
        "/sandbox/credits",
        "/sandbox/clock",
    ];
    let mut before = Vec::new();
    for path in paths {
        before.push(client.get(path).await);
    }
    sandbox.shutdown().await.unwrap();
    assert!(
        !std::fs::read_to_string(&file).unwrap().contains("sk_live_state"),
        "the key is not stored"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the file contains signing secrets");
    }

    // The seed of the file takes precedence, since the organization of a key derives from it.
    let sandbox = start_sandbox(Options { seed: 99, ..kept() }).await;
    let client = Client::new(&sandbox, "sk_live_state");
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(client.get(path).await, before, "{path}");
    }
    client.advance_clock(200.0).await;
    assert_eq!(client.refetch_call(&call).await["status"], "completed", "the call continues");
    assert_eq!(client.get("/sandbox/credits").await["held_milli_cents"], 0);
    let taken = json!({"phone_number": agent.number["e164"]});
    assert_eq!(client.send_json("POST", "/v1/numbers/purchase", taken).await.0, 409);
    // The state is saved while the simulator runs, not only at shutdown.
    let is_saved = async || std::fs::read_to_string(&file).unwrap().contains("\"settled\":true");
    wait_until("the save", is_saved).await;
    sandbox.shutdown().await.unwrap();

    std::fs::write(&file, "{\"kind\": \"something else\"}").unwrap();
    let refused = Sandbox::start("127.0.0.1:0".parse().unwrap(), kept()).await.unwrap_err();
    assert!(matches!(refused, SandboxError::State { .. }), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"kind\": \"something else\"}");
}

#[tokio::test]
async fn scenario_files_take_precedence() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    let text = r#"
        [[scenario]]
        name = "picky"
        to = "+1*5550101"
        ring_seconds = 2
        result = { party_size = 4, confirmed = "perhaps", odd = 1 }
        lines = [
            { role = "user", text = "Speak up!", seconds = 5 },
            { role = "agent", text = "A table for four.", seconds = 4.6 },
        ]
        [[scenario]]
        name = "engaged"
        to = "+49*"
        ending = "busy"
    "#;
    std::fs::write(&file, text).unwrap();
    let with_file = || Options { scenario_files: vec![file.clone()], ..manual_options() };
    let sandbox = start_sandbox(with_file()).await;
    let client = Client::new(&sandbox, "sk_live_files");
    client.set_credit(10_000_000).await;
    let agent = client.create_agent("outbound", json!({})).await;
    let picky = client.place_call(&agent, "+13105550101").await;
    let engaged = client.place_call(&agent, "+4930123456").await;
    client.advance_clock(60.0).await;
    let picky = client.refetch_call(&picky).await;
    assert_eq!(
        select_fields(
            &picky,
            &["status", "answered_at", "ended_at", "billed_duration_seconds", "result"]
        ),
        json!({"status": "completed", "answered_at": "2026-04-15T14:00:05Z", "ended_at": "2026-04-15T14:00:15Z",
            "billed_duration_seconds": 10, "result": {"confirmed": "perhaps", "new_time": null, "party_size": 4}}),
        "a value of the wrong type is kept"
    );
    let texts: Vec<Value> =
        client.get_segments(&picky).await.iter().map(|line| line["text"].clone()).collect();
    assert_eq!(texts, ["Speak up!", "A table for four."]);
    assert_eq!(client.refetch_call(&engaged).await["status"], "busy");

    for (key, expected) in [
        ("ring_second", "unknown key \"ring_second\"; did you mean \"ring_seconds\"?"),
        ("volume", "unknown key \"volume\"; the known keys are name, to, "),
    ] {
        let text = format!("[[scenario]]\nname = \"a\"\nto = \"+1\"\n{key} = 2");
        std::fs::write(&file, text).unwrap();
        let refused = Sandbox::start("127.0.0.1:0".parse().unwrap(), with_file()).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[tokio::test]
async fn it_listens_on_loopback_only_and_closes_its_connections_at_shutdown() {
    let sandbox = start_sandbox(Options::default()).await;
    let address = sandbox.address();
    let open = tokio::net::TcpStream::connect(address).await.unwrap();
    let client = Client::new(&sandbox, "sk_live_end");
    let agent = client.create_agent("outbound", json!({})).await;
    sandbox.shutdown().await.unwrap();
    // Another test may have bound the port since, and knows no such agent.
    let path = format!("/v1/agents/{}", agent.id);
    let answer = client.request("GET", &path, "").send().await;
    assert!(!answer.is_ok_and(|answer| answer.status().is_success()));
    let mut byte = [0];
    // The open connection is closed or reset.
    open.readable().await.unwrap();
    assert!(!matches!(open.try_read(&mut byte), Ok(1..)));

    for (address, options) in [
        ("0.0.0.0:0", Options::default()),
        ("127.0.0.1:0", Options { clock: ClockMode::Speed(0.0), ..Options::default() }),
        ("127.0.0.1:0", Options { clock: ClockMode::Speed(f64::NAN), ..Options::default() }),
    ] {
        assert!(Sandbox::start(address.parse().unwrap(), options).await.is_err());
    }
}

#[tokio::test]
async fn shutdown_ends_requests_whose_answer_is_withheld() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_shutdown");
    let agent = client.create_agent("outbound", json!({})).await;
    let order = json!({"agent_id": agent.id, "to": "+13105550113"});
    let late = client.request("POST", "/v1/calls", &order.to_string());
    let late = tokio::spawn(late.send());
    wait_until("the late call", async || client.list_dialed().await.len() == 1).await;
    sandbox.shutdown().await.unwrap();
    assert!(late.await.unwrap().is_err(), "the connection closes without an answer");
}
