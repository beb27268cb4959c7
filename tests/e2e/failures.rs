//! What a failure says: the call that it is about, and a next step that can be taken here.

use serde_json::{Value, json};

use crate::harness::Session;

const TASKS: &str = "io.modelcontextprotocol/tasks";

#[tokio::test]
async fn whatever_fails_about_a_call_the_answer_names_it() {
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
        let away = json!({"method": "GET", "path": "/v1/calls/*", "kind": "status", "status": 401, "times": 100});
        session.control().fault(away).await;
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
async fn a_telephone_number_is_not_taken_for_the_id_of_one() {
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
    assert_eq!(agents["agents"][0]["numbers"], json!([]), "nothing was done in part");
    session.finish_well().await;
}
