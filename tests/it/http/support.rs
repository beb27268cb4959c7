//! A running server, and the few requests that all tests make.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use callingbox_sandbox::Sandbox;
use futures::StreamExt;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Long enough for a slow machine, short enough for a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program, with folders of its own.
pub(crate) fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callingbox-mcp"));
    command.env_clear().env("HOME", home);
    command.env("XDG_CONFIG_HOME", home.join("config")).env("XDG_DATA_HOME", home.join("data"));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A folder in which the program asks its human before every call.
pub(crate) fn home_of_one_who_is_asked() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("config/callingbox-mcp");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "[dialing]\nconfirm = \"always\"\n").unwrap();
    home
}

/// The first line of each text of a simulated call.
pub(crate) const SIMULATED: &str = "SIMULATED: nobody real is called and nothing is charged.\n";

/// A running server.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) base: String,
    pub(crate) admin: Option<String>,
    /// What it prints after its address.
    pub(crate) notice: String,
    pub(crate) home: TempDir,
    pub(crate) http: reqwest::Client,
}

impl Server {
    /// Starts one on the simulator.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments).await
    }

    /// The same, in a folder that has something in it.
    pub(crate) async fn start_in(home: TempDir, arguments: &[&str]) -> Self {
        let mut program = program(home.path());
        program.args(["--sandbox", "--sandbox-speed=1"]);
        Self::run(home, program, arguments).await
    }

    /// The same, on a simulator of the test's own.
    pub(crate) async fn on(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut program = program(home.path());
        program.arg(format!("--sandbox={}", sandbox.url()));
        Self::run(home, program, arguments).await
    }

    /// The same, with a program to which something was added.
    pub(crate) async fn run(home: TempDir, mut program: Command, arguments: &[&str]) -> Self {
        let mut child = program
            .args(["http", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut admin = None;
        let base = loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap();
            let line = line.unwrap().unwrap();
            if let Some(url) = line.strip_prefix("health on ") {
                admin = Some(url.to_owned());
            } else if let Some(url) = line.strip_prefix("listening on ") {
                break url.strip_suffix("/mcp").unwrap().to_owned();
            }
        };
        // The line of the address and what follows it are written together.
        let notice = String::from_utf8_lossy(lines.get_ref().buffer()).into_owned();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { child, base, admin, notice, home, http }
    }

    pub(crate) fn address(&self) -> &str {
        self.base.strip_prefix("http://").unwrap()
    }

    /// A POST to /mcp, ready but for what the test adds.
    pub(crate) fn post(&self, message: &Value) -> RequestBuilder {
        self.http
            .post(format!("{}/mcp", self.base))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(message.to_string())
    }

    /// Opens a session of the older era.
    pub(crate) async fn open(&self, bearer: Option<&str>) -> Session<'_> {
        let response = self.initialize(bearer).await;
        assert_eq!(response.status(), 200);
        let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let session = Session { server: self, id, bearer: bearer.map(str::to_owned) };
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(session.post(&initialized).send().await.unwrap().status(), 202);
        session
    }

    pub(crate) async fn initialize(&self, bearer: Option<&str>) -> Response {
        with(self.post(&initialize()), bearer).send().await.unwrap()
    }

    /// One request of 2026-07-28.
    pub(crate) fn modern(&self, method: &str, mut params: Value) -> RequestBuilder {
        for (name, value) in [
            ("protocolVersion", json!("2026-07-28")),
            ("clientInfo", json!({"name": "test", "version": "0"})),
            ("clientCapabilities", json!({})),
        ] {
            params["_meta"][format!("io.modelcontextprotocol/{name}")] = value;
        }
        let request = self
            .post(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method);
        match params["name"].as_str() {
            Some(name) => request.header("mcp-name", name),
            None => request,
        }
    }

    /// A tool by way of 2026-07-28: its structured content.
    pub(crate) async fn tool(&self, bearer: Option<&str>, name: &str, arguments: Value) -> Value {
        let request = self.modern("tools/call", json!({"name": name, "arguments": arguments}));
        let response = with(request, bearer).send().await.unwrap();
        assert_eq!(response.status(), 200, "{name}");
        let message = message(response).await;
        assert_eq!(message["result"]["isError"], json!(false), "{message}");
        message["result"]["structuredContent"].clone()
    }

    /// A call that goes on for half an hour, and its id.
    pub(crate) async fn long_call(&self) -> String {
        self.long_call_of(None).await
    }

    /// The same, of this caller.
    pub(crate) async fn long_call_of(&self, bearer: Option<&str>) -> String {
        let agent = self.agent_of(bearer).await;
        let call = json!({"agent_id": agent, "to": "+13105550107"});
        let call = self.tool(bearer, "place_call", call).await;
        call["call_id"].as_str().unwrap().to_owned()
    }

    /// An agent that can call, and its id.
    pub(crate) async fn agent(&self) -> Value {
        self.agent_of(None).await
    }

    pub(crate) async fn agent_of(&self, bearer: Option<&str>) -> Value {
        let offers = self.tool(bearer, "search_numbers", json!({"area_code": "415"})).await;
        let number = json!({"phone_number": offers["numbers"][0]["phone_number"]});
        let bought = self.tool(bearer, "purchase_number", number).await;
        let agent = json!({
            "name": "Long", "type": "outbound", "persona": "You are Mia.",
            "instructions": "Talk.", "returns": {"ok": "boolean"},
            "number_ids": [bought["number"]["number_id"]],
        });
        self.tool(bearer, "create_agent", agent).await["agent_id"].clone()
    }
}

pub(crate) fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    }})
}

pub(crate) fn with(request: RequestBuilder, bearer: Option<&str>) -> RequestBuilder {
    match bearer {
        Some(bearer) => request.bearer_auth(bearer),
        None => request,
    }
}

/// A session of the older era.
pub(crate) struct Session<'a> {
    pub(crate) server: &'a Server,
    pub(crate) id: String,
    pub(crate) bearer: Option<String>,
}

impl Session<'_> {
    pub(crate) fn post(&self, message: &Value) -> RequestBuilder {
        let request = self
            .server
            .post(message)
            .header("mcp-session-id", &self.id)
            .header("mcp-protocol-version", "2025-11-25");
        with(request, self.bearer.as_deref())
    }

    pub(crate) async fn request(&self, method: &str, params: Value) -> Response {
        let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        self.post(&message).send().await.unwrap()
    }

    /// The names of the tools that are offered.
    pub(crate) async fn tools(&self) -> Vec<String> {
        names(&message(self.request("tools/list", json!({})).await).await)
    }
}

pub(crate) fn names(message: &Value) -> Vec<String> {
    let tools = message["result"]["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// The answer in a response, as JSON or as the last event of a stream.
pub(crate) async fn message(response: Response) -> Value {
    let json = response.headers()["content-type"].to_str().unwrap().starts_with("application/json");
    let text = response.text().await.unwrap();
    if json {
        return serde_json::from_str(&text).unwrap();
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let last = data.map(str::trim).rfind(|data| !data.is_empty()).unwrap();
    serde_json::from_str(last).unwrap()
}

/// A session of HTTP+SSE: its stream, and where its messages go.
pub(crate) struct Older<'a> {
    pub(crate) server: &'a Server,
    pub(crate) events: Events,
    pub(crate) endpoint: String,
}

impl<'a> Older<'a> {
    /// Opens one, initialized.
    pub(crate) async fn open(server: &'a Server) -> Self {
        let stream = server.http.get(format!("{}/sse", server.base)).send().await.unwrap();
        let mut events = Events::of(stream);
        let endpoint = format!("{}{}", server.base, events.next().await.unwrap().1);
        let mut session = Self { server, events, endpoint };
        assert_eq!(session.post(&initialize()).await.status(), 202);
        session.next().await;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(session.post(&initialized).await.status(), 202);
        session
    }

    pub(crate) async fn post(&self, message: &Value) -> Response {
        self.server.http.post(&self.endpoint).body(message.to_string()).send().await.unwrap()
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Value {
        serde_json::from_str(&self.events.next().await.unwrap().1).unwrap()
    }
}

/// The stream of HTTP+SSE, event by event.
pub(crate) struct Events {
    stream: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    text: String,
}

impl Events {
    pub(crate) fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert!(response.headers()["content-type"].to_str().unwrap().contains("event-stream"));
        Self { stream: Box::pin(response.bytes_stream()), text: String::new() }
    }

    /// The next message that is wanted.
    pub(crate) async fn message(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (_, data) = self.next().await.unwrap();
            match serde_json::from_str(&data) {
                Ok(message) if wanted(&message) => return message,
                _ => {}
            }
        }
    }

    /// Kind and data of the next event; none at the end.
    pub(crate) async fn next(&mut self) -> Option<(String, String)> {
        loop {
            while let Some((event, rest)) =
                self.text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned()))
            {
                self.text = rest;
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim().to_owned())
                };
                if let Some(data) = field("data:") {
                    return Some((field("event:").unwrap_or_default(), data));
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.stream.next()).await.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk?.ok()?).unwrap());
        }
    }
}
