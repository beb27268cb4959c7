//! Sessions of the older era that wander, and the human's answers.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::client::Events;
use crate::house::{House, until};

const OFF: &str = "mode = \"off\"\n";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_session_wanders_and_ends_everywhere_at_once() {
    let house = House::open("", OFF, &[]).await;
    let session = house.client.open().await;
    // Many at once, of which the first at each replica takes the session up for the others.
    let many = (200..260).map(|turn| session.request(&house.client, turn, "tools/list", json!({})));
    for (turn, listed) in (200..).zip(join_all(many).await) {
        let result = Events::of(listed).result(turn).await.unwrap();
        assert!(result["tools"].is_array(), "{result}");
    }
    for turn in 0..12 {
        let listed = session.request(&house.client, turn, "tools/list", json!({})).await;
        let result = Events::of(listed).result(turn).await.unwrap();
        assert!(result["tools"].as_array().unwrap().len() > 5, "{result}");
        let agents = session.call(&house.client, 100 + turn, "list_agents", json!({})).await;
        let result = { agents }.result(100 + turn).await.unwrap();
        assert_eq!(result["isError"], json!(false), "{result}");
    }
    for replica in &house.replicas {
        let (_, figures) = replica.client.get("/metrics").await;
        assert!(figures.contains("callingbox_mcp_sessions 1\n"), "{figures}");
    }
    // Ended by one, it is over for all.
    assert!((200..300).contains(&session.end(&house.client).await));
    for replica in &house.replicas {
        until("the session is over", async || {
            session.request(&replica.client, 1, "tools/list", json!({})).await.status() == 404
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn what_a_session_asked_not_to_be_offered_is_offered_nowhere() {
    let house = House::open("", OFF, &[]).await;
    let narrow = [("X-MCP-Toolsets", "calls,agents"), ("X-MCP-Readonly", "true")];
    let session = house.replicas[0].client.open_with(&narrow).await;
    // At one of the others the session is taken up by its stream.
    let stream = session.stream(&house.replicas[1].client).await;
    assert_eq!(stream.status(), 200);
    for _ in 0..2 {
        for (turn, replica) in (1..).zip(&house.replicas) {
            let listed = session.request(&replica.client, turn, "tools/list", json!({})).await;
            let result = Events::of(listed).result(turn).await.unwrap();
            let tools = result["tools"].as_array().unwrap();
            let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
            let left = ["get_call_result", "get_call_transcript", "list_calls"];
            assert_eq!(names, [&left[..], &["list_agents", "get_agent"]].concat());
            let buying = json!({"phone_number": "+14155550123"});
            let mut bought =
                session.call(&replica.client, 100 + turn, "purchase_number", buying).await;
            let refused = bought.result(100 + turn).await.unwrap();
            assert_eq!(refused["_meta"]["callingbox-mcp/error"]["class"], "switched_off");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn nobody_finds_the_session_of_another() {
    let house = House::open("", OFF, &["--auth", "key", "--max-sessions-per-tenant", "2"]).await;
    let (mine, other) = (house.client.with_key("sk_mine"), house.client.with_key("sk_other"));
    let session = mine.open().await;
    for replica in &house.replicas {
        let (mine, other) =
            (replica.client.with_key("sk_mine"), replica.client.with_key("sk_other"));
        let of_other = session.request(&other, 1, "tools/list", json!({})).await;
        assert_eq!(of_other.status(), 404);
        assert_eq!(session.end(&other).await, 404);
        assert_eq!(session.answer(&other, &json!("x"), true).await, 404);
        let of_mine = session.request(&mine, 1, "tools/list", json!({})).await;
        assert_eq!(of_mine.status(), 200);
    }
    drop(other.open().await);
    // Two are all that an account may have, at all replicas together: the third ends the first, which
    // nobody used for the longest time.
    let second = mine.open().await;
    let third = mine.open().await;
    for replica in &house.replicas {
        let mine = replica.client.with_key("sk_mine");
        until("the first session is over", async || {
            session.request(&mine, 2, "tools/list", json!({})).await.status() == 404
        })
        .await;
        for kept in [&second, &third] {
            assert_eq!(kept.request(&mine, 2, "tools/list", json!({})).await.status(), 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn the_humans_answer_reaches_the_question_it_was_given_to_and_no_other() {
    let house = House::open("[dialing]\nconfirm = \"always\"\n", OFF, &[]).await;
    let agent = house.agent().await;
    let [a, b, c] = [0, 1, 2].map(|at| house.replicas[at].client.clone());
    let session = a.open().await;
    let call = |to: &str| json!({"agent_id": agent, "to": to});
    // Both are the first question that their replica asks.
    let mut at_a = session.call(&a, 1, "place_call", call("+13105550107")).await;
    let mut at_b = session.call(&b, 2, "place_call", call("+14155550107")).await;
    let (asked_a, asked_b) = (at_a.question().await, at_b.question().await);
    assert_ne!(asked_a, asked_b);
    // A yes to what nobody asked, in the ways it could be guessed.
    let guessed = asked_a.as_str().unwrap().rsplit_once('-').unwrap().0.to_owned();
    let unknown = format!("{}-0", guessed.rsplit_once('-').unwrap().0);
    for id in [json!(0), json!("0"), json!(guessed), json!(format!("{guessed}-1")), json!(unknown)]
    {
        for replica in [&a, &b, &c] {
            assert_eq!(session.answer(replica, &id, true).await, 202);
        }
    }
    assert_eq!(house.dialed().await, []);
    // The yes to A's question goes to B, the no to B's question to A.
    assert_eq!(session.answer(&b, &asked_a, true).await, 202);
    assert_eq!(session.answer(&a, &asked_b, false).await, 202);
    let placed = at_a.result(1).await.unwrap();
    let refused = at_b.result(2).await.unwrap();
    assert_eq!(placed["isError"], json!(false), "{placed}");
    let call_id = placed["structuredContent"]["call_id"].as_str().unwrap().to_owned();
    let text = refused["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("declined"), "{text}");
    assert_eq!(house.dialed().await, [("+13105550107".to_owned(), call_id)]);
    // An answer is used up: given again, anywhere, it places nothing.
    let mut again = session.call(&a, 3, "place_call", call("+12025550107")).await;
    let _question = again.question().await;
    for replica in [&a, &b, &c] {
        assert_eq!(session.answer(replica, &asked_a, true).await, 202);
        assert_eq!(session.answer(replica, &asked_b, true).await, 202);
    }
    assert_eq!(house.dialed().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_request_is_taken_back_through_another_replica() {
    let house = House::open("", OFF, &[]).await;
    let agent = house.agent().await;
    let [a, b, _] = [0, 1, 2].map(|at| house.replicas[at].client.clone());
    let placed = a.place_call(&agent, "+13105550107").await.unwrap();
    let wait = json!({
        "call_id": placed["structuredContent"]["call_id"], "wait_seconds": 3_000,
    });
    let session = a.open().await;
    let mut waiting = session.call(&a, 7, "get_call_result", wait).await;
    waiting.until(|message| message["method"] == "notifications/progress").await.unwrap();
    assert!(watched(&a).await);
    let cancel = json!({"requestId": 7, "reason": "the user went on"});
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel});
    assert_eq!(session.send(&b, &cancel).await.status(), 202);
    // A request that was taken back is not answered: its stream ends.
    assert_eq!(waiting.result(7).await, None);
    until("nobody waits any more", async || !watched(&a).await).await;
}

async fn watched(replica: &crate::client::Client) -> bool {
    let (_, figures) = replica.get("/metrics").await;
    figures.contains("callingbox_mcp_watched_calls 1\n")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn the_older_transport_works_behind_a_balancer() {
    let house = House::open("", OFF, &[]).await;
    for turn in 0..3 {
        let stream = house.client.request("GET", "/sse").send().await.unwrap();
        let mut events = Events::of(stream);
        let endpoint = events.next().await.unwrap();
        let post = async |message: Value| {
            let request = house.client.request("POST", &endpoint);
            let request = request.header("content-type", "application/json");
            let response = request.body(message.to_string()).send().await.unwrap();
            assert_eq!(response.status(), 202, "{turn}");
        };
        post(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2024-11-05", "capabilities": {},
            "clientInfo": {"name": "test", "version": "0"},
        }}))
        .await;
        assert!(events.result(0).await.unwrap()["serverInfo"].is_object());
        post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        for id in 1..7 {
            post(json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"})).await;
            assert!(events.result(id).await.unwrap()["tools"].is_array());
        }
        drop(events);
        until("the session ended with its stream", async || {
            let request = house
                .client
                .request("POST", &endpoint)
                .body("{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\"}");
            request.send().await.unwrap().status() == 404
        })
        .await;
    }
    let unknown = house
        .client
        .request("POST", "/messages?session_id=unknown")
        .body("{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\"}");
    assert_eq!(unknown.send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn what_anybody_writes_into_redis_breaks_nothing() {
    let house = House::open("[dialing]\nconfirm = \"always\"\n", OFF, &[]).await;
    let agent = house.agent().await;
    let [a, b, c] = [0, 1, 2].map(|at| house.replicas[at].client.clone());
    let session = a.open().await;
    let call = json!({"agent_id": agent, "to": "+13105550107"});
    let mut asked = session.call(&a, 1, "place_call", call).await;
    let question = asked.question().await;

    let client = redis::Client::open(house.redis.url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("callingbox-mcp:v1:*:session:*")
        .query_async(&mut redis)
        .await
        .unwrap();
    let [key] = <[String; 1]>::try_from(keys).unwrap();
    let scope = key.split(['{', '}']).nth(1).unwrap().to_owned();
    let told = |told: Value| json!({"from": "0123456789abcdef", "told": told}).to_string();
    let yes = json!({"action": "accept", "content": {"confirm": true}});
    let answer = |id: Value, session: &str| {
        let message = json!({"jsonrpc": "2.0", "id": id, "result": yes});
        told(json!({"kind": "answer", "scope": scope, "session": session, "message": message}))
    };
    for payload in [
        String::new(),
        "garbage".to_owned(),
        "[".repeat(500_000),
        "x".repeat(3_000_000),
        json!({"from": "x", "told": {"kind": "ended"}}).to_string(),
        told(json!({})),
        told(json!({"kind": "dial", "to": "+13105550100"})),
        told(json!({"kind": "call", "account": null, "call_id": 5, "call": null})),
        told(json!({"kind": "call", "account": null, "call_id": "x", "call": {"id": []}})),
        told(json!({"kind": "call", "account": scope, "call_id": "x", "call": [[]]})),
        told(json!({"kind": "ended", "scope": scope, "session": "unknown", "at_once": true})),
        told(json!({"kind": "message", "scope": scope, "session": session.id, "message": 7})),
        told(json!({"kind": "message", "scope": scope, "session": session.id, "message": {
            "jsonrpc": "2.0", "id": 0, "result": yes,
        }})),
        told(json!({"kind": "canceled", "scope": scope, "session": session.id, "message": {
            "jsonrpc": "2.0", "id": 9, "method": "tools/call",
            "params": {"name": "place_call", "arguments": {"agent_id": agent, "to": "+13105550100"}},
        }})),
        // A yes that does not know what was asked.
        answer(json!(0), &session.id),
        answer(json!("0"), &session.id),
        answer(question.clone(), "unknown"),
        answer(Value::Null, &session.id),
    ] {
        let publish = redis::cmd("PUBLISH").arg("callingbox-mcp:v1:all").arg(&payload).to_owned();
        let _: i64 = publish.query_async(&mut redis).await.unwrap();
    }
    let _: () = redis::cmd("SET").arg(&key).arg("garbage").query_async(&mut redis).await.unwrap();
    assert_eq!(session.request(&b, 2, "tools/list", json!({})).await.status(), 404);
    let _: () = redis::cmd("DEL").arg(&key).query_async(&mut redis).await.unwrap();
    let _: i64 = redis::cmd("LPUSH").arg(&key).arg("x").query_async(&mut redis).await.unwrap();
    assert_eq!(session.request(&c, 2, "tools/list", json!({})).await.status(), 503);
    for replica in [&a, &b, &c] {
        assert_eq!(replica.get("/healthz").await.0, 200);
        let listed = replica.modern("tools/list", json!({})).await.unwrap();
        assert_eq!(listed.status(), 200);
    }
    assert_eq!(house.dialed().await, []);
    // The question still stands, and what was told still is heard.
    assert_eq!(session.answer(&a, &question, true).await, 202);
    assert_eq!(asked.result(1).await.unwrap()["isError"], json!(false));
    assert_eq!(house.dialed().await.len(), 1);
    let other = a.open().await;
    assert_eq!(other.request(&b, 1, "tools/list", json!({})).await.status(), 200);
    assert!((200..300).contains(&other.end(&b).await));
    until("the session is over", async || {
        other.request(&a, 1, "tools/list", json!({})).await.status() == 404
    })
    .await;
}
