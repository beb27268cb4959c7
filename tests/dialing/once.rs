//! The same is dialed once: at the same instant, later, by key, from several processes, after a kill.

use serde_json::json;

use super::{LEGACY, World, cannot_ask, data, failure};

const TO: &str = "+12025550123";

#[tokio::test]
async fn identical_calls_at_one_instant_in_three_processes_dial_once() {
    let world = World::new("", "").await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(world.session(LEGACY, cannot_ask()).await);
    }
    let call = world.call(TO, "Remind.");
    let mut ids = Vec::new();
    for session in &mut sessions {
        ids.push(session.begin_call("place_call", call.clone()).await);
    }
    let mut firsts = 0;
    let mut calls = Vec::new();
    for (session, id) in sessions.iter_mut().zip(ids) {
        let answer = session.answer(id).await;
        let data = data(&answer);
        firsts += usize::from(data.get("duplicate_of").is_none());
        calls.push(data["call_id"].clone());
    }
    let dialed = world.control.dialed().await;
    assert_eq!((dialed.len(), firsts), (1, 1), "{calls:?}");
    assert_eq!(calls, vec![dialed[0]["call_id"].clone(); 3]);
}

#[tokio::test]
async fn limits_hold_across_processes() {
    let world = World::new("", "[limits]\nper_destination_per_day = 3\nat_once = \"off\"\n").await;
    let mut sessions =
        [world.session(LEGACY, cannot_ask()).await, world.session(LEGACY, cannot_ask()).await];
    let mut ids = Vec::new();
    for number in 0..6 {
        let call = world.call(TO, &format!("Task {number}."));
        ids.push(sessions[number % 2].begin_call("place_call", call).await);
    }
    let mut refused = 0;
    for (number, id) in ids.into_iter().enumerate() {
        let answer = sessions[number % 2].answer(id).await;
        if answer["result"]["isError"] == true {
            assert_eq!(failure(&answer).0, "refused_by_policy");
            refused += 1;
        }
    }
    assert_eq!((world.dialed().await, refused), (3, 3));
}

#[tokio::test]
async fn a_repetition_is_the_first_call_whatever_the_rules_say_meanwhile() {
    let world = World::new("", "[limits]\nper_destination_per_day = 1\n").await;
    let mut session = world.session(LEGACY, cannot_ask()).await;
    let call = world.call(TO, "Remind.");
    let first = session.data("place_call", call.clone()).await;
    let again = session.data("place_call", call.clone()).await;
    assert_eq!(again["duplicate_of"], first["call_id"]);
    assert_eq!(again["call_id"], first["call_id"]);
    // On purpose it would be a second call, and the limit is reached.
    let mut on_purpose = call;
    on_purpose["allow_repeat"] = json!(true);
    let answer = session.call("place_call", on_purpose).await;
    let (class, done, message) = failure(&answer);
    assert_eq!((class, done), ("refused_by_policy", "nothing"));
    assert!(message.contains("limits.per_destination_per_day"), "{message}");
    assert!(message.contains("Nobody was called. Possible again at 20"), "{message}");
    assert_eq!(world.dialed().await, 1);
}

#[tokio::test]
async fn windows_keys_and_purpose() {
    // A window of nothing: every repetition is outside it.
    let world = World::new("[dialing]\nrepeat_window_seconds = 0\n", "").await;
    let mut session = world.session(LEGACY, cannot_ask()).await;
    let mut call = world.call(TO, "Remind.");
    let first = session.data("place_call", call.clone()).await;
    let second = session.data("place_call", call.clone()).await;
    assert_ne!(first["call_id"], second["call_id"]);
    assert_eq!(second.get("duplicate_of"), None);

    call["idempotency_key"] = json!("appointment-17");
    let third = session.data("place_call", call.clone()).await;
    assert_ne!(third["call_id"], second["call_id"]);
    // The limit of three a day is reached, and the key outlives the window.
    let replay = session.data("place_call", call.clone()).await;
    assert_eq!(replay["duplicate_of"], third["call_id"]);
    let mut other = call.clone();
    other["instructions"] = json!("Something else.");
    let answer = session.call("place_call", other).await;
    let (class, done, message) = failure(&answer);
    assert_eq!((class, done), ("conflict", "nothing"));
    assert!(message.contains("use a new key"), "{message}");
    assert_eq!(world.dialed().await, 3);

    let world = World::new("", "").await;
    let mut session = world.session(LEGACY, cannot_ask()).await;
    let mut call = world.call(TO, "Remind.");
    let first = session.data("place_call", call.clone()).await;
    call["allow_repeat"] = json!(true);
    let second = session.data("place_call", call).await;
    assert_ne!(first["call_id"], second["call_id"]);
    assert_eq!(world.dialed().await, 2);
}

#[tokio::test]
async fn a_server_killed_between_request_and_answer_leaves_a_call_that_the_next_one_finds() {
    let world = World::new("", "").await;
    let late = json!({
        "method": "POST", "path": "/v1/calls", "when": "after", "kind": "delay", "delay_ms": 60_000,
    });
    world.control.fault(late).await;
    let mut session = world.session(LEGACY, cannot_ask()).await;
    let call = world.call(TO, "Remind.");
    session.begin_call("place_call", call.clone()).await;
    world.control.arrived("POST", "/v1/calls", 1).await;
    // SIGKILL.
    drop(session);
    assert_eq!(world.receipts(&[]).await[0]["state"], "intent");

    let mut session = world.session(LEGACY, cannot_ask()).await;
    let found = session.data("place_call", call).await;
    let dialed = world.control.dialed().await;
    assert_eq!(dialed.len(), 1);
    assert_eq!(found["call_id"], dialed[0]["call_id"]);
    assert_eq!(found["duplicate_of"], dialed[0]["call_id"]);
    let receipts = world.receipts(&[]).await;
    assert_eq!((receipts.len(), &receipts[0]["state"]), (1, &json!("placed")));
}

#[tokio::test]
async fn what_the_provider_refused_was_searched_for_and_is_told_as_not_done() {
    let world = World::new("", "").await;
    let mut session = world.session(LEGACY, cannot_ask()).await;
    let answer = session.call("place_call", world.call("+12025550110", "Remind.")).await;
    let (class, done, _) = failure(&answer);
    assert_eq!((class, done), ("unavailable", "nothing"));
    assert_eq!(world.dialed().await, 0);
}

#[tokio::test]
async fn without_a_ledger_nothing_is_dialed() {
    let world = World::new("[dialing]\nledger = \"/dev/null/ledger.sqlite3\"\n", "").await;
    let mut session = world.session(LEGACY, cannot_ask()).await;
    let answer = session.call("place_call", world.call(TO, "Remind.")).await;
    let (class, done, message) = failure(&answer);
    assert_eq!((class, done), ("unavailable", "nothing"));
    assert!(message.starts_with("dialing is refused: the ledger"), "{message}");
    assert_eq!(world.dialed().await, 0);
}
