//! A running server, its sessions and streams, and the requests that many tests send.

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

/// How long a test waits for anything: long enough for a slow machine.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The program, with its folders under `home`.
pub(crate) fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callingbox-mcp"));
    command.env_clear().env("HOME", home);
    command.env("XDG_CONFIG_HOME", home.join("config")).env("XDG_DATA_HOME", home.join("data"));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A home folder whose configuration demands a confirmation before every call.
pub(crate) fn home_with_confirmation() -> TempDir {
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
    /// Starts a server on a simulator of its own.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments).await
    }

    /// [`Server::start`] with this home folder.
    pub(crate) async fn start_in(home: TempDir, arguments: &[&str]) -> Self {
        let mut program = program(home.path());
        program.args(["--sandbox", "--sandbox-speed=1"]);
        Self::run(home, program, arguments).await
    }

    /// Starts a server on a simulator that the test controls.
    pub(crate) async fn start_on(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut program = program(home.path());
        program.arg(format!("--sandbox={}", sandbox.url()));
        Self::run(home, program, arguments).await
    }

    /// Starts a server by this command, to which `http` and `arguments` are added.
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
            let line = tokio::time::timeout(TEST_TIMEOUT, lines.next_line()).await.unwrap();
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
        let http = reqwest::Client::builder().no_proxy().timeout(TEST_TIMEOUT).build().unwrap();
        Self { child, base, admin, notice, home, http }
    }

    pub(crate) fn address(&self) -> &str {
        self.base.strip_prefix("http://").unwrap()
    }

    /// The memory that the server occupies, in KiB.
    #[cfg(target_os = "linux")]
    pub(crate) fn resident_kib(&self) -> u64 {
        read_memory_kib(self.child.id().unwrap(), "VmRSS")
    }

    /// A POST to /mcp, to which the test may add headers.
    pub(crate) fn post(&self, message: &Value) -> RequestBuilder {
        self.http
            .post(format!("{}/mcp", self.base))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(message.to_string())
    }

    /// Opens a session of 2025-11-25.
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

    /// Calls a tool by a request of 2026-07-28, and returns its structured content.
    pub(crate) async fn tool(&self, bearer: Option<&str>, name: &str, arguments: Value) -> Value {
        let request = self.modern("tools/call", json!({"name": name, "arguments": arguments}));
        let response = with(request, bearer).send().await.unwrap();
        assert_eq!(response.status(), 200, "{name}");
        let message = message(response).await;
        assert_eq!(message["result"]["isError"], json!(false), "{message}");
        message["result"]["structuredContent"].clone()
    }

    /// Places a call that lasts half an hour, and returns its id.
    pub(crate) async fn long_call(&self) -> String {
        self.long_call_of(None).await
    }

    /// [`Server::long_call`] by the caller with this credential.
    pub(crate) async fn long_call_of(&self, bearer: Option<&str>) -> String {
        let agent = self.agent_of(bearer).await;
        let call = json!({"agent_id": agent, "to": "+13105550107"});
        let call = self.tool(bearer, "place_call", call).await;
        call["call_id"].as_str().unwrap().to_owned()
    }

    /// Creates an agent that can place calls, and returns its id.
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

/// A session of 2025-11-25.
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

    /// The names of the offered tools.
    pub(crate) async fn tools(&self) -> Vec<String> {
        names(&message(self.request("tools/list", json!({})).await).await)
    }
}

/// The names of the tools for models in an answer to `tools/list`.
pub(crate) fn names(message: &Value) -> Vec<String> {
    let tools = message["result"]["tools"].as_array().unwrap().iter();
    let shown = tools.filter(|tool| tool["_meta"]["ui"]["visibility"] != json!(["app"]));
    shown.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// The message in a response: its JSON, or the last event of its stream.
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

/// A session of HTTP+SSE: its stream, and the address for its messages.
pub(crate) struct SseSession<'a> {
    pub(crate) server: &'a Server,
    pub(crate) events: Events,
    pub(crate) endpoint: String,
}

impl<'a> SseSession<'a> {
    /// Opens a session and initializes it.
    pub(crate) async fn open(server: &'a Server) -> Self {
        let stream = server.http.get(format!("{}/sse", server.base)).send().await.unwrap();
        let mut events = Events::new(stream);
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

/// The events of a stream.
pub(crate) struct Events {
    stream: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    text: String,
}

impl Events {
    pub(crate) fn new(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert!(response.headers()["content-type"].to_str().unwrap().contains("event-stream"));
        Self { stream: Box::pin(response.bytes_stream()), text: String::new() }
    }

    /// The next message that `wanted` accepts.
    pub(crate) async fn message(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (_, data) = self.next().await.unwrap();
            match serde_json::from_str(&data) {
                Ok(message) if wanted(&message) => return message,
                _ => {}
            }
        }
    }

    /// The type and the data of the next event; `None` at the end.
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
            let chunk = tokio::time::timeout(TEST_TIMEOUT, self.stream.next()).await.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk?.ok()?).unwrap());
        }
    }
}

/// Reads the memory of a process: `VmRSS` is the present one, `VmHWM` the highest.
#[cfg(target_os = "linux")]
pub(crate) fn read_memory_kib(process: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    value.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}
