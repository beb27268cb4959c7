//! Webhook deliveries: the input is a header, a line feed, and a body. No header is a valid signature, since only the
//! sender knows the secret, and no body crashes the receiver, signed or not.

#![no_main]

use std::sync::Arc;

use axum::body::Body;
use callingbox::webhook_signature::SigningSecrets;
use callingbox::{Call, CallId};
use callingbox_mcp::webhook::{CallEventHandler, PATH, WebhookReceiver};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, Request};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;
use tower_service::Service as _;

const HEADER: &str = "callingbox-signature";
const SECRET: &str = "whsec_a";
/// The time at which headers are verified: that of the seed, which would be too old otherwise.
const SEED_TIME: i64 = 1_776_263_400;

struct IgnoreEvents;

#[async_trait::async_trait]
impl CallEventHandler for IgnoreEvents {
    async fn handle_event(&self, _: CallId, _: Option<Call>) {}
}

fn secrets() -> SigningSecrets {
    SigningSecrets::new([SECRET.to_owned()]).unwrap()
}

fn sign(time: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={time},v1={digits}")
}

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (header, body) = input.split_at(end);
    let then = Timestamp::from_second(SEED_TIME).unwrap();
    if let Ok(header) = HeaderValue::from_bytes(header) {
        let headers = HeaderMap::from_iter([(HEADER.parse().unwrap(), header)]);
        assert!(secrets().verify(&headers, body, then).is_err());
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let receiver = WebhookReceiver::new(secrets(), Arc::new(IgnoreEvents), None);
        let mut routes = receiver.routes().into_service();
        let request = Request::post(PATH).header(HEADER, sign(Timestamp::now().as_second(), body));
        let answer = routes.call(request.body(Body::from(body.to_vec())).unwrap()).await.unwrap();
        assert!([200, 400].contains(&answer.status().as_u16()), "{}", answer.status());
    });
});
