//! Lists of people at three replicas that share a Redis: one of them is killed, stopped, given another time, cut off from Redis
//! alone, or its list is canceled, at each point of the life of an attempt. The points and what must hold are those of
//! `tests/it/batch_faults`, whose ledger is a file.

use std::sync::Arc;

use callingbox_sandbox::{Options, Sandbox};
use futures::future::join_all;
use jiff::Timestamp;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::call_list::{self, BegunAttempt, CONFIG, PEOPLE, POLICY};
use crate::deployment::Replica;
use crate::gate::Gate;
use crate::harness::{Control, simulator};
use crate::machine_clock::MachineClock;
use crate::points::{Fault, FaultScene, Point, run_fault, signal};
use crate::redis_link::RedisLink;
use crate::redis_server::RedisServer;

/// Each scene has five processes, which must answer in real time.
static SCENES: Semaphore = Semaphore::const_new(6);

/// Three replicas, the first of which runs the batch.
struct ReplicaScene {
    control: Control,
    gate: Arc<Gate>,
    machine: MachineClock,
    replicas: Vec<Replica>,
    redis: MultiplexedConnection,
    _permit: SemaphorePermit<'static>,
    _server: RedisServer,
    _sandbox: Sandbox,
}

impl ReplicaScene {
    async fn new() -> Self {
        let _permit = SCENES.acquire().await.unwrap();
        let sandbox = simulator(Options::default()).await;
        let control = Control::new(&sandbox);
        let gate = Gate::start(sandbox.address()).await;
        let machine = MachineClock::new();
        let server = RedisServer::start().await;
        let start = async || {
            let link = RedisLink::start(server.port).await;
            Replica::start(link, &machine, &gate.url(), CONFIG, POLICY, &[]).await
        };
        let replicas = vec![start().await, start().await, start().await];
        let client = redis::Client::open(server.url()).unwrap();
        let redis = client.get_multiplexed_async_connection().await.unwrap();
        let (_server, _sandbox) = (server, sandbox);
        Self { control, gate, machine, replicas, redis, _permit, _server, _sandbox }
    }

    /// Starts the list at the first replica, where it waits for its time.
    async fn start(&self) -> String {
        let agent = create_agent(&self.control).await;
        let list = call_list::list(&agent);
        let result = self.replicas[0].client.call_tool("place_calls", list).await.unwrap();
        let batch = &result["structuredContent"];
        assert_eq!((&batch["state"], &batch["waiting"]), (&json!("running"), &json!(PEOPLE.len())));
        batch["batch_id"].as_str().unwrap().to_owned()
    }

    /// The values of the keys that match.
    async fn read_all(&self, pattern: &str) -> Vec<Value> {
        let mut redis = self.redis.clone();
        let keys: Vec<String> = redis.keys(pattern).await.unwrap();
        let mut values = Vec::new();
        for key in keys {
            let value: String = redis.get(key).await.unwrap();
            values.push(serde_json::from_str(&value).unwrap());
        }
        values
    }

    fn runner(&self) -> &Replica {
        &self.replicas[0]
    }
}

impl FaultScene for ReplicaScene {
    fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    fn machine(&self) -> &MachineClock {
        &self.machine
    }

    fn control(&self) -> &Control {
        &self.control
    }

    fn runner_id(&self) -> u32 {
        self.runner().process.id().expect("the replica runs")
    }

    async fn call_tool(&mut self, tool: &str, arguments: Value) -> Value {
        self.replicas[1].client.call_tool(tool, arguments).await.unwrap()
    }

    async fn begun(&self) -> Vec<BegunAttempt> {
        let dispatches = self.read_all("*:d:*").await;
        let records = dispatches.iter().map(|stored| &stored["record"]);
        let attempts = records.filter(|record| record["attempt"].is_object());
        attempts.map(|record| BegunAttempt::read(&record.to_string())).collect()
    }

    async fn lease_expires_at(&self, batch: &str) -> Timestamp {
        let batches = self.read_all(&format!("*:batch:{batch}")).await;
        batches[0]["lease_expires_at"].as_str().unwrap().parse().unwrap()
    }

    async fn block_ledger(&mut self) {
        self.runner().redis.hold(true);
    }

    async fn unblock_ledger(&mut self) {
        self.runner().redis.hold(false);
    }

    async fn stop_runner(&mut self) {
        signal(self.runner_id(), "STOP").await;
    }

    fn cut_off(&mut self, is_cut: bool) {
        self.runner().redis.cut(is_cut);
    }
}

/// Creates an agent with a number, and credit for its calls. Returns its id.
async fn create_agent(control: &Control) -> String {
    control.credit(100_000_000).await;
    let offers = control.request("GET", "/v1/numbers/available?area_code=415", None).await;
    let number = json!({"phone_number": offers[0]["phone_number"]});
    let bought = control.request("POST", "/v1/numbers/purchase", Some(number)).await;
    let agent = json!({
        "name": "Mia", "type": "outbound", "persona": "You are Mia.", "instructions": "Talk.",
        "number_ids": [bought["id"]],
    });
    let agent = control.request("POST", "/v1/agents", Some(agent)).await;
    agent["id"].as_str().unwrap().to_owned()
}

async fn run(point: Point, fault: Fault) {
    let mut scene = ReplicaScene::new().await;
    let batch = scene.start().await;
    run_fault(&mut scene, &batch, point, fault, &format!("{point:?} {fault:?}")).await;
}

async fn run_all(point: Point) {
    join_all(Fault::ALL.map(|fault| run(point, fault))).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: set CALLINGBOX_TEST_REDIS_SERVER to the program"]
async fn before_the_claim() {
    run_all(Point::BeforeClaim).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: set CALLINGBOX_TEST_REDIS_SERVER to the program"]
async fn after_the_claim() {
    run_all(Point::AfterClaim).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: set CALLINGBOX_TEST_REDIS_SERVER to the program"]
async fn after_the_renewal() {
    run_all(Point::AfterRenewal).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: set CALLINGBOX_TEST_REDIS_SERVER to the program"]
async fn after_the_request() {
    run_all(Point::AfterRequest).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: set CALLINGBOX_TEST_REDIS_SERVER to the program"]
async fn after_the_answer() {
    run_all(Point::AfterAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: set CALLINGBOX_TEST_REDIS_SERVER to the program"]
async fn during_the_search() {
    run_all(Point::DuringSearch).await;
}
