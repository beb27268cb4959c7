//! Deliveries of CallingBox, and that calls ask for them.

use std::process::Stdio;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{Server, program};

fn sign(secret: &str, body: &str) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{now}.{body}").as_bytes());
    let digits = mac.finalize().into_bytes();
    let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now},v1={digits}")
}

#[tokio::test]
async fn signed_deliveries_are_taken_and_calls_ask_for_them() {
    let home = tempfile::tempdir().unwrap();
    let mut sandbox = program(home.path())
        .args(["sandbox", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(sandbox.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let api = line.strip_prefix("listening on ").unwrap();
    let mut server = program(home.path());
    server.arg(format!("--sandbox={api}"));
    server.env("CALLINGBOX_WEBHOOK_SECRET", "whsec_old,whsec_new");
    let public = ["--webhook-public-url", "https://phone.example.com"];
    let server = Server::run(home, server, &public).await;

    let call_id = server.long_call().await;
    let call = server.http.get(format!("{api}/v1/calls/{call_id}"));
    let call = call.bearer_auth("sk_sandbox_callingbox_mcp").send().await.unwrap();
    let call: Value = serde_json::from_str(&call.text().await.unwrap()).unwrap();
    assert_eq!(call["webhook_url"], "https://phone.example.com/webhooks/callingbox");

    let body = json!({"id": "e1", "type": "call.ringing", "data": {"call": {"id": call_id}}});
    let body = body.to_string();
    for (signature, host, status) in [
        (sign("whsec_old", &body), "phone.example.com", 200),
        (sign("whsec_new", &body), "phone.example.com", 200),
        (sign("whsec_forged", &body), "phone.example.com", 401),
        (sign("whsec_new", &body), "evil.example", 403),
    ] {
        let post = server.http.post(format!("{}/webhooks/callingbox", server.base));
        let post = post.header("host", host).header("callingbox-signature", signature);
        assert_eq!(post.body(body.clone()).send().await.unwrap().status(), status, "{host}");
    }
}

#[tokio::test]
async fn without_a_secret_no_address_is_given_out() {
    let home = tempfile::tempdir().unwrap();
    let mut command = program(home.path());
    command.args(["--sandbox", "http", "--listen", "127.0.0.1:0"]);
    command.args(["--webhook-public-url", "https://phone.example.com"]);
    let output = command.output().await.unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("CALLINGBOX_WEBHOOK_SECRET"), "{text}");
}
