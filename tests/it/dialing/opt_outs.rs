//! People who asked not to be called again are not called: the result of a call, the tool and the terminal put them on the
//! list, and it holds for every tool, process and batch.

use serde_json::{Value, json};

use super::harness::{Era, Session};
use super::{DialingFixture, LEGACY, can_ask, cannot_ask, data, failure, repeated};

/// The number whose person asks not to be called again.
const ASKS: &str = "+13105550116";
const MASKED: &str = "+131******16";
const OTHER: &str = "+13105550120";

/// A session with an agent whose results say whether the person asked not to be called again.
async fn fixture(config: &str) -> (DialingFixture, Session) {
    let mut fixture = DialingFixture::new(config, "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let returns = json!({"answered": "boolean", "do_not_call": "boolean"});
    fixture.agent = session.outbound_agent(returns).await;
    (fixture, session)
}

async fn place(fixture: &DialingFixture, session: &mut Session, to: &str, task: &str) -> Value {
    let placed = session.data("place_call", fixture.call(to, task)).await;
    fixture.control.advance(3_000).await;
    placed["call_id"].clone()
}

async fn is_refused(fixture: &DialingFixture, session: &mut Session, to: &str) -> String {
    let before = fixture.dialed().await;
    let answer = session.call("place_call", repeated(fixture.call(to, "Something else."))).await;
    let (class, done, message) = failure(&answer);
    assert_eq!((class, done), ("refused_by_policy", "nothing"), "{answer}");
    assert!(message.contains("do_not_call") && message.contains("Nobody was called"), "{message}");
    assert_eq!(fixture.dialed().await, before);
    assert!(!answer.to_string().contains("remove"), "{answer}");
    message.to_owned()
}

#[tokio::test]
async fn who_asks_on_a_call_is_not_called_again_and_the_result_says_why() {
    let (fixture, mut session) = fixture("").await;
    let call = place(&fixture, &mut session, ASKS, "Remind.").await;
    let read = session.call("get_call_result", json!({"call_id": call})).await;
    assert_eq!(data(&read)["result"]["do_not_call"], true);
    let text = read["result"]["content"][0]["text"].as_str().unwrap();
    for part in ["do-not-call list", MASKED, "Please do not call me again", "callingbox-mcp optout"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let fence = text.find("<<<").unwrap();
    assert!(fence < text.find("Please do not call me").unwrap(), "{text}");
    assert!(!text.contains("remove"), "{text}");
    let message = is_refused(&fixture, &mut session, ASKS).await;
    assert!(message.contains(call.as_str().unwrap()), "{message}");
    // The person next door, and who only had the wrong number, can be called.
    place(&fixture, &mut session, OTHER, "Remind.").await;
    session.finish_well().await;

    // Another process, and the terminal.
    let mut other = fixture.session(Era::Modern, can_ask()).await;
    is_refused(&fixture, &mut other, ASKS).await;
    other.finish_well().await;
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let checked = fixture.home.print(&["policy", "check", ASKS, &flag]).await;
    assert!(checked.contains("decision   refuse") && checked.contains("do_not_call"), "{checked}");
    let listed = fixture.home.print(&["optout", "list", &flag]).await;
    assert!(listed.contains(MASKED) && !listed.contains(ASKS), "{listed}");
    let listed = fixture.home.print(&["optout", "list", "--full", &flag]).await;
    assert!(listed.contains(ASKS), "{listed}");
    let exported = fixture.home.print(&["optout", "export", &flag]).await;
    assert!(exported.contains(&format!("\n{ASKS},")), "{exported}");
    for receipt in fixture.receipts(&[]).await {
        assert!(!receipt.to_string().contains(ASKS), "{receipt}");
    }
}

#[tokio::test]
async fn a_result_that_nobody_read_is_read_before_the_number_is_dialed() {
    let (fixture, mut session) = fixture("").await;
    place(&fixture, &mut session, ASKS, "Remind.").await;
    session.finish_well().await;
    let mut other = fixture.session(LEGACY, cannot_ask()).await;
    is_refused(&fixture, &mut other, ASKS).await;
    other.finish_well().await;
}

#[tokio::test]
async fn a_wrong_person_a_machine_and_an_angry_callee_are_not_recorded() {
    let (fixture, mut session) = fixture("").await;
    for digits in ["0100", "0103", "0108", "0109"] {
        let to = format!("+1310555{digits}");
        let call = place(&fixture, &mut session, &to, "Remind.").await;
        session.data("get_call_result", json!({"call_id": call})).await;
        session.data("place_call", repeated(fixture.call(&to, "Again."))).await;
        fixture.control.credit(100_000_000).await;
    }
    session.finish_well().await;
}

#[tokio::test]
async fn the_tool_records_the_other_party_of_a_call_and_a_number_after_a_yes() {
    let (fixture, session) = fixture("").await;
    session.finish_well().await;
    let config = "[dialing]\nconfirm = \"auto\"\n";
    fixture.home.write(".config/callingbox-mcp/config.toml", config);
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let call = place(&fixture, &mut session, OTHER, "Remind.").await;
    let answer = session.call("record_opt_out", json!({"call_id": call})).await;
    assert_eq!(data(&answer)["recorded"], true);
    assert!(!answer.to_string().contains(OTHER), "{answer}");
    is_refused(&fixture, &mut session, OTHER).await;
    // A number that no call names needs a yes.
    let number = json!({"number": "+13105550121", "reason": "wrote a letter"});
    let asked = session.data("record_opt_out", number.clone()).await;
    assert_eq!(asked["recorded"], false);
    let mut agreed = number;
    agreed["confirmation_token"] = asked["confirmation_token"].clone();
    assert_eq!(session.data("record_opt_out", agreed).await["recorded"], true);
    is_refused(&fixture, &mut session, "+13105550121").await;
    for wrong in [json!({}), json!({"call_id": call, "number": OTHER})] {
        let answer = session.call("record_opt_out", wrong).await;
        assert_eq!(failure(&answer).0, "invalid_argument");
    }
    session.finish_well().await;
}

#[tokio::test]
async fn a_caller_who_asks_is_not_called_back() {
    let (fixture, mut session) = fixture("").await;
    let inbound = json!({
        "name": "Desk", "type": "inbound", "returns": {"do_not_call": "boolean"},
    });
    let agent = session.data("create_agent", inbound).await["agent_id"].clone();
    let numbers = session.data("list_numbers", json!({})).await;
    let number = &numbers["numbers"][0];
    let attach = json!({"agent_id": agent, "attach": [number["number_id"]]});
    session.data("set_agent_numbers", attach).await;
    let ringing = json!({"to": number["e164"], "from": ASKS});
    let call = session.data("simulate_inbound_call", ringing).await["call_id"].clone();
    fixture.control.advance(3_000).await;
    session.data("get_call_result", json!({"call_id": call})).await;
    is_refused(&fixture, &mut session, ASKS).await;
    session.finish_well().await;
}

#[tokio::test]
async fn a_waiting_row_is_refused_when_the_opt_out_arrives() {
    let (fixture, mut session) = fixture("").await;
    let call = place(&fixture, &mut session, OTHER, "Remind.").await;
    let start = fixture.control.now().await + jiff::SignedDuration::from_hours(2);
    let list = json!({
        "agent_id": fixture.agent, "start_at": start.to_string(), "allow_repeat": true,
        "people": [{"to": OTHER}, {"to": "+13105550122"}],
    });
    let batch = session.data("place_calls", list).await["batch_id"].clone();
    session.data("record_opt_out", json!({"call_id": call})).await;
    let row = super::harness::within_limit("the row is refused", async {
        loop {
            let batch = session.data("get_batch", json!({"batch_id": batch})).await;
            let row = batch["rows"][0].clone();
            if row["state"] == "refused" {
                return row;
            }
        }
    })
    .await;
    assert!(row.to_string().contains("asked not to be called again"), "{row}");
    // A new list does not begin with the number.
    let list =
        json!({"agent_id": fixture.agent, "people": [{"to": OTHER}, {"to": "+13105550123"}]});
    let batch = session.data("place_calls", list).await["batch_id"].clone();
    let report = session.data("get_batch", json!({"batch_id": batch})).await;
    assert_eq!(report["rows"][0]["state"], "refused", "{report}");
    session.finish_well().await;
}

#[tokio::test]
async fn the_terminal_adds_imports_and_does_not_remove_without_a_person() {
    let (fixture, mut session) = fixture("").await;
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let added = fixture.home.print(&["optout", "add", OTHER, "--reason", "wrote", &flag]).await;
    assert!(added.contains("+131******20 is not called again"), "{added}");
    fixture.home.write("list.csv", &format!("number,reason\n{OTHER},x\n+13105550124,y\n"));
    let path = fixture.home.path().join("list.csv");
    let imported = fixture.home.print(&["optout", "import", path.to_str().unwrap(), &flag]).await;
    assert_eq!(imported, "1 recorded, 1 known already.\n");
    is_refused(&fixture, &mut session, OTHER).await;
    is_refused(&fixture, &mut session, "+13105550124").await;
    let error = fixture.home.run_failing(&["optout", "add", "911", &flag]).await;
    assert!(error.contains("In an emergency, dial the number on a telephone yourself."), "{error}");
    let error = fixture.home.run_failing(&["optout", "remove", OTHER, &flag]).await;
    assert!(error.contains("only in a terminal"), "{error}");
    is_refused(&fixture, &mut session, OTHER).await;
    session.finish_well().await;
}

#[tokio::test]
async fn a_new_outbound_agent_says_whether_not_to_call_again_unless_the_user_does_not_want_it() {
    for (config, asks) in [("", true), ("[dialing]\nask_do_not_call = false\n", false)] {
        let fixture = DialingFixture::new(config, "").await;
        let mut session = fixture.session(LEGACY, cannot_ask()).await;
        for (kind, expected) in [("outbound", asks), ("inbound", false)] {
            let agent = json!({"name": "A", "type": kind, "returns": {"ok": "boolean"}});
            let answer = session.call("create_agent", agent).await;
            let agent = json!({"agent_id": data(&answer)["agent_id"]});
            let text = answer["result"]["content"][0]["text"].as_str().unwrap();
            assert_eq!(text.contains("do_not_call"), expected, "{text}");
            let agent = session.data("get_agent", agent).await;
            assert_eq!(agent["returns"]["do_not_call"] == "boolean", expected, "{agent}");
        }
        session.finish_well().await;
    }
}
