//! Calls every tool successfully in both eras. Each answer matches the output schema, its text has the ids of its
//! structured content, and a simulated record is marked.

use std::collections::BTreeSet;

use callingbox_mcp::mcp::catalogue::Catalogue;
use callingbox_sandbox::Options;
use serde_json::{Value, json};

use crate::harness::{Era, Session, tool_names};

const ALL_TOOLSETS: &[&str] = &["--toolsets", "calls,account,agents,numbers,webhooks,sandbox"];

/// A session that records which tools were called, and checks each answer against its schema.
struct CheckedSession {
    session: Session,
    called: BTreeSet<String>,
}

impl CheckedSession {
    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.session.call(tool, arguments.clone()).await;
        let result = &answer["result"];
        assert_eq!(result["isError"], false, "{tool}: {answer}");
        let content = &result["structuredContent"];
        let catalogue = Catalogue::new();
        let tools = serde_json::to_value(catalogue.get(tool).unwrap().definition()).unwrap();
        for (side, value) in [("inputSchema", &arguments), ("outputSchema", content)] {
            let schema = jsonschema::validator_for(&tools[side]).unwrap();
            let problems: Vec<String> =
                schema.iter_errors(value).map(|problem| problem.to_string()).collect();
            assert_eq!(problems, [""; 0], "{tool} {side}: {value}");
        }
        let text = result["content"][0]["text"].as_str().unwrap();
        for (name, id) in content.as_object().unwrap() {
            // A transcript does not repeat the id that it was requested with.
            if OWN_IDS.contains(&name.as_str()) && tool != "get_call_transcript" {
                assert!(text.contains(id.as_str().unwrap()), "{tool}: no {name} in: {text}");
            }
        }
        let empty = tool.starts_with("list_")
            && content.as_object().unwrap().values().any(|list| *list == json!([]));
        let says = content.to_string().contains("\"simulated\":true")
            || content["environment"] == "simulated";
        assert!(says || empty, "{tool}: it does not say that it is simulated: {content}");
        // Texts, and numbers that are for sale, are not records.
        if !empty && !["get_call_transcript", "search_numbers"].contains(&tool) {
            let says = text.to_lowercase().contains("simulated");
            assert!(says, "{tool}: it does not say that it is simulated: {text}");
        }
        self.called.insert(tool.to_owned());
        content.clone()
    }
}

/// The ids of the record that an answer is about, which the text must contain too.
const OWN_IDS: [&str; 4] = ["call_id", "number_id", "webhook_id", "delivery_id"];

async fn all_tools(era: Era) {
    let session = Session::on_simulator(era, ALL_TOOLSETS, Options::default()).await;
    let mut on = CheckedSession { session, called: BTreeSet::new() };
    on.session.control().credit(10_000_000).await;

    // Numbers and agents.
    let offers = on.call("search_numbers", json!({"number_type": "local", "limit": 3})).await;
    // More than one number is bought only once an agent names the organization.
    on.call("create_agent", json!({"name": "First", "type": "inbound"})).await;
    let mut numbers = Vec::new();
    for index in 0..2 {
        let phone = &offers["numbers"][index]["phone_number"];
        let bought = on.call("purchase_number", json!({"phone_number": phone})).await;
        numbers.push(bought["number"].clone());
    }
    assert_eq!(numbers[0]["simulated"], true);
    let ids = [&numbers[0]["number_id"], &numbers[1]["number_id"]];
    let agent = json!({
        "name": "Desk", "type": "inbound", "persona": "P", "instructions": "I", "language": "en",
        "returns": {"reason": "string", "urgent": "boolean", "guests": "number"},
        "tools": [
            {"type": "builtin", "name": "end_call", "description": "Hangs up."},
            {"type": "http", "name": "slots", "description": "Finds slots.", "url": "https://example.com/slots",
             "parameters": {"type": "object", "properties": {"day": {"type": "string"}}}, "timeout_ms": 500},
        ],
        "voicemail_action": "hangup",
        "webhook_url": "https://example.com/events",
        "number_ids": [ids[0]], "primary_number_id": ids[0],
    });
    let inbound = on.call("create_agent", agent).await;
    let outbound = json!({"name": "Caller", "type": "outbound"});
    let outbound = on.call("create_agent", outbound).await;
    let outbound = &outbound["agent_id"];
    let set = on
        .call("set_agent_numbers", json!({"agent_id": outbound, "attach": ids, "primary": ids[1]}))
        .await;
    assert_eq!(set["primary_number_id"], *ids[1]);
    let set = on.call("set_agent_numbers", json!({"agent_id": outbound, "detach": [ids[0]]})).await;
    assert_eq!(set["numbers"], json!([{"number_id": ids[1], "e164": numbers[1]["e164"]}]));
    let change = json!({
        "agent_id": inbound["agent_id"], "name": "Front desk", "clear": ["webhook_url", "persona"],
    });
    assert_eq!(on.call("update_agent", change).await["name"], "Front desk");
    let full = on.call("get_agent", json!({"agent_id": inbound["agent_id"]})).await;
    assert_eq!((full.get("persona"), full.get("webhook_url")), (None, None), "{full}");
    assert_eq!(full["instructions"], "I");
    let listed = on.call("list_agents", json!({"type": "inbound"})).await;
    assert_eq!(listed["agents"][0]["agent_id"], inbound["agent_id"]);
    let page = on.call("list_numbers", json!({"limit": 1})).await;
    assert_eq!(page["next_cursor"], page["numbers"][0]["number_id"]);
    let next = json!({"limit": 1, "starting_after": page["next_cursor"]});
    assert_eq!(on.call("list_numbers", next).await["has_more"], false);

    let account = on.call("get_account", json!({})).await;
    assert_eq!(account["environment"], "simulated");
    assert!(account["now"].as_str().unwrap().starts_with("2026-11-02T"), "{account}");
    assert_eq!(account["numbers"].as_array().unwrap().len(), 2);
    assert_eq!(account["agents"].as_array().unwrap().len(), 3);
    assert_eq!(account["limits"][0], json!({"limit": "calls per hour", "used": "0", "max": "20"}));

    // Webhooks: nothing listens at the address, so that there are failed deliveries.
    let webhook =
        json!({"url": "https://hooks.example.com/in", "enabled_events": ["call.completed"]});
    let webhook = on.call("create_webhook", webhook).await;
    let id = &webhook["webhook_id"];
    assert!(webhook["signing_secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(on.call("list_webhooks", json!({})).await["webhooks"][0]["webhook_id"], *id);
    let shown = on.call("get_webhook", json!({"webhook_id": id})).await;
    assert_eq!(shown.get("signing_secret"), None, "{shown}");
    let change = json!({"webhook_id": id, "description": "Mine", "status": "disabled"});
    let changed = on.call("update_webhook", change).await;
    assert_eq!((&changed["webhook_id"], &changed["status"]), (id, &json!("disabled")));
    assert_eq!(changed["description"], "Mine");
    let cleared = on.call("update_webhook", json!({"webhook_id": id, "description": ""})).await;
    assert_eq!(cleared.get("description"), None, "an empty note is none: {cleared}");
    let rotated = on.call("rotate_webhook_secret", json!({"webhook_id": id})).await;
    assert_ne!(rotated["signing_secret"], webhook["signing_secret"]);
    let nothing = on.call("list_webhook_deliveries", json!({"webhook_id": id})).await;
    assert_eq!(nothing["deliveries"], json!([]));
    on.call("delete_webhook", json!({"webhook_id": id})).await;

    // Calls, with an unreachable receiver for their events.
    let order = json!({
        "agent_id": outbound, "to": "+13105550100", "from_number": numbers[1]["e164"],
        "instructions": "Say hello.", "context": {"patient": "Sam"}, "metadata": {"order": 7},
        "webhook_url": "https://127.0.0.1:9/events",
    });
    let order = on.session.call("place_call", order.clone()).await;
    // The simulator does not deliver to private addresses unless it is allowed to.
    assert_eq!(
        order["result"]["_meta"]["callingbox-mcp/error"]["class"], "invalid_argument",
        "{order}"
    );
    let order = json!({
        "agent_id": outbound, "to": "+13105550100", "from_number": numbers[1]["e164"],
        "instructions": "Say hello.", "context": {"patient": "Sam"}, "metadata": {"order": 7},
    });
    let call = on.call("place_call", order).await;
    let inbound_call = json!({"to": numbers[0]["e164"], "from": "+12125550100"});
    let ringing = on.call("simulate_inbound_call", inbound_call).await;
    on.session.control().advance(600).await;
    let report = on.call("get_call_result", json!({"call_id": ringing["call_id"]})).await;
    assert_eq!(report["outcome"], "completed");
    assert!(report["result"]["guests"].is_number(), "{report}");
    let report = on.call("get_call_result", json!({"call_id": call["call_id"]})).await;
    assert_eq!(report["simulated"], true);
    let said = on.call("get_call_transcript", json!({"call_id": call["call_id"]})).await;
    assert_eq!(said["final"], true);
    let listed = on.call("list_calls", json!({"agent_id": outbound})).await;
    assert_eq!(listed["calls"][0]["call_id"], call["call_id"]);
    let list = json!({"agent_id": outbound, "people": [{"to": "+13105550101"}]});
    let batch = on.call("place_calls", list).await;
    on.session.control().advance(600).await;
    let waited = json!({"batch_id": batch["batch_id"], "wait_seconds": 30});
    let done = on.call("get_batch", waited).await;
    assert_eq!(done["rows"][0]["outcome"], "no_answer");
    let list = json!({
        "agent_id": outbound, "people": [{"to": "+13105550102"}], "start_at": "2026-11-03T15:00:00Z",
    });
    let batch = on.call("place_calls", list).await;
    let canceled = on.call("cancel_batch", json!({"batch_id": batch["batch_id"]})).await;
    assert_eq!(canceled["state"], "canceled");
    let opt_out = on.call("record_opt_out", json!({"call_id": call["call_id"]})).await;
    assert_eq!(opt_out["recorded"], true);
    on.call("archive_agent", json!({"agent_id": outbound})).await;
    let change = json!({"agent_id": outbound, "name": "Caller of old"});
    let changed = on.session.call("update_agent", change).await;
    let text = changed["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("is archived") && !text.contains("next call"), "{text}");

    let deliverable: BTreeSet<String> =
        ["get_webhook_delivery", "redeliver_webhook"].map(str::to_owned).into();
    // What the tools of the card answer has no schema: `tests/it/card` calls them.
    let all = tool_names(|_| true);
    let all: BTreeSet<String> = all.into_iter().map(str::to_owned).collect();
    assert_eq!(&all - &on.called, deliverable, "the others are called below");
    on.session.finish_well().await;
}

#[tokio::test]
async fn every_answer_matches_its_schema() {
    for era in Era::BOTH {
        all_tools(era).await;
    }
}

#[tokio::test]
async fn deliveries_can_be_listed_read_and_redelivered() {
    for era in Era::BOTH {
        // A receiver that accepts no connections.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/events", taken.local_addr().unwrap());
        drop(taken);
        let options = Options { allow_private_webhooks: true, ..Options::default() };
        let session = Session::on_simulator(era, ALL_TOOLSETS, options).await;
        let mut on = CheckedSession { session, called: BTreeSet::new() };
        let agent = on.session.outbound_agent(json!({})).await;
        let webhook = json!({"url": url, "enabled_events": ["call.completed"]});
        let webhook = on.call("create_webhook", webhook).await;
        let order = json!({"agent_id": agent, "to": "+13105550100"});
        let call = on.call("place_call", order).await;
        on.session.control().advance(120).await;
        let filter = json!({"webhook_id": webhook["webhook_id"], "call_id": call["call_id"]});
        let listed = on.call("list_webhook_deliveries", filter).await;
        assert_eq!(listed["deliveries"].as_array().unwrap().len(), 1, "{listed}");
        let delivery = json!({"delivery_id": listed["deliveries"][0]["delivery_id"]});
        let shown = on.call("get_webhook_delivery", delivery.clone()).await;
        assert_eq!(shown["event_type"], "call.completed");
        assert!(shown["attempt_count"].as_u64().unwrap() >= 1, "{shown}");
        assert_eq!(
            (&shown["webhook_id"], &shown["call_id"]),
            (&webhook["webhook_id"], &call["call_id"])
        );
        let again = on.call("redeliver_webhook", delivery.clone()).await;
        assert_eq!(again["delivery_id"], shown["delivery_id"]);
        // It reports the attempt that was asked for.
        assert_eq!(again["manual_retry_count"], 1, "{again}");
        assert_ne!(again["next_attempt_at"], again["updated_at"], "it is over: {again}");
        // The texts have what the descriptions of the tools promise.
        let endpoint = json!({"webhook_id": webhook["webhook_id"]});
        for (tool, arguments, fields) in [
            (
                "get_webhook_delivery",
                delivery,
                &["url", "manual_retry_count", "next_attempt_at", "last_error"][..],
            ),
            ("get_webhook", endpoint, &["url", "status", "consecutive_failures"]),
        ] {
            let answer = on.session.call(tool, arguments).await;
            let text = answer["result"]["content"][0]["text"].as_str().unwrap();
            let data = &answer["result"]["structuredContent"];
            for field in fields {
                let value = match &data[field] {
                    Value::String(value) => value.clone(),
                    value => format!("{field}: {value}"),
                };
                assert!(text.contains(&value), "{tool}: no {field} in: {text}");
            }
        }
        // An empty list of events is shown as none, not as unknown.
        let none = json!({"url": url, "enabled_events": []});
        let answer = on.session.call("create_webhook", none).await;
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains(", events none. "), "{text}");
        on.session.finish_well().await;
    }
}

#[tokio::test]
async fn a_list_says_whether_there_is_more() {
    let session = Session::on_simulator(Era::Modern, ALL_TOOLSETS, Options::default()).await;
    let mut on = CheckedSession { session, called: BTreeSet::new() };
    let record = |id: &str| json!({"id": id, "simulated": true});
    let two = json!([record("a"), record("b")]);
    let offers = json!([
        {"phone_number": "+12025550188", "simulated": true},
        {"phone_number": "+12025550189", "simulated": true},
    ]);
    let limited = json!({"limit": 1});
    for (tool, arguments, path, list, items, says_itself) in [
        ("list_agents", json!({}), "/v1/agents", "agents", &two, true),
        ("list_webhooks", json!({}), "/v1/webhook_endpoints", "webhooks", &two, true),
        ("list_webhook_deliveries", json!({}), "/v1/webhook_deliveries", "deliveries", &two, true),
        (
            "list_webhook_deliveries",
            limited.clone(),
            "/v1/webhook_deliveries",
            "deliveries",
            &two,
            false,
        ),
        ("search_numbers", json!({}), "/v1/numbers/available", "numbers", &offers, true),
        ("search_numbers", limited, "/v1/numbers/available", "numbers", &offers, false),
    ] {
        for more in [true, false] {
            let body = match (says_itself, more) {
                (true, more) => json!({"data": items, "has_more": more}),
                (false, true) => json!({"data": items}),
                (false, false) => json!({"data": [items[0]]}),
            };
            let fault = json!({
                "method": "GET", "path": path, "kind": "status", "status": 200, "body": body,
            });
            on.session.control().fault(fault).await;
            let answer = on.session.call(tool, arguments.clone()).await;
            let found = &answer["result"]["structuredContent"];
            assert_eq!(found["has_more"], more, "{tool} {arguments}: {answer}");
            let expected = if says_itself { 2 } else { 1 };
            assert_eq!(found[list].as_array().unwrap().len(), expected, "{tool}: {answer}");
            let text = answer["result"]["content"][0]["text"].as_str().unwrap();
            assert_eq!(text.contains("There are more"), more, "{tool}: {text}");
        }
    }
    on.session.finish_well().await;
}

#[tokio::test]
async fn a_list_of_unreadable_records_is_not_reported_as_empty() {
    let mut session = Session::on_simulator(Era::Modern, ALL_TOOLSETS, Options::default()).await;
    for (tool, path) in [
        ("list_calls", "/v1/calls"),
        ("list_agents", "/v1/agents"),
        ("list_numbers", "/v1/numbers"),
        ("search_numbers", "/v1/numbers/available"),
        ("list_webhooks", "/v1/webhook_endpoints"),
        ("list_webhook_deliveries", "/v1/webhook_deliveries"),
    ] {
        let body = json!({"data": [{"uid": "a"}, {"uid": "b"}], "has_more": false});
        let unreadable = json!({
            "method": "GET", "path": path, "kind": "status", "status": 200, "body": body,
        });
        session.control().fault(unreadable).await;
        let error = session.failure(tool, json!({})).await;
        let message = "the response could not be read: none of the 2 items in it is such a record.";
        assert_eq!(
            (&error["class"], &error["message"], &error["request"], &error["done"]),
            (
                &json!("unavailable"),
                &json!(message),
                &json!(format!("GET {path}")),
                &json!("nothing"),
            ),
            "{tool}: {error}"
        );
    }
    session.finish_well().await;
}

#[tokio::test]
async fn when_a_step_fails_the_completed_steps_are_named() {
    let mut session = Session::modern().await;
    let offers = session.data("search_numbers", json!({"limit": 2})).await;
    let agent = session.data("create_agent", json!({"name": "A", "type": "outbound"})).await;
    let mut ids = Vec::new();
    for index in 0..2 {
        let phone = &offers["numbers"][index]["phone_number"];
        let number = session.data("purchase_number", json!({"phone_number": phone})).await;
        ids.push(number["number"]["number_id"].clone());
    }
    let id = &agent["agent_id"];
    let steps = json!({"agent_id": id, "attach": [ids[0], ids[1]], "detach": ["no-such-number"]});
    let error = session.failure("set_agent_numbers", steps).await;
    let prefix = format!(
        "attached {}, attached {} took place; then detaching no-such-number failed: attached number no-such-number not found",
        ids[0].as_str().unwrap(),
        ids[1].as_str().unwrap()
    );
    assert!(error["message"].as_str().unwrap().starts_with(&prefix), "{error}");
    assert_eq!((&error["done"], &error["retry"]), (&json!("partly"), &json!("after_change")));
    let now = session.data("get_agent", json!({"agent_id": id})).await;
    assert_eq!(now["numbers"].as_array().unwrap().len(), 2, "{now}");

    // The error names the refusal of the API, and what may have been done.
    let refused = json!({"path": "/v1/agents/*", "kind": "status", "status": 401});
    let lost_answer = json!({"path": "/v1/agents/*", "kind": "reset", "when": "after"});
    let cut = json!({"path": "/v1/agents/*", "kind": "truncate"});
    for (fault, class, retry, what, next) in [
        (refused, "unauthorized", "after_change", " failed: ", "Tell the user that"),
        (
            lost_answer,
            "unavailable",
            "no",
            " failed, and it is not known whether it took place: ",
            "get_agent shows",
        ),
        (cut, "unavailable", "no", " took place too, but its answer is lost: ", "get_agent shows"),
    ] {
        let two = session.data("create_agent", json!({"name": "B", "type": "outbound"})).await;
        let mut fault = fault;
        fault["method"] = json!("POST");
        // The fault of the first step is harmless.
        let harmless = json!({
            "method": "POST", "path": "/v1/agents/*", "kind": "delay", "delay_ms": 0,
        });
        session.control().fault(harmless).await;
        session.control().fault(fault).await;
        let steps = json!({"agent_id": two["agent_id"], "attach": ids});
        let error = session.failure("set_agent_numbers", steps).await;
        session.control().request("DELETE", "/sandbox/faults", None).await;
        let prefix = format!(
            "attached {} took place; then attaching {}{what}",
            ids[0].as_str().unwrap(),
            ids[1].as_str().unwrap()
        );
        assert!(error["message"].as_str().unwrap().starts_with(&prefix), "{error}");
        assert_eq!(
            (&error["class"], &error["done"], &error["retry"]),
            (&json!(class), &json!("partly"), &json!(retry)),
            "{error}"
        );
        let next_step = error["next"].as_str().unwrap();
        assert!(next_step.starts_with(next), "{error}");
        assert!(
            next_step
                .ends_with(" set_agent_numbers with the remaining steps completes the change."),
            "{error}"
        );
    }

    // If the answer to the first of several steps is lost, the rest is not reported as done.
    let lost_answer = json!({"kind": "reset", "when": "after"});
    for (fault, done, what) in [
        (lost_answer, "unknown", " failed, and it is not known whether it took place: "),
        (json!({"kind": "truncate"}), "partly", " took place, but its answer is lost: "),
    ] {
        let two = session.data("create_agent", json!({"name": "C", "type": "outbound"})).await;
        let mut fault = fault;
        fault["method"] = json!("POST");
        fault["path"] = json!("/v1/agents/*");
        session.control().fault(fault).await;
        let steps = json!({"agent_id": two["agent_id"], "attach": ids, "primary": ids[1]});
        let error = session.failure("set_agent_numbers", steps).await;
        let message = error["message"].as_str().unwrap();
        let prefix = format!("attaching {}{what}", ids[0].as_str().unwrap());
        assert!(message.starts_with(&prefix), "{error}");
        assert!(message.ends_with(" The later steps were not started."), "{error}");
        assert_eq!((&error["done"], &error["retry"]), (&json!(done), &json!("no")), "{error}");
        let next = "get_agent shows the present state of the agent. set_agent_numbers with the remaining steps completes the change.";
        assert_eq!(error["next"], next, "{error}");
        let now = session.data("get_agent", json!({"agent_id": two["agent_id"]})).await;
        assert_eq!(now["numbers"].as_array().unwrap().len(), 1, "{now}");
    }

    // A removal whose answer is lost is done: the next attempt finds nothing to remove.
    let lost_answer =
        json!({"method": "DELETE", "path": "/v1/*", "kind": "reset", "when": "after"});
    session.control().fault(lost_answer.clone()).await;
    let swap = json!({"agent_id": id, "primary": ids[1], "detach": [ids[0]]});
    let now = session.data("set_agent_numbers", swap).await;
    let steps = [format!("made {} primary", ids[1]), format!("detached {}", ids[0])];
    assert_eq!(now["steps"], json!(steps.map(|step| step.replace('"', ""))));
    assert_eq!(now["numbers"].as_array().unwrap().len(), 1, "{now}");

    // A step whose answer is lost is not reported as not done.
    session
        .control()
        .fault(json!({"path": "/v1/agents/*", "kind": "reset", "when": "after", "times": 100}))
        .await;
    let error =
        session.failure("set_agent_numbers", json!({"agent_id": id, "detach": [ids[1]]})).await;
    assert_ne!(error["done"], "nothing", "{error}");
    session.finish_well().await;
}

#[tokio::test]
async fn a_webhook_is_deleted_even_if_the_answer_is_lost() {
    let session = Session::on_simulator(Era::Modern, ALL_TOOLSETS, Options::default()).await;
    let mut on = CheckedSession { session, called: BTreeSet::new() };
    let webhook = on.call("create_webhook", json!({"url": "https://hooks.example.com/in"})).await;
    let lost_answer =
        json!({"method": "DELETE", "path": "/v1/*", "kind": "reset", "when": "after"});
    on.session.control().fault(lost_answer).await;
    let deleted = json!({"webhook_id": webhook["webhook_id"]});
    assert_eq!(on.call("delete_webhook", deleted.clone()).await["deleted"], true);
    let error = on.session.failure("delete_webhook", deleted).await;
    assert_eq!((&error["class"], &error["done"]), (&json!("not_found"), &json!("nothing")));
    on.session.finish_well().await;
}

#[tokio::test]
async fn the_secrets_of_an_agent_are_never_shown() {
    let session = Session::on_simulator(Era::Modern, ALL_TOOLSETS, Options::default()).await;
    let mut on = CheckedSession { session, called: BTreeSet::new() };
    let parameters = json!({"type": "object", "properties": {}});
    let new = json!({
        "name": "Desk", "type": "inbound",
        "webhook_url": "https://u:SECRETU@e.com/h?id=7&token=SECRETQ",
        "tools": [
            {"type": "builtin", "name": "end_call", "description": "Hangs up.", "parameters": parameters},
            {"type": "http", "name": "slots", "description": "Finds slots.", "parameters": parameters,
             "url": "https://e.com/slots?key=SECRETK", "headers": {"Authorization": "Bearer SECRETH"}},
        ],
    });
    let agent = on.call("create_agent", new).await["agent_id"].clone();
    let path = format!("/v1/agents/{}", agent.as_str().unwrap());
    let stored = on.session.control().request("GET", &path, None).await;
    assert!(stored.to_string().contains("Bearer SECRETH"), "{stored}");

    let answer = on.session.call("get_agent", json!({"agent_id": agent})).await;
    assert!(!answer.to_string().contains("SECRET"), "{answer}");
    let shown = on.call("get_agent", json!({"agent_id": agent})).await;
    assert_eq!(shown["webhook_url"], "https://***@e.com/h?id=***&token=***");
    assert_eq!(shown["tools"][0], stored["tools"][0]);
    assert_eq!(shown["tools"][1]["url"], "https://e.com/slots?key=***");
    assert_eq!(shown["tools"][1]["headers"], json!({"Authorization": "***"}));
    let uri = format!("callingbox://agents/{}", agent.as_str().unwrap());
    let read = on.session.request("resources/read", json!({"uri": uri})).await;
    let text = read["result"]["contents"][0]["text"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), shown);

    // The placeholder for a secret is never written back.
    let with = |pointer: &str, value: &str| {
        let mut tools = shown["tools"].clone();
        tools[1]["url"] = json!("https://e.com/slots");
        *tools.pointer_mut(pointer).unwrap() = json!(value);
        json!({ "tools": tools })
    };
    for (change, message) in [
        (json!({"webhook_url": shown["webhook_url"]}), "`webhook_url`: `***` stands for"),
        (json!({"tools": shown["tools"]}), "`tools[1].url`: `***` stands for"),
        (with("/1/name", "n"), "`tools[1]`: `headers.Authorization`: `***` stands for"),
        (
            with("/1/headers/Authorization", "Bearer ***"),
            "`tools[1]`: `headers.Authorization`: `***` stands for",
        ),
    ] {
        let mut change = change;
        change["agent_id"] = agent.clone();
        let error = on.session.failure("update_agent", change).await;
        assert!(error["message"].as_str().unwrap().starts_with(message), "{error}");
    }
    assert_eq!(on.session.control().request("GET", &path, None).await, stored);
    on.session.finish_well().await;
}
