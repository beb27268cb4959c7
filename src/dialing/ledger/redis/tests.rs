//! The suite of every ledger against a real server, which the test starts and stops itself.

use std::process::Stdio;
use std::sync::Arc;

use super::*;
use crate::dialing::ledger::State;
use crate::dialing::ledger::conformance::{self, intent, noon, terms};

/// Names the server's program, such as `/usr/bin/redis-server` or `valkey-server`.
const SERVER: &str = "CALLINGBOX_TEST_REDIS_SERVER";

/// A server on a free port of this machine, with an append-only file; it ends with the value.
struct Server {
    process: tokio::process::Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A cluster of one node, which holds all slots.
    async fn cluster() -> Self {
        let server = Self::with(&["--cluster-enabled", "yes"]).await;
        let mut link = Link::open(&server.url()).await.unwrap();
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
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the cluster is not ready");
    }

    async fn with(more: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let mut server =
            Self { process: Self::spawn(port, directory.path(), more), port, directory };
        server.ready().await;
        server
    }

    fn spawn(port: u16, directory: &std::path::Path, more: &[&str]) -> tokio::process::Child {
        let program = std::env::var_os(SERVER).expect("the variable names the server's program");
        tokio::process::Command::new(program)
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
            if let Ok(mut link) = Link::open(&self.url()).await
                && redis::cmd("PING").query_async::<String>(&mut link).await.is_ok()
            {
                return;
            }
            assert_eq!(self.process.try_wait().unwrap(), None, "the server has ended");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the server does not answer");
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    async fn open(&self, world: World) -> Result<RedisLedger, LedgerError> {
        RedisLedger::open(&self.url(), "test", world).await
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn conforms() {
    let server = Server::start().await;
    conformance::all(|| async {
        Arc::new(server.open(World::Real).await.unwrap()) as Arc<dyn Ledger>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn conforms_in_a_cluster() {
    let server = Server::cluster().await;
    let url = server.url().replace("redis://", "redis-cluster://");
    conformance::all(|| async {
        Arc::new(RedisLedger::open(&url, "test", World::Real).await.unwrap()) as Arc<dyn Ledger>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn an_intent_survives_the_server_and_the_connection_heals() {
    let mut server = Server::start().await;
    let (ledger, tenant) = (server.open(World::Real).await.unwrap(), conformance::tenant());
    let asked = intent(&tenant, 1, "x");
    assert!(matches!(ledger.begin(asked.clone(), terms(noon())).await.unwrap(), Begin::Begun(_)));
    server.process.kill().await.unwrap();
    let error = ledger.begin(intent(&tenant, 2, "x"), terms(noon())).await.unwrap_err();
    assert!(
        error.to_string().starts_with("dialing is refused: the ledger's Redis server"),
        "{error}"
    );
    server.process = Server::spawn(server.port, server.directory.path(), &[]);
    server.ready().await;
    let mut found = Err(error);
    for _ in 0..100 {
        found = ledger.find(tenant.id(), asked.dispatch_id).await;
        if found.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(found.unwrap().map(|record| record.state), Some(State::Intent));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn refuses_what_it_cannot_keep() {
    let server = Server::start().await;
    server.open(World::Sandbox).await.unwrap();
    let other = server.open(World::Real).await.unwrap_err();
    assert!(
        matches!(other, LedgerError::OtherWorld { found: World::Sandbox, wanted: World::Real }),
        "{other}"
    );
    let mut link = Link::open(&server.url()).await.unwrap();
    let _: () = link.hset("test:meta", "version", 99).await.unwrap();
    let newer = server.open(World::Sandbox).await.unwrap_err();
    assert!(matches!(newer, LedgerError::Newer { found: 99, known: 1 }), "{newer}");
}
