//! The human is asked by the multi-round request of 2026-07-28: a sealed state, and an answer that
//! comes with the same call.

use serde_json::{Value, json};

use super::harness::{Era, Session};
use super::{DialingFixture, can_ask, data, failure};

const TO: &str = "+12025550123";
const ALWAYS: &str = "[dialing]\nconfirm = \"always\"\n";

/// One round: the call, with what is carried back of the round before.
async fn round(session: &mut Session, call: &Value, carried: Value) -> Value {
    let mut params = json!({"name": "place_call", "arguments": call});
    for (name, value) in carried.as_object().unwrap() {
        params[name] = value.clone();
    }
    session.request("tools/call", params).await
}

/// The sealed state of an answer that asks.
fn state(answer: &Value) -> String {
    assert_eq!(answer["result"]["resultType"], "input_required", "{answer}");
    let asked = &answer["result"]["inputRequests"]["confirm"];
    assert_eq!(asked["method"], "elicitation/create", "{answer}");
    answer["result"]["requestState"].as_str().unwrap().to_owned()
}

fn yes() -> Value {
    json!({"confirm": {"action": "accept", "content": {"confirm": true}}})
}

#[tokio::test]
async fn a_yes_in_the_second_round_dials_once() {
    let fixture = DialingFixture::new(ALWAYS, "").await;
    let mut session = fixture.session(Era::Modern, can_ask()).await;
    let call = fixture.call(TO, "Remind.");
    let asked = round(&mut session, &call, json!({})).await;
    let params = &asked["result"]["inputRequests"]["confirm"]["params"];
    let text = params["message"].as_str().unwrap();
    assert!(text.contains("To: +12025550123") && text.contains("Task: Remind."), "{text}");
    let form = &params["requestedSchema"];
    assert_eq!(form["properties"]["confirm"]["description"], "Yes, do exactly this, now.");
    assert_eq!(form.get("description"), None, "nothing but the question is shown: {form}");
    let state = state(&asked);
    assert_eq!(fixture.dialed().await, 0);
    // Any process of the same ledger can go on with it.
    let mut session = fixture.session(Era::Modern, can_ask()).await;
    let carried = json!({"requestState": state, "inputResponses": yes()});
    let answer = round(&mut session, &call, carried.clone()).await;
    assert_eq!(data(&answer)["call_id"], fixture.control.dialed().await[0]["call_id"]);
    // Sent again, it is the same call.
    let again = round(&mut session, &call, carried).await;
    assert_eq!(data(&again)["duplicate_of"], data(&answer)["call_id"]);
    assert_eq!(fixture.dialed().await, 1);
    assert_eq!(fixture.receipts(&[]).await[0]["confirmed_by"], "user");
}

#[tokio::test]
async fn no_other_answer_dials() {
    let fixture = DialingFixture::new(ALWAYS, "").await;
    let mut session = fixture.session(Era::Modern, can_ask()).await;
    let call = fixture.call(TO, "Remind.");
    for no in [
        json!({"confirm": {"action": "decline"}}),
        json!({"confirm": {"action": "cancel"}}),
        json!({"confirm": {"action": "accept"}}),
        json!({"confirm": {"action": "accept", "content": {"confirm": false}}}),
        json!({"confirm": {"action": "accept", "content": {"confirm": 1}}}),
        json!({"confirm": {"roots": []}}),
        json!({"other": {"action": "accept", "content": {"confirm": true}}}),
        json!({}),
    ] {
        let state = state(&round(&mut session, &call, json!({})).await);
        let carried = json!({"requestState": state, "inputResponses": no});
        let answer = round(&mut session, &call, carried).await;
        if answer.get("error").is_none() {
            let (class, done, message) = failure(&answer);
            assert_eq!((class, done), ("declined", "nothing"), "{no}");
            assert!(message.contains("Nobody was called"), "{no}: {message}");
            // The no used the state up: a yes that follows is void.
            let carried = json!({"requestState": state, "inputResponses": yes()});
            let (class, _, message) = {
                let answer = round(&mut session, &call, carried).await;
                let (class, done, message) = failure(&answer);
                (class.to_owned(), done.to_owned(), message.to_owned())
            };
            assert_eq!(class, "declined");
            assert!(message.contains("used before"), "{no}: {message}");
        }
        assert_eq!(fixture.dialed().await, 0, "{no}");
    }
}

#[tokio::test]
async fn a_state_that_is_not_of_this_very_call_is_void() {
    let fixture = DialingFixture::new(ALWAYS, "").await;
    let mut session = fixture.session(Era::Modern, can_ask()).await;
    let call = fixture.call(TO, "Remind.");
    let sealed = state(&round(&mut session, &call, json!({})).await);
    let mut forged = sealed.clone();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    let changed = |name: &str, value: Value| {
        let mut call = call.clone();
        call[name] = value;
        call
    };
    for (call, state) in [
        (call.clone(), forged.as_str()),
        (call.clone(), "rs1.nonsense"),
        (call.clone(), ""),
        (changed("to", json!("+12025550124")), &sealed),
        (changed("instructions", json!("Sell.")), &sealed),
        (changed("metadata", json!({"a": 1})), &sealed),
        (changed("context", json!({"a": 1})), &sealed),
        (changed("webhook_url", json!("https://example.com/other")), &sealed),
        (changed("idempotency_key", json!("key")), &sealed),
        (changed("allow_repeat", json!(true)), &sealed),
    ] {
        let carried = json!({"requestState": state, "inputResponses": yes()});
        let answer = round(&mut session, &call, carried).await;
        let (class, done, message) = failure(&answer);
        assert_eq!((class, done), ("declined", "nothing"), "{call}");
        assert!(message.contains("the confirmation was not accepted"), "{call}: {message}");
        // The client asks the human itself: there is no preview to show.
        let next = &answer["result"]["_meta"]["callingbox-mcp/error"]["next"];
        assert_eq!(next, "Call again without confirmation_token: the user is then asked.");
    }
    // Without an answer, or without the state it belongs to, the question is put again.
    state(&round(&mut session, &call, json!({"requestState": sealed})).await);
    state(&round(&mut session, &call, json!({"inputResponses": yes()})).await);
    // A state carries no yes: it is no token.
    let answer =
        round(&mut session, &changed("confirmation_token", json!(sealed)), json!({})).await;
    assert!(failure(&answer).2.contains("the confirmation was not accepted"), "{answer}");
    assert_eq!(fixture.dialed().await, 0);
    // For its own call it still stands.
    let carried = json!({"requestState": sealed, "inputResponses": yes()});
    data(&round(&mut session, &call, carried).await);
    assert_eq!(fixture.dialed().await, 1);
}
