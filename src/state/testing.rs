//! A real Redis server for tests, which start and stop it themselves. `tests/replicas` includes this file too, so it
//! names nothing of this crate.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// The environment variable with the path of the server's program, such as `/usr/bin/redis-server` or
/// `valkey-server`.
const PROGRAM: &str = "CALLINGBOX_TEST_REDIS_SERVER";
/// Outside the range from which the system takes ports for outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How often, and how many times, a starting server is asked whether it is ready.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const MAX_POLLS: usize = 3_000;

/// A server on a port of this machine, with an append-only file. It ends when the value is dropped.
pub(crate) struct RedisServer {
    pub(crate) process: Child,
    pub(crate) port: u16,
    directory: TempDir,
    options: &'static [&'static str],
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Redis cannot choose a port itself, so this tries one after another until the server has bound one.
    pub(crate) async fn start_with(options: &'static [&'static str]) -> Self {
        loop {
            let (port, directory) = (rand::random_range(PORTS), tempfile::tempdir().unwrap());
            let process = spawn(port, directory.path(), options);
            let mut server = Self { process, port, directory, options };
            if server.wait_until_ready().await {
                return server;
            }
        }
    }

    /// `false`: the process ended because the port is in use.
    async fn wait_until_ready(&mut self) -> bool {
        for _ in 0..MAX_POLLS {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            if self.is_ready().await {
                return true;
            }
            sleep(POLL_INTERVAL).await;
        }
        panic!("the Redis server on port {} does not reply", self.port);
    }

    /// Whether this server replies, and not another one on the same port.
    async fn is_ready(&self) -> bool {
        let client = redis::Client::open(self.url()).unwrap();
        let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
            return false;
        };
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg("dir");
        let found = get.query_async::<(String, String)>(&mut connection).await;
        found.is_ok_and(|(_, directory)| Path::new(&directory) == self.directory.path())
    }

    /// Ends the server, as a crash would.
    pub(crate) async fn stop(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Starts the server again, with the data that it had written.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.port, self.directory.path(), self.options);
        assert!(self.wait_until_ready().await, "port {} is in use", self.port);
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }
}

fn spawn(port: u16, directory: &Path, options: &[&str]) -> Child {
    let program = std::env::var_os(PROGRAM).expect("CALLINGBOX_TEST_REDIS_SERVER");
    Command::new(program)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(directory)
        .args(options)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
