//! The yes in the call card: only the card has its token, and nothing but the card's answer counts.

use std::sync::Arc;

use serde_json::{Value, json};

use super::harness::{Era, Session};
use super::{DialingFixture, LEGACY, can_ask, cannot_ask, failure, shows_card};

const TO: &str = "+12025550123";
const ALWAYS: &str = "[dialing]\nconfirm = \"always\"\n";

/// The question of a result, with its token.
fn question(answer: &Value) -> Value {
    let result = &answer["result"];
    assert_eq!(result["isError"], false, "{answer}");
    let question = result["_meta"]["callingbox-mcp/confirm"].clone();
    let data = &result["structuredContent"];
    assert_eq!((data.get("outcome"), data.get("call_id")), (None, None), "{answer}");
    assert_eq!(data.get("confirmation_token"), None, "{answer}");
    let token = question["token"].as_str().unwrap_or_else(|| panic!("no question: {answer}"));
    assert_eq!(answer.to_string().matches(token).count(), 1, "{answer}");
    question
}

/// The arguments of `confirm_call`.
fn reply(question: &Value, accept: bool) -> Value {
    json!({
        "tool": question["tool"], "arguments": question["arguments"], "token": question["token"],
        "accept": accept,
    })
}

async fn ask(session: &mut Session, call: &Value) -> Value {
    ask_with(session, "place_call", call).await
}

async fn ask_with(session: &mut Session, tool: &str, order: &Value) -> Value {
    question(&session.call(tool, order.clone()).await)
}

/// Reports that the card shows a question.
async fn report(session: &mut Session, question: &Value) -> Value {
    let id = json!({"question_id": question["question_id"]});
    session.data("follow_call", id).await["question"].clone()
}

#[tokio::test]
async fn a_yes_in_the_card_places_exactly_the_call_that_was_shown_and_once() {
    for era in Era::BOTH {
        // No repetition is answered with the first, so that reuse shows.
        let fixture =
            DialingFixture::new(&format!("{ALWAYS}repeat_window_seconds = 0\n"), "").await;
        let mut session = fixture.session(era, shows_card()).await;
        let mut call = fixture.call(TO, "Remind.");
        call["metadata"] = json!({"order": 7});
        let answer = session.call("place_call", call.clone()).await;
        let question = question(&answer);
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("Nobody was called yet. The user answers in the card"), "{text}");
        assert!(text.contains("To: +12025550123") && text.contains("Task: Remind."), "{text}");
        let shown = &question["shown"];
        assert!(shown["title"].as_str().unwrap().starts_with("Place a phone call"), "{shown}");
        let fields = shown["fields"].as_array().unwrap();
        assert!(fields.contains(&json!({"name": "To", "value": TO})), "{shown}");
        assert_eq!(shown["fields"], answer["result"]["structuredContent"]["preview"]);
        assert_eq!(question["tool"], "place_call");
        let arguments = &question["arguments"];
        assert_eq!(arguments["metadata"], json!({"order": 7}));
        assert!(arguments["from_number"].is_string(), "the default is filled in: {arguments}");
        assert_eq!(report(&mut session, &question).await, "open");

        // Another order, and a token that was changed.
        for (name, value) in [("to", "+12025550124"), ("instructions", "Sell.")] {
            let mut other = reply(&question, true);
            other["arguments"][name] = json!(value);
            let answer = session.call("confirm_call", other).await;
            assert_eq!(failure(&answer).0, "declined", "{answer}");
        }
        let mut forged = reply(&question, true);
        forged["token"] = json!("0".repeat(48));
        assert_eq!(failure(&session.call("confirm_call", forged).await).0, "declined");
        let mut purchase = reply(&question, true);
        purchase["tool"] = json!("purchase_number");
        purchase["arguments"] = json!({"phone_number": "+14155550179"});
        assert_eq!(failure(&session.call("confirm_call", purchase).await).0, "declined");
        assert_eq!(fixture.dialed().await, 0);

        let placed = session.call("confirm_call", reply(&question, true)).await;
        let data = &placed["result"]["structuredContent"];
        assert_eq!((&data["outcome"], &data["simulated"]), (&json!("in_progress"), &json!(true)));
        let id = &data["call_id"];
        assert_eq!(fixture.control.dialed().await[0]["call_id"], *id);
        // Pressed again, and answered otherwise: it is that call.
        for accept in [true, false] {
            let again = session.data("confirm_call", reply(&question, accept)).await;
            assert_eq!((&again["call_id"], &again["duplicate_of"]), (id, id), "{again}");
        }
        assert_eq!(report(&mut session, &question).await, "answered");
        assert_eq!(fixture.dialed().await, 1);
        let receipt = &fixture.receipts(&[]).await[0];
        assert_eq!(receipt["confirmed_by"], "card");
        let token = question["token"].as_str().unwrap();
        assert!(!receipt.to_string().contains(token) && !placed.to_string().contains(token));
        let (_, _, log) = session.finish().await;
        assert!(!log.contains(token), "{log}");
    }
}

#[tokio::test]
async fn a_no_in_the_card_voids_the_question_and_is_noted() {
    let fixture = DialingFixture::new(ALWAYS, "").await;
    let mut session = fixture.session(LEGACY, shows_card()).await;
    let call = fixture.call(TO, "Remind.");
    let question = ask(&mut session, &call).await;
    report(&mut session, &question).await;
    for accept in [false, true, false] {
        let answer = session.data("confirm_call", reply(&question, accept)).await;
        assert_eq!(answer, json!({"declined": true}));
    }
    assert_eq!(fixture.dialed().await, 0);
    let receipts = fixture.receipts(&[]).await;
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert_eq!(
        (&receipts[0]["state"], &receipts[0]["confirmed_by"]),
        (&json!("not_placed"), &json!("card"))
    );
    // The model may ask once more, and the person may think again.
    let question = ask(&mut session, &call).await;
    let placed = session.data("confirm_call", reply(&question, true)).await;
    assert_eq!(placed["outcome"], "in_progress");
    session.finish_well().await;
}

#[tokio::test]
async fn the_state_of_an_order_can_be_read_without_an_answer() {
    let fixture = DialingFixture::new(ALWAYS, "").await;
    let mut session = fixture.session(LEGACY, shows_card()).await;
    let question = ask(&mut session, &fixture.call(TO, "Remind.")).await;
    let mut look = reply(&question, true);
    look.as_object_mut().unwrap().shift_remove("accept");
    assert_eq!(session.data("confirm_call", look.clone()).await, json!({"status": "asked"}));
    assert_eq!(fixture.dialed().await, 0);
    let placed = session.data("confirm_call", reply(&question, true)).await;
    assert_eq!(session.data("confirm_call", look).await["call_id"], placed["call_id"]);
    session.finish_well().await;
}

#[tokio::test]
async fn a_token_serves_the_purpose_that_it_was_issued_for() {
    let fixture = DialingFixture::new(ALWAYS, "").await;
    let call = fixture.call(TO, "Remind.");
    let with_token = |token: &Value| {
        let mut call = call.clone();
        call["confirmation_token"] = token.clone();
        call
    };
    let mut session = fixture.session(LEGACY, shows_card()).await;
    let question = ask(&mut session, &call).await;
    // The model cannot use the card's token, wherever it may have it from.
    let answer = session.call("place_call", with_token(&question["token"])).await;
    assert_eq!(failure(&answer).0, "declined", "{answer}");
    // Nor does the model's token, or one inside the order, count in the card.
    let mut other = fixture.session(LEGACY, cannot_ask()).await;
    let preview = other.data("place_call", call.clone()).await;
    let mut text_token = reply(&question, true);
    text_token["token"] = preview["confirmation_token"].clone();
    assert_eq!(failure(&session.call("confirm_call", text_token).await).0, "declined");
    let mut inside = reply(&question, true);
    inside["token"] = json!("x");
    inside["arguments"]["confirmation_token"] = preview["confirmation_token"].clone();
    assert_eq!(failure(&session.call("confirm_call", inside).await).0, "declined");
    assert_eq!(fixture.dialed().await, 0);
}

#[tokio::test]
async fn a_purchase_is_confirmed_in_the_card_too() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"auto\"\n", "").await;
    let mut session = fixture.session(LEGACY, shows_card()).await;
    let offers = session.data("search_numbers", json!({"limit": 1})).await;
    let order = json!({"phone_number": offers["numbers"][0]["phone_number"]});
    let question = question(&session.call("purchase_number", order.clone()).await);
    assert_eq!((&question["tool"], &question["arguments"]), (&json!("purchase_number"), &order));
    let bought = session.data("confirm_call", reply(&question, true)).await;
    assert_eq!(bought["purchased"], true, "{bought}");
    // The number is not for sale any more, and the question is answered all the same.
    let again = session.data("confirm_call", reply(&question, true)).await;
    assert_eq!(again["purchased"], true, "{again}");
    assert_eq!(fixture.receipts(&[]).await[0]["confirmed_by"], "card");
    session.finish_well().await;
}

#[tokio::test]
async fn a_list_is_confirmed_in_the_card_as_a_whole() {
    let fixture = DialingFixture::new(ALWAYS, "").await;
    let mut session = fixture.session(LEGACY, shows_card()).await;
    let mut list = fixture.call(TO, "Remind.");
    list.as_object_mut().unwrap().shift_remove("to");
    list["people"] = json!([{"to": "+12025550131", "name": "Ada"}, {"to": "+12025550132"}]);
    let answer = session.call("place_calls", list.clone()).await;
    let question = question(&answer);
    let id = &answer["result"]["structuredContent"]["batch_id"];
    assert_eq!(question["arguments"], json!({"batch_id": id}));
    assert_eq!(question["shown"]["yes"], "Call 2 people");
    assert!(question["shown"].to_string().contains("+12025550132"), "{question}");
    assert_eq!(report(&mut session, &question).await, "open");
    assert_eq!(session.data("get_batch", json!({"batch_id": id})).await["state"], "asked");
    let no = session.data("confirm_call", reply(&question, false)).await;
    assert_eq!(no, json!({"declined": true}));
    assert_eq!(session.data("confirm_call", reply(&question, true)).await, no);
    assert_eq!(fixture.dialed().await, 0);

    let question = ask_with(&mut session, "place_calls", &list).await;
    let started = session.data("confirm_call", reply(&question, true)).await;
    assert_eq!(started["state"], "running", "{started}");
    let again = session.data("confirm_call", reply(&question, true)).await;
    assert_eq!(again["duplicate_of"], started["batch_id"], "{again}");
    let follow = json!({"batch_id": started["batch_id"], "wait_seconds": 0});
    let mut followed = session.call("follow_call", follow.clone()).await;
    for _ in 0..50 {
        if followed["result"]["structuredContent"]["final"] == true {
            break;
        }
        fixture.control.advance(60).await;
        let mut next = follow.clone();
        next["state"] = followed["result"]["structuredContent"]["state"].clone();
        next["wait_seconds"] = json!(2);
        followed = session.call("follow_call", next).await;
    }
    let batch = &followed["result"]["_meta"]["callingbox-mcp/batch"];
    assert_eq!(batch["state"], "ended", "{followed}");
    assert_eq!(batch["rows"].as_array().unwrap().len(), 2);
    assert_eq!(batch["rows"][0]["name"], "Ada");
    assert!(batch["rows"][0]["result"].is_object(), "{batch}");
    let visible = &followed["result"]["structuredContent"];
    assert_eq!(visible.get("rows"), None, "{visible}");
    assert_eq!(fixture.dialed().await, 2);
    assert!(fixture.receipts(&[]).await.iter().all(|receipt| receipt["confirmed_by"] == "card"));
}

#[tokio::test]
async fn a_card_that_does_not_appear_leads_to_the_text() {
    let fixture = DialingFixture::new(ALWAYS, "").await;
    let mut session = fixture.session(LEGACY, shows_card()).await;
    let call = fixture.call(TO, "Remind.");
    let first = ask(&mut session, &call).await;
    // The frame stayed empty.
    let preview = session.data("place_call", call.clone()).await;
    let note = preview["note"].as_str().unwrap();
    assert!(note.starts_with("The card in which the user was to answer did not appear."), "{note}");
    // Then it appeared after all: the card is asked again.
    assert_eq!(report(&mut session, &first).await, "open");
    ask(&mut session, &call).await;
    let mut confirmed = call.clone();
    confirmed["confirmation_token"] = preview["confirmation_token"].clone();
    assert_eq!(session.data("place_call", confirmed).await["outcome"], "in_progress");
    // A question that nobody asked is not noted.
    let unknown = json!({"question_id": "0123-4567"});
    assert_eq!(session.data("follow_call", unknown).await["question"], "expired");
    session.finish_well().await;
}

#[tokio::test]
async fn with_require_human_the_card_counts_where_the_configuration_says_so() {
    for (setting, client, counts) in [
        ("", "claude-ai", true),
        ("", "openai-mcp", true),
        ("", "e2e", false),
        ("card_is_human = \"known_hosts\"\n", "claude-ai-next", false),
        ("card_is_human = \"always\"\n", "e2e", true),
        ("card_is_human = \"never\"\n", "claude-ai", false),
    ] {
        let fixture =
            DialingFixture::new(&format!("{ALWAYS}require_human = true\n{setting}"), "").await;
        for era in Era::BOTH {
            let flag = format!("--sandbox={}", fixture.sandbox.url());
            let mut session = Session::start_in(Arc::clone(&fixture.home), &[&flag], &[]);
            (session.capabilities, session.client) = (shows_card(), client);
            session.open(era).await;
            let call = fixture.call(TO, &format!("{era:?}"));
            let answer = session.call("place_call", call.clone()).await;
            if !counts {
                assert_eq!(failure(&answer).0, "refused_by_policy", "{setting} {client}: {answer}");
                continue;
            }
            let question = question(&answer);
            // The model's second request is refused if no card appeared, and leads to no token.
            let again = session.call("place_call", call.clone()).await;
            assert_eq!(failure(&again).0, "refused_by_policy", "{again}");
            let error = &again["result"]["_meta"]["callingbox-mcp/error"];
            assert!(error["remedy"].as_str().unwrap().contains("elicitation"), "{again}");
            let placed = session.call("confirm_call", reply(&question, true)).await;
            assert_eq!(placed["result"]["isError"], false, "{placed}");
            fixture.control.advance(3_600).await;
        }
    }
}

#[tokio::test]
async fn the_card_is_asked_only_by_a_caller_who_has_it() {
    for (arguments, capabilities) in [
        (&["--no-ui"][..], shows_card()),
        (&["--exclude-tools", "confirm_call"], shows_card()),
        (&["--exclude-tools", "get_call_result"], shows_card()),
        (&[], cannot_ask()),
        (&[], json!({"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html"]}}})),
    ] {
        let fixture = DialingFixture::new(ALWAYS, "").await;
        let flag = format!("--sandbox={}", fixture.sandbox.url());
        let all: Vec<&str> = [flag.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        let mut session = Session::start_in(Arc::clone(&fixture.home), &all, &[]);
        session.capabilities = capabilities;
        session.open(LEGACY).await;
        let preview = session.data("place_call", fixture.call(TO, "Remind.")).await;
        assert!(preview["confirmation_token"].is_string(), "{arguments:?}: {preview}");
    }
    // A client that can ask is asked.
    let fixture = DialingFixture::new(ALWAYS, "").await;
    let mut both = shows_card();
    both["elicitation"] = can_ask()["elicitation"].clone();
    let mut session = fixture.session(LEGACY, both).await;
    session.begin_call("place_call", fixture.call(TO, "Remind.")).await;
    assert_eq!(session.next().await.unwrap()["method"], "elicitation/create");
}

#[tokio::test]
async fn the_rules_apply_to_an_answer_in_the_card() {
    let fixture = DialingFixture::new(ALWAYS, "").await;
    let mut session = fixture.session(LEGACY, shows_card()).await;
    let question = ask(&mut session, &fixture.call(TO, "Remind.")).await;
    fixture.home.write(".config/callingbox-mcp/policy.toml", "default = \"refuse\"\n");
    let mut session = fixture.session(LEGACY, shows_card()).await;
    let answer = session.call("confirm_call", reply(&question, true)).await;
    assert_eq!(failure(&answer).0, "refused_by_policy", "{answer}");
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let mut reading = Session::start_in(Arc::clone(&fixture.home), &[&flag, "--read-only"], &[]);
    reading.capabilities = shows_card();
    reading.open(LEGACY).await;
    let answer = reading.call("confirm_call", reply(&question, true)).await;
    assert_eq!(failure(&answer).0, "switched_off", "{answer}");
    let only = Session::start_in(
        Arc::clone(&fixture.home),
        &[&flag, "--tools", "purchase_number,get_call_result"],
        &[],
    );
    let mut buying = only;
    buying.capabilities = shows_card();
    buying.open(LEGACY).await;
    let answer = buying.call("confirm_call", reply(&question, true)).await;
    assert_eq!(failure(&answer).0, "switched_off", "{answer}");
    assert_eq!(fixture.dialed().await, 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_expired_question_says_so_and_is_asked_again() {
    let fixture = DialingFixture::new(ALWAYS, "").await;
    let clock = crate::batch_faults::machine_clock::MachineClock::new();
    let environment = clock.environment();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let mut session = Session::start_in(Arc::clone(&fixture.home), &[&flag], &environment);
    session.capabilities = shows_card();
    session.open(LEGACY).await;
    let call = fixture.call(TO, "Remind.");
    let first = ask(&mut session, &call).await;
    assert_eq!(report(&mut session, &first).await, "open");
    clock.pass(15 * 60 + 1);
    // The person's yes, and a card that only asks what became of its question.
    for accept in [Some(true), None] {
        let mut late = reply(&first, true);
        if accept.is_none() {
            late.as_object_mut().unwrap().remove("accept");
        }
        let answer = session.call("confirm_call", late).await;
        let (_, done, message) = failure(&answer);
        assert!(done == "nothing" && message.contains("expired"), "{answer}");
    }
    assert_eq!(report(&mut session, &first).await, "expired");
    assert_eq!(fixture.dialed().await, 0);
    let again = ask(&mut session, &call).await;
    assert_ne!(again["token"], first["token"]);
    session.data("confirm_call", reply(&again, true)).await;
    assert_eq!(fixture.dialed().await, 1);
    session.finish_well().await;
}
