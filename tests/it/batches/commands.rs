//! Batches that are stopped, continued, canceled and erased.

use serde_json::json;
use tokio::process::{Child, Command};

use super::{BatchFixture, ONE_BY_ONE};
use crate::harness::within_limit;

/// Sends a signal to a process.
#[cfg(unix)]
async fn signal(child: &Child, name: &str) {
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([name, &id]).status().await.unwrap().success());
}

impl BatchFixture {
    /// Moves the clock until so many calls were placed.
    async fn advance_until_dialed(&self, count: usize) {
        within_limit("the calls", async {
            while self.dialed().await.len() < count {
                self.control.advance(super::STEP_SECONDS).await;
            }
        })
        .await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_stops_a_list_which_can_be_continued() {
    let fixture = BatchFixture::new(ONE_BY_ONE, "").await;
    let mut child = fixture.start(&["--yes"]);
    let start = fixture.read_start(&mut child).await;
    fixture.advance_until_dialed(3).await;
    signal(&child, "-INT").await;
    let mut output = within_limit("the end", child.wait_with_output()).await.unwrap();
    output.stdout.splice(0..0, start);
    let (text, error) = super::texts(&output);
    assert_eq!(output.status.code(), Some(3), "{error}");
    insta::assert_snapshot!("interrupted", fixture.plain(&format!("{text}{error}")));
    let id = fixture.newest().await;

    // The third call ends without this program, and is read when somebody asks.
    fixture.control.advance(600).await;
    assert_eq!(fixture.dialed().await.len(), 3);
    insta::assert_snapshot!("shown", fixture.plain(&fixture.print(&["show", &id]).await));

    let child = fixture.command_to_resume(&id).spawn().unwrap();
    let output = fixture.finish(child).await;
    let (text, error) = super::texts(&output);
    assert_eq!((error.as_str(), output.status.code()), ("", Some(0)));
    let (preview, rest) = text.split_once("\nResumed ").unwrap();
    assert!(preview.contains("\n4    Dan Fox    +12125550102  "), "{preview}");
    insta::assert_snapshot!("resumed", fixture.plain(rest));
    let mut dialed = fixture.dialed().await;
    assert_eq!(dialed.len(), 6);
    dialed.dedup();
    assert_eq!(dialed.len(), 6, "nobody was called twice");

    let (_, error, _) = fixture.fail(&["resume", &id, "--yes"]).await;
    assert_eq!(fixture.plain(&error), "callingbox-mcp: BATCH_ID is ended\n");
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_ctrl_c_ends_the_program_immediately() {
    let fixture = BatchFixture::new(ONE_BY_ONE, "").await;
    let delay = json!({"path": "/v1/calls", "method": "POST", "kind": "delay", "delay_ms": 60_000});
    fixture.control.fault(delay).await;
    let mut child = fixture.start(&["--yes"]);
    fixture.read_start(&mut child).await;
    fixture.control.wait_for_requests("POST", "/v1/calls", 1).await;
    signal(&child, "-INT").await;
    fixture.read_until(&mut child, &["Stopping: "]).await;
    signal(&child, "-INT").await;
    let output = within_limit("the end", child.wait_with_output()).await.unwrap();
    let (text, error) = super::texts(&output);
    assert_eq!(
        (error.as_str(), output.status.code()),
        ("callingbox-mcp: Interrupted.\n", Some(130))
    );
    let id = fixture.newest().await;
    let expected =
        format!("{id} is interrupted in a minute. To continue: callingbox-mcp batch resume {id}");
    assert!(text.contains(&expected), "{text}");
}

#[cfg(unix)]
#[tokio::test]
async fn results_of_an_earlier_run_count_for_the_end_of_a_list() {
    let fixture = BatchFixture::new(ONE_BY_ONE, "").await;
    // All but the second say yes, and two are enough.
    fixture
        .home
        .write("people.csv", "to\n+13105550100\n+13105550101\n+12125550100\n+14155550100\n");
    let arguments = [
        "--task",
        "Hi.",
        "--yes",
        "--stop-when",
        "confirmed=true",
        "--stop-count",
        "2",
        "--until",
        "6d",
    ];
    let mut child = fixture.command_to_run(&arguments).spawn().unwrap();
    fixture.read_start(&mut child).await;
    fixture.advance_until_dialed(2).await;
    signal(&child, "-INT").await;
    within_limit("the end", child.wait_with_output()).await.unwrap();
    let id = fixture.newest().await;
    let output = fixture.finish(fixture.command_to_resume(&id).spawn().unwrap()).await;
    let (text, error) = super::texts(&output);
    assert_eq!((error.as_str(), output.status.code()), ("", Some(0)), "{text}");
    assert_eq!(fixture.dialed().await, ["+13105550100", "+13105550101", "+12125550100"], "{text}");
    assert!(text.contains("+14155550100  not_called"), "{text}");
}

#[tokio::test]
async fn a_list_is_canceled_from_another_terminal_and_erased() {
    let fixture = BatchFixture::new(ONE_BY_ONE, "").await;
    let mut child = fixture.start(&["--yes"]);
    let start = fixture.read_start(&mut child).await;
    fixture.advance_until_dialed(2).await;
    let id = fixture.newest().await;
    let (_, error, _) = fixture.fail(&["forget", &id]).await;
    assert_eq!(fixture.plain(&error), "callingbox-mcp: BATCH_ID is running\n");
    let canceled = fixture.print(&["cancel", &id]).await;
    assert!(
        canceled.contains(" is canceled: no more calls start.\n  +13105550101 is in the call "),
        "{canceled}"
    );
    let output = fixture.finish_started(child, start).await;
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(fixture.dialed().await.len(), 2);
    let (_, error, _) = fixture.fail(&["cancel", &id]).await;
    assert_eq!(fixture.plain(&error), "callingbox-mcp: BATCH_ID is canceled\n");

    let calls = fixture.receipts(&["--batch", &id]).await;
    assert_eq!(calls.len(), 2);
    assert_eq!(fixture.receipts(&["--batch", "batch_000000000000"]).await.len(), 0);

    assert!(fixture.print(&["show", &id]).await.contains("Ben Ortiz"));
    fixture.print(&["forget", &id]).await;
    let shown = fixture.print(&["show", &id]).await;
    assert!(!shown.contains("Ben Ortiz") && !shown.contains("+13105550101"), "{shown}");
    assert!(shown.contains("+131******01"), "{shown}");
    let files = std::fs::read_dir(fixture.path(".local/share/callingbox-mcp")).unwrap();
    for file in files {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("Ben Ortiz"), "the name is still in the ledger");
    }
}
