//! Webhooks on the simulated clock, delivered to a receiver in the test.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::sandbox::support::{Client, manual_options, select_fields, start_sandbox, wait_until};

/// One delivered message.
type Message = (HeaderMap, Vec<u8>);

/// A receiver that answers with a chosen status and keeps its messages.
#[derive(Clone, Default)]
struct Receiver {
    status: Arc<Mutex<u16>>,
    messages: Arc<Mutex<Vec<Message>>>,
}

impl Receiver {
    async fn start(status: u16) -> (Self, String) {
        let receiver = Self { status: Arc::new(Mutex::new(status)), ..Self::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let app = Router::new().route("/hook", post(Self::receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (receiver, url)
    }

    async fn receive(State(receiver): State<Self>, headers: HeaderMap, body: Bytes) -> StatusCode {
        receiver.messages.lock().unwrap().push((headers, body.to_vec()));
        StatusCode::from_u16(*receiver.status.lock().unwrap()).unwrap()
    }

    fn set_status(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    fn drain(&self) -> Vec<Message> {
        std::mem::take(&mut *self.messages.lock().unwrap())
    }

    /// Takes the messages and returns their event types in order.
    fn drain_events(&self) -> Vec<String> {
        let text =
            |(headers, _): Message| headers["callingbox-event-type"].to_str().unwrap().to_owned();
        self.drain().into_iter().map(text).collect()
    }
}

/// Checks a signature as the documentation describes it.
fn is_signed(headers: &HeaderMap, body: &[u8], secret: &str) -> bool {
    let header = headers["callingbox-signature"].to_str().unwrap();
    let (time, signature) = header.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let drift = jiff::Timestamp::now().as_second() - time.parse::<i64>().unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    drift.abs() <= 300 && hex == signature
}

#[tokio::test]
async fn each_destination_gets_signed_events_in_order() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_hooks");
    client.set_credit(10_000_000).await;
    let (inline, inline_url) = Receiver::start(200).await;
    let (subscribed, subscribed_url) = Receiver::start(204).await;
    let agent = client.create_agent("outbound", json!({"webhook_url": inline_url})).await;
    let endpoint =
        json!({"url": subscribed_url, "enabled_events": ["call.answered", "call.completed"]});
    let endpoint = client.send_ok("POST", "/v1/webhook_endpoints", endpoint).await;
    let secret =
        client.get("/sandbox/signing_secret").await["signing_secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_") && secret.len() == 38);

    let call = client.place_call(&agent, "+13105550100").await;
    client.advance_clock(9.0).await;
    assert_eq!(subscribed.drain_events(), ["call.answered"]);
    assert_eq!(
        client.refetch_call(&call).await["webhook_status"],
        "pending",
        "the last event has not been delivered"
    );
    client.advance_clock(300.0).await;
    let got = inline.drain();
    let events: Vec<&str> =
        got.iter().map(|(headers, _)| headers["callingbox-event-type"].to_str().unwrap()).collect();
    assert_eq!(events, ["call.queued", "call.ringing", "call.answered", "call.completed"]);
    let statuses: Vec<Value> = got
        .iter()
        .map(|(_, body)| {
            serde_json::from_slice::<Value>(body).unwrap()["data"]["call"]["status"].clone()
        })
        .collect();
    assert_eq!(statuses, ["queued", "ringing", "in_progress", "completed"]);
    for (headers, body) in &got {
        assert!(is_signed(headers, body, &secret));
        assert!(!is_signed(headers, body, endpoint["signing_secret"].as_str().unwrap()));
        let event: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(headers["callingbox-event-id"], event["id"].as_str().unwrap());
        assert_eq!(headers["x-callingbox-event"], event["type"].as_str().unwrap());
        assert_eq!(headers["x-callingbox-call-id"], call["id"].as_str().unwrap());
        assert_eq!((&event["api_version"], &event["simulated"]), (&json!("2026-04"), &json!(true)));
    }
    let last: Value = serde_json::from_slice(&got[3].1).unwrap();
    let ended = client.refetch_call(&call).await;
    let names = ["result", "result_status", "billing_amount_milli_cents", "duration_seconds"];
    assert_eq!(select_fields(&last["data"]["call"], &names), select_fields(&ended, &names));
    assert_eq!(ended["webhook_status"], "delivered");
    let (headers, body) = &subscribed.drain()[0];
    assert!(is_signed(headers, body, endpoint["signing_secret"].as_str().unwrap()));

    let listed = client
        .get(&format!(
            "/v1/webhook_deliveries?call_id={}&status=delivered",
            call["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 6);
    let newest = &listed["data"][0];
    assert_eq!(
        select_fields(
            newest,
            &[
                "event_type",
                "attempt_count",
                "manual_retry_count",
                "last_response_status",
                "last_error"
            ]
        ),
        json!({"event_type": "call.completed", "attempt_count": 1, "manual_retry_count": 0,
            "last_response_status": newest["last_response_status"], "last_error": null})
    );

    // Rotation invalidates the old secret immediately; a redelivery keeps its id.
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    let rotated = client.send_ok("POST", &format!("{path}/rotate_secret"), json!({})).await;
    let listed = client
        .get(&format!("/v1/webhook_deliveries?endpoint_id={}", endpoint["id"].as_str().unwrap()))
        .await;
    let replay = format!("/v1/webhook_deliveries/{}", listed["data"][0]["id"].as_str().unwrap());
    let pending = client.send_ok("POST", &format!("{replay}/redeliver"), json!({})).await;
    assert_eq!(
        (&pending["status"], &pending["manual_retry_count"]),
        (&json!("pending"), &json!(1))
    );
    client.advance_clock(0.0).await;
    let (headers, body) = &subscribed.drain()[0];
    assert_eq!(headers["callingbox-event-id"], listed["data"][0]["id"].as_str().unwrap());
    assert!(is_signed(headers, body, rotated["signing_secret"].as_str().unwrap()));
    assert_eq!(
        client.get(&replay).await["attempt_count"],
        1,
        "a redelivery does not count as an automatic attempt"
    );
    assert!(client.get(&path).await.get("signing_secret").is_none());
}

#[tokio::test]
async fn a_delivery_is_attempted_eight_times_on_the_simulated_clock() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_retries");
    let (receiver, url) = Receiver::start(302).await;
    let agent = client.create_agent("outbound", json!({"webhook_url": url})).await;
    let call = client.place_call(&agent, "+13105550102").await;
    client.advance_clock(5.0).await;
    assert_eq!(receiver.drain_events(), ["call.queued", "call.ringing", "call.busy"]);
    let path = "/v1/webhook_deliveries?limit=1";
    for (attempt, base) in (2..).zip([60.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 86_400.0])
    {
        let before = client.get(path).await["data"][0].clone();
        assert_eq!(
            (&before["status"], &before["last_error"]),
            (&json!("pending"), &json!("HTTP 302"))
        );
        // No attempt before the shortest delay; one when it is due.
        client.advance_clock(base * 0.8 - 1.0).await;
        assert_eq!(client.get(path).await["data"][0]["attempt_count"], attempt - 1, "{attempt}");
        let due = client.get(path).await["data"][0]["next_attempt_at"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
        let now = client.get("/sandbox/clock").await["now"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
        client.advance_clock(due.duration_since(now).as_secs_f64()).await;
        assert_eq!(client.get(path).await["data"][0]["attempt_count"], attempt, "{attempt}");
    }
    let spent = client.get(path).await["data"][0].clone();
    assert_eq!(
        (&spent["status"], &spent["last_response_status"]),
        (&json!("exhausted"), &json!(302))
    );
    let call = client.refetch_call(&call).await;
    assert_eq!(
        (&call["webhook_status"], &call["webhook_error"]),
        (&json!("failed"), &json!("HTTP 302"))
    );
    client.advance_clock(400_000.0).await;
    receiver.drain();
    receiver.set_status(200);
    client
        .send_ok(
            "POST",
            &format!("/v1/webhook_deliveries/{}/redeliver", spent["id"].as_str().unwrap()),
            json!({}),
        )
        .await;
    client.advance_clock(0.0).await;
    let replayed = client.get(path).await["data"][0].clone();
    assert_eq!(
        select_fields(&replayed, &["id", "status", "attempt_count", "manual_retry_count"]),
        json!({"id": spent["id"], "status": "delivered", "attempt_count": 8, "manual_retry_count": 1})
    );
    assert_eq!(receiver.drain_events(), ["call.busy"]);
}

#[tokio::test]
async fn an_endpoint_is_disabled_after_ten_exhausted_deliveries() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_disable");
    client.set_credit(100_000_000).await;
    let (receiver, url) = Receiver::start(500).await;
    let agent = client.create_agent("outbound", json!({})).await;
    let body = json!({"url": url, "enabled_events": ["call.busy"]});
    let endpoint = client.send_ok("POST", "/v1/webhook_endpoints", body).await;
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    let names = ["status", "disabled_reason", "consecutive_failures"];
    for _ in 0..9 {
        client.place_call(&agent, "+13105550102").await;
    }
    client.advance_clock(300_000.0).await;
    assert_eq!(receiver.drain().len(), 72);
    let nine = json!({"status": "enabled", "disabled_reason": null, "consecutive_failures": 9});
    assert_eq!(select_fields(&client.get(&path).await, &names), nine);
    // A success resets the count.
    receiver.set_status(200);
    client.place_call(&agent, "+13105550102").await;
    client.advance_clock(60.0).await;
    assert_eq!(client.get(&path).await["consecutive_failures"], 0);
    receiver.set_status(500);
    for _ in 0..10 {
        client.place_call(&agent, "+13105550102").await;
    }
    client.advance_clock(300_000.0).await;
    let off = client.get(&path).await;
    assert_eq!(
        select_fields(&off, &names),
        json!({"status": "disabled", "disabled_reason": "too_many_failures", "consecutive_failures": 10})
    );
    assert!(off["disabled_at"].is_string());
    receiver.drain();
    client.place_call(&agent, "+13105550102").await;
    client.advance_clock(60.0).await;
    assert!(receiver.drain().is_empty(), "a disabled endpoint gets nothing");
    let on = client.send_ok("PATCH", &path, json!({"status": "enabled"})).await;
    let fresh = json!({"status": "enabled", "disabled_reason": null, "consecutive_failures": 0});
    assert_eq!(select_fields(&on, &names), fresh);
    client.place_call(&agent, "+13105550102").await;
    client.advance_clock(60.0).await;
    assert_eq!(receiver.drain_events(), ["call.busy"]);
    let gone = client.send_ok("DELETE", &path, json!({})).await;
    assert_eq!(gone, json!({"id": endpoint["id"], "deleted": true, "simulated": true}));
    assert_eq!(client.send_raw("GET", &path, "").await.0, 404);
}

#[tokio::test]
async fn each_ending_has_its_own_event() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_endings");
    client.set_credit(100_000_000).await;
    let (receiver, url) = Receiver::start(200).await;
    let agent = client.create_agent("outbound", json!({"webhook_url": url})).await;
    for (to, event) in [
        ("+13105550101", "call.no_answer"),
        ("+13105550102", "call.busy"),
        // A machine counts as no answer (statuses and errors).
        ("+13105550103", "call.no_answer"),
        ("+13105550104", "call.failed"),
        ("+13105550106", "call.canceled"),
    ] {
        client.place_call(&agent, to).await;
        client.advance_clock(3_600.0).await;
        assert_eq!(receiver.drain_events(), ["call.queued", "call.ringing", event], "{to}");
    }
    client.place_call(&agent, "+13105550105").await;
    client.advance_clock(3_600.0).await;
    let talked = ["call.queued", "call.ringing", "call.answered", "call.completed"];
    assert_eq!(receiver.drain_events(), talked, "a failed extraction still completes the call");
    // An inbound call is not queued.
    let desk = client.create_agent("inbound", json!({"webhook_url": url})).await;
    let ring = json!({"to": desk.number["e164"], "from": "+16465550164"});
    client.send_ok("POST", "/sandbox/inbound_calls", ring).await;
    client.advance_clock(3_600.0).await;
    assert_eq!(receiver.drain_events(), talked[1..]);
}

#[tokio::test]
async fn a_disabled_endpoint_gets_no_retry() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_off");
    let (receiver, url) = Receiver::start(500).await;
    let agent = client.create_agent("outbound", json!({})).await;
    let body = json!({"url": url, "enabled_events": ["call.busy"]});
    let endpoint = client.send_ok("POST", "/v1/webhook_endpoints", body).await;
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    client.place_call(&agent, "+13105550102").await;
    client.advance_clock(10.0).await;
    assert_eq!(receiver.drain_events(), ["call.busy"]);
    client.send_ok("PATCH", &path, json!({"status": "disabled"})).await;
    receiver.set_status(200);
    client.advance_clock(300_000.0).await;
    assert_eq!(receiver.drain_events(), [""; 0]);
    let deliveries = client.get("/v1/webhook_deliveries").await;
    assert_eq!(
        select_fields(&deliveries["data"][0], &["status", "attempt_count", "last_error"]),
        json!({"status": "exhausted", "attempt_count": 1, "last_error": "the endpoint is disabled"})
    );
    assert_eq!(
        client.get(&path).await["consecutive_failures"],
        0,
        "a delivery without an attempt is no failure of the endpoint"
    );
}

#[tokio::test]
async fn a_private_address_from_the_state_file_is_checked_again() {
    let directory = tempfile::tempdir().unwrap();
    let kept = |allow_private_webhooks| callingbox_sandbox::Options {
        state_file: Some(directory.path().join("state.json")),
        allow_private_webhooks,
        ..manual_options()
    };
    let (receiver, url) = Receiver::start(200).await;
    let sandbox = start_sandbox(kept(true)).await;
    let client = Client::new(&sandbox, "sk_live_kept");
    let agent = client.create_agent("outbound", json!({"webhook_url": url})).await;
    sandbox.shutdown().await.unwrap();

    let sandbox = start_sandbox(kept(false)).await;
    let client = Client::new(&sandbox, "sk_live_kept");
    client.place_call(&agent, "+13105550102").await;
    client.advance_clock(5.0).await;
    assert_eq!(receiver.drain_events(), [""; 0]);
    let deliveries = client.get("/v1/webhook_deliveries").await;
    let delivery =
        select_fields(&deliveries["data"][0], &["status", "attempt_count", "last_error"]);
    let error = "the URL resolves to a private address";
    assert_eq!(delivery, json!({"status": "pending", "attempt_count": 1, "last_error": error}));
}

#[tokio::test]
async fn private_addresses_are_rejected_unless_allowed() {
    let sandbox = start_sandbox(callingbox_sandbox::Options {
        allow_private_webhooks: false,
        ..manual_options()
    })
    .await;
    let client = Client::new(&sandbox, "sk_live_private");
    let (receiver, url) = Receiver::start(200).await;
    for url in [url.as_str(), "https://localhost/", "https://169.254.169.254/latest"] {
        assert_eq!(
            client.send_json("POST", "/v1/webhook_endpoints", json!({"url": url})).await.0,
            400,
            "{url}"
        );
        let agent = json!({"name": "A", "type": "outbound", "webhook_url": url});
        assert_eq!(client.send_json("POST", "/v1/agents", agent).await.0, 400, "{url}");
    }
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn a_silent_receiver_delays_no_other() {
    let sandbox = start_sandbox(manual_options()).await;
    let client = Client::new(&sandbox, "sk_live_silent");
    client.set_credit(100_000_000).await;
    // It accepts connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = json!({"url": format!("http://{}/", silent.local_addr().unwrap())});
    let silent = client.send_ok("POST", "/v1/webhook_endpoints", silent).await;
    let (receiver, url) = Receiver::start(200).await;
    let agent = client.create_agent("outbound", json!({"webhook_url": url})).await;
    for _ in 0..100 {
        client.place_call(&agent, "+13105550102").await;
    }
    // The clock runs, since an advance by hand would wait for the silent receiver too.
    client.send_ok("POST", "/sandbox/clock", json!({"speed": 1_000})).await;
    let has_all = async || receiver.messages.lock().unwrap().len() == 300;
    wait_until("the delivery of all events", has_all).await;
    let path =
        format!("/v1/webhook_deliveries?endpoint_id={}&limit=200", silent["id"].as_str().unwrap());
    let first = client.get(&path).await["data"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(first["attempt_count"], 0, "the silent receiver's first attempt is in flight");
}
