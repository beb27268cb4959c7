//! An MCP client over HTTP that opens a new connection for each request, so that the balancer chooses anew.

use std::net::SocketAddr;
use std::path::Path;

use futures::StreamExt;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::deployment::TIMEOUT;

/// A client of one address.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
    bearer: Option<String>,
}

fn http_client() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(TIMEOUT).pool_max_idle_per_host(0)
}

impl Client {
    pub(crate) fn new(base: String) -> Self {
        Self { base, http: http_client().build().unwrap(), bearer: None }
    }

    pub(crate) fn on_socket(path: &Path) -> Self {
        let http = http_client().unix_socket(path).build().unwrap();
        Self { base: "http://localhost".to_owned(), http, bearer: None }
    }

    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { bearer: Some(key.to_owned()), ..self.clone() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.base.strip_prefix("http://").unwrap().parse().unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = self.http.get(format!("{}{path}", self.base)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        match &self.bearer {
            Some(bearer) => request.bearer_auth(bearer),
            None => request,
        }
    }

    fn post(&self, message: &Value) -> RequestBuilder {
        self.request("POST", "/mcp")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(message.to_string())
    }

    /// A request of 2026-07-28; `None` if the connection was lost.
    pub(crate) async fn send_modern(&self, method: &str, mut params: Value) -> Option<Response> {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
        });
        let request = self
            .post(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method);
        let request = match params["name"].as_str() {
            Some(name) => request.header("mcp-name", name),
            None => request,
        };
        request.send().await.ok()
    }

    /// The result of a tool by 2026-07-28, an error included; `None` if the connection was lost.
    pub(crate) async fn call_tool(&self, name: &str, arguments: Value) -> Option<Value> {
        self.call_tool_with(json!({"name": name, "arguments": arguments})).await
    }

    /// The same, with all parameters of `tools/call`.
    pub(crate) async fn call_tool_with(&self, params: Value) -> Option<Value> {
        let name = params["name"].clone();
        let response = self.send_modern("tools/call", params).await?;
        assert_eq!(response.status(), 200, "{name}");
        let message: Value = serde_json::from_str(&response.text().await.ok()?).unwrap();
        Some(message["result"].clone())
    }

    pub(crate) async fn place_call(&self, agent: &str, to: &str) -> Option<Value> {
        self.call_tool("place_call", json!({"agent_id": agent, "to": to})).await
    }

    /// Opens a session of 2025-11-25, whose client can ask its user.
    pub(crate) async fn open_session(&self) -> Session {
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {"form": {}}},
            "clientInfo": {"name": "test", "version": "0"},
        }});
        let response = self.post(&initialize).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        drop(response.text().await.unwrap());
        let session = Session { client: self.clone(), id };
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(session.send(&initialized).await.status(), 202);
        session
    }
}

/// A session of 2025-11-25.
#[derive(Clone)]
pub(crate) struct Session {
    client: Client,
    id: String,
}

impl Session {
    /// The same session, by way of another address.
    pub(crate) fn at(&self, client: &Client) -> Self {
        Self { client: client.clone(), id: self.id.clone() }
    }

    pub(crate) async fn send(&self, message: &Value) -> Response {
        let request = self.client.post(message).header("mcp-session-id", &self.id);
        request.header("mcp-protocol-version", "2025-11-25").send().await.unwrap()
    }

    pub(crate) async fn request(&self, id: i64, method: &str, params: Value) -> Response {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await
    }

    pub(crate) async fn list_tools(&self) -> u16 {
        self.request(1, "tools/list", json!({})).await.status().as_u16()
    }

    pub(crate) async fn call_tool(&self, id: i64, name: &str, arguments: Value) -> Events {
        let params = json!({"name": name, "arguments": arguments, "_meta": {"progressToken": id}});
        Events::new(self.request(id, "tools/call", params).await)
    }

    pub(crate) async fn end(&self) -> u16 {
        let request = self.client.request("DELETE", "/mcp").header("mcp-session-id", &self.id);
        request.send().await.unwrap().status().as_u16()
    }

    /// Accepts the question with this id.
    pub(crate) async fn accept(&self, id: &Value) -> u16 {
        let result = json!({"action": "accept", "content": {"confirm": true}});
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
        self.send(&answer).await.status().as_u16()
    }
}

/// A stream of server-sent events.
pub(crate) struct Events {
    stream: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    text: String,
}

impl Events {
    pub(crate) fn new(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        Self { stream: Box::pin(response.bytes_stream()), text: String::new() }
    }

    /// The data of the next event; `None` at the end of the stream or of the connection.
    pub(crate) async fn next_data(&mut self) -> Option<String> {
        loop {
            while let Some((event, rest)) =
                self.text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned()))
            {
                self.text = rest;
                let data = event.lines().find_map(|line| line.strip_prefix("data:"));
                if let Some(data) = data.map(str::trim).filter(|data| !data.is_empty()) {
                    return Some(data.to_owned());
                }
            }
            let chunk = tokio::time::timeout(TIMEOUT, self.stream.next()).await.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk?.ok()?).unwrap());
        }
    }

    /// The next message that fits; `None` at the end.
    pub(crate) async fn find_message(&mut self, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        while let Some(data) = self.next_data().await {
            match serde_json::from_str::<Value>(&data) {
                Ok(message) if fits(&message) => return Some(message),
                _ => {}
            }
        }
        None
    }

    pub(crate) async fn next_progress(&mut self) {
        let is_progress = |message: &Value| message["method"] == "notifications/progress";
        self.find_message(is_progress).await.expect("a progress notification");
    }

    /// The id of the next question to the user.
    pub(crate) async fn next_question(&mut self) -> Value {
        let asks = |message: &Value| message["method"] == "elicitation/create";
        self.find_message(asks).await.expect("a question")["id"].clone()
    }

    /// The result of the request with this id; `None` at the end.
    pub(crate) async fn result(&mut self, id: i64) -> Option<Value> {
        Some(self.find_message(|message| message["id"] == id).await?["result"].clone())
    }
}
