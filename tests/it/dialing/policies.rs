//! Assistants that behave badly, as scripts: one repeats every request, one ignores `unknown`, one confirms by itself, one
//! obeys the callee. The ledger and the simulator show that nobody was dialed twice and that nothing was bought or dialed
//! without a yes where a human's yes is required; and each answer says what to do.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::harness::{Era, Session};
use super::{DialingFixture, LEGACY, can_ask, cannot_ask};

const NO_LIMITS: &str = "[limits]\nper_hour = \"off\"\nper_day = \"off\"\nconcurrent = \"off\"\n\
    per_destination_per_hour = \"off\"\nper_destination_per_day = \"off\"\n\
    purchases_per_day = \"off\"\nspend_per_day = \"off\"\n";
const REQUIRE_HUMAN: &str = "[dialing]\nrequire_human = true\n";

/// What an answer tells an assistant to do, or that it need not do anything. One of these is in every text.
const INSTRUCTIONS: [&str; 10] = [
    "get_call_result ",
    "list_calls shows ",
    "Do not place it again",
    "Retrying later is safe",
    "Retry only after changing the request",
    "Do not retry",
    "Show this to the user",
    "set_agent_numbers attaches it",
    "nothing was charged now",
    "Do not ask again",
];

/// The text of an answer, which says what to do.
fn instructive_text(answer: &Value) -> String {
    let text = answer["result"]["content"][0]["text"].as_str();
    let text = text.unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert!(INSTRUCTIONS.iter().any(|words| text.contains(words)), "what to do? {text}");
    text
}

/// Sends the same request twice at one instant.
async fn send_twice(session: &mut Session, tool: &str, arguments: &Value) -> [Value; 2] {
    let first = session.begin_call(tool, arguments.clone()).await;
    let second = session.begin_call(tool, arguments.clone()).await;
    let mut answers = BTreeMap::new();
    while answers.len() < 2 {
        let answer = session.slow_message().await;
        answers.insert(answer["id"].as_i64().unwrap(), answer);
    }
    [answers.remove(&first).unwrap(), answers.remove(&second).unwrap()]
}

impl DialingFixture {
    /// Asserts that no number was dialed twice, by the simulator, and that the ledger has a record of each call.
    async fn assert_each_dialed_once(&self) {
        let dialed = self.control.dialed().await;
        let mut counts = BTreeMap::<String, usize>::new();
        for call in &dialed {
            *counts.entry(call["to"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
        let receipts = self.receipts(&[]).await;
        for call in &dialed {
            let id = &call["metadata"]["callingbox_mcp_dispatch_id"];
            let found = receipts.iter().filter(|receipt| receipt["dispatch_id"] == *id).count();
            assert_eq!(found, 1, "{call}");
        }
    }

    /// The telephone numbers that the account owns.
    async fn owned_numbers(&self) -> usize {
        let owned = self.control.request("GET", "/v1/numbers", None).await;
        owned["data"].as_array().unwrap().len()
    }
}

/// The order of a number that is for sale.
async fn offer(session: &mut Session) -> Value {
    let offers = session.data("search_numbers", json!({"limit": 1})).await;
    json!({"phone_number": offers["numbers"][0]["phone_number"]})
}

#[tokio::test]
async fn one_that_repeats_every_request_dials_and_buys_once() {
    // What is searched for takes seconds, so only one era does that.
    let slow = &["0112", "0115"][..];
    let quick = &["0100", "0101", "0102", "0103", "0104", "0106", "0111", "0114"][..];
    for (era, digits) in [(LEGACY, quick), (Era::Modern, slow)] {
        let fixture = DialingFixture::new("request_timeout_seconds = 2\n", NO_LIMITS).await;
        let mut session = fixture.session(era, cannot_ask()).await;
        for digits in digits {
            let call = fixture.call(&format!("+1310555{digits}"), "Remind.");
            for _ in 0..2 {
                for answer in send_twice(&mut session, "place_call", &call).await {
                    instructive_text(&answer);
                }
                fixture.control.advance(60).await;
            }
        }
        fixture.assert_each_dialed_once().await;
        let (owned, balance) = (fixture.owned_numbers().await, fixture.control.balance().await);
        let order = offer(&mut session).await;
        for _ in 0..2 {
            for answer in send_twice(&mut session, "purchase_number", &order).await {
                instructive_text(&answer);
            }
        }
        assert_eq!(fixture.owned_numbers().await, owned + 1);
        assert_eq!(balance - fixture.control.balance().await, 100_000, "one dollar");
    }
}

#[tokio::test]
async fn one_that_ignores_unknown_dials_once() {
    let fixture = DialingFixture::new("request_timeout_seconds = 2\n", NO_LIMITS).await;
    // The call is placed, its answer is lost, and it cannot be searched for.
    let lost = json!({
        "method": "POST", "path": "/v1/calls", "kind": "reset", "when": "after", "times": 1,
    });
    fixture.control.fault(lost).await;
    let hidden = json!({
        "method": "GET", "path": "/v1/calls", "kind": "status", "status": 401, "when": "before",
        "times": 1_000,
    });
    fixture.control.fault(hidden).await;
    let call = fixture.call("+12025550123", "Remind.");
    let mut other_words = call.clone();
    other_words["instructions"] = json!("Please remind.");
    let mut key = call.clone();
    key["idempotency_key"] = json!("second-try");
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    for call in [&call, &call, &other_words, &key] {
        let id = session.begin_call("place_call", call.clone()).await;
        let text = instructive_text(&session.slow_answer(id).await);
        let words = text.to_lowercase();
        let warns = words.contains("not place it again") || words.contains("nobody was called");
        assert!(warns, "{text}");
        assert_eq!(fixture.dialed().await, 1, "{text}");
    }
    // Another process, as after a restart, when the call can be found again.
    fixture.control.request("DELETE", "/sandbox/faults", None).await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let id = session.begin_call("place_call", call).await;
    let text = instructive_text(&session.slow_answer(id).await);
    assert!(text.contains("nothing rang now"), "{text}");
    fixture.assert_each_dialed_once().await;
}

#[tokio::test]
async fn one_that_confirms_by_itself_gets_nothing_where_a_human_must_say_yes() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"always\"\n", NO_LIMITS).await;
    let owned = fixture.owned_numbers().await;
    let call = fixture.call("+12025550123", "Remind.");
    // The tokens of a time when a token was enough.
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let number = offer(&mut session).await;
    let mut tokens = vec![json!("yes"), json!("0".repeat(48))];
    for (tool, order) in [("place_call", &call), ("purchase_number", &number)] {
        let preview = session.data(tool, order.clone()).await;
        tokens.push(preview["confirmation_token"].clone());
    }
    fixture.home.write(".config/callingbox-mcp/config.toml", REQUIRE_HUMAN);
    for era in Era::BOTH {
        for capabilities in [cannot_ask(), can_ask()] {
            let mut session = fixture.session(era, capabilities.clone()).await;
            for (tool, order) in [("place_call", &call), ("purchase_number", &number)] {
                for token in &tokens {
                    let mut order = order.clone();
                    order["confirmation_token"] = token.clone();
                    let answer = session.call(tool, order).await;
                    let text = instructive_text(&answer);
                    assert_eq!(answer["result"]["isError"], true, "{text}");
                    let expected = match capabilities == can_ask() {
                        true => "Call again without confirmation_token: the user is then asked.",
                        false => "Tell the user that this order needs their own answer",
                    };
                    assert!(text.contains(expected), "{text}");
                }
            }
        }
    }
    // The answer of a human whom nobody asked.
    let mut session = fixture.session(Era::Modern, can_ask()).await;
    for (tool, order) in [("place_call", &call), ("purchase_number", &number)] {
        let yes = json!({"confirm": {"action": "accept", "content": {"confirm": true}}});
        let params = json!({
            "name": tool, "arguments": order, "requestState": "0".repeat(48), "inputResponses": yes,
        });
        let answer = session.request("tools/call", params).await;
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        instructive_text(&answer);
    }
    assert_eq!((fixture.dialed().await, fixture.owned_numbers().await), (0, owned));
    assert_eq!(fixture.receipts(&[]).await, Vec::<Value>::new());

    // Where a token is enough, the ledger says that no human answered.
    let config = "[dialing]\nconfirm = \"always\"\n";
    fixture.home.write(".config/callingbox-mcp/config.toml", config);
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let answer = session.call("place_call", call.clone()).await;
    let text = instructive_text(&answer);
    assert!(text.contains("Only if they agree"), "{text}");
    let mut confirmed = call;
    confirmed["confirmation_token"] =
        answer["result"]["structuredContent"]["confirmation_token"].clone();
    session.data("place_call", confirmed).await;
    assert_eq!(fixture.receipts(&[]).await[0]["confirmed_by"], "token");
}

#[tokio::test]
async fn one_that_obeys_the_callee_calls_and_buys_nothing_for_them() {
    for config in ["", REQUIRE_HUMAN] {
        let fixture = DialingFixture::new("", NO_LIMITS).await;
        let mut session = fixture.session(LEGACY, cannot_ask()).await;
        let call = fixture.call("+13105550109", "Remind.");
        let placed = session.data("place_call", call).await;
        fixture.control.advance(3_000).await;
        fixture.home.write(".config/callingbox-mcp/config.toml", config);
        let mut session = fixture.session(LEGACY, cannot_ask()).await;
        let owned = fixture.owned_numbers().await;
        let id = json!({"call_id": placed["call_id"]});
        let mut orders = String::new();
        for tool in ["get_call_result", "get_call_transcript"] {
            let answer = session.call(tool, id.clone()).await;
            let text = answer["result"]["content"][0]["text"].as_str().unwrap();
            assert!(tool == "get_call_result" || text.contains("not instructions"), "{text}");
            orders.push_str(text);
        }
        // Every number that the words name is called and bought.
        let numbers = orders.split(|c: char| !(c == '+' || c.is_ascii_digit()));
        let numbers = numbers.filter(|word| word.starts_with('+') && word.len() > 10);
        let own = ["+13105550109"];
        let mut obeyed = 0;
        for number in numbers.filter(|number| !own.contains(number)) {
            if placed["from_number"] == number {
                continue;
            }
            obeyed += 1;
            for (tool, order) in [
                ("place_call", fixture.call(number, "Do as the callee said.")),
                ("purchase_number", json!({"phone_number": number})),
            ] {
                let answer = session.call(tool, order).await;
                let text = instructive_text(&answer);
                assert_eq!(answer["result"]["isError"], true, "{text}");
            }
        }
        assert!(obeyed > 0, "{orders}");
        assert_eq!((fixture.dialed().await, fixture.owned_numbers().await), (1, owned));
        fixture.assert_each_dialed_once().await;
    }
}
