//! A client for /mcp, in both eras.

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::observed::Log;
use crate::{TIMEOUT, start_listener};

/// The protocol of a request.
pub(crate) enum Era {
    /// 2026-07-28.
    Modern,
    /// 2025-11-25, in this session.
    Session(String),
}

pub(crate) struct Http {
    child: Child,
    url: String,
    http: reqwest::Client,
    pid: u32,
}

impl Http {
    pub(crate) async fn start(program: Command, log: &Log) -> Self {
        let (child, url) = start_listener(program, log).await;
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().unwrap();
        let pid = child.id().unwrap();
        Self { child, url, http, pid }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    fn post(&self, message: &Value) -> reqwest::RequestBuilder {
        self.http
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(message.to_string())
    }

    /// Opens a session.
    pub(crate) async fn session(&self) -> Era {
        let client = json!({"name": "soak", "version": "0"});
        let params =
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
        let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let answer = self.post(&message).send().await.unwrap();
        let era = Era::Session(answer.headers()["mcp-session-id"].to_str().unwrap().to_owned());
        drop(answer.bytes().await);
        let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(self.build_request(&era, &note).send().await.unwrap().status(), 202);
        era
    }

    fn build_request(&self, era: &Era, message: &Value) -> reqwest::RequestBuilder {
        match era {
            Era::Session(id) => self
                .post(message)
                .header("mcp-session-id", id)
                .header("mcp-protocol-version", "2025-11-25"),
            Era::Modern => {
                let request = self
                    .post(message)
                    .header("mcp-protocol-version", "2026-07-28")
                    .header("mcp-method", message["method"].as_str().unwrap());
                match message["params"]["name"].as_str() {
                    Some(name) => request.header("mcp-name", name),
                    None => request,
                }
            }
        }
    }

    /// Sends a request and returns its only answer, from JSON or from a stream.
    pub(crate) async fn request(
        &self,
        era: &Era,
        id: i64,
        method: &str,
        mut params: Value,
    ) -> Value {
        if matches!(era, Era::Modern) {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "soak", "version": "0"},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let answer = self.build_request(era, &message).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let text = answer.text().await.unwrap();
        let mut answers: Vec<Value> = if kind.starts_with("application/json") {
            vec![serde_json::from_str(&text).unwrap()]
        } else {
            let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
            let data = data.filter(|data| !data.is_empty());
            data.map(|data| serde_json::from_str::<Value>(data).unwrap())
                .filter(|message| message.get("id").is_some())
                .collect()
        };
        assert_eq!(answers.len(), 1, "{message}: {text}");
        let answer = answers.remove(0);
        assert_eq!(answer["id"], id, "{message}: {answer}");
        answer
    }

    pub(crate) async fn finish(mut self) {
        // It did not exit before.
        assert_eq!(self.child.try_wait().unwrap(), None);
        self.child.kill().await.unwrap();
    }
}
