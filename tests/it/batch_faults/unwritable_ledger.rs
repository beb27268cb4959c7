//! The ledger cannot be written for a while when a call of a list ends. The end is recorded once the limit of concurrent calls
//! is reached because of it: otherwise the next call would have to wait for hours.

use serde_json::json;

use super::live_list::LiveList;

const RULES: &str = "[quiet_hours]\nmode = \"off\"\n[limits]\nconcurrent = 1\nper_hour = \"off\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_could_not_be_recorded_is_recorded_when_it_matters() {
    let mut list = LiveList::start(0, RULES, 3).await;
    list.control.wait_for_requests("POST", "/v1/calls", 1).await;
    list.wait_for("running").await;
    let ledger = list.ledger();
    ledger
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE UPDATE ON dispatch \
             WHEN new.record ->> '$.state' = 'finished' BEGIN SELECT RAISE(ABORT, 'refused'); END",
        )
        .unwrap();
    list.control.advance(600).await;
    list.session.wait_for_log("could not record the end of a call in the ledger").await;
    let report = list.report().await;
    assert_eq!(report["counts"], json!({"done": 1, "waiting": 2}), "{report}");
    assert_eq!(list.count_dialed().await, 1);

    ledger.execute_batch("DROP TRIGGER refuse").unwrap();
    list.pass(40).await;
    let ended = list.run_to_end().await;
    assert_eq!(ended["counts"], json!({"done": 3}), "{ended}");
    assert_eq!(list.count_dialed().await, 3);
    list.session.close().await;
}
