//! A client of MCP over HTTP that makes a new connection for each request, as a balancer likes it.

use std::net::SocketAddr;

use futures::StreamExt;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::house::PATIENCE;

/// Talks to one address.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
    bearer: Option<String>,
}

impl Client {
    pub(crate) fn new(base: String) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http =
            reqwest::Client::builder().no_proxy().timeout(PATIENCE).pool_max_idle_per_host(0);
        Self { base, http: http.build().unwrap(), bearer: None }
    }

    /// The same, with a key.
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

    /// One request of 2026-07-28; none when the connection broke.
    pub(crate) async fn modern(&self, method: &str, mut params: Value) -> Option<Response> {
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

    /// The result of a tool by way of 2026-07-28, in error or not; none when the connection broke.
    pub(crate) async fn tool(&self, name: &str, arguments: Value) -> Option<Value> {
        self.round(json!({"name": name, "arguments": arguments})).await
    }

    /// The same, with everything that a call of a tool can carry.
    pub(crate) async fn round(&self, params: Value) -> Option<Value> {
        let name = params["name"].clone();
        let response = self.modern("tools/call", params).await?;
        assert_eq!(response.status(), 200, "{name}");
        let message: Value = serde_json::from_str(&response.text().await.ok()?).unwrap();
        Some(message["result"].clone())
    }

    pub(crate) async fn place_call(&self, agent: &str, to: &str) -> Option<Value> {
        self.tool("place_call", json!({"agent_id": agent, "to": to})).await
    }

    /// Opens a session of the older era, whose client can ask its human.
    pub(crate) async fn open(&self) -> Session {
        self.open_with(&[]).await
    }

    /// The same, with headers that hold for the whole session.
    pub(crate) async fn open_with(&self, headers: &[(&str, &str)]) -> Session {
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {"form": {}}},
            "clientInfo": {"name": "test", "version": "0"},
        }});
        let mut request = self.post(&hello);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let session =
            Session { id: response.headers()["mcp-session-id"].to_str().unwrap().to_owned() };
        drop(response.text().await.unwrap());
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(session.send(self, &initialized).await.status(), 202);
        session
    }
}

/// A session, wherever its requests go.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) id: String,
}

impl Session {
    pub(crate) async fn send(&self, to: &Client, message: &Value) -> Response {
        let request = to.post(message).header("mcp-session-id", &self.id);
        request.header("mcp-protocol-version", "2025-11-25").send().await.unwrap()
    }

    pub(crate) async fn request(
        &self,
        to: &Client,
        id: i64,
        method: &str,
        params: Value,
    ) -> Response {
        self.send(to, &json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await
    }

    pub(crate) async fn call(&self, to: &Client, id: i64, name: &str, arguments: Value) -> Events {
        let params = json!({"name": name, "arguments": arguments, "_meta": {"progressToken": id}});
        Events::of(self.request(to, id, "tools/call", params).await)
    }
}

/// A stream of events.
pub(crate) struct Events {
    stream: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    text: String,
}

impl Events {
    pub(crate) fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        Self { stream: Box::pin(response.bytes_stream()), text: String::new() }
    }

    /// The data of the next event; none at the end, or when the connection broke.
    pub(crate) async fn next(&mut self) -> Option<String> {
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
            let chunk = tokio::time::timeout(PATIENCE, self.stream.next()).await.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk?.ok()?).unwrap());
        }
    }

    /// The next message that is so; none at the end.
    pub(crate) async fn until(&mut self, so: impl Fn(&Value) -> bool) -> Option<Value> {
        while let Some(data) = self.next().await {
            match serde_json::from_str::<Value>(&data) {
                Ok(message) if so(&message) => return Some(message),
                _ => {}
            }
        }
        None
    }

    /// The result of the request with this id; none at the end.
    pub(crate) async fn result(&mut self, id: i64) -> Option<Value> {
        Some(self.until(|message| message["id"] == id).await?["result"].clone())
    }
}
