//! The call card as clients read it: the document, what tools say about it, how it is switched off, and what
//! `follow_call` answers. `dialing/card.rs` tests the yes, and `tests/card` the document in a browser.

use callingbox_mcp::mcp::card;
use callingbox_sandbox::Options;
use serde_json::{Value, json};

use crate::dialing::shows_card;
use crate::harness::{Era, Home, Session};

const UI: &str = "io.modelcontextprotocol/ui";

#[test]
fn the_document_is_whole_and_needs_nothing_from_outside() {
    let text = card::DOCUMENT;
    assert!(text.len() < 40 * 1024, "{} bytes", text.len());
    assert!(text.starts_with("<!doctype html>") && text.trim_end().ends_with("</html>"));
    assert_eq!((text.matches("<html").count(), text.matches("<script>").count()), (1, 1));
    for word in [
        "http:",
        "https:",
        "src=",
        "href=",
        "url(",
        "@import",
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "XMLHttpRequest",
        "WebSocket",
        "localStorage",
        "sessionStorage",
        "cookie",
        "100vh",
    ] {
        assert!(!text.contains(word), "the document has {word}");
    }
    for word in ["\"ui/initialize\"", "ui/notifications/initialized", "\"2026-01-26\"", "appInfo"] {
        assert!(text.contains(word), "the document lacks {word}");
    }
}

/// The names of the tools whose `_meta.ui` satisfies `choose`.
fn names_where(tools: &Value, choose: impl Fn(&Value) -> bool) -> Vec<String> {
    let tools = tools["result"]["tools"].as_array().unwrap().iter();
    tools
        .filter(|tool| choose(&tool["_meta"]["ui"]))
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn tools_with_effects_have_the_card_and_the_tools_of_the_card_are_hidden_from_models() {
    for era in Era::BOTH {
        let all = ["--toolsets", "calls,account,agents,numbers,webhooks,sandbox"];
        let mut session = Session::on_simulator(era, &all, Options::default()).await;
        let extension = &session.opening["result"]["capabilities"]["extensions"][UI];
        assert_eq!(*extension, json!({"mimeTypes": [card::MIME_TYPE]}));
        let tools = session.request("tools/list", json!({})).await;
        let shown = names_where(&tools, |ui| ui["resourceUri"] == card::URI);
        assert_eq!(
            shown,
            ["place_call", "place_calls", "purchase_number", "simulate_inbound_call"]
        );
        let of_app = names_where(&tools, |ui| ui["visibility"] == json!(["app"]));
        assert_eq!(of_app, ["follow_call", "confirm_call"]);
        for tool in tools["result"]["tools"].as_array().unwrap() {
            let name = tool["name"].as_str().unwrap();
            let has_card = shown.iter().any(|shown| shown == name);
            let flat = tool["_meta"].get("ui/resourceUri");
            assert_eq!(flat, has_card.then_some(&json!(card::URI)), "{name}");
            let known = has_card || of_app.iter().any(|hidden| hidden == name);
            assert_eq!(tool.get("_meta").is_some(), known, "{name}");
        }
        let listed = session.request("resources/list", json!({})).await;
        let listed = listed["result"]["resources"].as_array().unwrap();
        let entry = listed.iter().find(|entry| entry["uri"] == card::URI).unwrap();
        assert_eq!(entry["mimeType"], card::MIME_TYPE);
        let read = session.request("resources/read", json!({"uri": card::URI})).await;
        let contents = &read["result"]["contents"][0];
        assert_eq!(contents["text"], card::DOCUMENT);
        assert_eq!(
            (&contents["uri"], &contents["mimeType"]),
            (&json!(card::URI), &entry["mimeType"])
        );
        assert_eq!(contents["_meta"], entry["_meta"]);
        assert_eq!(contents["_meta"]["ui"]["csp"], json!({}));
        assert_eq!(contents["_meta"]["ui"].get("domain"), None);
        assert_eq!(read["result"]["cacheScope"], "public", "{}", read["result"]["cacheScope"]);
        session.finish_well().await;
    }
}

#[tokio::test]
async fn switched_off_nothing_of_the_card_is_left() {
    let home = std::sync::Arc::new(Home::new());
    home.write("no-ui.toml", "ui = false\n");
    let config = home.path().join("no-ui.toml");
    let by_file = format!("--config={}", config.display());
    for (arguments, environment) in [
        (&["--no-ui"][..], &[][..]),
        (&[by_file.as_str()], &[]),
        (&[], &[("CALLINGBOX_MCP_NO_UI", "true")]),
    ] {
        for era in Era::BOTH {
            let mut session =
                Session::start_in(std::sync::Arc::clone(&home), arguments, environment);
            session.open(era).await;
            assert_eq!(session.opening["result"]["capabilities"]["extensions"].get(UI), None);
            let tools = session.request("tools/list", json!({})).await;
            assert!(!tools.to_string().contains("\"ui"), "{tools}");
            assert!(!tools.to_string().contains("follow_call"), "{tools}");
            let listed = session.request("resources/list", json!({})).await;
            assert!(!listed.to_string().contains("ui://"), "{listed}");
            let read = session.request("resources/read", json!({"uri": card::URI})).await;
            assert!(read["error"]["message"].as_str().unwrap().contains("no resource"), "{read}");
            let call = session.call("follow_call", json!({"call_id": "c"})).await;
            let error = &call["result"]["_meta"]["callingbox-mcp/error"];
            assert_eq!(error["class"], "switched_off", "{call}");
            session.finish_well().await;
        }
    }
    let arguments = ["catalogue", "--no-ui", "--format", "json"];
    assert!(!home.print(&arguments).await.contains("_meta"));
}

#[tokio::test]
async fn the_results_of_a_client_with_the_card_differ_by_one_sentence() {
    let sentence = " The user sees the call live in a card; do not place it again.";
    let mut results = Vec::new();
    for capabilities in [json!({}), shows_card()] {
        // The simulator ends with this session.
        let mut owner = Session::new(Era::BOTH[0]).await;
        let agent = owner.outbound_agent(json!({"ok": "boolean"})).await;
        let mut session = owner.start_beside(&[]);
        session.capabilities = capabilities;
        session.open(Era::BOTH[0]).await;
        let call = json!({"agent_id": agent, "to": "+13105550100"});
        let mut answer = session.call("place_call", call.clone()).await;
        answer["result"]["structuredContent"]["dispatch_id"].take();
        let again = session.call("place_call", call).await;
        let number = json!({"phone_number": "+19005550100"});
        let refused = session.call("purchase_number", number).await;
        let waited = session.call("get_call_result", json!({"call_id": "none"})).await;
        results.push([answer, again, refused, waited].map(|answer| answer.to_string()));
    }
    let [without, with] = &results[..] else { panic!() };
    let ids = |text: &str| {
        let id = regex_lite::Regex::new("[0-9a-f]{8}-[0-9a-f-]{27}").unwrap();
        id.replace_all(text, "id").into_owned()
    };
    for (without, with) in without.iter().zip(with) {
        assert!(!without.contains(sentence), "{without}");
        assert_eq!(ids(without), ids(&with.replace(sentence, "")));
    }
    assert!(with[0].contains(sentence), "{}", with[0]);
}

/// Follows a call with what the last answer said.
async fn follow(session: &mut Session, call: &Value, last: &Value, seconds: u64) -> Value {
    let mut arguments = json!({"call_id": call, "wait_seconds": seconds});
    if let Some(state) = last["structuredContent"].get("state") {
        arguments["state"] = state.clone();
    }
    let lines = last["_meta"]["callingbox-mcp/lines"].as_array();
    if let Some(number) = lines.and_then(|lines| lines.last()).map(|line| &line["sequence_no"]) {
        arguments["after_sequence_no"] = number.clone();
    }
    let answer = session.call("follow_call", arguments).await;
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    answer["result"].clone()
}

#[tokio::test]
async fn follow_call_answers_at_each_change_with_the_words_in_meta_alone() {
    for era in Era::BOTH {
        // A callee who gives orders: not a word of it may reach the model.
        let mut session = Session::new(era).await;
        let agent = session.outbound_agent(json!({"confirmed": "boolean", "note": "string"})).await;
        let call = json!({"agent_id": agent, "to": "+13105550109"});
        let call = session.data("place_call", call).await["call_id"].clone();
        let mut last = follow(&mut session, &call, &Value::Null, 0).await;
        assert_eq!(last["structuredContent"]["final"], false);
        let (mut lines, mut states) = (Vec::new(), Vec::new());
        // Short steps while they talk; the result is there after the long one.
        let mut steps = [5; 12].into_iter().chain([900]);
        while last["structuredContent"]["final"] != true {
            let state = &last["structuredContent"]["state"];
            let known: Option<&Value> = lines.last().map(|line: &Value| &line["sequence_no"]);
            let arguments = json!({
                "call_id": call, "wait_seconds": 2, "state": state,
                "after_sequence_no": known.unwrap_or(&json!(0)),
            });
            states.push(state.clone());
            let id = session.begin_call("follow_call", arguments).await;
            if let Some(seconds) = steps.next() {
                session.control().advance(seconds).await;
            }
            last = session.answer(id).await["result"].clone();
            assert_eq!(last["isError"], false, "{last}");
            let new = last["_meta"]["callingbox-mcp/lines"].as_array().unwrap().clone();
            for line in &new {
                let words = line["text"].as_str().unwrap();
                assert!(!last["content"].to_string().contains(words), "{last}");
                assert!(!last["structuredContent"].to_string().contains(words), "{last}");
            }
            assert_eq!(last["structuredContent"]["lines"], new.len());
            lines.extend(new);
        }
        states.dedup();
        assert!(states.len() >= 3, "ringing, talking, over: {states:?}");
        let numbers: Vec<u64> =
            lines.iter().map(|line| line["sequence_no"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
        let read = session.data("get_call_transcript", json!({"call_id": call})).await;
        assert_eq!(read["total_lines"], lines.len(), "every line, once");
        assert!(lines.iter().any(|line| line["speaker"] == "agent"));
        assert!(lines.iter().any(|line| line["speaker"] == "callee"));
        let record = &last["_meta"]["callingbox-mcp/call"];
        assert_eq!((&record["outcome"], &record["call_id"]), (&json!("completed"), &call));
        assert!(record["result"].is_object() && record["connected_seconds"].is_u64(), "{record}");
        assert_eq!(last["structuredContent"].get("result"), None);
        // Over: answered at once, with everything, and nothing is missing.
        let whole = follow(&mut session, &call, &Value::Null, 20).await;
        assert_eq!(whole["_meta"]["callingbox-mcp/lines"], json!(lines));
        session.finish_well().await;
    }
}

#[tokio::test]
async fn without_the_transcript_the_card_has_no_lines() {
    let mut session = Session::on_simulator(
        Era::Modern,
        &["--exclude-tools", "get_call_transcript"],
        Options::default(),
    )
    .await;
    let agent = session.outbound_agent(json!({"confirmed": "boolean"})).await;
    let call = json!({"agent_id": agent, "to": "+13105550100"});
    let call = session.data("place_call", call).await["call_id"].clone();
    session.control().advance(600).await;
    let mut last = Value::Null;
    while last["structuredContent"]["final"] != true {
        last = follow(&mut session, &call, &last, 5).await;
    }
    assert_eq!(last["_meta"]["callingbox-mcp/lines"], json!([]));
    assert_eq!(last["_meta"]["callingbox-mcp/call"]["outcome"], "completed");
    session.finish_well().await;
}

#[tokio::test]
async fn follow_call_refuses_what_it_cannot_follow() {
    let mut session = Session::modern().await;
    for (arguments, class) in [
        (json!({}), "invalid_argument"),
        (json!({"call_id": "c", "question_id": "q"}), "invalid_argument"),
        (json!({"call_id": "c", "wait_seconds": 21}), "invalid_argument"),
        (json!({"call_id": "no-such-call"}), "not_found"),
    ] {
        assert_eq!(
            session.failure("follow_call", arguments.clone()).await["class"],
            class,
            "{arguments}"
        );
    }
    session.finish_well().await;
}
