//! Webhook deliveries: calls request them, they are verified, and they end waits.

use std::process::Stdio;

use callingbox_sandbox::{Options, Sandbox};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::harness::{Control, simulator, within_limit};
use crate::http::support::{Server, TEST_TIMEOUT, message, program};

const CALL: &str = "/v1/calls/{id}";

fn sign(secret: &str, body: &str) -> String {
    sign_at(jiff::Timestamp::now().as_second(), secret, body)
}

fn sign_at(now: i64, secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{now}.{body}").as_bytes());
    let digits = mac.finalize().into_bytes();
    let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now},v1={digits}")
}

#[tokio::test]
async fn calls_request_deliveries_and_signed_ones_are_accepted() {
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
    let receiver = async |call_id: &str| {
        let call = server.http.get(format!("{api}/v1/calls/{call_id}"));
        let call = call.bearer_auth("sk_sandbox_callingbox_mcp").send().await.unwrap();
        let call: Value = serde_json::from_str(&call.text().await.unwrap()).unwrap();
        call["webhook_url"].clone()
    };
    assert_eq!(receiver(&call_id).await, "https://phone.example.com/webhooks/callingbox");
    // The agent's own receiver still gets the events of its calls.
    let credits = server.http.post(format!("{api}/sandbox/credits"));
    let credits = credits.bearer_auth("sk_sandbox_callingbox_mcp");
    let credits = credits.header("content-type", "application/json");
    let credits = credits.body(json!({"balance_milli_cents": 2_000_000}).to_string());
    assert_eq!(credits.send().await.unwrap().status(), 200);
    let agent = server.agent().await;
    let own = json!({"agent_id": agent, "webhook_url": "https://crm.example.com/hook"});
    server.tool(None, "update_agent", own).await;
    let order = json!({"agent_id": agent, "to": "+13105550101"});
    let call = server.tool(None, "place_call", order).await;
    assert_eq!(receiver(call["call_id"].as_str().unwrap()).await, "https://crm.example.com/hook");

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
async fn the_host_name_of_deliveries_serves_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let mut program = program(home.path());
    program.arg("--sandbox").env("CALLINGBOX_WEBHOOK_SECRET", "whsec_ours");
    let public = ["--webhook-public-url", "https://hook.example.com"];
    let server = Server::run(home, program, &public).await;
    for host in ["hook.example.com", "hook.example.com:443"] {
        let list = server.modern("tools/list", json!({})).header("host", host);
        assert_eq!(list.send().await.unwrap().status(), 403, "{host}");
        for path in ["mcp", "sse", "healthz", "readyz", "metrics", "webhooks/callingbox/", ""] {
            let get = server.http.get(format!("{}/{path}", server.base)).header("host", host);
            assert_eq!(get.send().await.unwrap().status(), 403, "{host}: {path}");
        }
        let unsigned = server.http.post(format!("{}/webhooks/callingbox", server.base));
        let unsigned = unsigned.header("host", host).body("{}").send().await.unwrap();
        assert_eq!(unsigned.status(), 401, "{host}");
    }
    let list = server.modern("tools/list", json!({}));
    assert_eq!(list.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_public_address_needs_a_signing_secret() {
    let home = tempfile::tempdir().unwrap();
    let mut command = program(home.path());
    command.args(["--sandbox", "http", "--listen", "127.0.0.1:0"]);
    command.args(["--webhook-public-url", "https://phone.example.com"]);
    let output = command.output().await.unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("CALLINGBOX_WEBHOOK_SECRET"), "{text}");
}

#[tokio::test]
async fn an_address_that_deliveries_cannot_reach_is_refused() {
    let home = tempfile::tempdir().unwrap();
    for url in [
        "https://phone.example.com/phone",
        "https://phone.example.com/webhooks/callingbox/",
        "https://phone.example.com/?from=callingbox",
        "https://phone.example.com/#x",
        "https://user:hunter2@phone.example.com/",
        "http://phone.example.com",
    ] {
        let mut program = program(home.path());
        program.env("CALLINGBOX_WEBHOOK_SECRET", "whsec_ours");
        program.args(["--sandbox", "http", "--listen", "127.0.0.1:0", "--webhook-public-url", url]);
        let ended = tokio::time::timeout(TEST_TIMEOUT, program.output()).await;
        let output = ended.unwrap_or_else(|_| panic!("it serves with {url}")).unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains("/webhooks/callingbox"), "{url}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    for url in ["https://phone.example.com", "https://phone.example.com/webhooks/callingbox"] {
        let home = tempfile::tempdir().unwrap();
        let mut program = program(home.path());
        program.arg("--sandbox").env("CALLINGBOX_WEBHOOK_SECRET", "whsec_ours");
        Server::run(home, program, &["--webhook-public-url", url]).await;
    }
}

/// A simulator that delivers to a server, the server, and an agent of it.
async fn deliver_to_server() -> (Sandbox, Control, Server, Value) {
    let sandbox = simulator(Options { allow_private_webhooks: true, ..Options::default() }).await;
    let control = Control::new(&sandbox);
    let api = sandbox.url();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let key = callingbox_mcp::simulator::KEY;
    let secret = http.get(format!("{api}/sandbox/signing_secret")).bearer_auth(key);
    let secret = secret.send().await.unwrap().text().await.unwrap();
    let secret: Value = serde_json::from_str(&secret).unwrap();

    let home = tempfile::tempdir().unwrap();
    let mut server = program(home.path());
    server.arg(format!("--sandbox={api}"));
    server.env("CALLINGBOX_WEBHOOK_SECRET", secret["signing_secret"].as_str().unwrap());
    let server = Server::run(home, server, &[]).await;
    let agent = server.agent().await;
    // The tools take public addresses only; the simulator takes this one from its own API.
    let hook = json!({"webhook_url": format!("{}/webhooks/callingbox", server.base)});
    let patch = http.patch(format!("{api}/v1/agents/{}", agent.as_str().unwrap())).bearer_auth(key);
    let patch = patch.header("content-type", "application/json").body(hook.to_string());
    assert_eq!(patch.send().await.unwrap().status(), 200);
    (sandbox, control, server, agent)
}

#[tokio::test]
async fn a_wait_ends_with_the_delivery_of_the_end_and_not_by_polling() {
    let (sandbox, control, server, agent) = deliver_to_server().await;
    let order = json!({"agent_id": agent, "to": "+13105550100"});
    let call = server.tool(None, "place_call", order).await;
    let call_id = call["call_id"].as_str().unwrap();

    let arguments = json!({"call_id": call_id, "wait_seconds": 300});
    let wait = json!({"name": "get_call_result", "arguments": arguments});
    let waiting = tokio::spawn(server.modern("tools/call", wait).send());
    control.wait_for_requests("GET", CALL, 1).await;
    // From now on polling fails: only the delivery can end the wait.
    let blind = json!({"path": format!("/v1/calls/{call_id}"), "kind": "status", "status": 503, "times": 1_000});
    control.fault(blind).await;
    let look = server.http.get(format!("{}/v1/calls/{call_id}", sandbox.url()));
    let look = look.bearer_auth(callingbox_mcp::simulator::KEY);
    assert_eq!(look.send().await.unwrap().status(), 503);
    control.advance(300).await;
    let answer = message(waiting.await.unwrap().unwrap()).await;
    let content = &answer["result"]["structuredContent"];
    assert_eq!((&content["outcome"], &content["call_id"]), (&json!("completed"), &json!(call_id)));
    assert!(content["result"]["ok"].is_boolean(), "{answer}");

    let metrics = metrics(&server).await;
    // Queued, ringing, answered, completed.
    let accepted = "callingbox_mcp_webhook_deliveries_total{outcome=\"accepted\"} 4";
    assert!(metrics.lines().any(|line| line == accepted), "{metrics}");
}

async fn metrics(server: &Server) -> String {
    let metrics = server.http.get(format!("{}/metrics", server.base)).send().await.unwrap();
    metrics.text().await.unwrap()
}

#[tokio::test]
async fn forged_stale_replayed_oversized_and_malformed_deliveries_are_refused_and_counted() {
    let home = tempfile::tempdir().unwrap();
    let mut server = program(home.path());
    server.arg("--sandbox").env("CALLINGBOX_WEBHOOK_SECRET", "whsec_ours");
    let server = Server::run(home, server, &[]).await;
    let event = |id: &str| {
        json!({"id": id, "type": "call.ringing", "data": {"call": {"id": "call-1"}}}).to_string()
    };
    let by_us = |body: String| (sign("whsec_ours", &body), body);
    let now = jiff::Timestamp::now().as_second();
    let large = format!("{}{}", event("large"), " ".repeat(1024 * 1024));
    for (name, (signature, body), status) in [
        ("good", by_us(event("one")), 200),
        // A repeated delivery need not be repeated again.
        ("replayed", by_us(event("one")), 200),
        ("forged", (sign("whsec_theirs", &event("two")), event("two")), 401),
        ("forged", (sign("whsec_ours", &event("two")), event("three")), 401),
        ("forged", ("t=1,v1=00".to_owned(), event("two")), 401),
        ("stale", (sign_at(now - 330, "whsec_ours", &event("two")), event("two")), 400),
        ("stale", (sign_at(now + 330, "whsec_ours", &event("two")), event("two")), 400),
        ("oversized", by_us(large), 413),
        // What CallingBox signed is never answered with an error, which would count against the endpoint.
        ("not JSON", by_us("call-1 is over".to_owned()), 200),
        ("not an event", by_us("[]".to_owned()), 200),
        ("a test", by_us(r#"{"id":"t","type":"endpoint.test","data":{}}"#.to_owned()), 200),
        ("no id", by_us(r#"{"data":{"call":{"id":"call-2"}}}"#.to_owned()), 200),
        ("no id again", by_us(r#"{"data":{"call":{"id":"call-2"}}}"#.to_owned()), 200),
        ("numbers as ids", by_us(r#"{"id":7,"data":{"call":{"id":8}}}"#.to_owned()), 200),
    ] {
        let post = server.http.post(format!("{}/webhooks/callingbox", server.base));
        let post = post.header("callingbox-signature", signature).body(body);
        assert_eq!(post.send().await.unwrap().status(), status, "{name}");
    }
    let metrics = metrics(&server).await;
    let counted: Vec<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("callingbox_mcp_webhook_deliveries_total{outcome="))
        .collect();
    let mut counted = counted;
    counted.sort_unstable();
    assert_eq!(
        counted,
        [
            "\"accepted\"} 3",
            "\"busy\"} 0",
            "\"forged\"} 3",
            "\"oversized\"} 1",
            "\"replayed\"} 2",
            "\"stale\"} 2",
            "\"unknown\"} 3",
            "\"unreadable\"} 0",
        ]
    );
}

/// Sends the headers of a delivery of one megabyte. Returns the connection and the first line of the answer.
async fn begin(server: &Server, signature: &str) -> (TcpStream, String) {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let headers = format!(
        "POST /webhooks/callingbox HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n{signature}\r\n"
    );
    stream.get_mut().write_all(headers.as_bytes()).await.unwrap();
    let mut line = String::new();
    tokio::time::timeout(TEST_TIMEOUT, stream.read_line(&mut line)).await.unwrap().unwrap();
    (stream.into_inner(), line.trim().to_owned())
}

#[tokio::test]
async fn the_body_of_an_unsigned_delivery_is_not_read_and_idle_ones_delay_no_other() {
    let home = tempfile::tempdir().unwrap();
    let mut program = program(home.path());
    program.arg("--sandbox").env("CALLINGBOX_WEBHOOK_SECRET", "whsec_ours");
    let server = Server::run(home, program, &[]).await;
    let now = jiff::Timestamp::now().as_second();
    let signed = |at: i64| format!("callingbox-signature: {}\r\n", sign_at(at, "whsec_theirs", ""));
    for (signature, status) in [
        (String::new(), "HTTP/1.1 401 Unauthorized"),
        ("callingbox-signature: t=1\r\n".to_owned(), "HTTP/1.1 401 Unauthorized"),
        (format!("{0}{0}", signed(now)), "HTTP/1.1 401 Unauthorized"),
        (signed(now - 330), "HTTP/1.1 400 Bad Request"),
        (signed(now + 330), "HTTP/1.1 400 Bad Request"),
    ] {
        assert_eq!(begin(&server, &signature).await.1, status, "{signature}");
    }
    // Far more than are read at the same time, none of which sends its body.
    let mut idle = Vec::new();
    for number in 0..64 {
        let (stream, line) = begin(&server, &signed(now)).await;
        assert_eq!(line, "HTTP/1.1 100 Continue");
        idle.push(stream);
        let id = format!("e{number}");
        let body = json!({"id": id, "type": "call.ringing", "data": {"call": {"id": "c"}}});
        let body = body.to_string();
        let post = server.http.post(format!("{}/webhooks/callingbox", server.base));
        let post = post.header("callingbox-signature", sign("whsec_ours", &body)).body(body);
        assert_eq!(post.send().await.unwrap().status(), 200, "{number}");
    }
    let mut answer = String::new();
    let mut first = BufReader::new(idle.remove(0));
    while !answer.contains("HTTP/1.1 503") {
        assert_ne!(first.read_line(&mut answer).await.unwrap(), 0, "{answer}");
    }
}

#[tokio::test]
async fn a_flood_of_unsigned_deliveries_is_counted_and_logged_once_a_second() {
    const FLOOD: usize = 500;
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("log");
    let mut program = program(home.path());
    program.arg("--sandbox").env("CALLINGBOX_WEBHOOK_SECRET", "whsec_ours");
    program.stderr(std::fs::File::create(&log).unwrap());
    let server = Server::run(home, program, &[]).await;
    let started = std::time::Instant::now();
    for _ in 0..FLOOD {
        let post = server.http.post(format!("{}/webhooks/callingbox", server.base)).body("{}");
        assert_eq!(post.send().await.unwrap().status(), 401);
    }
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<_> =
        text.lines().filter(|line| line.contains("webhook delivery rejected")).collect();
    assert!((1..=seconds + 1).contains(&lines.len()), "{} lines in {seconds} s", lines.len());
    assert!(lines[0].contains("reason=\"forged\" left_out=0"), "{}", lines[0]);
    let forged = format!("callingbox_mcp_webhook_deliveries_total{{outcome=\"forged\"}} {FLOOD}");
    assert!(metrics(&server).await.lines().any(|line| line == forged));
}

#[tokio::test]
async fn a_delivery_records_who_asked_not_to_be_called_again() {
    let (_sandbox, control, server, agent) = deliver_to_server().await;
    let returns = json!({"agent_id": agent, "returns": {"do_not_call": "boolean"}});
    server.tool(None, "update_agent", returns).await;
    let order = json!({"agent_id": agent, "to": "+13105550116"});
    server.tool(None, "place_call", order.clone()).await;
    // No result can be read: only the delivery says what the person asked for.
    let blind = json!({
        "method": "GET", "path": "/v1/calls/*", "kind": "status", "status": 503, "times": 1_000,
    });
    control.fault(blind).await;
    control.advance(3_000).await;
    let mut again = order;
    again["allow_repeat"] = json!(true);
    within_limit("the delivery is recorded", async {
        loop {
            let call = json!({"name": "place_call", "arguments": again});
            let answer = message(server.modern("tools/call", call).send().await.unwrap()).await;
            let error = &answer["result"]["_meta"]["callingbox-mcp/error"];
            assert_eq!(error["done"], "nothing", "{answer}");
            if error["class"] == "refused_by_policy" {
                let message = error["message"].as_str().unwrap();
                return assert!(message.contains("do_not_call"), "{answer}");
            }
        }
    })
    .await;
    assert_eq!(control.dialed().await.len(), 1);
}
