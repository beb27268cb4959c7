//! Errors: they name the call, say what was done, and suggest only a next step that is available.

use std::net::Ipv4Addr;

use callingbox_mcp::mcp::catalogue::Catalogue;
use callingbox_sandbox::Options;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use callingbox_mcp::mcp::reply::text::SIMULATED;

use crate::harness::{Era, Session};

const TASKS: &str = "io.modelcontextprotocol/tasks";
const ALL_TOOLSETS: &str = "calls,account,agents,numbers,webhooks,sandbox";

#[tokio::test]
async fn every_error_about_a_call_has_its_id() {
    for capabilities in [json!({}), json!({"extensions": {TASKS: {}}})] {
        let mut session = Session::modern().await;
        let agent = session.outbound_agent(json!({})).await;
        let order = json!({"agent_id": agent, "to": "+13105550100"});
        let call = session.data("place_call", order).await["call_id"].clone();
        session.capabilities = capabilities;
        for tool in ["get_call_result", "get_call_transcript"] {
            let error = session.failure(tool, json!({"call_id": "unknown"})).await;
            assert_eq!(
                (&error["class"], &error["call_id"]),
                (&json!("not_found"), &json!("unknown"))
            );
        }
        let unauthorized = json!({"method": "GET", "path": "/v1/calls/*", "kind": "status", "status": 401, "times": 100});
        session.control().fault(unauthorized).await;
        for (tool, arguments) in [
            ("get_call_result", json!({"call_id": call, "wait_seconds": 0})),
            ("get_call_result", json!({"call_id": call, "wait_seconds": 5})),
            ("get_call_transcript", json!({"call_id": call})),
            ("get_call_transcript", json!({"call_id": call, "wait_seconds": 5})),
            ("get_call_result", json!({"call_id": call, "wait_seconds": -1})),
        ] {
            let answer = session.call(tool, arguments.clone()).await;
            let result = &answer["result"];
            let error = &result["_meta"]["callingbox-mcp/error"];
            assert_eq!(error["call_id"], call, "{tool} {arguments}: {answer}");
            let text = result["content"][0]["text"].as_str().unwrap();
            let named = format!(" call_id: {}. ", call.as_str().unwrap());
            assert!(text.contains(&named), "{tool} {arguments}: {text}");
        }
        session.finish_well().await;
    }
}

#[tokio::test]
async fn a_telephone_number_is_not_accepted_as_a_number_id() {
    let mut session = Session::modern().await;
    let offers = session.data("search_numbers", json!({"limit": 1})).await;
    let phone = &offers["numbers"][0]["phone_number"];
    let bought = session.data("purchase_number", json!({"phone_number": phone})).await;
    let id = &bought["number"]["number_id"];
    let agent = session.data("create_agent", json!({"name": "A", "type": "outbound"})).await;
    let agent = &agent["agent_id"];
    let new = |name: &str, value: Value| {
        ("create_agent", json!({"name": "B", "type": "outbound", name: value}))
    };
    for (argument, (tool, arguments)) in [
        ("attach", ("set_agent_numbers", json!({"agent_id": agent, "attach": [id, phone]}))),
        ("detach", ("set_agent_numbers", json!({"agent_id": agent, "detach": [phone]}))),
        (
            "primary",
            ("set_agent_numbers", json!({"agent_id": agent, "attach": [id], "primary": phone})),
        ),
        ("number_ids", new("number_ids", json!([phone]))),
        ("primary_number_id", new("primary_number_id", phone.clone())),
    ] {
        let error = session.failure(tool, arguments).await;
        let message = format!("`{argument}` takes the number_id, not the telephone number itself");
        assert_eq!(
            (&error["class"], &error["message"]),
            (&json!("invalid_argument"), &json!(message))
        );
        assert_eq!(error["done"], "nothing", "{error}");
        assert_eq!(error["next"], "list_numbers shows the number_id of each number.");
    }
    let agents = session.data("list_agents", json!({})).await;
    assert_eq!(agents["agents"].as_array().unwrap().len(), 1, "{agents}");
    assert_eq!(agents["agents"][0]["numbers"], json!([]), "no step was carried out");
    session.finish_well().await;
}

#[tokio::test]
async fn the_next_step_fits_the_error() {
    let mut session =
        Session::on_simulator(Era::Modern, &["--toolsets", ALL_TOOLSETS], Options::default()).await;
    let offers = session.data("search_numbers", json!({"limit": 1})).await;
    let phone = &offers["numbers"][0]["phone_number"];
    let bought = session.data("purchase_number", json!({"phone_number": phone})).await;
    let number = &bought["number"]["number_id"];
    let agent = session.data("create_agent", json!({"name": "A", "type": "outbound"})).await;
    let agent = &agent["agent_id"];
    let calls = "list_calls shows the ids of calls.";
    let agents = "list_agents shows the ids of agents.";
    let numbers = "list_numbers shows the ids of numbers.";
    let both = &format!("{agents} {numbers}");
    let webhooks = "list_webhooks shows the ids of webhooks.";
    let deliveries = "list_webhook_deliveries shows the ids of deliveries.";
    for (tool, arguments, next) in [
        ("get_call_result", json!({"call_id": "x"}), calls),
        ("get_call_transcript", json!({"call_id": "x"}), calls),
        ("place_call", json!({"agent_id": "x", "to": "+13105550100"}), agents),
        ("get_agent", json!({"agent_id": "x"}), agents),
        ("archive_agent", json!({"agent_id": "x"}), agents),
        ("create_agent", json!({"name": "B", "type": "outbound", "number_ids": ["x"]}), numbers),
        ("set_agent_numbers", json!({"agent_id": "x", "attach": [number]}), both),
        ("set_agent_numbers", json!({"agent_id": agent, "detach": ["x"]}), both),
        ("get_webhook", json!({"webhook_id": "x"}), webhooks),
        ("update_webhook", json!({"webhook_id": "x", "status": "disabled"}), webhooks),
        ("delete_webhook", json!({"webhook_id": "x"}), webhooks),
        ("rotate_webhook_secret", json!({"webhook_id": "x"}), webhooks),
        ("get_webhook_delivery", json!({"delivery_id": "x"}), deliveries),
        ("redeliver_webhook", json!({"delivery_id": "x"}), deliveries),
    ] {
        let error = session.failure(tool, arguments.clone()).await;
        assert_eq!(error["class"], "not_found", "{tool} {arguments}: {error}");
        assert_eq!(error["next"], next, "{tool} {arguments}: {error}");
        let message = error["message"].as_str().unwrap();
        let also = "; ids of another account are not found either";
        assert!(message.contains(also), "{tool} {arguments}: {message}");
    }
    let inbound_call = |to: &Value, from: &str| json!({"to": to, "from": from});
    for (arguments, class, next) in [
        (
            inbound_call(phone, "+12125550101"),
            "invalid_argument",
            json!(
                "Omit `from`, or choose a number whose last four digits are a scenario for callers."
            ),
        ),
        (
            inbound_call(phone, "+12125550100"),
            "conflict",
            json!(
                "list_numbers shows the numbers and the agents that answer them. set_agent_numbers attaches an inbound agent."
            ),
        ),
    ] {
        let error = session.failure("simulate_inbound_call", arguments.clone()).await;
        assert_eq!((&error["class"], &error["next"]), (&json!(class), &next), "{arguments}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.contains(phone.as_str().unwrap()), "a full number: {message}");
    }
    for (arguments, text) in [
        (json!({"country_code": "DE"}), "Change or omit country_code."),
        (
            json!({"country_code": "DE", "area_code": "415", "number_type": "local"}),
            "Change or omit country_code, area_code, number_type.",
        ),
    ] {
        let answer = session.call("search_numbers", arguments.clone()).await;
        let found = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert_eq!(
            found,
            format!("{SIMULATED}\nNo number for sale matches. {text}"),
            "{arguments}"
        );
    }
    let (raise, narrow) = ("raise `limit`", "narrow the search with");
    for (arguments, ways) in [
        (json!({"limit": 2}), format!("{raise}, or {narrow} `area_code` or `number_type`")),
        (json!({"limit": 2, "number_type": "local"}), format!("{raise}, or {narrow} `area_code`")),
        // Only local numbers have an area code.
        (json!({"limit": 2, "area_code": "415"}), raise.to_owned()),
        (json!({"limit": 2, "number_type": "toll_free"}), raise.to_owned()),
    ] {
        let answer = session.call("search_numbers", arguments.clone()).await;
        let found = answer["result"]["content"][0]["text"].as_str().unwrap();
        let end = format!("\nThere are more: {ways}.");
        assert!(found.ends_with(&end), "{arguments}: {found}");
    }
    session.finish_well().await;
}

/// A simulator that answers each simulated inbound call with these bytes.
async fn start_broken_simulator(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let good = |body: &str| {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
            };
            let answer = match &request[..length] {
                request if request.starts_with(b"POST /sandbox/inbound_calls ") => answer.to_vec(),
                request if request.starts_with(b"GET /sandbox/organization ") => {
                    good(r#"{"incarnation": "1"}"#)
                }
                _ => good(r#"{"simulator": "callingbox-sandbox"}"#),
            };
            stream.write_all(&answer).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn an_inbound_call_without_a_clear_answer_may_exist() {
    for (answer, class, done, retry, next) in [
        (&b""[..], "unavailable", "unknown", "no", "list_calls shows whether the call exists."),
        (
            b"HTTP/1.1 201 Created\r\ncontent-length: 9\r\nconnection: close\r\n\r\nnot JSON!",
            "unavailable",
            "unknown",
            "no",
            "list_calls shows whether the call exists.",
        ),
        (
            b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            "unavailable",
            "unknown",
            "no",
            "list_calls shows whether the call exists.",
        ),
        (
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            "not_found",
            "nothing",
            "after_change",
            "list_numbers shows",
        ),
    ] {
        let flag = format!("--sandbox={}", start_broken_simulator(answer).await);
        let mut session = Session::with(Era::Modern, &[&flag], &[]).await;
        let arguments = json!({"to": "+14155550100"});
        let error = session.failure("simulate_inbound_call", arguments).await;
        assert_eq!(
            (&error["class"], &error["done"], &error["retry"]),
            (&json!(class), &json!(done), &json!(retry)),
            "{error}"
        );
        assert!(error["next"].as_str().unwrap().starts_with(next), "{error}");
    }
}

#[tokio::test]
async fn after_a_lost_answer_the_next_step_shows_what_was_done() {
    let mut session =
        Session::on_simulator(Era::Modern, &["--toolsets", ALL_TOOLSETS], Options::default()).await;
    let agent = session.outbound_agent(json!({})).await;
    let number = session.data("get_agent", json!({"agent_id": agent})).await;
    let number = &number["primary_number_id"];
    let new = json!({"url": "https://hooks.example.com/in"});
    let webhook = session.data("create_webhook", new.clone()).await;
    let webhook = &webhook["webhook_id"];
    let order = json!({"agent_id": agent, "to": "+13105550100"});
    session.data("place_call", order).await;
    session.control().advance(600).await;
    let listed = session.data("list_webhook_deliveries", json!({"limit": 1})).await;
    let delivery = &listed["deliveries"][0]["delivery_id"];
    let rotate_again = "rotate_webhook_secret gives another secret";
    for (tool, arguments, next) in [
        ("create_agent", json!({"name": "B", "type": "outbound"}), "list_agents shows whether"),
        ("update_agent", json!({"agent_id": agent, "name": "C"}), "get_agent shows the present"),
        (
            "set_agent_numbers",
            json!({"agent_id": agent, "primary": number}),
            "get_agent shows the present",
        ),
        ("create_webhook", new, "list_webhooks shows whether"),
        (
            "update_webhook",
            json!({"webhook_id": webhook, "description": "Mine"}),
            "get_webhook shows the present",
        ),
        ("rotate_webhook_secret", json!({"webhook_id": webhook}), rotate_again),
        (
            "redeliver_webhook",
            json!({"delivery_id": delivery}),
            "get_webhook_delivery shows whether",
        ),
        ("delete_webhook", json!({"webhook_id": webhook}), "list_webhooks shows whether"),
        ("archive_agent", json!({"agent_id": agent}), "get_agent shows the present"),
    ] {
        for fault in [
            json!({"kind": "reset"}),
            json!({"kind": "status", "status": 500}),
            json!({"kind": "truncate"}),
        ] {
            let mut fault = fault;
            fault["when"] = json!("after");
            fault["path"] = json!("/v1/*");
            fault["times"] = json!(10);
            session.control().fault(fault.clone()).await;
            let answer = session.call(tool, arguments.clone()).await;
            session.control().request("DELETE", "/sandbox/faults", None).await;
            // Requests that may be repeated, or whose answer has no content, may succeed.
            let result = &answer["result"];
            if result["isError"] == false {
                assert!(["archive_agent", "delete_webhook"].contains(&tool), "{tool}: {answer}");
                continue;
            }
            let error = &result["_meta"]["callingbox-mcp/error"];
            // The first attempt deleted it, so the second does not find it.
            if error["done"] == "nothing" {
                assert_eq!((tool, &error["class"]), ("delete_webhook", &json!("not_found")));
                continue;
            }
            let found = error["next"].as_str().unwrap_or_default();
            assert!(found.starts_with(next), "{tool} {fault}: {error}");
            assert!(!found.contains("doctor"), "{tool} {fault}: {error}");
            if tool == "rotate_webhook_secret" {
                assert_eq!(error["retry"], "later", "{fault}: {error}");
            }
            if tool == "create_webhook" {
                assert!(found.contains("rotate_webhook_secret"), "{tool} {fault}: {error}");
            }
        }
    }
    session.finish_well().await;
}

#[tokio::test]
async fn an_agent_that_cannot_place_calls_gets_a_next_step() {
    let mut session = Session::modern().await;
    let agent = session.data("create_agent", json!({"name": "A", "type": "outbound"})).await;
    let inbound = session.data("create_agent", json!({"name": "B", "type": "inbound"})).await;
    let archived = session.data("create_agent", json!({"name": "C", "type": "outbound"})).await;
    session.data("archive_agent", json!({"agent_id": archived["agent_id"]})).await;
    for (agent, why) in
        [(agent, "has no number"), (inbound, "is inbound"), (archived, "is archived")]
    {
        let order = json!({"agent_id": agent["agent_id"], "to": "+13105550100"});
        let error = session.failure("place_call", order).await;
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
        assert_eq!(
            error["next"],
            "get_agent shows the type and the numbers of the agent. list_agents with type outbound shows those that can place calls. list_numbers shows the owned numbers. set_agent_numbers attaches one. search_numbers finds one for sale."
        );
    }
    session.finish_well().await;
}

/// The tools that a text names but the session does not offer.
fn find_unavailable_tools<'a>(text: &'a str, offered: &[String]) -> Vec<&'a str> {
    let catalogue = Catalogue::new();
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let tools = words.filter(|word| catalogue.get(word).is_some());
    tools.filter(|tool| !offered.iter().any(|name| name == tool)).collect()
}

#[tokio::test]
async fn no_text_names_an_unavailable_tool() {
    let all_prompts = json!([
        "call_list",
        "appointment_confirmation",
        "lead_qualification",
        "payment_collection",
        "receptionist",
        "set_me_up"
    ]);
    let calling = json!([
        "call_list",
        "appointment_confirmation",
        "lead_qualification",
        "payment_collection"
    ]);
    for (flags, prompts) in [
        (&[][..], all_prompts),
        (&["--read-only"], json!([])),
        (&["--tools", "place_call"], json!([])),
        (&["--tools", "get_call_result,create_agent"], json!([])),
        (&["--exclude-tools", "purchase_number"], calling),
        (&["--toolsets", "webhooks"], json!([])),
        (&["--toolsets", "webhooks", "--read-only"], json!([])),
    ] {
        for era in Era::BOTH {
            let mut session = Session::on_simulator(era, flags, Options::default()).await;
            let listed = session.request("tools/list", json!({})).await;
            let tools = listed["result"]["tools"].as_array().unwrap();
            let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
            let offered: Vec<String> = tools.iter().map(name).collect();
            let none = Vec::<&str>::new();
            let instructions = session.opening["result"]["instructions"].as_str().unwrap();
            assert_eq!(
                find_unavailable_tools(instructions, &offered),
                none,
                "{flags:?}: {instructions}"
            );
            for tool in &offered {
                // Calls with bad arguments, with unknown ids, and one that creates a record.
                let mut tries = vec![json!({}), json!({"call_id": "x"}), json!({"agent_id": "x"})];
                tries.push(json!({"webhook_id": "x"}));
                tries.push(json!({"agent_id": "x", "to": "+13105550100"}));
                tries.push(json!({"name": "A", "type": "outbound"}));
                for arguments in tries {
                    let answer = session.call(tool, arguments.clone()).await;
                    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
                    // The names of arguments in this error are not advice.
                    if text.contains("\ninvalid_argument: ") {
                        continue;
                    }
                    let found = find_unavailable_tools(text, &offered);
                    assert_eq!(found, none, "{flags:?} {tool} {arguments}: {text}");
                }
            }
            let listed = session.request("prompts/list", json!({})).await;
            let listed = listed["result"]["prompts"].as_array().unwrap();
            let listed: Vec<String> = listed.iter().map(name).collect();
            assert_eq!(json!(listed), prompts, "{flags:?}");
            let prompt = json!({"name": "set_me_up", "arguments": {"purpose": "reminders"}});
            let answer = session.request("prompts/get", prompt).await;
            let is_there = listed.iter().any(|name| name == "set_me_up");
            assert_eq!(answer.get("result").is_some(), is_there, "{flags:?}: {answer}");
            if !is_there {
                assert_eq!(answer["error"]["code"], -32602, "{flags:?}: {answer}");
                let message = answer["error"]["message"].as_str().unwrap();
                let prefix = "the prompt `set_me_up` is not offered here: it needs the tool `";
                assert!(message.starts_with(prefix), "{flags:?}: {message}");
            }
            let (rest, status, _) = session.finish().await;
            assert_eq!((rest, status.code()), (vec![], Some(0)), "{flags:?}");
        }
    }
}

#[tokio::test]
async fn a_number_that_another_agent_answers_is_refused_with_its_name() {
    let mut session = Session::modern().await;
    let offers = session.data("search_numbers", json!({"limit": 1})).await;
    let phone = offers["numbers"][0]["phone_number"].as_str().unwrap();
    let bought = session.data("purchase_number", json!({"phone_number": phone})).await;
    let number = bought["number"]["number_id"].as_str().unwrap();
    let inbound = |name: &str| json!({"name": name, "type": "inbound"});
    let mut holder = inbound("Reception");
    holder["number_ids"] = json!([number]);
    let holder = session.data("create_agent", holder).await;
    let holder = holder["agent_id"].as_str().unwrap();
    let other = session.data("create_agent", inbound("Night shift")).await;
    let mut second = inbound("Second");
    second["number_ids"] = json!([number]);
    let error = session.failure("create_agent", second).await;
    let holds =
        format!("{phone} (number_id {number}) is answered by Reception (agent_id {holder})");
    assert_eq!((&error["class"], &error["message"]), (&json!("conflict"), &json!(holds)));
    assert_eq!(
        error["next"],
        "Create the agent without this number in `number_ids`. set_agent_numbers with the new agent_id, this number_id in attach and take_over: true then moves it, once the user agreed."
    );
    let attach = json!({"agent_id": other["agent_id"], "attach": [number]});
    let error = session.failure("set_agent_numbers", attach).await;
    assert_eq!(
        (&error["class"], &error["message"], &error["next"]),
        (
            &json!("conflict"),
            &json!(format!(
                "{phone} (number_id {number}) is answered by Reception (agent_id {holder})"
            )),
            &json!(format!(
                "set_agent_numbers with agent_id {}, attach [\"{number}\"] and take_over: true moves it, once the user agreed.",
                other["agent_id"].as_str().unwrap()
            )),
        ),
    );
    session.finish_well().await;
}
