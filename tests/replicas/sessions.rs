//! Sessions of the older protocol versions, which stay with their replica.

use serde_json::{Value, json};

use crate::client::Events;
use crate::deployment::{Deployment, NO_RULES, wait_until};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn the_balancer_keeps_a_session_at_its_replica() {
    let ask_always = "[dialing]\nconfirm = \"always\"\n";
    let deployment = Deployment::start(ask_always, NO_RULES, &[]).await;
    let agent = deployment.create_agent().await;
    let session = deployment.client.open_session().await;
    for _ in 0..9 {
        assert_eq!(session.list_tools().await, 200);
    }
    let holder = deployment.replica_with_session().await;
    let elsewhere = &deployment.replicas[(holder + 1) % 3].client;
    assert_eq!(session.at(elsewhere).list_tools().await, 404);

    let call = json!({"agent_id": agent, "to": "+13105550107"});
    let mut events = session.call_tool(2, "place_call", call).await;
    let question = events.next_question().await;
    assert_eq!(session.accept(&question).await, 202);
    let placed = events.result(2).await.unwrap();
    assert_eq!(placed["isError"], json!(false), "{placed}");
    assert_eq!(deployment.dialed().await.len(), 1);

    let call_id = placed["structuredContent"]["call_id"].clone();
    let wait = json!({"call_id": call_id, "wait_seconds": 3_000});
    let mut waiting = session.call_tool(3, "get_call_result", wait).await;
    waiting.next_progress().await;
    let cancel = json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3},
    });
    assert_eq!(session.send(&cancel).await.status(), 202);
    assert_eq!(waiting.result(3).await, None);

    assert!((200..300).contains(&session.end().await));
    assert_eq!(session.list_tools().await, 404);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn a_client_whose_replica_is_killed_during_a_wait_reads_the_result_at_another() {
    let mut deployment = Deployment::start("", NO_RULES, &[]).await;
    let agent = deployment.create_agent().await;
    let call = json!({"agent_id": agent, "to": "+13105550100"});
    let session = deployment.client.open_session().await;
    let placed = session.call_tool(1, "place_call", call.clone()).await.result(1).await.unwrap();
    let call_id = placed["structuredContent"]["call_id"].clone();
    assert!(call_id.is_string(), "{placed}");
    let wait = json!({"call_id": call_id, "wait_seconds": 30});
    let mut waiting = session.call_tool(2, "get_call_result", wait.clone()).await;
    waiting.next_progress().await;

    let holder = deployment.replica_with_session().await;
    deployment.replicas[holder].process.kill().await.unwrap();
    assert_eq!(waiting.result(2).await, None, "the connection is lost");
    wait_until("another replica answers 404", async || session.list_tools().await == 404).await;

    let session = deployment.client.open_session().await;
    let mut waiting = session.call_tool(3, "get_call_result", wait).await;
    waiting.next_progress().await;
    deployment.advance_clock(300).await;
    let result = waiting.result(3).await.unwrap();
    assert_eq!(result["structuredContent"]["outcome"], "completed", "{result}");
    let again = session.call_tool(4, "place_call", call).await.result(4).await.unwrap();
    assert_eq!(again["structuredContent"]["call_id"], call_id, "{again}");
    assert_eq!(deployment.dialed().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis and HAProxy: set CALLINGBOX_TEST_REDIS_SERVER and CALLINGBOX_TEST_HAPROXY to the programs"]
async fn the_balancer_keeps_a_session_of_http_sse_at_its_replica() {
    let deployment = Deployment::start("", NO_RULES, &[]).await;
    let client = &deployment.client;
    for turn in 0..3 {
        let stream = client.request("GET", "/sse").send().await.unwrap();
        let mut events = Events::new(stream);
        let endpoint = events.next_data().await.unwrap();
        let post = async |message: Value| {
            let request = client.request("POST", &endpoint);
            let request = request.header("content-type", "application/json");
            request.body(message.to_string()).send().await.unwrap().status().as_u16()
        };
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2024-11-05", "capabilities": {},
            "clientInfo": {"name": "test", "version": "0"},
        }});
        assert_eq!(post(initialize).await, 202, "{turn}");
        assert!(events.result(0).await.unwrap()["serverInfo"].is_object());
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(post(initialized).await, 202, "{turn}");
        for id in 1..7 {
            let list = json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"});
            assert_eq!(post(list).await, 202, "{turn}");
            assert!(events.result(id).await.unwrap()["tools"].is_array());
        }
        drop(events);
        wait_until("the session ends with its stream", async || {
            post(json!({"jsonrpc": "2.0", "id": 9, "method": "ping"})).await == 404
        })
        .await;
    }
}
