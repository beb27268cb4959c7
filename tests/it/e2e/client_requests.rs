//! Requests as real clients send them (`client_requests.jsonl`, one a line), over stdio and HTTP.

use callingbox_sandbox::Options;
use serde_json::{Value, json};

use crate::harness::{Control, Era, Session, simulator};
use crate::http::support::{Server, message};

const REQUESTS: &str = include_str!("client_requests.jsonl");

/// A connection to a server on a simulator of its own.
enum Connection {
    Stdio(Box<Session>),
    Http(Box<Server>),
}

impl Connection {
    async fn request(&mut self, method: &str, params: Value) -> Value {
        match self {
            Self::Stdio(session) => session.request(method, params).await,
            Self::Http(server) => {
                message(server.modern(method, params).send().await.unwrap()).await
            }
        }
    }

    async fn data(&mut self, tool: &str, arguments: Value) -> Value {
        let answer =
            self.request("tools/call", json!({"name": tool, "arguments": arguments})).await;
        assert_eq!(answer["result"]["isError"], false, "{tool}: {answer}");
        answer["result"]["structuredContent"].clone()
    }
}

/// Whether a value has what is expected: the members of an object, the first items of a list, and a text whose rest a
/// `*` leaves open.
fn fits(value: &Value, expected: &Value) -> bool {
    match expected {
        Value::Object(members) => members.iter().all(|(name, member)| fits(&value[name], member)),
        Value::Array(items) => {
            let has = value.as_array().is_some_and(|list| items.is_empty() == list.is_empty());
            has && items.iter().enumerate().all(|(at, item)| fits(&value[at], item))
        }
        Value::String(text) if text.ends_with('*') => {
            value.as_str().is_some_and(|value| value.starts_with(text.trim_end_matches('*')))
        }
        expected => value == expected,
    }
}

async fn replay(name: &str, connection: &mut Connection) {
    let offers = connection.data("search_numbers", json!({"limit": 1})).await;
    let number = json!({"phone_number": offers["numbers"][0]["phone_number"]});
    let number = connection.data("purchase_number", number).await["number"]["number_id"].clone();
    let agent = json!({
        "name": "Reminders", "type": "outbound", "persona": "You are Mia of Northside Dental.",
        "number_ids": [number],
    });
    let agent = connection.data("create_agent", agent).await["agent_id"].clone();
    let call = json!({"agent_id": agent, "to": "+13105550103"});
    let call = connection.data("place_call", call).await["call_id"].clone();
    for line in REQUESTS.lines() {
        let line = line.replace("$AGENT", agent.as_str().unwrap());
        let line: Value =
            serde_json::from_str(&line.replace("$CALL", call.as_str().unwrap())).unwrap();
        let (method, params) = (&line["request"]["method"], &line["request"]["params"]);
        let answer = connection.request(method.as_str().unwrap(), params.clone()).await;
        let result = &answer["result"];
        let expect = &line["expect"];
        if let Some(text) = expect["error"].as_str() {
            let error = &result["_meta"]["callingbox-mcp/error"];
            let message = error["message"].as_str().unwrap_or_default();
            assert!(message.starts_with(text), "{name}: {line}: {answer}");
            assert_eq!(error["class"], "invalid_argument", "{name}: {line}: {answer}");
        } else if expect["data"].is_object() {
            assert_eq!(result["isError"], false, "{name}: {line}: {answer}");
            assert!(
                fits(&result["structuredContent"], &expect["data"]),
                "{name}: {line}: {answer}"
            );
        } else {
            assert!(result.is_object() && expect["result"].is_object(), "{name}: {line}: {answer}");
        }
    }
}

#[tokio::test]
async fn requests_as_real_clients_send_them_are_read_as_they_are_meant() {
    for era in Era::BOTH {
        let session = Session::new(era).await;
        session.control().credit(100_000_000).await;
        replay(&format!("stdio {era:?}"), &mut Connection::Stdio(Box::new(session))).await;
    }
    let sandbox = simulator(Options::default()).await;
    Control::new(&sandbox).credit(100_000_000).await;
    let server = Server::start_on(&sandbox, &[]).await;
    replay("http", &mut Connection::Http(Box::new(server))).await;
}
