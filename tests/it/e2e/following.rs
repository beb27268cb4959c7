//! Progress, shared waits, tasks that outlive a process, and subscriptions. The tests move the clock and do not sleep.

use std::sync::Arc;
use std::time::{Duration, Instant};

use callingbox_mcp::mcp::reply::text::SIMULATED;
use callingbox_sandbox::Options;
use serde_json::{Value, json};

use crate::harness::{Control, Era, Home, Session, simulator, within_limit};

pub(crate) const TASKS: &str = "io.modelcontextprotocol/tasks";

pub(crate) async fn place(session: &mut Session, to: &str) -> Value {
    let agent = session.outbound_agent(json!({"confirmed": "boolean"})).await;
    let call = session.data("place_call", json!({"agent_id": agent, "to": to})).await;
    call["call_id"].clone()
}

pub(crate) fn waiting(call: &Value, seconds: u64) -> Value {
    json!({
        "name": "get_call_result",
        "arguments": {"call_id": call, "wait_seconds": seconds},
        "_meta": {"progressToken": "p"},
    })
}

/// Reads progress messages until one contains `text`, and returns all of them.
pub(crate) async fn progress_until(session: &mut Session, text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    loop {
        let message = session.next().await.unwrap();
        assert_eq!(message["method"], "notifications/progress", "{message}");
        assert_eq!(message["params"]["progressToken"], "p", "{message}");
        messages.push(message["params"]["message"].as_str().unwrap().to_owned());
        if messages.last().unwrap().contains(text) {
            return messages;
        }
    }
}

#[tokio::test]
async fn progress_reports_each_status_and_each_line_of_a_call() {
    for era in Era::BOTH {
        let mut session = Session::new(era).await;
        let call = place(&mut session, "+13105550100").await;
        let id = session.begin("tools/call", waiting(&call, 60)).await;
        let mut progress = progress_until(&mut session, "The call is queued.").await;
        for (seconds, sign) in
            [(2, "initiated"), (3, "ringing"), (7, "in_progress"), (60, "The call is completed.")]
        {
            session.control().advance(seconds).await;
            progress.extend(progress_until(&mut session, sign).await);
        }
        session.control().advance(600).await;
        let answer = session.answer(id).await;
        while let Some(message) = session.take_early() {
            progress.push(message["params"]["message"].as_str().unwrap().to_owned());
        }
        assert_eq!(answer["result"]["structuredContent"]["outcome"], "completed", "{answer}");

        let statuses: Vec<&str> =
            progress.iter().filter_map(|text| text.strip_prefix("The call is ")).collect();
        assert_eq!(statuses, ["queued.", "initiated.", "ringing.", "in_progress.", "completed."]);
        let lines: Vec<&String> =
            progress.iter().filter(|text| text.contains(" said: <<<")).collect();
        let transcript = session.data("get_call_transcript", json!({"call_id": call})).await;
        assert_eq!(transcript["lines"], lines.len(), "each line is reported once: {lines:?}");
        assert!(lines[0].starts_with("callee said: <<<") && lines[0].ends_with(">>>"), "{lines:?}");
        session.finish_well().await;
    }
}

#[tokio::test]
async fn progress_increases_and_is_sent_only_for_a_progress_token() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550100").await;
    let id = session.begin("tools/call", waiting(&call, 60)).await;
    let mut last = 0.0;
    session.control().advance(600).await;
    let answer = session.answer(id).await;
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    let mut count = 0;
    while let Some(message) = session.take_early() {
        let now = message["params"]["progress"].as_f64().unwrap();
        assert!(now > last, "{now} after {last}");
        last = now;
        count += 1;
    }
    assert!(count > 2, "{count}");
    // Without a token there is only the answer.
    let report = session.data("get_call_result", json!({"call_id": call})).await;
    assert_eq!(report["outcome"], "completed");
    session.finish_well().await;
}

#[tokio::test]
async fn a_hundred_waits_share_their_requests() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550107").await;
    session.control().advance(20).await;
    session.control().reset_counts().await;
    let arguments = json!({"call_id": call, "wait_seconds": 3});
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(session.begin_call("get_call_result", arguments.clone()).await);
    }
    for id in ids {
        let answer = session.answer(id).await;
        assert_eq!(answer["result"]["structuredContent"]["outcome"], "in_progress", "{answer}");
    }
    let requests = session.control().count("GET", "/v1/calls/{id}").await;
    // In three seconds of a conversation: one request immediately, then one every second or two.
    assert!((1..=5).contains(&requests), "{requests} requests for a hundred waits");
    session.finish_well().await;
}

#[tokio::test]
async fn a_hundred_polls_of_a_task_share_their_requests() {
    let mut session = Session::modern().await;
    session.capabilities = json!({"extensions": {TASKS: {}}});
    let agent = session.outbound_agent(json!({"confirmed": "boolean"})).await;
    let order = json!({"agent_id": agent, "to": "+13105550100"});
    let task = session.call("place_call", order).await["result"]["taskId"].clone();
    session.control().advance(20).await;
    session.control().reset_counts().await;
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(session.begin("tasks/get", json!({"taskId": task})).await);
    }
    for id in ids {
        let task_state = session.answer(id).await;
        assert_eq!(task_state["result"]["status"], "working", "{task_state}");
    }
    // Later polls share the same watch, and get the end of the call from it.
    session.control().advance(600).await;
    let ended = wait_for_task(&mut session, &task).await;
    assert_eq!(ended["result"]["structuredContent"]["outcome"], "completed", "{ended}");
    let requests = session.control().count("GET", "/v1/calls/{id}").await;
    assert!((1..=5).contains(&requests), "{requests} requests for a hundred polls and more");
    session.finish_well().await;
}

#[tokio::test]
async fn a_wait_that_is_shorter_than_a_request_still_answers_with_the_status() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550107").await;
    session.control().advance(20).await;
    for tool in ["get_call_result", "get_call_transcript"] {
        let slow =
            json!({"method": "GET", "path": "/v1/calls/*", "kind": "delay", "delay_ms": 1_500});
        session.control().fault(slow).await;
        let answer = session.data(tool, json!({"call_id": call, "wait_seconds": 1})).await;
        assert_eq!(answer["status"], "in_progress", "{answer}");
    }
    session.finish_well().await;
}

#[tokio::test]
async fn only_a_wait_with_progress_may_exceed_the_configured_maximum() {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "[wait]\ndefault_seconds = 1\nmax_seconds = 1\n").unwrap();
    let flags = ["--config", config.path().to_str().unwrap()];
    for era in Era::BOTH {
        let mut session = Session::on_simulator(era, &flags, Options::default()).await;
        let call = place(&mut session, "+13105550107").await;
        let begun = Instant::now();
        let long = session.begin("tools/call", waiting(&call, 4)).await;
        for tool in ["get_call_result", "get_call_transcript"] {
            let hour = json!({"call_id": call, "wait_seconds": 3_600});
            assert_eq!(session.data(tool, hour).await["status"], "queued");
        }
        let usual = session.data("get_call_result", json!({"call_id": call})).await;
        assert_eq!(usual["status"], "queued");
        assert!(begun.elapsed() >= Duration::from_secs(3), "each of them waited");
        let answer = session.answer(long).await;
        assert_eq!(answer["result"]["structuredContent"]["status"], "queued", "{answer}");
        assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
        while session.take_early().is_some() {}
        session.finish_well().await;
    }
}

#[tokio::test]
async fn an_error_during_a_wait_is_reported_with_the_last_known_status() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550107").await;
    session.control().advance(20).await;
    let id = session.begin("tools/call", waiting(&call, 4)).await;
    progress_until(&mut session, "The call is in_progress.").await;
    session
        .control()
        .fault(json!({"method": "GET", "path": "/v1/calls/*", "kind": "status", "status": 500, "times": 100}))
        .await;
    let answer = session.answer(id).await;
    let report = &answer["result"]["structuredContent"];
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    assert_eq!(report["call_id"], call, "{answer}");
    assert_eq!(report["outcome"], "in_progress", "{answer}");
    assert!(report["trouble"].as_str().unwrap().contains("500"), "{answer}");
}

#[tokio::test]
async fn an_unreadable_transcript_is_not_reported_as_empty() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550100").await;
    session.control().advance(20).await;
    let path = format!("/v1/calls/{}/transcript", call.as_str().unwrap());
    let broken =
        json!({"method": "GET", "path": path, "kind": "status", "status": 500, "times": 1_000});
    session.control().fault(broken).await;
    let waiting = |seconds: u64| json!({"call_id": call, "wait_seconds": seconds});
    for status in ["in_progress", "completed"] {
        let words = session.begin_call("get_call_transcript", waiting(4)).await;
        session.control().wait_for_requests("GET", "/v1/calls/{id}/transcript", 1).await;
        // A wait for the result at the same time reports no error.
        let report = session.data("get_call_result", waiting(2)).await;
        assert_eq!((&report["status"], report.get("trouble")), (&json!(status), None), "{report}");
        let answer = session.answer(words).await;
        let page = &answer["result"]["structuredContent"];
        assert_eq!((&page["status"], &page["final"]), (&json!(status), &json!(false)), "{answer}");
        assert!(page["trouble"].as_str().unwrap().contains("500"), "{answer}");
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("could not be read since: CallingBox answered 500"), "{answer}");
        let says = format!("What was said could not be read; the call is {status}.");
        assert!(text.starts_with(SIMULATED) && text.contains(&says), "{answer}");
        session.control().advance(600).await;
        session.control().reset_counts().await;
    }
    session.finish_well().await;
}

#[tokio::test]
async fn a_task_outlives_the_process_that_made_it() {
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let flag = format!("--sandbox={}", sandbox.url());
    let home = Arc::new(Home::new());
    let open = async |capabilities: Value| {
        let mut session = Session::start_in(Arc::clone(&home), &[&flag], &[]);
        session.capabilities = capabilities;
        session.open(Era::Modern).await;
        session
    };
    let with_tasks = || json!({"extensions": {TASKS: {}}});

    let mut first = open(with_tasks()).await;
    let agent = first.outbound_agent(json!({"confirmed": "boolean"})).await;
    let order = json!({"agent_id": agent, "to": "+13105550100"});
    let placed = first.call("place_call", order).await;
    assert_eq!(placed["result"]["resultType"], "task", "{placed}");
    assert_eq!(placed["result"]["status"], "working", "{placed}");
    let task = placed["result"]["taskId"].clone();
    let dialed = control.dialed().await;
    let call = dialed[0]["call_id"].as_str().unwrap();
    assert!(task.as_str().unwrap().starts_with(&format!("{call}~")), "{task} {call}");

    // A wait is the same task.
    let wait = first.call("get_call_result", json!({"call_id": call, "wait_seconds": 30})).await;
    assert_eq!(wait["result"]["taskId"], task, "{wait}");
    // Without a wait, the answer is immediate.
    let now = first.call("get_call_result", json!({"call_id": call, "wait_seconds": 0})).await;
    assert_eq!(now["result"]["resultType"], "complete", "{now}");
    first.finish_well().await;

    let mut second = open(with_tasks()).await;
    let task_state = second.request("tasks/get", json!({"taskId": task})).await;
    assert_eq!(task_state["result"]["status"], "working", "{task_state}");
    assert!(task_state["result"]["pollIntervalMs"].as_u64().unwrap() >= 1_000, "{task_state}");
    let canceled = second.request("tasks/cancel", json!({"taskId": task})).await;
    let message = canceled["error"]["message"].as_str().unwrap();
    assert!(message.contains("cannot hang up"), "{canceled}");

    control.advance(600).await;
    let ended = wait_for_task(&mut second, &task).await;
    let arguments = json!({"call_id": call, "wait_seconds": 0});
    let report = second.data("get_call_result", arguments).await;
    assert_eq!(ended["result"]["structuredContent"], report);

    for forged in ["nothing", &format!("{call}~0000000000000000"), &format!("{call}~"), call] {
        let task_state = second.request("tasks/get", json!({"taskId": forged})).await;
        assert_eq!(task_state["error"]["code"], -32602, "{task_state}");
    }
    drop(second);

    // A client that does not declare tasks gets none.
    let mut plain = open(json!({})).await;
    let report = plain.call("get_call_result", wait_arguments(call)).await;
    assert_eq!(report["result"]["resultType"], "complete", "{report}");
    let refused = plain.request("tasks/get", json!({"taskId": task})).await;
    assert_eq!(refused["error"]["code"], -32021, "{refused}");
}

fn wait_arguments(call: &str) -> Value {
    json!({"call_id": call, "wait_seconds": 1})
}

/// Polls a task until it is completed.
async fn wait_for_task(session: &mut Session, task: &Value) -> Value {
    within_limit("the end of the task", async {
        loop {
            let task_state = session.request("tasks/get", json!({"taskId": task})).await;
            match task_state["result"]["status"].as_str() {
                Some("working") => tokio::task::yield_now().await,
                Some("completed") => return task_state["result"].clone(),
                _ => panic!("{task_state}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_task_has_the_text_of_the_answer_and_a_repeated_call_is_marked() {
    let mut session = Session::modern().await;
    let agent = session.outbound_agent(json!({"confirmed": "boolean"})).await;
    session.capabilities = json!({"extensions": {TASKS: {}}});
    let order = json!({"agent_id": agent, "to": "+13105550100"});
    let placed = session.call("place_call", order.clone()).await;
    let call = session.control().dialed().await[0]["call_id"].as_str().unwrap().to_owned();
    let text = format!(
        "{SIMULATED}\noutcome: in_progress. call_id: {call}. The call was placed. get_call_result waits for its end. At an answering machine the agent hangs up. Result fields: confirmed (boolean), do_not_call (boolean). The instructions do not tell the agent to say at the beginning that it is an AI."
    );
    assert_eq!(placed["result"]["statusMessage"], text, "{placed}");
    let task = placed["result"]["taskId"].clone();
    let task_state = session.request("tasks/get", json!({"taskId": task})).await;
    let text = format!("{SIMULATED}\ncall_id: {call}. The call is queued.");
    assert_eq!(task_state["result"]["statusMessage"], text, "{task_state}");
    let repeated = session.call("place_call", order).await;
    assert_eq!(repeated["result"]["resultType"], "complete", "{repeated}");
    let report = &repeated["result"]["structuredContent"];
    assert_eq!(
        (&report["duplicate_of"], &report["call_id"]),
        (&json!(call), &json!(call)),
        "{repeated}"
    );
    assert!(report["note"].as_str().unwrap().contains("nothing rang now"), "{repeated}");
    assert_eq!(session.control().dialed().await.len(), 1);
    session.finish_well().await;
}

#[tokio::test]
async fn task_and_resource_equal_the_result_of_the_tool_for_every_tool_selection() {
    let mut whole = Session::modern().await;
    // The agent has no `returns`, so the note suggests the transcript.
    let agent = whole.outbound_agent(json!({})).await;
    whole.data("update_agent", json!({"agent_id": agent, "returns": {}})).await;
    let selection = ["--tools", "place_call,get_call_result"];
    for (tools, transcript_is_named) in [(&[][..], true), (&selection, false)] {
        let mut session = whole.start_beside(tools);
        session.capabilities = json!({"extensions": {TASKS: {}}});
        session.open(Era::Modern).await;
        let order = json!({"agent_id": agent, "to": "+13105550100", "allow_repeat": true});
        let placed = session.call("place_call", order).await;
        let task = &placed["result"]["taskId"];
        let call = task.as_str().unwrap().split_once('~').unwrap().0;
        whole.control().advance(600).await;
        let now = json!({"call_id": call, "wait_seconds": 0});
        let report = session.data("get_call_result", now).await;
        let note = report["note"].as_str().unwrap();
        assert_eq!(note.contains("get_call_transcript"), transcript_is_named, "{report}");
        let task_state = session.request("tasks/get", json!({"taskId": task})).await;
        assert_eq!(task_state["result"]["result"]["structuredContent"], report, "{task_state}");
        let uri = json!({"uri": format!("callingbox://calls/{call}")});
        let read = session.request("resources/read", uri).await;
        let read = read["result"]["contents"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(read).unwrap(), report);
    }
}

#[tokio::test]
async fn subscriptions_notify_of_changes_in_both_eras() {
    for era in Era::BOTH {
        let mut session = Session::new(era).await;
        let call = place(&mut session, "+13105550100").await;
        let uri = format!("callingbox://calls/{}", call.as_str().unwrap());
        let (listening, wanted) = match era {
            Era::Legacy(_) => {
                let subscribed = session.request("resources/subscribe", json!({"uri": uri})).await;
                assert_eq!(subscribed["result"], json!({}), "{subscribed}");
                (None, "notifications/resources/updated")
            }
            Era::Modern => {
                let filter = json!({"notifications": {"resourceSubscriptions": [uri]}});
                let id = session.begin("subscriptions/listen", filter).await;
                let acknowledged = session.next().await.unwrap();
                let accepted = &acknowledged["params"]["notifications"]["resourceSubscriptions"];
                assert_eq!(accepted, &json!([uri]), "{acknowledged}");
                // The acknowledgement precedes the first read, so a client that read the call before may have missed a change.
                let first = session.next().await.unwrap();
                assert_eq!(first["method"], "notifications/resources/updated", "{first}");
                (Some(id), "notifications/resources/updated")
            }
        };
        // The subscription starts at the present status; each later change is notified.
        let read = session.request("resources/read", json!({"uri": uri})).await;
        let text = read["result"]["contents"][0]["text"].as_str().unwrap();
        let before: Value = serde_json::from_str(text).unwrap();
        assert_eq!(before["outcome"], "in_progress", "{read}");
        session.control().advance(600).await;
        let updated = session.next().await.unwrap();
        assert_eq!(updated["method"], wanted, "{updated}");
        assert_eq!(updated["params"]["uri"], uri, "{updated}");
        let read = session.request("resources/read", json!({"uri": uri})).await;
        assert!(read.to_string().contains("completed"), "{read}");
        if let Some(id) = listening {
            session.notify("notifications/cancelled", json!({"requestId": id})).await;
        }
        let (_, status, log) = session.finish().await;
        assert_eq!((status.code(), log.as_str()), (Some(0), ""));
    }
}

#[tokio::test]
async fn a_subscription_survives_a_failed_first_read() {
    for era in Era::BOTH {
        let mut session = Session::new(era).await;
        let call = place(&mut session, "+13105550100").await;
        let uri = format!("callingbox://calls/{}", call.as_str().unwrap());
        let unavailable =
            json!({"method": "GET", "path": "/v1/calls/*", "kind": "status", "status": 500});
        session.control().fault(unavailable).await;
        match era {
            Era::Legacy(_) => {
                let subscribed = session.request("resources/subscribe", json!({"uri": uri})).await;
                assert_eq!(subscribed["result"], json!({}), "{subscribed}");
            }
            Era::Modern => {
                let filter = json!({"notifications": {"resourceSubscriptions": [uri]}});
                session.begin("subscriptions/listen", filter).await;
                let acknowledged = session.next().await.unwrap();
                assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
                session.control().wait_for_requests("GET", "/v1/calls/{id}", 1).await;
            }
        }
        // The call ends before it was read successfully.
        session.control().advance(600).await;
        let updated = session.next().await.unwrap();
        assert_eq!(updated["method"], "notifications/resources/updated", "{updated}");
        assert_eq!(updated["params"]["uri"], uri, "{updated}");
        drop(session.finish().await);
    }
}

#[tokio::test]
async fn an_unsubscribed_resource_sends_no_notification() {
    let mut session = Session::legacy("2025-11-25").await;
    let call = place(&mut session, "+13105550100").await;
    let call = format!("callingbox://calls/{}", call.as_str().unwrap());
    let kept = format!("{call}/transcript");
    for (method, uri) in [
        ("resources/subscribe", &call),
        ("resources/subscribe", &kept),
        ("resources/unsubscribe", &call),
        // Unsubscribing twice is no error.
        ("resources/unsubscribe", &call),
    ] {
        let answer = session.request(method, json!({"uri": uri})).await;
        assert_eq!(answer["result"], json!({}), "{method}: {answer}");
    }
    session.control().advance(600).await;
    let mut messages = vec![session.next().await.unwrap()];
    session.request("ping", json!({})).await;
    while let Some(message) = session.take_early() {
        messages.push(message);
    }
    let (rest, status, log) = session.finish().await;
    messages.extend(rest);
    assert!(messages.iter().all(|message| message["params"]["uri"] == kept), "{messages:?}");
    assert_eq!((status.code(), log.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn only_calls_and_transcripts_can_be_subscribed_to() {
    let mut session = Session::legacy("2025-11-25").await;
    let call = place(&mut session, "+13105550100").await;
    let constant = |uri: &str| {
        (
            -32602,
            format!(
                "{} does not change by itself: calls, transcripts and batches can be subscribed to",
                uri
            ),
        )
    };
    let missing = |uri: &str| (-32002, format!("there is no resource {uri}"));
    for (uri, (code, message)) in [
        ("x", missing("x")),
        ("callingbox://calls/nope", missing("callingbox://calls/nope")),
        ("callingbox://calls/nope/transcript", missing("callingbox://calls/nope/transcript")),
        ("callingbox://numbers", constant("callingbox://numbers")),
        ("callingbox://agents/a", constant("callingbox://agents/a")),
    ] {
        let answer = session.request("resources/subscribe", json!({"uri": uri})).await;
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert_eq!(answer["error"]["message"], message, "{answer}");
    }
    let uri = format!("callingbox://calls/{}/transcript", call.as_str().unwrap());
    let answer = session.request("resources/subscribe", json!({"uri": uri})).await;
    assert_eq!(answer["result"], json!({}), "{answer}");
    // Each change after the answer is notified.
    session.control().advance(600).await;
    assert_eq!(session.next().await.unwrap()["params"]["uri"], uri);
    drop(session.finish().await);

    let mut session = Session::modern().await;
    let uris = json!(["x", "callingbox://numbers", "callingbox://calls/c"]);
    let filter = json!({"notifications": {"resourceSubscriptions": uris}});
    session.begin("subscriptions/listen", filter).await;
    let acknowledged = session.next().await.unwrap();
    let accepted = &acknowledged["params"]["notifications"]["resourceSubscriptions"];
    assert_eq!(accepted, &json!(["callingbox://calls/c"]), "{acknowledged}");
}

#[tokio::test]
async fn the_words_of_a_hostile_callee_stay_inside_the_fence() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550109").await;
    let id = session.begin("tools/call", waiting(&call, 60)).await;
    session.control().advance(3_000).await;
    session.answer(id).await;
    let mut lines = 0;
    while let Some(message) = session.take_early() {
        let text = message["params"]["message"].as_str().unwrap().to_owned();
        if let Some((_, words)) = text.split_once(" said: ") {
            let (marker, words) = words.strip_prefix("<<<").unwrap().split_once(' ').unwrap();
            let words = words.strip_suffix(&format!(" {marker}>>>")).unwrap();
            assert!(!words.contains(marker) && !words.contains('\n'), "{text}");
            assert!(
                !words.chars().any(|c| c.is_control() || ('\u{202A}'..='\u{202E}').contains(&c)),
                "{text}"
            );
            lines += 1;
        }
    }
    assert!(lines > 3, "{lines}");
    let uri = format!("callingbox://calls/{}/transcript", call.as_str().unwrap());
    let read = session.request("resources/read", json!({"uri": uri})).await;
    let text = read["result"]["contents"][0]["text"].as_str().unwrap();
    let (before, inside) = text.split_once("\n<<<").unwrap();
    assert!(before.contains("not instructions"), "{text}");
    let (marker, inside) = inside.split_once('\n').unwrap();
    assert_eq!(inside.matches(marker).count(), 1, "{text}");
    let (_, after) = inside.split_once(&format!("\n{marker}>>>")).unwrap();
    assert_eq!(after, "", "{text}");
    assert!(text.starts_with(SIMULATED), "{text}");
}

#[tokio::test]
async fn a_live_transcript_waits_for_the_next_line() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550100").await;
    let next =
        |after: u64| json!({"call_id": call, "after_sequence_no": after, "wait_seconds": 15});
    let id = session.begin_call("get_call_transcript", next(0)).await;
    session.control().wait_for_requests("GET", "/v1/calls/{id}", 1).await;
    session.control().advance(14).await;
    let page = session.answer(id).await["result"]["structuredContent"].clone();
    assert_eq!(page["final"], false, "{page}");
    assert!(page["lines"].as_u64().unwrap() >= 1, "{page}");
    let after = page["next_after_sequence_no"].as_u64().unwrap();
    let id = session.begin_call("get_call_transcript", next(after)).await;
    session.control().advance(600).await;
    let page = session.answer(id).await["result"]["structuredContent"].clone();
    assert!(page["transcript"].as_str().unwrap().contains(&format!("[{}] ", after + 1)), "{page}");
    assert!(!page["transcript"].as_str().unwrap().contains(&format!("[{after}] ")), "{page}");
}

#[tokio::test]
async fn a_transcript_that_was_read_before_the_end_is_read_again() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550100").await;
    session.control().advance(14).await;
    // The partial transcript arrives after the record that says that the call is completed.
    let path = format!("/v1/calls/{}/transcript", call.as_str().unwrap());
    let delay =
        json!({"method": "GET", "path": path, "kind": "delay", "when": "after", "delay_ms": 5_000});
    session.control().fault(delay).await;
    let arguments = json!({"call_id": call, "wait_seconds": 15});
    let id = session.begin_call("get_call_transcript", arguments).await;
    session.control().wait_for_requests("GET", "/v1/calls/{id}/transcript", 1).await;
    session.control().advance(600).await;
    let page = session.answer(id).await["result"]["structuredContent"].clone();
    let whole = session.data("get_call_transcript", json!({"call_id": call})).await;
    assert_eq!((&page["final"], &page["lines"]), (&json!(true), &whole["lines"]), "{page}");
    session.finish_well().await;
}

#[tokio::test]
async fn lines_without_a_readable_number_are_returned_too() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550100").await;
    session.control().advance(600).await;
    let path = format!("/v1/calls/{}/transcript", call.as_str().unwrap());
    let segments = json!([{"role": "user", "text": "Hello?", "sequence_no": "first"}]);
    let body = json!({"call_id": call, "segments": segments, "simulated": true});
    let unreadable = json!({"method": "GET", "path": path, "kind": "status", "status": 200, "body": body, "times": 2});
    session.control().fault(unreadable).await;
    for wait in [0, 10] {
        let arguments = json!({"call_id": call, "wait_seconds": wait});
        let page = session.data("get_call_transcript", arguments).await;
        assert_eq!((&page["lines"], &page["final"]), (&json!(1), &json!(true)), "{page}");
        assert!(page["transcript"].as_str().unwrap().contains("[?] callee: Hello?"), "{page}");
    }
    session.finish_well().await;
}

#[tokio::test]
async fn progress_is_sent_every_ten_seconds() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550107").await;
    // The simulator's clock does not move, so the call does not change.
    let id = session.begin("tools/call", waiting(&call, 12)).await;
    let answer = session.answer(id).await;
    let mut progress = Vec::new();
    while let Some(message) = session.take_early() {
        progress.push(message["params"]["message"].as_str().unwrap().to_owned());
    }
    assert_eq!(progress, ["The call is queued.", "Still waiting; the call is queued."], "{answer}");
}

#[tokio::test]
async fn a_call_that_must_be_confirmed_becomes_a_task_after_the_confirmation() {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "[dialing]\nconfirm = \"always\"\n").unwrap();
    let flags = ["--config", config.path().to_str().unwrap()];
    let mut session = Session::on_simulator(Era::Modern, &flags, Options::default()).await;
    session.capabilities = json!({"elicitation": {}, "extensions": {TASKS: {}}});
    let offers = session.data("search_numbers", json!({"limit": 1})).await;
    let mut params = json!({"name": "purchase_number", "arguments": {"phone_number": offers["numbers"][0]["phone_number"]}});
    let yes = json!({"confirm": {"action": "accept", "content": {"confirm": true}}});
    let confirmed = async |session: &mut Session, params: &mut Value| {
        let question = session.request("tools/call", params.clone()).await;
        assert_eq!(question["result"]["resultType"], "input_required", "{question}");
        params["requestState"] = question["result"]["requestState"].clone();
        params["inputResponses"] = yes.clone();
        session.request("tools/call", params.clone()).await
    };
    let bought = confirmed(&mut session, &mut params).await;
    let number = &bought["result"]["structuredContent"]["number"]["number_id"];
    let agent = json!({"name": "A", "type": "outbound", "number_ids": [number]});
    let agent = session.data("create_agent", agent).await;
    let mut params = json!({
        "name": "place_call",
        "arguments": {"agent_id": agent["agent_id"], "to": "+13105550100"},
    });
    let placed = confirmed(&mut session, &mut params).await;
    assert_eq!(placed["result"]["resultType"], "task", "{placed}");
    let task_state =
        session.request("tasks/get", json!({"taskId": placed["result"]["taskId"]})).await;
    assert_eq!(task_state["result"]["status"], "working", "{task_state}");
    assert_eq!(session.control().dialed().await.len(), 1);
}

#[tokio::test]
async fn a_page_of_a_transcript_is_one_request_for_the_words() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550107").await;
    session.control().advance(30).await;
    session.control().reset_counts().await;
    let page = session.data("get_call_transcript", json!({"call_id": call})).await;
    assert_eq!(page["status"], "in_progress", "{page}");
    assert_eq!(session.control().count("GET", "/v1/calls/{id}/transcript").await, 1);
    session.finish_well().await;
}
