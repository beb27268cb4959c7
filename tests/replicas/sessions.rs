//! Sessions of the older era that wander, and the human's answers.

use serde_json::{Value, json};

use crate::client::Events;
use crate::house::{House, until};

const OFF: &str = "mode = \"off\"\n";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_session_wanders_and_ends_everywhere_at_once() {
    let house = House::open("", OFF, &[]).await;
    let session = house.client.open().await;
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
