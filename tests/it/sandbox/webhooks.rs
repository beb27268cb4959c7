//! Webhooks, delivered to a receiver of the test's own on the simulated clock.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::sandbox::support::{Client, only, options, start};

/// One delivered message.
type Message = (HeaderMap, Vec<u8>);

/// A receiver that answers what it is told to and keeps what it got.
#[derive(Clone, Default)]
struct Receiver {
    status: Arc<Mutex<u16>>,
    got: Arc<Mutex<Vec<Message>>>,
}

impl Receiver {
    async fn start(status: u16) -> (Self, String) {
        let receiver = Self { status: Arc::new(Mutex::new(status)), ..Self::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let app = Router::new().route("/hook", post(Self::take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (receiver, url)
    }

    async fn take(State(receiver): State<Self>, headers: HeaderMap, body: Bytes) -> StatusCode {
        receiver.got.lock().unwrap().push((headers, body.to_vec()));
        StatusCode::from_u16(*receiver.status.lock().unwrap()).unwrap()
    }

    fn answer(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    fn drain(&self) -> Vec<Message> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }

    /// The events that came, in order.
    fn events(&self) -> Vec<String> {
        let text =
            |(headers, _): Message| headers["callingbox-event-type"].to_str().unwrap().to_owned();
        self.drain().into_iter().map(text).collect()
    }
}

/// The receiver's own check of a signature, written from the documentation.
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
async fn each_event_goes_signed_and_in_order_to_each_destination() {
    let sandbox = start(options()).await;
    let client = Client::new(&sandbox, "sk_live_hooks");
    client.credit(10_000_000).await;
    let (inline, inline_url) = Receiver::start(200).await;
    let (subscribed, subscribed_url) = Receiver::start(204).await;
    let agent = client.agent("outbound", json!({"webhook_url": inline_url})).await;
    let endpoint =
        json!({"url": subscribed_url, "enabled_events": ["call.answered", "call.completed"]});
    let endpoint = client.done("POST", "/v1/webhook_endpoints", endpoint).await;
    let secret =
        client.get("/sandbox/signing_secret").await["signing_secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_") && secret.len() == 38);

    let call = client.call(&agent, "+13105550100").await;
    client.advance(9.0).await;
    assert_eq!(subscribed.events(), ["call.answered"]);
    assert_eq!(client.refetch(&call).await["webhook_status"], "pending", "its end is not told yet");
    client.advance(300.0).await;
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
    let ended = client.refetch(&call).await;
    let names = ["result", "result_status", "billing_amount_milli_cents", "duration_seconds"];
    assert_eq!(only(&last["data"]["call"], &names), only(&ended, &names));
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
        only(
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

    // Rotation ends the old secret at once; a replay keeps its id.
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    let rotated = client.done("POST", &format!("{path}/rotate_secret"), json!({})).await;
    let listed = client
        .get(&format!("/v1/webhook_deliveries?endpoint_id={}", endpoint["id"].as_str().unwrap()))
        .await;
    let replay = format!("/v1/webhook_deliveries/{}", listed["data"][0]["id"].as_str().unwrap());
    let pending = client.done("POST", &format!("{replay}/redeliver"), json!({})).await;
    assert_eq!(
        (&pending["status"], &pending["manual_retry_count"]),
        (&json!("pending"), &json!(1))
    );
    client.advance(0.0).await;
    let (headers, body) = &subscribed.drain()[0];
    assert_eq!(headers["callingbox-event-id"], listed["data"][0]["id"].as_str().unwrap());
    assert!(is_signed(headers, body, rotated["signing_secret"].as_str().unwrap()));
    assert_eq!(client.get(&replay).await["attempt_count"], 1, "a replay is no automatic attempt");
    assert!(client.get(&path).await.get("signing_secret").is_none());
}

#[tokio::test]
async fn eight_attempts_on_the_simulated_clock() {
    let sandbox = start(options()).await;
    let client = Client::new(&sandbox, "sk_live_retries");
    let (receiver, url) = Receiver::start(302).await;
    let agent = client.agent("outbound", json!({"webhook_url": url})).await;
    let call = client.call(&agent, "+13105550102").await;
    client.advance(5.0).await;
    assert_eq!(receiver.events(), ["call.queued", "call.ringing", "call.busy"]);
    let path = "/v1/webhook_deliveries?limit=1";
    for (attempt, base) in (2..).zip([60.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 86_400.0])
    {
        let before = client.get(path).await["data"][0].clone();
        assert_eq!(
            (&before["status"], &before["last_error"]),
            (&json!("pending"), &json!("HTTP 302"))
        );
        // Nothing before the earliest moment, all of it by the latest.
        client.advance(base * 0.8 - 1.0).await;
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
        client.advance(due.duration_since(now).as_secs_f64()).await;
        assert_eq!(client.get(path).await["data"][0]["attempt_count"], attempt, "{attempt}");
    }
    let spent = client.get(path).await["data"][0].clone();
    assert_eq!(
        (&spent["status"], &spent["last_response_status"]),
        (&json!("exhausted"), &json!(302))
    );
    let call = client.refetch(&call).await;
    assert_eq!(
        (&call["webhook_status"], &call["webhook_error"]),
        (&json!("failed"), &json!("HTTP 302"))
    );
    client.advance(400_000.0).await;
    receiver.drain();
    receiver.answer(200);
    client
        .done(
            "POST",
            &format!("/v1/webhook_deliveries/{}/redeliver", spent["id"].as_str().unwrap()),
            json!({}),
        )
        .await;
    client.advance(0.0).await;
    let replayed = client.get(path).await["data"][0].clone();
    assert_eq!(
        only(&replayed, &["id", "status", "attempt_count", "manual_retry_count"]),
        json!({"id": spent["id"], "status": "delivered", "attempt_count": 8, "manual_retry_count": 1})
    );
    assert_eq!(receiver.events(), ["call.busy"]);
}

#[tokio::test]
async fn an_endpoint_is_switched_off_after_ten_exhausted_deliveries() {
    let sandbox = start(options()).await;
    let client = Client::new(&sandbox, "sk_live_disable");
    client.credit(100_000_000).await;
    let (receiver, url) = Receiver::start(500).await;
    let agent = client.agent("outbound", json!({})).await;
    let body = json!({"url": url, "enabled_events": ["call.busy"]});
    let endpoint = client.done("POST", "/v1/webhook_endpoints", body).await;
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    let names = ["status", "disabled_reason", "consecutive_failures"];
    for _ in 0..9 {
        client.call(&agent, "+13105550102").await;
    }
    client.advance(300_000.0).await;
    assert_eq!(receiver.drain().len(), 72);
    let nine = json!({"status": "enabled", "disabled_reason": null, "consecutive_failures": 9});
    assert_eq!(only(&client.get(&path).await, &names), nine);
    // A success in between begins the count anew.
    receiver.answer(200);
    client.call(&agent, "+13105550102").await;
    client.advance(60.0).await;
    assert_eq!(client.get(&path).await["consecutive_failures"], 0);
    receiver.answer(500);
    for _ in 0..10 {
        client.call(&agent, "+13105550102").await;
    }
    client.advance(300_000.0).await;
    let off = client.get(&path).await;
    assert_eq!(
        only(&off, &names),
        json!({"status": "disabled", "disabled_reason": "too_many_failures", "consecutive_failures": 10})
    );
    assert!(off["disabled_at"].is_string());
    receiver.drain();
    client.call(&agent, "+13105550102").await;
    client.advance(60.0).await;
    assert!(receiver.drain().is_empty(), "a disabled endpoint gets nothing");
    let on = client.done("PATCH", &path, json!({"status": "enabled"})).await;
    let fresh = json!({"status": "enabled", "disabled_reason": null, "consecutive_failures": 0});
    assert_eq!(only(&on, &names), fresh);
    client.call(&agent, "+13105550102").await;
    client.advance(60.0).await;
    assert_eq!(receiver.events(), ["call.busy"]);
    let gone = client.done("DELETE", &path, json!({})).await;
    assert_eq!(gone, json!({"id": endpoint["id"], "deleted": true, "simulated": true}));
    assert_eq!(client.raw("GET", &path, "").await.0, 404);
}

#[tokio::test]
async fn each_ending_is_told_once_and_under_its_own_name() {
    let sandbox = start(options()).await;
    let client = Client::new(&sandbox, "sk_live_endings");
    client.credit(100_000_000).await;
    let (receiver, url) = Receiver::start(200).await;
    let agent = client.agent("outbound", json!({"webhook_url": url})).await;
    for (to, event) in [
        ("+13105550101", "call.no_answer"),
        ("+13105550102", "call.busy"),
        // A machine is nobody (statuses and errors).
        ("+13105550103", "call.no_answer"),
        ("+13105550104", "call.failed"),
        ("+13105550106", "call.canceled"),
    ] {
        client.call(&agent, to).await;
        client.advance(3_600.0).await;
        assert_eq!(receiver.events(), ["call.queued", "call.ringing", event], "{to}");
    }
    client.call(&agent, "+13105550105").await;
    client.advance(3_600.0).await;
    let talked = ["call.queued", "call.ringing", "call.answered", "call.completed"];
    assert_eq!(receiver.events(), talked, "a failed extraction is an end like another");
    // Who is called does not queue.
    let desk = client.agent("inbound", json!({"webhook_url": url})).await;
    let ring = json!({"to": desk.number["e164"], "from": "+16465550164"});
    client.done("POST", "/sandbox/inbound_calls", ring).await;
    client.advance(3_600.0).await;
    assert_eq!(receiver.events(), talked[1..]);
}

#[tokio::test]
async fn a_disabled_endpoint_is_not_tried_again() {
    let sandbox = start(options()).await;
    let client = Client::new(&sandbox, "sk_live_off");
    let (receiver, url) = Receiver::start(500).await;
    let agent = client.agent("outbound", json!({})).await;
    let body = json!({"url": url, "enabled_events": ["call.busy"]});
    let endpoint = client.done("POST", "/v1/webhook_endpoints", body).await;
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    client.call(&agent, "+13105550102").await;
    client.advance(10.0).await;
    assert_eq!(receiver.events(), ["call.busy"]);
    client.done("PATCH", &path, json!({"status": "disabled"})).await;
    receiver.answer(200);
    client.advance(300_000.0).await;
    assert_eq!(receiver.events(), [""; 0]);
    let deliveries = client.get("/v1/webhook_deliveries").await;
    assert_eq!(
        only(&deliveries["data"][0], &["status", "attempt_count", "last_error"]),
        json!({"status": "exhausted", "attempt_count": 1, "last_error": "the endpoint is disabled"})
    );
    assert_eq!(client.get(&path).await["consecutive_failures"], 0, "it is nobody's failure");
}

#[tokio::test]
async fn what_was_allowed_before_a_restart_is_not_allowed_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let kept = |allow_private_webhooks| callingbox_sandbox::Options {
        state_file: Some(directory.path().join("state.json")),
        allow_private_webhooks,
        ..options()
    };
    let (receiver, url) = Receiver::start(200).await;
    let sandbox = start(kept(true)).await;
    let client = Client::new(&sandbox, "sk_live_kept");
    let agent = client.agent("outbound", json!({"webhook_url": url})).await;
    sandbox.shutdown().await.unwrap();

    let sandbox = start(kept(false)).await;
    let client = Client::new(&sandbox, "sk_live_kept");
    client.call(&agent, "+13105550102").await;
    client.advance(5.0).await;
    assert_eq!(receiver.events(), [""; 0]);
    let deliveries = client.get("/v1/webhook_deliveries").await;
    let delivery = only(&deliveries["data"][0], &["status", "attempt_count", "last_error"]);
    let error = "the URL resolves to a private address";
    assert_eq!(delivery, json!({"status": "pending", "attempt_count": 1, "last_error": error}));
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    let sandbox =
        start(callingbox_sandbox::Options { allow_private_webhooks: false, ..options() }).await;
    let client = Client::new(&sandbox, "sk_live_private");
    let (receiver, url) = Receiver::start(200).await;
    for url in [url.as_str(), "https://localhost/", "https://169.254.169.254/latest"] {
        assert_eq!(
            client.send("POST", "/v1/webhook_endpoints", json!({"url": url})).await.0,
            400,
            "{url}"
        );
        let agent = json!({"name": "A", "type": "outbound", "webhook_url": url});
        assert_eq!(client.send("POST", "/v1/agents", agent).await.0, 400, "{url}");
    }
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn a_silent_receiver_holds_up_nobody_else() {
    let sandbox = start(options()).await;
    let client = Client::new(&sandbox, "sk_live_silent");
    client.credit(100_000_000).await;
    // It takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = json!({"url": format!("http://{}/", silent.local_addr().unwrap())});
    client.done("POST", "/v1/webhook_endpoints", silent).await;
    let (receiver, url) = Receiver::start(200).await;
    let agent = client.agent("outbound", json!({"webhook_url": url})).await;
    for _ in 0..100 {
        client.call(&agent, "+13105550102").await;
    }
    // The clock runs: moving it by hand would wait for the silent one as well.
    client.done("POST", "/sandbox/clock", json!({"speed": 1_000})).await;
    let began = std::time::Instant::now();
    while receiver.got.lock().unwrap().len() < 300 {
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "held up");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
