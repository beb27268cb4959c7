//! A real server for tests, which they start and stop themselves.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::{Link, Place, Shared};

/// Names the server's program, such as `/usr/bin/redis-server` or `valkey-server`.
const SERVER: &str = "CALLINGBOX_TEST_REDIS_SERVER";

/// A server on a free port of this machine, with an append-only file; it ends with the value.
pub(crate) struct Server {
    pub(crate) process: Child,
    port: u16,
    directory: tempfile::TempDir,
    more: &'static [&'static str],
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A cluster of one node, which holds all slots.
    pub(crate) async fn cluster() -> Self {
        let server = Self::with(&["--cluster-enabled", "yes"]).await;
        let mut link = server.link();
        let _: () = redis::cmd("CLUSTER")
            .arg(&["ADDSLOTSRANGE", "0", "16383"])
            .query_async(&mut link)
            .await
            .unwrap();
        let state = || redis::cmd("CLUSTER").arg("INFO").to_owned();
        for _ in 0..500 {
            let info: String = state().query_async(&mut link).await.unwrap();
            if info.contains("cluster_state:ok") {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the cluster is not ready");
    }

    async fn with(more: &'static [&'static str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let mut server =
            Self { process: Self::spawn(port, directory.path(), more), port, directory, more };
        server.ready().await;
        server
    }

    fn spawn(port: u16, directory: &std::path::Path, more: &[&str]) -> Child {
        let program = std::env::var_os(SERVER).expect("the variable names the server's program");
        Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(directory)
            .args(more)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn ready(&mut self) {
        for _ in 0..500 {
            let mut link = self.link();
            if redis::cmd("PING").query_async::<String>(&mut link).await.is_ok() {
                return;
            }
            assert_eq!(self.process.try_wait().unwrap(), None, "the server has ended");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the server does not answer");
    }

    /// Starts it again, with what it had written.
    pub(crate) async fn restart(&mut self) {
        self.process = Self::spawn(self.port, self.directory.path(), self.more);
        self.ready().await;
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn link(&self) -> Link {
        Link::new(Place::parse(&self.url()).unwrap()).unwrap()
    }

    /// The state on it, as one more replica.
    pub(crate) fn shared(&self) -> Shared {
        Shared::open(&self.url()).unwrap()
    }
}
