//! A list over HTTP whose token is revoked while it runs, its log lines and its metrics.

use std::fs::File;

use callingbox_sandbox::Options;
use serde_json::{Value, json};

use super::auth::run_token_command;
use super::support::{Server, program};
use crate::harness::{Control, simulator, within_limit};

#[tokio::test]
async fn a_list_pauses_when_its_token_is_revoked_until_another_caller_resumes_it() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("log");
    let first = run_token_command(home.path(), &["create", "first"]).await;
    let second = run_token_command(home.path(), &["create", "second"]).await;
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let mut program = program(home.path());
    program.arg(format!("--sandbox={}", sandbox.url())).stderr(File::create(&log).unwrap());
    let server = Server::run(home, program, &["--auth", "token"]).await;
    let agent = server.agent_of(Some(&first)).await;
    let list = json!({
        "agent_id": agent, "people": [{"to": "+12125550100"}, {"to": "+13125550101"}],
        "start_at": "2026-11-02T16:00:00Z",
    });
    let started = server.tool(Some(&first), "place_calls", list).await;
    let batch = started["batch_id"].clone();
    let report = json!({"batch_id": batch});
    let wait_for = async |state: &str, step: u64| {
        let mut read = Value::Null;
        within_limit(state, async {
            while read["state"] != state {
                control.advance(step).await;
                read = server.tool(Some(&second), "get_batch", report.clone()).await;
            }
        })
        .await;
        read
    };
    wait_for("running", 0).await;
    run_token_command(server.home.path(), &["revoke", "first"]).await;
    let paused = wait_for("paused", 0).await;
    let note = paused["note"].as_str().unwrap();
    assert!(note.contains("the access of the caller who started it was revoked"), "{paused}");
    control.advance(3_900).await;
    wait_for("paused", 0).await;
    assert_eq!(control.dialed().await.len(), 0);

    let resume = json!({"batch_id": batch, "resume": true});
    server.tool(Some(&second), "place_calls", resume).await;
    let ended = wait_for("ended", 60).await;
    assert_eq!(ended["counts"], json!({"done": 2}), "{ended}");
    let metrics = server.http.get(format!("{}/metrics", server.base)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("callingbox_mcp_batch_rows_total{state=\"done\"} 2\n"), "{metrics}");
    let log = std::fs::read_to_string(log).unwrap();
    for line in ["batch started", "a batch starts no calls for now", "the run of a batch ended"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains("2125550100"), "{log}");
}
