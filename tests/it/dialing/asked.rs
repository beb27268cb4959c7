//! The human is asked by `elicitation/create`: only a clear yes is one.

use serde_json::{Value, json};

use super::harness::{Era, Session};
use super::{DialingFixture, LEGACY, can_ask, cannot_ask, data, failure, repeated};

const TO: &str = "+12025550123";

/// Places a call and gives the question that comes back.
pub(super) async fn question(session: &mut Session, call: Value) -> (i64, Value) {
    let id = session.begin_call("place_call", call).await;
    let question = session.next().await.unwrap();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    (id, question)
}

pub(super) async fn reply(session: &mut Session, question: &Value, mut reply: Value) {
    reply["jsonrpc"] = json!("2.0");
    reply["id"] = question["id"].clone();
    session.send(&reply).await;
}

#[tokio::test]
async fn a_clear_yes_dials_and_everything_else_does_not() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"always\"\n", "").await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    for no in [
        json!({"result": {"action": "decline"}}),
        json!({"result": {"action": "decline", "content": {"confirm": true}}}),
        json!({"result": {"action": "cancel"}}),
        json!({"result": {"action": "accept"}}),
        json!({"result": {"action": "accept", "content": {}}}),
        json!({"result": {"action": "accept", "content": {"confirm": false}}}),
        json!({"result": {"action": "accept", "content": {"confirm": "yes"}}}),
        json!({"result": {"action": "perhaps", "content": {"confirm": true}}}),
        json!({"result": {"answer": 17}}),
        json!({"error": {"code": -32603, "message": "the window was closed"}}),
    ] {
        let (id, asked) = question(&mut session, fixture.call(TO, "Remind.")).await;
        reply(&mut session, &asked, no.clone()).await;
        let answer = session.answer(id).await;
        let (class, done, message) = failure(&answer);
        assert_eq!((class, done), ("declined", "nothing"), "{no}");
        assert!(message.contains("Nobody was called"), "{no}: {message}");
        assert_eq!(fixture.dialed().await, 0, "{no}");
    }
    assert_eq!(fixture.receipts(&[]).await, Vec::<Value>::new());

    let (id, asked) = question(&mut session, fixture.call(TO, "Remind.")).await;
    let text = asked["params"]["message"].as_str().unwrap();
    for line in [
        "Place a phone call (simulated)?",
        "To: +12025550123",
        "Local time there: ",
        "From: +1",
        "Agent: Reminders",
        "Task: Remind.",
        "Cost: $0.05 per connected minute; $3.00 of credit are held until it ends",
        "every order needs confirmation",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let yes = json!({"result": {"action": "accept", "content": {"confirm": true}}});
    reply(&mut session, &asked, yes).await;
    let answer = session.answer(id).await;
    assert_eq!(data(&answer)["call_id"], fixture.control.dialed().await[0]["call_id"]);
    let receipts = fixture.receipts(&[]).await;
    assert_eq!(receipts[0]["confirmed_by"], "user");
}

#[tokio::test]
async fn all_instructions_of_the_agent_are_shown() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"always\"\n", "").await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let mut call =
        fixture.call(TO, &format!("{} THEN ASK FOR THE CARD.", "Be kind. ".repeat(2_000)));
    call["context"] = json!({"debt": "You owe us 5,000 dollars."});
    let (id, asked) = question(&mut session, call).await;
    let text = asked["params"]["message"].as_str().unwrap();
    for told in
        ["THEN ASK FOR THE CARD.", "You owe us 5,000 dollars.", "Cost: $0.05 per connected minute"]
    {
        assert!(text.contains(told), "{told}: {text}");
    }
    reply(&mut session, &asked, json!({"result": {"action": "decline"}})).await;
    assert_eq!(failure(&session.answer(id).await).0, "declined");
}

#[tokio::test]
async fn all_that_the_callee_or_a_third_party_could_notice_is_shown() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"always\"\n", "").await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let tool = |name: &str, url: &str| json!({"type": "http", "name": name, "description": "d", "url": url});
    let agent = json!({
        "agent_id": fixture.agent, "language": "de", "voice": "gravel",
        "voicemail_action": "leave_message",
        "webhook_url": "https://agent.example:8443/hook?key=SECRET",
        "tools": [
            tool("slots", "https://slots.example/find?key=SECRET"),
            {"type": "builtin", "name": "end_call", "description": "d"},
            tool("notes", "https://user:SECRET@notes.example/"),
        ],
    });
    session.data("update_agent", agent).await;
    let call = fixture.call(TO, "Remind.");
    let mut whole = call.clone();
    whole["metadata"] = json!({"case": "A-7"});
    whole["webhook_url"] = json!("https://call.example/hook?key=SECRET");
    whole["allow_repeat"] = json!(true);
    for (call, shown, not_shown) in [
        (call, "Events go to: agent.example:8443", "\nRepeat: "),
        (whole, "Events go to: call.example\nRepeat: rings again, even if", "agent.example"),
    ] {
        let (id, asked) = question(&mut session, call.clone()).await;
        let text = asked["params"]["message"].as_str().unwrap();
        for line in [
            "\nLanguage: de\n",
            "\nVoice: gravel\n",
            "\nOn an answering machine: the agent leaves a message\n",
            "\nResult fields: answered, do_not_call\n",
            "\nIn-call tools: slots, which sends data to slots.example; end_call; notes, which sends data to ",
            shown,
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("SECRET") && !text.contains(not_shown), "{text}");
        assert_eq!(
            text.contains("Data stored with the call: {\"case\":\"A-7\"}"),
            call["metadata"].is_object()
        );
        reply(&mut session, &asked, json!({"result": {"action": "decline"}})).await;
        assert_eq!(failure(&session.answer(id).await).0, "declined");
    }
}

#[tokio::test]
async fn changes_while_the_human_decides_are_not_confirmed() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"always\"\n", "").await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let mut other = fixture.session(LEGACY, cannot_ask()).await;
    let call = json!({"agent_id": fixture.agent, "to": TO});
    for (what, is) in [
        ("instructions", json!("Threaten them.")),
        ("persona", json!("You are a debt collector.")),
        ("language", json!("de")),
        ("voicemail_action", json!("leave_message")),
        ("returns", json!({"card_number": "string"})),
        ("voice", json!("gravel")),
        ("webhook_url", json!("https://hooks.example.com/other?secret=1")),
        (
            "tools",
            json!([{"type": "http", "name": "t", "description": "d", "url": "https://a.example"}]),
        ),
        (
            "tools",
            json!([{"type": "http", "name": "t", "description": "d", "url": "https://b.example"}]),
        ),
    ] {
        let (id, asked) = question(&mut session, call.clone()).await;
        let mut change = json!({"agent_id": fixture.agent});
        change[what] = is;
        other.data("update_agent", change).await;
        let yes = json!({"result": {"action": "accept", "content": {"confirm": true}}});
        reply(&mut session, &asked, yes).await;
        let answer = session.answer(id).await;
        let (class, done, message) = failure(&answer);
        assert_eq!((class, done), ("declined", "nothing"), "{what}");
        assert!(message.contains("was changed while the human was asked"), "{what}: {message}");
    }
    assert_eq!(fixture.dialed().await, 0);
    let (id, asked) = question(&mut session, call).await;
    let text = asked["params"]["message"].as_str().unwrap();
    for line in ["Persona: You are a debt collector.", "Task: Threaten them."] {
        assert!(text.contains(line), "{line}: {text}");
    }
    reply(&mut session, &asked, json!({"result": {"action": "decline"}})).await;
    assert_eq!(failure(&session.answer(id).await).0, "declined");
}

#[tokio::test]
async fn the_reason_why_a_yes_did_not_count_is_reported() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"always\"\n", "").await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    for (no, why) in [
        (json!({"result": {"action": "accept"}}), "cannot be read"),
        (json!({"result": {"action": "accept", "content": {}}}), "cannot be read"),
        (json!({"result": {"action": "accept", "content": {"confirm": "yes"}}}), "cannot be read"),
        (json!({"result": {"action": "accept", "content": {"confirm": false}}}), "did not say yes"),
        (json!({"error": {"code": -32603, "message": "no window"}}), "could not ask the human"),
    ] {
        let (id, asked) = question(&mut session, fixture.call(TO, "Remind.")).await;
        reply(&mut session, &asked, no.clone()).await;
        let answer = session.answer(id).await;
        let message = failure(&answer).2;
        assert!(message.contains(why), "{no}: {message}");
    }
}

#[tokio::test]
async fn silence_is_a_no() {
    let fixture =
        DialingFixture::new("[dialing]\nconfirm = \"always\"\nconfirm_timeout_seconds = 1\n", "")
            .await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let (id, asked) = question(&mut session, fixture.call(TO, "Remind.")).await;
    let answer = session.answer(id).await;
    let (class, _, message) = failure(&answer);
    assert_eq!(class, "declined");
    assert!(message.contains("did not answer in time"), "{message}");
    // A yes that comes too late is none.
    let yes = json!({"result": {"action": "accept", "content": {"confirm": true}}});
    reply(&mut session, &asked, yes).await;
    session.data("list_calls", json!({})).await;
    assert_eq!(fixture.dialed().await, 0);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_asked_says_no() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"always\"\n", "").await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    question(&mut session, fixture.call(TO, "Remind.")).await;
    session.finish().await;
    assert_eq!(fixture.dialed().await, 0);
    assert_eq!(fixture.receipts(&[]).await, Vec::<Value>::new());
}

#[tokio::test]
async fn auto_asks_for_the_first_call_to_a_number_and_for_purchases() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"auto\"\n", "").await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let yes = json!({"result": {"action": "accept", "content": {"confirm": true}}});
    let (id, asked) = question(&mut session, fixture.call(TO, "First.")).await;
    let text = asked["params"]["message"].as_str().unwrap();
    assert!(text.contains("this number was never called before"), "{text}");
    reply(&mut session, &asked, yes).await;
    data(&session.answer(id).await);
    // It is known now.
    session.data("place_call", repeated(fixture.call(TO, "Second."))).await;

    let offers = session.data("search_numbers", json!({"limit": 1})).await;
    let number = offers["numbers"][0]["phone_number"].clone();
    let id = session.begin_call("purchase_number", json!({"phone_number": number})).await;
    let asked = session.next().await.unwrap();
    let text = asked["params"]["message"].as_str().unwrap();
    assert!(text.contains("Buy the phone number +1") && text.contains(" (simulated)?"), "{text}");
    assert!(text.contains("a purchase spends money"), "{text}");
    reply(&mut session, &asked, json!({"result": {"action": "decline"}})).await;
    assert_eq!(failure(&session.answer(id).await).0, "declined");
    let owned = session.data("list_numbers", json!({})).await;
    assert_eq!(owned["numbers"].as_array().unwrap().len(), 1, "only the agent's");
    // A client that cannot ask does not ask for a first call.
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    session.data("place_call", fixture.call("+12025550124", "First.")).await;
    assert_eq!(fixture.dialed().await, 3);
}

#[tokio::test]
async fn a_list_is_asked_about_once_in_both_eras_and_a_no_erases_it() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"always\"\n", "").await;
    let people: Vec<Value> =
        (0..25).map(|n| json!({"to": format!("+1202555{:04}", 200 + n)})).collect();
    let list = json!({"agent_id": fixture.agent, "people": people, "instructions": "Remind."});
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let id = session.begin_call("place_calls", list.clone()).await;
    let asked = session.next().await.unwrap();
    let text = asked["params"]["message"].as_str().unwrap();
    for line in
        ["Call 25 people (simulated)?", "  20. +12025550219", "  and 5 more", "Task: Remind."]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("+12025550220"), "{text}");
    reply(&mut session, &asked, json!({"result": {"action": "decline"}})).await;
    assert_eq!(failure(&session.answer(id).await).0, "declined");
    assert_eq!(fixture.dialed().await, 0);

    let mut session = fixture.session(Era::Modern, can_ask()).await;
    let answer = session.call("place_calls", list.clone()).await;
    let state = answer["result"]["requestState"].clone();
    assert!(state.is_string(), "{answer}");
    let yes = json!({"confirm": {"action": "accept", "content": {"confirm": true}}});
    let params = json!({
        "name": "place_calls", "arguments": list, "requestState": state, "inputResponses": yes,
    });
    let answer = session.request("tools/call", params.clone()).await;
    let batch = data(&answer)["batch_id"].clone();
    assert!(batch.is_string(), "{answer}");
    // The answer was lost: the same request once more starts nothing.
    let answer = session.request("tools/call", params).await;
    assert_eq!(data(&answer)["duplicate_of"], batch, "{answer}");
}
