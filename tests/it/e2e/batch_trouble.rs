//! Lists that meet trouble or are followed: credit, rates and failures of CallingBox, a key or an agent that is not as it was, and
//! progress, tasks and subscriptions. The tests move the simulator's clock.

use std::sync::Arc;
use std::time::Duration;

use callingbox_sandbox::Options;
use serde_json::{Value, json};

use super::batches::Fixture;
use super::following::{TASKS, progress_until};
use crate::harness::{Control, Era, Home, Session, within_limit};

/// People who answer.
fn people(count: u32) -> Value {
    (0..count).map(|n| json!({"to": format!("+1{}5550100", 212 + n * 10)})).collect()
}

impl Fixture {
    fn control(&self) -> &Control {
        self.maker.control()
    }

    async fn start(&mut self, people: Value) -> Value {
        let list = json!({"agent_id": self.agent, "people": people});
        self.data("place_calls", list).await["batch_id"].clone()
    }

    /// Waits until the batch pauses for this reason, while the clock stands still.
    async fn wait_for_pause(&mut self, batch: &Value, reason: &str) {
        let wait = json!({"batch_id": batch, "wait_seconds": 20});
        let report = self.data("get_batch", wait).await;
        let note = report["note"].as_str().unwrap();
        assert!(report["state"] == "paused" && note.contains(reason), "{report}");
    }

    async fn count_requests(&self) -> u64 {
        self.control().count("POST", "/v1/calls").await
    }

    /// Gives the batch the time to do what it may do now.
    async fn settle(&mut self, batch: &Value) {
        self.data("get_batch", json!({"batch_id": batch, "wait_seconds": 1})).await;
    }

    /// Ends the processes. The log has this warning.
    async fn close_with(self, warning: &str) {
        let (_, log) = self.reader.session.close().await;
        assert!(log.contains(warning), "{log}");
        self.maker.finish_well().await;
    }
}

#[tokio::test]
async fn without_credit_one_row_is_tried_every_five_minutes() {
    let mut fixture = Fixture::new("").await;
    fixture.control().credit(0).await;
    let batch = fixture.start(people(3)).await;
    fixture.wait_for_pause(&batch, "too little credit").await;
    let tried = fixture.count_requests().await;
    for turn in 1..=3 {
        fixture.control().advance(290).await;
        fixture.settle(&batch).await;
        assert_eq!(fixture.count_requests().await, tried + turn - 1);
        fixture.control().advance(15).await;
        fixture.control().wait_for_requests("POST", "/v1/calls", tried + turn).await;
        fixture.settle(&batch).await;
        fixture.wait_for_pause(&batch, "too little credit").await;
        assert_eq!(fixture.count_requests().await, tried + turn, "one row is tried");
    }
    assert_eq!(fixture.dialed().await.len(), 0);
    fixture.control().credit(1_000_000_000).await;
    let ended = fixture.finish(&batch).await;
    assert_eq!(ended["counts"], json!({"done": 3}), "{ended}");
    fixture.close_with("too little credit").await;
}

#[tokio::test]
async fn credit_for_one_call_calls_one_after_the_other() {
    let mut fixture = Fixture::new("").await;
    // Each call holds $3.00.
    fixture.control().credit(320_000).await;
    let batch = fixture.start(people(3)).await;
    for count in 1..=3 {
        within_limit("a call", async {
            while fixture.dialed().await.len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        fixture.settle(&batch).await;
        assert_eq!(fixture.dialed().await.len(), count);
        // A minute ends a call, and is less than the pause without credit.
        fixture.control().advance(60).await;
    }
    let ended = fixture.finish(&batch).await;
    assert_eq!(ended["counts"], json!({"done": 3}), "{ended}");
    fixture.close().await;
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_as_long_as_it_says() {
    let mut fixture = Fixture::new("").await;
    let limited = json!({
        "method": "POST", "path": "/v1/calls", "kind": "status", "status": 429,
        "retry_after": 120, "times": 1, "body": {"error": "Too many requests"},
    });
    fixture.control().fault(limited).await;
    let batch = fixture.start(people(1)).await;
    fixture.control().wait_for_requests("POST", "/v1/calls", 1).await;
    fixture.control().advance(100).await;
    fixture.settle(&batch).await;
    assert_eq!((fixture.count_requests().await, fixture.dialed().await.len()), (1, 0));
    fixture.control().advance(30).await;
    fixture.control().wait_for_requests("POST", "/v1/calls", 2).await;
    let ended = fixture.finish(&batch).await;
    assert_eq!(ended["counts"], json!({"done": 1}), "{ended}");
    fixture.close().await;
}

#[tokio::test]
async fn a_call_that_the_provider_refuses_counts_as_failed() {
    let mut fixture = Fixture::new("").await;
    let list = json!({
        "agent_id": fixture.agent, "people": [{"to": "+12125550110"}],
        "retry": {"max_attempts": 2, "after_minutes": 5, "on": ["failed"]},
    });
    let batch = fixture.data("place_calls", list).await["batch_id"].clone();
    let ended = fixture.finish(&batch).await;
    let row = &ended["rows"][0];
    assert_eq!((&row["outcome"], &row["attempts"]), (&json!("failed"), &json!(2)), "{ended}");
    assert_eq!((fixture.count_requests().await, fixture.dialed().await.len()), (2, 0));
    fixture.close_with("no usable answer to a dispatch").await;
}

#[tokio::test]
async fn a_key_that_is_rejected_pauses_a_list_until_a_person_resumes_it() {
    let mut fixture = Fixture::new("").await;
    let rejected = json!({
        "method": "POST", "path": "/v1/calls", "kind": "status", "status": 401, "times": 5,
        "body": {"error": "Invalid API key"},
    });
    fixture.control().fault(rejected).await;
    let batch = fixture.start(people(2)).await;
    fixture.wait_for_pause(&batch, "CallingBox rejects the API key").await;
    let tried = fixture.count_requests().await;
    fixture.control().advance(3_600).await;
    fixture.settle(&batch).await;
    assert_eq!((fixture.count_requests().await, fixture.dialed().await.len()), (tried, 0));
    fixture.control().request("DELETE", "/sandbox/faults", None).await;
    fixture.data("place_calls", json!({"batch_id": batch, "resume": true})).await;
    let ended = fixture.finish(&batch).await;
    assert_eq!(ended["counts"], json!({"done": 2}), "{ended}");
    fixture.close_with("CallingBox rejects the API key").await;
}

#[tokio::test]
async fn an_agent_that_was_changed_needs_a_new_yes() {
    let mut fixture = Fixture::new("[dialing]\nconfirm = \"always\"\n").await;
    let list = json!({
        "agent_id": fixture.agent, "people": people(2), "start_at": "2026-11-02T16:00:00Z",
    });
    let shown = fixture.data("place_calls", list).await;
    let batch = shown["batch_id"].clone();
    let yes = json!({"batch_id": batch, "confirmation_token": shown["confirmation_token"]});
    fixture.data("place_calls", yes).await;
    let change = json!({"agent_id": fixture.agent, "instructions": "Sell something."});
    fixture.data("update_agent", change).await;
    fixture.control().advance(3_700).await;
    fixture.wait_for_pause(&batch, "the agent was changed").await;
    assert_eq!(fixture.dialed().await.len(), 0);
    let resume = json!({"batch_id": batch, "resume": true});
    let asked = fixture.data("place_calls", resume.clone()).await;
    assert!(asked["confirmation_token"].is_string(), "{asked}");
    assert_eq!(fixture.dialed().await.len(), 0);
    let yes = json!({
        "batch_id": batch, "resume": true, "confirmation_token": asked["confirmation_token"],
    });
    fixture.data("place_calls", yes).await;
    let ended = fixture.finish(&batch).await;
    assert_eq!(ended["counts"], json!({"done": 2}), "{ended}");
    fixture.close_with("the agent was changed").await;
}

#[tokio::test]
async fn who_may_not_be_called_before_the_end_is_not_called() {
    let mut fixture = Fixture::new("[dialing]\nsandbox_quiet_hours = true\n").await;
    // 15:00 UTC is 05:00 in Honolulu.
    let list = json!({
        "agent_id": fixture.agent, "end_by": "2026-11-02T17:00:00Z",
        "people": [{"to": "+18085550100"}, {"to": "+12125550100"}],
    });
    let batch = fixture.data("place_calls", list).await["batch_id"].clone();
    let ended = fixture.finish(&batch).await;
    let row = &ended["rows"][0];
    assert_eq!(row["state"], "not_called", "{ended}");
    let note = row["note"].as_str().unwrap();
    assert!(note.contains("quiet hours") && note.contains("ends before they do"), "{ended}");
    assert_eq!(fixture.dialed().await.len(), 1);
    fixture.close().await;
}

#[tokio::test]
async fn of_many_wrong_rows_twenty_are_named_and_the_rest_is_counted() {
    let mut fixture = Fixture::new("").await;
    let wrong: Value = (0..30).map(|n| json!({"to": format!("+1415555{n}")})).collect();
    let list = json!({"agent_id": fixture.agent, "people": wrong});
    let error = fixture.reader.session.failure("place_calls", list).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(" 18, 19, 20 and 10 more"), "{message}");
    fixture.close().await;
}

#[tokio::test]
async fn people_are_erased_as_many_days_after_the_end_as_configured() {
    for (days, is_erased) in [(0, true), (1, false)] {
        let mut fixture = Fixture::new(&format!("[ledger]\nkeep_people_days = {days}\n")).await;
        let batch = fixture.start(json!([{"to": "+12125550100", "name": "Ada"}])).await;
        fixture.finish(&batch).await;
        let report = fixture.data("get_batch", json!({"batch_id": batch})).await;
        assert_eq!(report["rows"][0]["to"] != "+12125550100", is_erased, "{report}");
        assert_eq!(report.to_string().contains("Ada"), !is_erased, "{report}");
        fixture.close().await;
    }
}

#[tokio::test]
async fn each_person_who_is_done_is_a_progress_notification() {
    let mut fixture = Fixture::new("").await;
    let batch = fixture.start(people(3)).await;
    fixture.control().wait_for_requests("POST", "/v1/calls", 3).await;
    let wait = json!({
        "name": "get_batch", "arguments": {"batch_id": batch, "wait_seconds": 60},
        "_meta": {"progressToken": "p"},
    });
    let session = &mut fixture.reader.session;
    let id = session.begin("tools/call", wait).await;
    fixture.maker.control().advance(600).await;
    let messages = progress_until(session, "3 of 3").await;
    for count in ["1 of 3", "2 of 3"] {
        assert!(messages.iter().any(|message| message.contains(count)), "{messages:?}");
    }
    let answer = session.answer(id).await;
    assert_eq!(answer["result"]["structuredContent"]["state"], "ended", "{answer}");
    fixture.close().await;
}

#[tokio::test]
async fn canceling_the_task_of_a_list_cancels_the_list() {
    let mut fixture = Fixture::new("").await;
    let session = &mut fixture.reader.session;
    session.capabilities = json!({"extensions": {TASKS: {}}});
    let list = json!({"agent_id": fixture.agent, "people": people(8)});
    let answer = session.call("place_calls", list).await;
    let task = answer["result"]["taskId"].clone();
    let batch = json!(task.as_str().unwrap().split('~').next());
    fixture.control().wait_for_requests("POST", "/v1/calls", 5).await;
    let session = &mut fixture.reader.session;
    session.request("tasks/cancel", json!({"taskId": task})).await;
    let state = session.request("tasks/get", json!({"taskId": task})).await;
    let message = state["result"]["statusMessage"].as_str().unwrap();
    assert!(message.contains("\ncanceled; of 8 people: 5 calling, 3 not_called"), "{state}");
    fixture.control().advance(3_600).await;
    fixture.settle(&batch).await;
    assert_eq!(fixture.dialed().await.len(), 5);
    fixture.close().await;
}

#[tokio::test]
async fn a_subscription_to_a_list_notifies_of_each_change() {
    let mut fixture = Fixture::new("").await;
    let batch = fixture.start(people(2)).await;
    fixture.control().wait_for_requests("POST", "/v1/calls", 2).await;
    let uri = format!("callingbox://batches/{}", batch.as_str().unwrap());
    let session = &mut fixture.reader.session;
    let filter = json!({"notifications": {"resourceSubscriptions": [uri]}});
    let id = session.begin("subscriptions/listen", filter).await;
    let acknowledged = session.next().await.unwrap();
    let accepted = &acknowledged["params"]["notifications"]["resourceSubscriptions"];
    assert_eq!(accepted, &json!([uri]), "{acknowledged}");
    fixture.maker.control().advance(600).await;
    let mut state = Value::Null;
    while state != "ended" {
        let updated = session.next().await.unwrap();
        assert_eq!(updated["method"], "notifications/resources/updated", "{updated}");
        assert_eq!(updated["params"]["uri"], uri, "{updated}");
        let read = session.request("resources/read", json!({"uri": uri})).await;
        let text = read["result"]["contents"][0]["text"].as_str().unwrap();
        state = serde_json::from_str::<Value>(text).unwrap()["state"].clone();
    }
    session.notify("notifications/cancelled", json!({"requestId": id})).await;
    fixture.reader.session.finish().await;
    fixture.maker.finish_well().await;
}

#[tokio::test]
async fn without_questions_a_rule_must_allow_lists() {
    let mut setup = Session::on_simulator(Era::Modern, &[], Options::default()).await;
    let agent = setup.outbound_agent(json!({})).await;
    setup.control().credit(100_000_000).await;
    let url = setup.simulator_url();
    // A live account, whose API is the simulator.
    let environment = [
        ("CALLINGBOX_API_KEY", callingbox_mcp::simulator::KEY),
        ("CALLINGBOX_BASE_URL", url.as_str()),
    ];
    for (batch, is_allowed) in [("", false), ("batch = false", false), ("batch = true", true)] {
        let home = Arc::new(Home::new());
        home.write(".config/callingbox-mcp/config.toml", "[dialing]\nconfirm = \"never\"\n");
        let rule = format!(
            "[quiet_hours]\nmode = \"off\"\n[[rules]]\nname = \"patients\"\naction = \"allow\"\n\
             to = [\"+12125550100\", \"+13125550100\"]\n{batch}\n"
        );
        home.write(".config/callingbox-mcp/policy.toml", &rule);
        let mut session = Session::start_in(home, &[], &environment);
        session.open(Era::Modern).await;
        let list =
            json!({"agent_id": agent, "people": [{"to": "+12125550100"}, {"to": "+13125550100"}]});
        let answer = session.call("place_calls", list).await;
        let has_started = answer["result"]["structuredContent"]["state"] == "running";
        assert_eq!(has_started, is_allowed, "{batch}: {answer}");
        let count = if is_allowed { 2 } else { 0 };
        setup.control().wait_for_requests("POST", "/v1/calls", count).await;
        assert_eq!(setup.control().dialed().await.len() as u64, count, "{batch}: {answer}");
        drop(session.close().await);
    }
    setup.finish_well().await;
}

#[tokio::test]
async fn a_list_has_at_most_as_many_people_as_the_rules_allow() {
    let home = Arc::new(Home::new());
    home.write(".config/callingbox-mcp/policy.toml", "[limits]\nbatch_size = 2\n");
    let mut session = Session::start_in(home, &["--sandbox"], &[]);
    session.open(Era::Modern).await;
    let agent = session.outbound_agent(json!({})).await;
    let list = |count| json!({"agent_id": agent, "people": people(count)});
    let refused = session.failure("place_calls", list(3)).await;
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("it has 3 people, and a batch may have 2"), "{refused}");
    assert_eq!(session.data("place_calls", list(2)).await["state"], "running");
    drop(session.close().await);
}
