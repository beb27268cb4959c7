//! The processes, the balancer, and the simulator's controls.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::client::Client;

/// Long enough for a slow machine, short enough for a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// What webhooks are signed with.
pub(crate) const SECRET: &str = "whsec_replicas";
/// The organization that the server's own key has on the simulator.
pub(crate) const KEY: &str = "sk_sandbox_callingbox_mcp";

/// Tries until it is so.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < end {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("in vain: {what}");
}

/// A Redis that can be stopped and started again.
pub(crate) struct Redis {
    process: Child,
    port: u16,
    directory: TempDir,
}

impl Redis {
    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let process = Self::spawn(port, directory.path());
        let redis = Self { process, port, directory };
        redis.ready().await;
        redis
    }

    fn spawn(port: u16, directory: &Path) -> Child {
        let program = std::env::var_os("CALLINGBOX_TEST_REDIS_SERVER")
            .expect("the variable names the server's program");
        Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(directory)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn ready(&self) {
        until("Redis answers", async || TcpStream::connect(("127.0.0.1", self.port)).await.is_ok())
            .await;
    }

    pub(crate) async fn stop(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Lets it hang: it takes connections and answers nothing. Or lets it go on.
    pub(crate) async fn hang(&self, hangs: bool) {
        let signal = if hangs { "-STOP" } else { "-CONT" };
        let process = self.process.id().unwrap().to_string();
        let sent = Command::new("kill").args([signal, &process]).status().await.unwrap();
        assert!(sent.success());
    }

    pub(crate) async fn start_again(&mut self) {
        self.process = Self::spawn(self.port, self.directory.path());
        self.ready().await;
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }
}

/// The program, in a folder of its own.
pub(crate) fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callingbox-mcp"));
    command.env_clear().env("HOME", home);
    command.env("XDG_CONFIG_HOME", home.join("config")).env("XDG_DATA_HOME", home.join("data"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts a program and waits for the address on which it listens.
pub(crate) async fn listening(command: &mut Command) -> (Child, String) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        if let Some(url) = line.expect("it ended").strip_prefix("listening on ") {
            return (child, url.trim_end_matches("/mcp").to_owned());
        }
    }
}

/// One replica.
pub(crate) struct Replica {
    pub(crate) process: Child,
    pub(crate) client: Client,
    _home: TempDir,
}

/// Everything together.
pub(crate) struct House {
    pub(crate) redis: Redis,
    pub(crate) replicas: Vec<Replica>,
    /// By way of the balancer.
    pub(crate) client: Client,
    simulator: String,
    http: reqwest::Client,
    balancer: JoinHandle<()>,
    _sandbox: Child,
    _home: TempDir,
}

impl Drop for House {
    fn drop(&mut self) {
        self.balancer.abort();
    }
}

impl House {
    /// Three replicas with this configuration, these calling rules and these arguments of `http`.
    pub(crate) async fn open(config: &str, policy: &str, arguments: &[&str]) -> Self {
        let redis = Redis::start().await;
        let home = tempfile::tempdir().unwrap();
        let mut sandbox = program(home.path());
        // The clock stands still: no call ends by itself.
        let (sandbox, simulator) =
            listening(sandbox.args(["sandbox", "--listen", "127.0.0.1:0", "--manual"])).await;
        let mut replicas = Vec::new();
        for _ in 0..3 {
            replicas.push(replica(&redis.url(), &simulator, config, policy, arguments).await);
        }
        let bases = replicas.iter().map(|replica| replica.client.address()).collect();
        let (address, balancer) = balance(bases).await;
        let client = Client::new(format!("http://{address}"));
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { redis, replicas, client, simulator, http, balancer, _sandbox: sandbox, _home: home }
    }

    /// The simulator, as the server's own organization.
    pub(crate) async fn simulator(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}{path}", self.simulator);
        let request = self.http.request(method.parse().unwrap(), url).bearer_auth(KEY);
        let request = match body {
            Some(body) => request.body(body.to_string()),
            None => request,
        };
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The calls that were really placed: number and id.
    pub(crate) async fn dialed(&self) -> Vec<(String, String)> {
        let dialed = self.simulator("GET", "/sandbox/dialed", None).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let calls = dialed["data"].as_array().unwrap().iter();
        calls.map(|call| (text(&call["to"]), text(&call["call_id"]))).collect()
    }

    /// What the command `receipts` prints, from a machine that is none of the replicas.
    pub(crate) async fn receipts(&self) -> Vec<Value> {
        let text = self.printed("", &["receipts", "--json"]).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What a command prints on a machine that is none of the replicas, with these calling rules.
    pub(crate) async fn printed(&self, policy: &str, command: &[&str]) -> String {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("config/callingbox-mcp");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("policy.toml"), policy).unwrap();
        let mut program = program(home.path());
        program.arg(format!("--sandbox={}", self.simulator)).args(command);
        program.env("CALLINGBOX_MCP_STATE", self.redis.url());
        let output = program.output().await.unwrap();
        assert!(output.status.success(), "{command:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What goes wrong with a request of the API from now on.
    pub(crate) async fn fault(&self, fault: Value) {
        self.simulator("POST", "/sandbox/faults", Some(fault)).await;
    }

    /// An agent with a number, ready to call, and credit for it.
    pub(crate) async fn agent(&self) -> String {
        let credits = json!({"balance_milli_cents": 100_000_000});
        self.simulator("POST", "/sandbox/credits", Some(credits)).await;
        let offers = self.simulator("GET", "/v1/numbers/available?area_code=415", None).await;
        let number = json!({"phone_number": offers[0]["phone_number"]});
        let bought = self.simulator("POST", "/v1/numbers/purchase", Some(number)).await;
        let agent = json!({
            "name": "Mia", "type": "outbound", "persona": "You are Mia.",
            "instructions": "Talk.", "returns": {"ok": "boolean"},
            "number_ids": [bought["id"]],
        });
        let agent = self.simulator("POST", "/v1/agents", Some(agent)).await;
        agent["id"].as_str().unwrap().to_owned()
    }
}

async fn replica(
    redis: &str,
    simulator: &str,
    config: &str,
    policy: &str,
    arguments: &[&str],
) -> Replica {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("config/callingbox-mcp");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), config).unwrap();
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    let mut command = program(home.path());
    command.env("CALLINGBOX_MCP_STATE", redis).env("CALLINGBOX_WEBHOOK_SECRET", SECRET);
    command.arg(format!("--sandbox={simulator}")).args(["http", "--listen", "127.0.0.1:0"]);
    let (process, base) = listening(command.args(arguments)).await;
    let client = Client::new(base);
    until("a replica is ready", async || client.get("/readyz").await.0 == 200).await;
    Replica { process, client, _home: home }
}

/// Gives each connection to the next replica that takes it.
async fn balance(replicas: Vec<SocketAddr>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let turn = Arc::new(AtomicUsize::new(0));
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (replicas, turn) = (replicas.clone(), Arc::clone(&turn));
            tokio::spawn(async move {
                for _ in 0..replicas.len() {
                    let next = replicas[turn.fetch_add(1, Ordering::Relaxed) % replicas.len()];
                    if let Ok(mut replica) = TcpStream::connect(next).await {
                        let _ = copy_bidirectional(&mut client, &mut replica).await;
                        return;
                    }
                }
            });
        }
    });
    (address, task)
}
