//! What a reader who has only the texts does next: for each situation a session, its answers as whole texts, and one line
//! on the reader's next step. `job` has the main job message by message, and `take_over` the moving of numbers.

use std::path::Path;

use callingbox_sandbox::Options;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::harness::{Era, Reader, Session, within_limit};

fn config(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn flag(path: &Path) -> [&str; 2] {
    ["--config", path.to_str().unwrap()]
}

/// A session with an outbound agent that extracts two fields.
async fn reader_with_agent(flags: &[&str]) -> (Reader, Value) {
    let mut session = Session::on_simulator(Era::Modern, flags, Options::default()).await;
    let agent =
        json!(session.outbound_agent(json!({"confirmed": "boolean", "new_time": "string"})).await);
    let mut reader = Reader::new(session);
    reader.name(&agent, "AGENT");
    (reader, agent)
}

/// Places a call, moves the clock, and reads its result.
async fn call_and_result(
    reader: &mut Reader,
    agent: &Value,
    digits: &str,
    placed: &str,
    ended: &str,
) {
    let order = json!({"agent_id": agent, "to": format!("+1310555{digits}")});
    let call = reader.call("place_call", order, placed).await;
    let call = call["structuredContent"]["call_id"].clone();
    reader.name(&call, &format!("CALL-{digits}"));
    reader.session.control().advance(3_000).await;
    reader.call("get_call_result", json!({"call_id": call}), ended).await;
}

#[tokio::test]
async fn each_outcome_says_what_to_do() {
    let (mut reader, agent) = reader_with_agent(&[]).await;
    let waits = "waits with get_call_result";
    for (digits, then) in [
        ("0100", "tells the user that it is confirmed"),
        ("0101", "asks whether to try again later, and then repeats with allow_repeat"),
        ("0102", "asks whether to try again, and then repeats with allow_repeat"),
        ("0103", "tells the user that no message was left, and offers to change voicemail_action"),
        ("0104", "tells the user that the carrier failed, and offers another try"),
        ("0105", "reads the transcript, since the result is not there"),
        ("0106", "tells the user that the call was canceled"),
        ("0108", "reads the transcript or tells the user that it may have been the wrong person"),
        ("0109", "reports the values as words of the callee, and calls nobody"),
    ] {
        call_and_result(&mut reader, &agent, digits, waits, then).await;
        reader.session.control().credit(10_000_000).await;
    }
    let leave = json!({"agent_id": agent, "voicemail_action": "leave_message", "voice": "nova"});
    reader.call("update_agent", leave, "tells the user what changed").await;
    let then = "tells the user which words were left on the machine";
    call_and_result(&mut reader, &agent, "0103", "waits", "asks whether to call again").await;
    let again = json!({"agent_id": agent, "to": "+13105550103", "allow_repeat": true});
    let call = reader.call("place_call", again, waits).await;
    let call = call["structuredContent"]["call_id"].clone();
    reader.name(&call, "CALL-AGAIN");
    reader.session.control().advance(3_000).await;
    reader.call("get_call_result", json!({"call_id": call}), then).await;
    insta::assert_snapshot!("each_outcome", reader.transcript());
    reader.session.finish_well().await;
}

#[tokio::test]
async fn a_call_that_runs_says_how_far_it_is() {
    let (mut reader, agent) = reader_with_agent(&[]).await;
    let order = json!({
        "agent_id": agent, "to": "+13105550107", "metadata": {"name": "Sam Doe"},
        "context": {"patient": "Sam Doe"},
    });
    let call = reader.call("place_call", order.clone(), "waits with get_call_result").await;
    let call = call["structuredContent"]["call_id"].clone();
    reader.name(&call, "CALL");
    let result = json!({"call_id": call, "wait_seconds": 0});
    reader.call("get_call_result", result.clone(), "waits again").await;
    reader.session.control().advance(90).await;
    reader.call("get_call_result", result, "tells the user that it goes on, and waits").await;
    let last = json!({"call_id": call, "last": 2});
    reader.call("get_call_transcript", last, "tells the user what is being said").await;
    let then = "keeps to the first call: nothing rang";
    reader.call("place_call", order.clone(), then).await;
    let mut other = order;
    other["instructions"] = json!("Ask for the address.");
    let then = "asks the user whether to ring a second time, and then sets allow_repeat";
    reader.call("place_call", other, then).await;
    reader.session.control().advance(3_000).await;
    let listed = json!({"number": "+13105550107"});
    reader.call("list_calls", listed, "tells the user what the call cost").await;
    insta::assert_snapshot!("a_call_that_runs", reader.transcript());
    reader.session.finish_well().await;
}

#[tokio::test]
async fn failures_say_whether_anything_was_done() {
    let settings = config("request_timeout_seconds = 2\n");
    let (mut reader, agent) = reader_with_agent(&flag(settings.path())).await;
    let order = |digits: &str| json!({"agent_id": agent, "to": format!("+1310555{digits}")});
    reader.call("place_call", order("0110"), "tries again later").await;
    let call = reader.call("place_call", order("0107"), "waits for the end").await;
    reader.name(&call["structuredContent"]["call_id"], "CALL");
    reader.session.control().credit(250_000).await;
    let then = "waits for the end of CALL with get_call_result, then repeats; or asks the user to add credit";
    reader.call("place_call", order("0100"), then).await;
    reader.session.control().advance(3_000).await;
    reader.session.control().credit(10_000_000).await;
    let then = "looks whether the call appears with list_calls, and does not call again";
    reader.call("place_call", order("0115"), then).await;
    reader.call("place_call", order("0115"), then).await;
    let then = "tells the user to call the emergency number themselves";
    let emergency = json!({"agent_id": agent, "to": "911"});
    reader.call("place_call", emergency, then).await;
    let premium = json!({"agent_id": agent, "to": "+19005550100"});
    reader.call("place_call", premium, "tells the user that such numbers are never called").await;
    let local = json!({"agent_id": agent, "to": "(310) 555-0100"});
    reader.call("place_call", local, "writes the number with + and the country code").await;
    let nobody = json!({"call_id": "3c94e7aa-1f65-4b0d-b2c7-9d80e46f1a32"});
    reader.call("get_call_result", nobody, "finds the id with list_calls").await;
    let idle = json!({"name": "Idle", "type": "outbound"});
    let idle = reader.call("create_agent", idle, "buys or attaches a number").await;
    let idle = idle["structuredContent"]["agent_id"].clone();
    reader.name(&idle, "IDLE");
    let order = json!({"agent_id": idle, "to": "+13105550100"});
    reader.call("place_call", order, "attaches a number with set_agent_numbers").await;
    insta::assert_snapshot!("what_fails", reader.transcript());
    reader.session.finish_after_missing_answers(2).await;
}

#[tokio::test]
async fn an_order_that_needs_a_yes_shows_its_details() {
    let (mut setup, agent) = reader_with_agent(&[]).await;
    let settings = config("[dialing]\nconfirm = \"always\"\n");
    let mut session = setup.session.start_beside(&flag(settings.path()));
    session.open(Era::Modern).await;
    let mut reader = Reader::new(session);
    reader.name(&agent, "AGENT");
    let mut order = json!({
        "agent_id": agent, "to": "+13105550100", "instructions": "Ask whether Tuesday suits.",
    });
    let shown = reader.call("place_call", order.clone(), "shows the user the question").await;
    let token = shown["structuredContent"]["confirmation_token"].clone();
    order["confirmation_token"] = token.clone();
    let mut other = order.clone();
    other["instructions"] = json!("Sell something.");
    reader.call("place_call", other, "asks for a new preview, and shows it").await;
    let call = reader.call("place_call", order.clone(), "waits with get_call_result").await;
    reader.name(&call["structuredContent"]["call_id"], "CALL");
    reader.call("place_call", order, "keeps to the first call").await;
    let offers = setup.session.data("search_numbers", json!({"area_code": "303"})).await;
    let mut number = json!({"phone_number": offers["numbers"][0]["phone_number"]});
    let then = "shows the user price and limits";
    let shown = reader.call("purchase_number", number.clone(), then).await;
    number["confirmation_token"] = shown["structuredContent"]["confirmation_token"].clone();
    let bought = reader.call("purchase_number", number.clone(), "attaches it to an agent").await;
    reader.name(&bought["structuredContent"]["number"]["number_id"], "NUMBER");
    reader.call("purchase_number", number, "tells the user that they own it").await;
    let gone = json!({"phone_number": "+13035550199", "confirmation_token": "x"});
    reader.call("purchase_number", gone, "asks for a new preview").await;
    let transcript = replace_times(reader.transcript());
    insta::assert_snapshot!("an_order_that_needs_a_yes", transcript);
    reader.session.finish_well().await;
    setup.session.finish_well().await;
}

/// The local time at the destination is that of the test's run or of the simulator's clock.
fn replace_times(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once("Local time there: ") {
        Some((before, _)) => format!("{before}Local time there: TIME"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn lists_say_whether_that_is_all() {
    let mut reader = Reader::new(Session::modern().await);
    let nothing = "tells the user that there is none";
    for tool in ["list_agents", "list_numbers", "list_calls"] {
        reader.call(tool, json!({}), nothing).await;
    }
    reader.call("list_calls", json!({"outcomes": ["busy", "voicemail"]}), nothing).await;
    reader.call("list_agents", json!({"type": "inbound"}), nothing).await;
    let search = json!({"area_code": "303", "limit": 2});
    let offers = reader.call("search_numbers", search, "asks the user which one").await;
    let phone = offers["structuredContent"]["numbers"][0]["phone_number"].clone();
    let bought =
        reader.call("purchase_number", json!({"phone_number": phone}), "attaches it").await;
    let number = bought["structuredContent"]["number"]["number_id"].clone();
    reader.name(&number, "NUMBER");
    for (kind, name) in [("outbound", "Reminders"), ("inbound", "Reception")] {
        let agent = json!({
            "name": name, "type": kind, "number_ids": [number], "returns": {"reason": "string"},
        });
        let agent = reader.call("create_agent", agent, "uses it").await;
        reader.name(&agent["structuredContent"]["agent_id"], &name.to_uppercase());
    }
    let agents = reader.session.data("list_agents", json!({})).await;
    let agents: Vec<Value> = agents["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| agent["agent_id"].clone())
        .collect();
    for to in ["+13105550101", "+13105550100"] {
        let order = json!({"agent_id": agents[1], "to": to, "metadata": {"name": "Sam Doe"}});
        let call = reader.session.data("place_call", order).await;
        reader.name(&call["call_id"], &format!("CALL-{to}"));
    }
    let inbound = json!({"to": phone, "from": "+12125550100"});
    let call = reader.call("simulate_inbound_call", inbound, "waits for its end").await;
    let inbound = call["structuredContent"]["call_id"].clone();
    reader.name(&inbound, "CALL-IN");
    reader.session.control().advance(3_000).await;
    let then = "tells the user who called and why";
    reader.call("get_call_result", json!({"call_id": inbound}), then).await;
    let last = json!({"call_id": inbound, "last": 2});
    reader.call("get_call_transcript", last, "sees that the caller spoke").await;
    reader.call("list_calls", json!({"limit": 2}), "says that there are more").await;
    let who = json!({"direction": "inbound"});
    reader.call("list_calls", who, "tells the user who called, and reads the result").await;
    let week = json!({"since": "2026-11-01T00:00:00Z", "limit": 100});
    reader.call("list_calls", week, "tells the user the cost of the week").await;
    let none = json!({"until": "2026-11-01T00:00:00Z"});
    reader.call("list_calls", none, "tells the user that there was no such call").await;
    reader.call("list_agents", json!({}), "knows which agent was used when").await;
    reader.call("list_numbers", json!({}), "knows who uses the number").await;
    reader.call("get_agent", json!({"agent_id": agents[1]}), "names the voice").await;
    let account = reader.session.call("get_account", json!({})).await;
    // It is in the zone of the machine.
    reader.name(&account["result"]["structuredContent"]["now"], "NOW");
    let then = "tells the user the limits and the spending";
    reader.note("get_account", &json!({}), &account, then);
    let archive = json!({"agent_id": agents[0]});
    reader.call("archive_agent", archive, "tells the user that the number is kept").await;
    insta::assert_snapshot!("lists", reader.transcript());
    reader.session.finish_well().await;
}

#[tokio::test]
async fn webhooks_say_what_they_send() {
    let flags = ["--toolsets", "calls,agents,numbers,webhooks"];
    let options = Options { allow_private_webhooks: true, ..Options::default() };
    let mut session = Session::on_simulator(Era::Modern, &flags, options).await;
    let agent = session.outbound_agent(json!({"confirmed": "boolean"})).await;
    let mut reader = Reader::new(session);
    reader.call("list_webhooks", json!({}), "tells the user that there is none").await;
    let url = json!({"url": "http://127.0.0.1:9/hook"});
    reader.call("create_webhook", url, "takes an https address").await;
    // Nothing answers there.
    let url = json!({"url": "https://127.0.0.1:9/hook", "enabled_events": ["call.busy"]});
    let webhook = reader.session.call("create_webhook", url.clone()).await;
    let data = &webhook["result"]["structuredContent"];
    reader.name(&data["webhook_id"], "WEBHOOK");
    reader.name(&data["signing_secret"], "SECRET");
    let webhook_id = data["webhook_id"].clone();
    reader.note("create_webhook", &url, &webhook, "gives the user the secret, once");
    let order = json!({"agent_id": agent, "to": "+13105550102"});
    let call = reader.session.data("place_call", order).await;
    reader.name(&call["call_id"], "CALL");
    reader.session.control().advance(5).await;
    let list = json!({"call_id": call["call_id"]});
    let delivery = within_limit("an attempt to deliver", async {
        loop {
            let listed = reader.session.data("list_webhook_deliveries", list.clone()).await;
            let delivery = &listed["deliveries"][0];
            if delivery["attempt_count"] == 1 {
                return delivery["delivery_id"].clone();
            }
        }
    })
    .await;
    reader.name(&delivery, "DELIVERY");
    let again = json!({"delivery_id": delivery});
    reader
        .call("redeliver_webhook", again, "tells the user that the receiver does not accept it yet")
        .await;
    let off = json!({"webhook_id": webhook_id, "status": "disabled"});
    reader.call("update_webhook", off, "tells the user that it is off").await;
    reader.call("delete_webhook", json!({"webhook_id": webhook_id}), "is done").await;
    insta::assert_snapshot!("webhooks", reader.transcript());
    let (rest, status, _) = reader.session.finish().await;
    assert_eq!((rest, status.code()), (vec![], Some(0)));
}
