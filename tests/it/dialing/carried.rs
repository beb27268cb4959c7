//! A client that cannot ask gets a preview with a token, which the model carries back.

use serde_json::{Value, json};

use super::harness::{Era, Session};
use super::{DialingFixture, LEGACY, can_ask, cannot_ask, data, failure};

const TO: &str = "+12025550123";

/// The preview and its token.
async fn preview(session: &mut Session, call: &Value) -> (String, Value) {
    let data = session.data("place_call", call.clone()).await;
    assert_eq!((data.get("call_id"), data.get("outcome")), (None, None), "{data}");
    let token = data["confirmation_token"].as_str().unwrap();
    (token.to_owned(), data)
}

fn with(call: &Value, name: &str, value: Value) -> Value {
    let mut call = call.clone();
    call[name] = value;
    call
}

#[tokio::test]
async fn a_token_dials_exactly_what_was_shown_and_once() {
    for era in Era::BOTH {
        // No repetition is answered with the first, so that reuse shows.
        let config = "[dialing]\nconfirm = \"always\"\nrepeat_window_seconds = 0\n";
        let fixture = DialingFixture::new(config, "").await;
        let mut session = fixture.session(era, cannot_ask()).await;
        let call = fixture.call(TO, "Remind.");
        let (token, data) = preview(&mut session, &call).await;
        let note = data["note"].as_str().unwrap();
        assert!(note.starts_with("Nobody was called yet."), "{note}");
        assert!(note.contains("To: +12025550123") && note.contains("Task: Remind."), "{note}");
        let expires_at = data["expires_at"].as_str().unwrap();
        assert!(expires_at.starts_with("20") && note.contains(expires_at), "{data}");
        assert!(token.len() <= 48, "{token}");
        let shown = data["preview"].as_array().unwrap();
        assert!(shown.contains(&json!({"name": "Task", "value": "Remind."})), "{data}");
        assert_eq!(fixture.dialed().await, 0);

        let mut forged = token.clone();
        let last = if forged.pop() == Some('0') { '1' } else { '0' };
        forged.push(last);
        for (call, token) in [
            (call.clone(), forged.as_str()),
            (call.clone(), "yes"),
            (with(&call, "to", json!("+12025550124")), &token),
            (with(&call, "instructions", json!("Sell.")), &token),
            (with(&call, "allow_repeat", json!(true)), &token),
            (with(&call, "webhook_url", json!("https://example.com/other")), &token),
        ] {
            let answer =
                session.call("place_call", with(&call, "confirmation_token", json!(token))).await;
            let (class, done, message) = failure(&answer);
            assert_eq!((class, done), ("declined", "nothing"), "{call}");
            assert!(
                message.contains("not accepted") && message.contains("Nobody was called"),
                "{message}"
            );
        }
        assert_eq!(fixture.dialed().await, 0);

        // Another process of the same account takes it, once, by whatever name it reaches the simulator.
        let confirmed = with(&call, "confirmation_token", json!(token));
        let elsewhere = fixture.sandbox.url().replace("127.0.0.1", "localhost");
        let mut session = fixture.session_at(&elsewhere, era, cannot_ask()).await;
        let placed = session.data("place_call", confirmed.clone()).await;
        assert_eq!(placed["call_id"], fixture.control.dialed().await[0]["call_id"]);
        let answer = session.call("place_call", confirmed).await;
        assert!(failure(&answer).2.contains("used before"), "{answer}");
        assert_eq!(fixture.dialed().await, 1);
        assert_eq!(fixture.receipts(&[]).await[0]["confirmed_by"], "token");

        // An organization that begins again, with the same ids, is another account.
        let (token, _) = preview(&mut session, &call).await;
        fixture.control.request("POST", "/sandbox/reset", None).await;
        let flag = format!("--sandbox={}", fixture.sandbox.url());
        let mut elsewhere = Session::with(LEGACY, &[&flag], &[]).await;
        let agent = elsewhere.outbound_agent(json!({"answered": "boolean"})).await;
        elsewhere.finish_well().await;
        assert_eq!(agent, fixture.agent);
        let mut session = fixture.session(era, cannot_ask()).await;
        let answer =
            session.call("place_call", with(&call, "confirmation_token", json!(token))).await;
        assert!(failure(&answer).2.contains("not accepted"), "{answer}");
        assert_eq!(fixture.dialed().await, 0);
    }
}

#[tokio::test]
async fn a_token_is_not_valid_for_a_changed_agent() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"always\"\n", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let call = json!({"agent_id": fixture.agent, "to": TO});
    let (token, data) = preview(&mut session, &call).await;
    let note = data["note"].as_str().unwrap();
    assert!(note.contains("Task: Remind of the appointment."), "{note}");
    let mut token = token;
    for (name, value) in [
        ("instructions", json!("Threaten them.")),
        ("webhook_url", json!("https://evil.example/hook")),
        ("webhook_url", json!("https://evil.example/other")),
        (
            "tools",
            json!([{"type": "http", "name": "t", "description": "d", "url": "https://a.example"}]),
        ),
        ("voice", json!("gravel")),
    ] {
        session.data("update_agent", json!({"agent_id": fixture.agent, name: value})).await;
        let confirmed = with(&call, "confirmation_token", json!(token));
        let answer = session.call("place_call", confirmed).await;
        let (class, done, message) = failure(&answer);
        assert_eq!((class, done), ("declined", "nothing"), "{name}");
        assert!(message.contains("does not match this request"), "{name}: {message}");
        token = preview(&mut session, &call).await.0;
    }
    assert_eq!(fixture.dialed().await, 0);
}

#[tokio::test]
async fn where_only_a_human_counts_no_token_does() {
    let lenient = "[dialing]\nconfirm = \"always\"\n";
    let strict = "[dialing]\nconfirm = \"always\"\nrequire_human = true\n";
    let fixture = DialingFixture::new(lenient, "").await;
    let call = fixture.call(TO, "Remind.");
    let (token, _) = preview(&mut fixture.session(LEGACY, cannot_ask()).await, &call).await;
    fixture.home.write(".config/callingbox-mcp/config.toml", strict);

    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let answer = session.call("place_call", call.clone()).await;
    let (class, done, message) = failure(&answer);
    assert_eq!((class, done), ("refused_by_policy", "nothing"));
    assert!(
        message.contains("require_human") && message.contains("Nobody was called"),
        "{message}"
    );
    // A token from before is no human's answer, whether or not the client can ask.
    let confirmed = with(&call, "confirmation_token", json!(token));
    let answer = session.call("place_call", confirmed.clone()).await;
    assert_eq!(failure(&answer).0, "refused_by_policy");
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let answer = session.call("place_call", confirmed).await;
    assert!(failure(&answer).2.contains("only the user's own answer"), "{answer}");
    assert_eq!(fixture.dialed().await, 0);
}

#[tokio::test]
async fn a_price_that_is_not_said_is_no_price_of_nothing() {
    let policy = "[limits]\nspend_per_day = '0.50'\n";
    let worlds = [("[dialing]\nconfirm = \"auto\"\n", ""), ("", policy)];
    for (config, policy) in worlds {
        let fixture = DialingFixture::new(config, policy).await;
        let mut session = fixture.session(LEGACY, cannot_ask()).await;
        let number = "+12025550188";
        let silent = json!({
            "method": "GET", "path": "/v1/numbers/available", "kind": "status", "status": 200,
            "body": [{"phone_number": number}], "times": 10,
        });
        fixture.control.fault(silent).await;
        let answer = session.call("purchase_number", json!({"phone_number": number})).await;
        if policy.is_empty() {
            let note = data(&answer)["note"].as_str().unwrap();
            assert!(note.contains("Cost: price unknown") && !note.contains("$0.00"), "{note}");
        } else {
            let (class, done, message) = failure(&answer);
            assert_eq!((class, done), ("refused_by_policy", "nothing"), "{answer}");
            assert!(message.contains("spend_per_day"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_model_that_returns_its_own_tokens_does_not_buy_on_and_on() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"auto\"\n", "").await;
    for era in Era::BOTH {
        let mut session = fixture.session(era, cannot_ask()).await;
        let mut bought = 0;
        let refused = loop {
            let offers = session.data("search_numbers", json!({"limit": 1})).await;
            let number = json!({"phone_number": offers["numbers"][0]["phone_number"]});
            let shown = session.call("purchase_number", number.clone()).await;
            if shown["result"]["isError"] == true {
                break shown;
            }
            let token = data(&shown)["confirmation_token"].clone();
            session.data("purchase_number", with(&number, "confirmation_token", token)).await;
            bought += 1;
        };
        assert_eq!(bought, if era == Era::BOTH[0] { 3 } else { 0 });
        let (class, done, message) = failure(&refused);
        assert_eq!((class, done), ("refused_by_policy", "nothing"));
        assert!(message.contains("limits.purchases_per_day"), "{message}");
        assert!(message.contains("Possible again at "), "{message}");
    }
}

#[tokio::test]
async fn a_purchase_takes_a_token_in_auto() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"auto\"\n", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let offers = session.data("search_numbers", json!({"limit": 2})).await;
    let number = |at: usize| json!({"phone_number": offers["numbers"][at]["phone_number"]});
    let data = session.data("purchase_number", number(0)).await;
    assert_eq!(data["purchased"], false);
    let says = |data: &Value, words: &str| data["note"].as_str().unwrap().contains(words);
    assert!(says(&data, "Buy the phone number") && says(&data, "(simulated)?"), "{data}");
    let token = data["confirmation_token"].clone();
    let other = with(&number(1), "confirmation_token", token.clone());
    let answer = session.call("purchase_number", other).await;
    assert!(failure(&answer).2.contains("nothing was bought"), "{answer}");
    let owned = session.data("list_numbers", json!({})).await;
    assert_eq!(owned["numbers"].as_array().unwrap().len(), 1);
    let bought =
        session.data("purchase_number", with(&number(0), "confirmation_token", token)).await;
    assert_eq!(bought["purchased"], true);
    assert_eq!(bought["simulated"], true);
    // Again: it is that one, and nothing is charged.
    let balance = fixture.control.balance().await;
    let again = session.data("purchase_number", number(0)).await;
    assert_eq!(again["purchased"], true);
    assert_eq!(again["simulated"], true);
    assert_eq!(again["number"]["number_id"], bought["number"]["number_id"]);
    assert_eq!(fixture.control.balance().await, balance);
}

#[tokio::test]
async fn a_second_number_before_the_first_agent_is_refused_for_that_reason() {
    let mut session = Session::modern().await;
    let offers = session.data("search_numbers", json!({"limit": 2})).await;
    let order = |index: usize| json!({"phone_number": offers["numbers"][index]["phone_number"]});
    session.data("purchase_number", order(0)).await;
    let account = session.data("get_account", json!({})).await;
    assert_eq!(account["spent_milli_cents"], 100_000, "{account}");
    let refused = session.failure("purchase_number", order(1)).await;
    assert!(refused["message"].as_str().unwrap().contains("create an agent first"), "{refused}");
    session.data("create_agent", json!({"name": "Desk", "type": "outbound"})).await;
    session.data("purchase_number", order(1)).await;
    let account = session.data("get_account", json!({})).await;
    assert_eq!(account["spent_milli_cents"], 200_000, "{account}");
    session.finish_well().await;
}
