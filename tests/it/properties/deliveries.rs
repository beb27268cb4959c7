//! Webhook deliveries: an unsigned delivery is refused whatever its content, a signed event is passed on once, and no
//! body makes the receiver panic.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Body;
use callingbox::webhook_signature::{SignatureError, SigningSecrets};
use callingbox::{Call, CallId};
use callingbox_mcp::webhook::{CallEventHandler, PATH, WebhookReceiver};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, Request};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use sha2::Sha256;
use tower_service::Service as _;

use super::{any_json, proptest_config};

const HEADER: &str = "callingbox-signature";

fn digits(secret: &str, time: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signed(secret: &str, time: i64, body: &[u8]) -> String {
    format!("t={time},v1={}", digits(secret, time, body))
}

fn verify(
    secret: &str,
    header: &[u8],
    body: &[u8],
    now: i64,
) -> Option<Result<(), SignatureError>> {
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, HeaderValue::from_bytes(header).ok()?);
    let now = Timestamp::from_second(now).unwrap();
    Some(SigningSecrets::new([secret.to_owned()]).unwrap().verify(&headers, body, now))
}

/// Records the calls that are passed on.
#[derive(Default)]
struct RecordedCalls(Mutex<Vec<String>>);

#[async_trait]
impl CallEventHandler for RecordedCalls {
    async fn handle_event(&self, call_id: CallId, _: Option<Call>) {
        self.0.lock().unwrap().push(call_id.to_string());
    }
}

/// The body of a delivery, often similar to a valid event.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let call = prop_oneof![
        any_json(),
        ("[a-z]{1,9}", any_json()).prop_map(|(id, other)| json!({"id": id, "status": other})),
        any_json().prop_map(|id| json!({"id": id})),
    ];
    let event = (prop_oneof![any::<String>().prop_map(Value::from), any_json()], call, any_json()).prop_map(
        |(id, call, other)| json!({"id": id, "type": other, "data": {"call": call, "more": other}}),
    );
    prop_oneof![
        4 => event.prop_map(|event| event.to_string().into_bytes()),
        1 => any_json().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

/// What identifies an event, and its call; `None` if the body is not an event of a call.
fn event_ids(body: &[u8]) -> Option<(String, String)> {
    let event: Value = callingbox::json_text::read_leniently(body).ok()?;
    let call: CallId = serde_json::from_value(event["data"]["call"]["id"].clone()).ok()?;
    let id = match &event["id"] {
        Value::String(id) if !id.is_empty() => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    Some((id, call.to_string()))
}

proptest! {
    #![proptest_config(proptest_config())]

    #[test]
    fn a_signature_is_valid_for_one_body_one_secret_and_ten_minutes(
        secret in "whsec_[!-~]{1,40}",
        other in "whsec_[!-~]{1,40}",
        body in any_body(),
        time in 1_000_000_000..3_000_000_000_i64,
        later in -400..400_i64,
        at: Index,
        bit in 0..8_u8,
    ) {
        let header = signed(&secret, time, &body);
        let fresh = later.abs() <= 300;
        let expected = if fresh { Ok(()) } else { Err(SignatureError::Stale) };
        prop_assert_eq!(verify(&secret, header.as_bytes(), &body, time + later), Some(expected));
        let result = verify(&other, header.as_bytes(), &body, time);
        prop_assert_eq!(result == Some(Ok(())), other == secret);

        // Flip one bit of the body, or change its length.
        if !body.is_empty() {
            let mut changed = body.clone();
            let at = at.index(body.len());
            changed[at] ^= 1 << bit;
            prop_assert_eq!(verify(&secret, header.as_bytes(), &changed, time), Some(Err(SignatureError::Mismatch)));
            let shorter = &body[..at];
            prop_assert_eq!(verify(&secret, header.as_bytes(), shorter, time), Some(Err(SignatureError::Mismatch)));
        }
        let longer = [&body[..], b" "].concat();
        prop_assert_eq!(verify(&secret, header.as_bytes(), &longer, time), Some(Err(SignatureError::Mismatch)));
    }

    #[test]
    fn a_changed_signature_is_valid_only_if_it_means_the_same(
        body in any_body(),
        time in 1_000_000_000..3_000_000_000_i64,
        at: Index,
        with: u8,
        cut: Index,
    ) {
        let header = signed("whsec_a", time, &body).into_bytes();
        let mut changed = header.clone();
        let at = at.index(header.len());
        changed[at] = with;
        // A header that is still valid means the same: hexadecimal digits may be upper case, and unknown parts are
        // ignored.
        if verify("whsec_a", &changed, &body, time) == Some(Ok(())) {
            let text = String::from_utf8(changed).unwrap().to_ascii_lowercase();
            let digits = digits("whsec_a", time, &body);
            prop_assert!(text.contains(&format!("t={time}")) && text.contains(&digits), "{}", text);
        }
        let shorter = &header[..cut.index(header.len())];
        prop_assert_ne!(verify("whsec_a", shorter, &body, time), Some(Ok(())));
    }

    #[test]
    fn no_random_header_is_a_valid_signature(
        header in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "(t=[0-9+-]{0,20}|v1=[0-9a-fA-F]{0,70}|v0=[a-z]{0,5}|,|=| ){0,12}".prop_map(String::into_bytes),
        ],
        body in any_body(),
    ) {
        let result = verify("whsec_a", &header, &body, 1_800_000_000);
        prop_assert_ne!(result, Some(Ok(())));
    }

    #[test]
    fn each_signed_event_is_passed_on_once(
        deliveries in prop::collection::vec((any_body(), 0..4_u8), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let recorded = Arc::new(RecordedCalls::default());
            let secrets = SigningSecrets::new(["whsec_a".to_owned()]).unwrap();
            let receiver = WebhookReceiver::new(secrets, Arc::clone(&recorded) as Arc<dyn CallEventHandler>, None);
            let mut routes = receiver.routes().into_service();
            let (mut expected, mut seen) = (Vec::new(), Vec::new());
            for (body, how) in deliveries {
                let now = Timestamp::now().as_second();
                let signature = match how {
                    0 => String::new(),
                    1 => signed("whsec_b", now, &body),
                    _ => signed("whsec_a", now, &body),
                };
                let signed_correctly = how > 1;
                let ids = event_ids(&body).filter(|_| signed_correctly);
                for _ in 0..2 {
                    let request = Request::post(PATH).header(HEADER, &signature);
                    let answer = routes.call(request.body(Body::from(body.clone())).unwrap()).await;
                    let status = answer.unwrap().status().as_u16();
                    let expected_status = if signed_correctly { 200 } else { 401 };
                    assert_eq!(status, expected_status, "{}", String::from_utf8_lossy(&body));
                }
                if let Some((id, call)) = ids
                    && !seen.contains(&id)
                {
                    seen.push(id);
                    expected.push(call);
                }
            }
            while recorded.0.lock().unwrap().len() < expected.len() {
                tokio::task::yield_now().await;
            }
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert_eq!(*recorded.0.lock().unwrap(), expected);
        });
    }
}
