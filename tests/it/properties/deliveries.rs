//! Webhook deliveries: nothing unsigned is believed, whatever it looks like; what is signed is heard
//! once; no body makes the receiver fall.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Body;
use callingbox::{Call, CallId};
use callingbox_mcp::webhook::{Hears, PATH, Receiver, Secrets, Unsigned};
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

fn verify(secret: &str, header: &[u8], body: &[u8], now: i64) -> Option<Result<(), Unsigned>> {
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, HeaderValue::from_bytes(header).ok()?);
    let now = Timestamp::from_second(now).unwrap();
    Some(Secrets::new([secret.to_owned()]).unwrap().verify(&headers, body, now))
}

/// Hears of calls, and remembers which.
#[derive(Default)]
struct Ears(Mutex<Vec<String>>);

#[async_trait]
impl Hears for Ears {
    async fn hear(&self, call_id: CallId, _: Option<Call>) {
        self.0.lock().unwrap().push(call_id.to_string());
    }
}

/// What comes, of which a good part is nearly right.
fn body() -> impl Strategy<Value = Vec<u8>> {
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

/// The call that an event tells of, if it is one.
fn told(body: &[u8]) -> Option<String> {
    let event: Value = serde_json::from_slice(body).ok()?;
    event["id"].as_str()?;
    Some(event["data"]["call"]["id"].as_str()?.to_owned()).filter(|id| !id.is_empty())
}

proptest! {
    #![proptest_config(proptest_config())]

    #[test]
    fn a_signature_holds_for_one_body_one_secret_and_ten_minutes(
        secret in "whsec_[!-~]{1,40}",
        other in "whsec_[!-~]{1,40}",
        body in body(),
        time in 1_000_000_000..3_000_000_000_i64,
        later in -400..400_i64,
        at: Index,
        bit in 0..8_u8,
    ) {
        let header = signed(&secret, time, &body);
        let fresh = later.abs() <= 300;
        let expected = if fresh { Ok(()) } else { Err(Unsigned::Stale) };
        prop_assert_eq!(verify(&secret, header.as_bytes(), &body, time + later), Some(expected));
        let told = verify(&other, header.as_bytes(), &body, time);
        prop_assert_eq!(told == Some(Ok(())), other == secret);

        // Any bit of the body, and any one more or less.
        if !body.is_empty() {
            let mut changed = body.clone();
            let at = at.index(body.len());
            changed[at] ^= 1 << bit;
            prop_assert_eq!(verify(&secret, header.as_bytes(), &changed, time), Some(Err(Unsigned::Wrong)));
            let shorter = &body[..at];
            prop_assert_eq!(verify(&secret, header.as_bytes(), shorter, time), Some(Err(Unsigned::Wrong)));
        }
        let longer = [&body[..], b" "].concat();
        prop_assert_eq!(verify(&secret, header.as_bytes(), &longer, time), Some(Err(Unsigned::Wrong)));
    }

    #[test]
    fn no_change_to_a_signature_leaves_it_good_for_anything_else(
        body in body(),
        time in 1_000_000_000..3_000_000_000_i64,
        at: Index,
        with: u8,
        cut: Index,
    ) {
        let header = signed("whsec_a", time, &body).into_bytes();
        let mut changed = header.clone();
        let at = at.index(header.len());
        changed[at] = with;
        // A header that is believed says the same: its digits may be in capitals, and what is neither
        // time nor signature is passed over.
        if verify("whsec_a", &changed, &body, time) == Some(Ok(())) {
            let text = String::from_utf8(changed).unwrap().to_ascii_lowercase();
            let digits = digits("whsec_a", time, &body);
            prop_assert!(text.contains(&format!("t={time}")) && text.contains(&digits), "{}", text);
        }
        let shorter = &header[..cut.index(header.len())];
        prop_assert_ne!(verify("whsec_a", shorter, &body, time), Some(Ok(())));
    }

    #[test]
    fn no_header_is_a_signature_by_chance(
        header in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "(t=[0-9+-]{0,20}|v1=[0-9a-fA-F]{0,70}|v0=[a-z]{0,5}|,|=| ){0,12}".prop_map(String::into_bytes),
        ],
        body in body(),
    ) {
        let told = verify("whsec_a", &header, &body, 1_800_000_000);
        prop_assert_ne!(told, Some(Ok(())));
    }

    #[test]
    fn what_is_signed_is_heard_once_and_nothing_else(
        deliveries in prop::collection::vec((body(), 0..4_u8), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ears = Arc::new(Ears::default());
            let secrets = Secrets::new(["whsec_a".to_owned()]).unwrap();
            let receiver = Receiver::new(secrets, Arc::clone(&ears) as Arc<dyn Hears>, None);
            let mut routes = receiver.routes().into_service();
            let (mut expected, mut seen) = (Vec::new(), Vec::new());
            for (body, how) in deliveries {
                let now = Timestamp::now().as_second();
                let signature = match how {
                    0 => String::new(),
                    1 => signed("whsec_b", now, &body),
                    _ => signed("whsec_a", now, &body),
                };
                let believed = how > 1;
                let told = told(&body).filter(|_| believed);
                let id = serde_json::from_slice::<Value>(&body).ok().map(|event| event["id"].clone());
                let again = told.is_some() && seen.contains(&id);
                for _ in 0..2 {
                    let request = Request::post(PATH).header(HEADER, &signature);
                    let answer = routes.call(request.body(Body::from(body.clone())).unwrap()).await;
                    let status = answer.unwrap().status().as_u16();
                    let wanted = match (believed, &told) {
                        (false, _) => 401,
                        (true, None) => 400,
                        (true, Some(_)) => 200,
                    };
                    assert_eq!(status, wanted, "{}", String::from_utf8_lossy(&body));
                }
                if let Some(call) = told {
                    seen.push(id);
                    if !again {
                        expected.push(call);
                    }
                }
            }
            while ears.0.lock().unwrap().len() < expected.len() {
                tokio::task::yield_now().await;
            }
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert_eq!(*ears.0.lock().unwrap(), expected);
        });
    }
}
