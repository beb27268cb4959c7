//! The pages about the simulator: their scenarios and paths are those of the simulator, and their Python runs on it.

use std::collections::BTreeSet;
use std::process::Stdio;

use callingbox_sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Page, root};
use crate::harness::{Home, simulator, within_limit};

const KEY: &str = "sk_test_documents";

/// A simulator that delivers webhooks to this machine.
async fn with_local_webhooks() -> Sandbox {
    simulator(Options { allow_private_webhooks: true, ..Options::default() }).await
}

async fn request(sandbox: &Sandbox, method: &str, path: &str, body: Option<Value>) -> Value {
    let url = format!("{}{path}", sandbox.url());
    let method = method.parse().unwrap();
    let mut request = reqwest::Client::new().request(method, url).bearer_auth(KEY);
    if let Some(body) = body {
        request = request.header("Content-Type", "application/json").body(body.to_string());
    }
    let response = within_limit(path, request.send()).await.unwrap().error_for_status().unwrap();
    serde_json::from_slice(&within_limit(path, response.bytes()).await.unwrap()).unwrap()
}

#[tokio::test]
async fn the_scenarios_are_those_of_the_simulator() {
    let sandbox = simulator(Options::default()).await;
    let description = request(&sandbox, "GET", "/sandbox", None).await;
    let listed: BTreeSet<&str> = description["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .map(|scenario| scenario["digits"].as_str().unwrap())
        .collect();
    let cells = Page::read("docs/simulator.md").first_cells();
    let documented = cells.iter().map(|cell| cell.split(',').next().unwrap());
    let documented: BTreeSet<&str> =
        documented.filter(|cell| cell.len() == 4 && cell.starts_with("01")).collect();
    assert_eq!(documented, listed);
}

#[test]
fn the_paths_are_those_of_the_contract() {
    let text = Page::read("docs/test-your-own-code.md").text;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `/v1"));
    let documented: BTreeSet<String> = rows
        .flat_map(|row| {
            let (path, methods) = row.split_once("` |").unwrap();
            let methods = methods.split('`').skip(1).step_by(2);
            methods.map(move |method| format!("{method} /v1{path}")).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(documented, paths_of_the_contract());
}

/// Method and path of each operation, with the parameters named as in the documents.
fn paths_of_the_contract() -> BTreeSet<String> {
    let contract = root().join("tests/contract/callingbox-openapi.yaml");
    let contract = std::fs::read_to_string(contract).unwrap();
    let mut path = "";
    let mut operations = BTreeSet::new();
    for line in contract.lines() {
        if line.starts_with("  /v1/") {
            path = line.trim().trim_end_matches(':');
        } else if line.starts_with("  /") || line.starts_with(char::is_alphabetic) {
            path = "";
        }
        let method = line.strip_prefix("    ").and_then(|line| line.strip_suffix(':'));
        if let Some(method @ ("get" | "post" | "put" | "patch" | "delete")) = method
            && !path.is_empty()
        {
            operations.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    operations
}

#[tokio::test]
async fn the_python_example_runs_on_the_simulator() {
    let page = Page::read("docs/test-your-own-code.md");
    let example = page.file("python", "call.py");
    assert!(example.lines().count() <= 30, "an example of at most 30 lines");
    let sandbox = with_local_webhooks().await;
    let home = Home::new();
    home.write("call.py", example);
    let Some(mut python) = python(&home, "call.py") else { return };
    python.env("CALLINGBOX_BASE_URL", sandbox.url()).env("CALLINGBOX_API_KEY", KEY);
    let output = within_limit("call.py", python.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("+13105550100 completed {'confirmed': "), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[tokio::test]
async fn the_python_receiver_takes_signed_deliveries_and_refuses_others() {
    let page = Page::read("docs/test-your-own-code.md");
    let sandbox = with_local_webhooks().await;
    let home = Home::new();
    for name in ["signature.py", "receive.py"] {
        home.write(name, page.file("python", name));
    }
    let Some(mut python) = python(&home, "receive.py") else { return };
    let secret = request(&sandbox, "GET", "/sandbox/signing_secret", None).await;
    let secret = secret["signing_secret"].as_str().unwrap();
    let mut receiver = python.env("PORT", "0").env("WEBHOOK_SECRET", secret).spawn().unwrap();
    let mut lines = BufReader::new(receiver.stdout.take().unwrap()).lines();
    let listening = within_limit("the receiver", lines.next_line()).await.unwrap().unwrap();
    let address = format!("http://127.0.0.1:{}/", listening.strip_prefix("listening on ").unwrap());

    let forged = reqwest::Client::new()
        .post(&address)
        .header("CallingBox-Signature", "t=1795811183,v1=00")
        .body("{}");
    assert_eq!(within_limit("a forged delivery", forged.send()).await.unwrap().status(), 400);

    place_busy_call(&sandbox, &address).await;
    for event in ["call.queued", "call.ringing", "call.busy"] {
        assert_eq!(within_limit(event, lines.next_line()).await.unwrap().as_deref(), Some(event));
    }
}

async fn place_busy_call(sandbox: &Sandbox, webhook_url: &str) {
    let path = "/v1/numbers/available?area_code=415&limit=1";
    let for_sale = request(sandbox, "GET", path, None).await;
    let number = json!({"phone_number": for_sale[0]["phone_number"]});
    let number = request(sandbox, "POST", "/v1/numbers/purchase", Some(number)).await;
    let agent = json!({
        "name": "Reminders", "type": "outbound", "number_ids": [number["id"]], "webhook_url": webhook_url,
    });
    let agent = request(sandbox, "POST", "/v1/agents", Some(agent)).await;
    let call = json!({"agent_id": agent["id"], "to": "+13105550102"});
    request(sandbox, "POST", "/v1/calls", Some(call)).await;
    let advance = json!({"advance_seconds": 300});
    request(sandbox, "POST", "/sandbox/clock", Some(advance)).await;
}

/// Python with a script. None where Python is missing, which only a machine other than CI's may lack.
fn python(home: &Home, script: &str) -> Option<tokio::process::Command> {
    let found =
        std::process::Command::new("python3").arg("--version").stdout(Stdio::null()).status();
    if found.is_err() {
        assert!(std::env::var_os("CI").is_none(), "python3 is missing");
        println!("skipped: python3 is missing");
        return None;
    }
    let mut python = tokio::process::Command::new("python3");
    python.arg(script).current_dir(home.path()).stdin(Stdio::null());
    python.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Some(python)
}
