//! The processes, and the controls of the simulator.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::Client;
use crate::machine_clock::MachineClock;
use crate::redis_link::RedisLink;
use crate::redis_server::RedisServer;

/// Long enough for a slow machine, short enough for a test that hangs.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(40);
pub(crate) const WEBHOOK_SECRET: &str = "whsec_replicas";
/// The key with which the server calls the simulator.
pub(crate) const API_KEY: &str = "sk_sandbox_callingbox_mcp";
/// Calling rules that allow everything.
pub(crate) const NO_RULES: &str = "mode = \"off\"\n";
/// The environment variable with the path of HAProxy.
const HAPROXY: &str = "CALLINGBOX_TEST_HAPROXY";

pub(crate) async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while tokio::time::Instant::now() < deadline {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("timed out: {what}");
}

/// The program, with a home of its own.
pub(crate) fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callingbox-mcp"));
    command.env_clear().env("HOME", home);
    command.env("XDG_CONFIG_HOME", home.join("config")).env("XDG_DATA_HOME", home.join("data"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts a program and returns the address that it prints.
pub(crate) async fn spawn_listener(command: &mut Command) -> (Child, String) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    loop {
        let line = tokio::time::timeout(TIMEOUT, lines.next_line()).await.unwrap().unwrap();
        let line = line.expect("the program ended before it listened");
        if let Some(url) = line.strip_prefix("listening on ") {
            return (child, url.trim_end_matches("/mcp").to_owned());
        }
    }
}

/// A home whose configuration folder has these two files.
pub(crate) fn home_with(config: &str, policy: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("config/callingbox-mcp");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), config).unwrap();
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    home
}

pub(crate) struct Replica {
    pub(crate) process: Child,
    pub(crate) client: Client,
    /// Its way to Redis.
    pub(crate) redis: RedisLink,
    _home: TempDir,
}

impl Replica {
    pub(crate) async fn start(
        redis: RedisLink,
        machine: &MachineClock,
        simulator: &str,
        config: &str,
        policy: &str,
        arguments: &[&str],
    ) -> Self {
        let home = home_with(config, policy);
        let mut command = program(home.path());
        command.env("CALLINGBOX_MCP_STATE", redis.url()).envs(machine.environment());
        command.env("CALLINGBOX_WEBHOOK_SECRET", WEBHOOK_SECRET);
        command.arg(format!("--sandbox={simulator}")).args(["http", "--listen", "127.0.0.1:0"]);
        let (process, base) = spawn_listener(command.args(arguments)).await;
        let client = Client::new(base);
        wait_until("a replica is ready", async || client.get("/readyz").await.0 == 200).await;
        Self { process, client, redis, _home: home }
    }

    /// Whether `/metrics` has this line.
    pub(crate) async fn has_metric(&self, metric: &str) -> bool {
        self.client.get("/metrics").await.1.lines().any(|line| line == metric)
    }

    pub(crate) async fn has_session(&self) -> bool {
        !self.has_metric("callingbox_mcp_sessions 0").await
    }
}

/// All processes of a test.
pub(crate) struct Deployment {
    pub(crate) redis: RedisServer,
    pub(crate) replicas: Vec<Replica>,
    /// The clock of the replicas.
    pub(crate) machine: MachineClock,
    /// A client of the balancer.
    pub(crate) client: Client,
    simulator: String,
    http: reqwest::Client,
    _balancer: (Child, TempDir),
    _sandbox: Child,
    _home: TempDir,
}

impl Deployment {
    /// Three replicas with this configuration, these calling rules and these arguments of `http`.
    pub(crate) async fn start(config: &str, policy: &str, arguments: &[&str]) -> Self {
        let redis = RedisServer::start().await;
        let home = tempfile::tempdir().unwrap();
        let mut sandbox = program(home.path());
        // The clock of the simulator stands still, so no call ends by itself.
        let (sandbox, simulator) =
            spawn_listener(sandbox.args(["sandbox", "--listen", "127.0.0.1:0", "--manual"])).await;
        let machine = MachineClock::new();
        let mut replicas = Vec::new();
        for _ in 0..3 {
            let link = RedisLink::start(redis.port).await;
            let replica = Replica::start(link, &machine, &simulator, config, policy, arguments);
            replicas.push(replica.await);
        }
        let (balancer, client) = start_balancer(&replicas).await;
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().unwrap();
        let (_balancer, _sandbox, _home) = (balancer, sandbox, home);
        Self { redis, replicas, machine, client, simulator, http, _balancer, _sandbox, _home }
    }

    /// The replica with the only session.
    pub(crate) async fn replica_with_session(&self) -> usize {
        let mut found = Vec::new();
        for (index, replica) in self.replicas.iter().enumerate() {
            if replica.has_session().await {
                found.push(index);
            }
        }
        assert_eq!(found.len(), 1, "sessions at {found:?}");
        found[0]
    }

    /// A request to the simulator with the server's own key.
    pub(crate) async fn simulator(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}{path}", self.simulator);
        let request = self.http.request(method.parse().unwrap(), url).bearer_auth(API_KEY);
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

    pub(crate) async fn advance_clock(&self, seconds: u64) {
        let advance = json!({"advance_seconds": seconds});
        self.simulator("POST", "/sandbox/clock", Some(advance)).await;
    }

    /// Number and id of every call that the simulator dialed.
    pub(crate) async fn dialed(&self) -> Vec<(String, String)> {
        let dialed = self.simulator("GET", "/sandbox/dialed", None).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let calls = dialed["data"].as_array().unwrap().iter();
        calls.map(|call| (text(&call["to"]), text(&call["call_id"]))).collect()
    }

    /// The output of `receipts` on a machine that is not a replica.
    pub(crate) async fn receipts(&self) -> Vec<Value> {
        let text = self.run_command("", &["receipts", "--json"]).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The output of a command on a machine that is not a replica, with these calling rules.
    pub(crate) async fn run_command(&self, policy: &str, arguments: &[&str]) -> String {
        let home = home_with("", policy);
        let mut program = program(home.path());
        program.arg(format!("--sandbox={}", self.simulator)).args(arguments);
        program.env("CALLINGBOX_MCP_STATE", self.redis.url()).envs(self.machine.environment());
        let output = program.output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes requests to the API fail from now on.
    pub(crate) async fn add_fault(&self, fault: Value) {
        self.simulator("POST", "/sandbox/faults", Some(fault)).await;
    }

    /// Creates an agent with a number, and credit for its calls. Returns its id.
    pub(crate) async fn create_agent(&self) -> String {
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

/// Starts HAProxy with the configuration of the handbook, in which only the addresses are replaced. It listens on a
/// Unix socket, because it cannot report a port that the system chose.
async fn start_balancer(replicas: &[Replica]) -> ((Child, TempDir), Client) {
    let folder = tempfile::tempdir().unwrap();
    // HAProxy may run as another user once it has started.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.path().join("balancer.sock");
    let mut config = include_str!("../../docs/balancer/haproxy.cfg").to_owned();
    let bind = format!("bind unix@{}", socket.display());
    replace_once(&mut config, "bind :8080", &bind);
    for (index, replica) in replicas.iter().enumerate() {
        let address = replica.client.address().to_string();
        replace_once(&mut config, &format!("10.0.0.1{}:8080", index + 1), &address);
    }
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let program = std::env::var_os(HAPROXY).expect("CALLINGBOX_TEST_HAPROXY");
    let mut process =
        Command::new(program).args(["-db", "-f"]).arg(&file).kill_on_drop(true).spawn().unwrap();
    let client = Client::on_socket(&socket);
    wait_until("the balancer answers", async || {
        assert_eq!(process.try_wait().unwrap(), None, "HAProxy has ended");
        client.request("GET", "/healthz").send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    ((process, folder), client)
}

fn replace_once(text: &mut String, from: &str, to: &str) {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    *text = text.replace(from, to);
}
