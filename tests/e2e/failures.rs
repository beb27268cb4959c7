//! What a failure says: the call that it is about, and a next step that can be taken here.

use serde_json::json;

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
