//! Tests against a real server, which they start and stop themselves.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::testing::RedisServer;
use super::*;

const LIFETIME: Duration = Duration::from_secs(60);

impl RedisServer {
    /// A cluster of one node, which holds all slots.
    pub(crate) async fn start_cluster() -> Self {
        let server = Self::start_with(&["--cluster-enabled", "yes"]).await;
        let mut connection = server.connection();
        let cluster = |arguments: &[&str]| redis::cmd("CLUSTER").arg(arguments).to_owned();
        let assign = cluster(&["ADDSLOTSRANGE", "0", "16383"]);
        let _: () = assign.query_async(&mut connection).await.unwrap();
        wait_until(async || {
            let info: String = cluster(&["INFO"]).query_async(&mut connection).await.unwrap();
            info.contains("cluster_state:ok")
        })
        .await;
        server
    }

    pub(crate) fn connection(&self) -> RedisConnection {
        RedisConnection::new(&RedisEndpoint::parse(&self.url()).unwrap()).unwrap()
    }

    /// The state on this server, as one more replica has it.
    pub(crate) fn shared_state(&self) -> SharedState {
        SharedState::open(&self.url()).unwrap()
    }
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

async fn wait_until(mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..1_200 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the condition did not become true");
}

/// Subscribes a replica and returns the messages that it receives.
async fn subscribe(state: &SharedState) -> mpsc::Receiver<Bytes> {
    let (sender, received) = mpsc::channel(16);
    tokio::spawn(state.clone().subscribe(move |message| {
        sender.try_send(Bytes::copy_from_slice(message)).unwrap();
    }));
    wait_until(async || state.check().await.is_ok()).await;
    received
}

async fn receive(messages: &mut mpsc::Receiver<Bytes>) -> Bytes {
    timeout(Duration::from_secs(30), messages.recv()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn requests_are_counted_over_all_replicas() {
    let server = RedisServer::start().await;
    let replicas = [server.shared_state(), server.shared_state(), server.shared_state()];
    let (one, other) = (StateNamespace::new(&[b"one"]), StateNamespace::new(&[b"other"]));
    let (mut allowed, mut waits) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for turn in 0..60 {
        let replica = &replicas[turn % 3];
        match replica.count_request(&one, number(1), number(10)).await.unwrap() {
            RateDecision::Allowed { remaining } => allowed.push(remaining),
            RateDecision::Limited { retry_after } => waits.push(retry_after),
        }
    }
    let refilled = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!((10..=10 + refilled).contains(&allowed.len()), "{allowed:?}");
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(1)), "{waits:?}");
    assert_eq!(allowed[..3], [9, 8, 7]);
    let decision = replicas[0].count_request(&other, number(1), number(10)).await.unwrap();
    assert_eq!(decision, RateDecision::Allowed { remaining: 9 });
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_hash_is_inserted_once_for_all_replicas() {
    let server = RedisServer::start().await;
    let (a, b) = (server.shared_state(), server.shared_state());
    assert!(a.insert_if_absent(&[1; 32], LIFETIME).await.unwrap());
    assert!(!b.insert_if_absent(&[1; 32], LIFETIME).await.unwrap());
    assert!(b.insert_if_absent(&[2; 32], LIFETIME).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn messages_reach_every_replica_and_again_after_the_server_was_away() {
    let mut server = RedisServer::start().await;
    let (a, b) = (server.shared_state(), server.shared_state());
    let mut messages = [subscribe(&a).await, subscribe(&b).await];
    a.publish(b"first").await.unwrap();
    for messages in &mut messages {
        assert_eq!(receive(messages).await, "first");
    }
    assert!(a.publish(&vec![0; MAX_MESSAGE_BYTES + 1]).await.is_err());

    server.stop().await;
    wait_until(async || a.check().await.is_err() && b.check().await.is_err()).await;
    let namespace = StateNamespace::new(&[b"x"]);
    for _ in 0..20 {
        assert!(a.insert_if_absent(&[1; 32], LIFETIME).await.is_err());
        assert!(a.count_request(&namespace, number(1), number(1)).await.is_err());
    }
    server.restart().await;
    wait_until(async || a.check().await.is_ok() && b.check().await.is_ok()).await;
    a.publish(b"again").await.unwrap();
    for messages in &mut messages {
        assert_eq!(receive(messages).await, "again");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_cluster_serves_the_same_and_is_found_again() {
    let mut server = RedisServer::start_cluster().await;
    let url = server.url().replace("redis://", "redis-cluster://");
    let (a, b) = (SharedState::open(&url).unwrap(), SharedState::open(&url).unwrap());
    let mut messages = subscribe(&b).await;
    a.publish(b"hello").await.unwrap();
    assert_eq!(receive(&mut messages).await, "hello");
    let namespace = StateNamespace::new(&[b"one"]);
    let count = async |state: &SharedState| {
        state.count_request(&namespace, number(1), number(1)).await.unwrap()
    };
    assert_eq!(count(&a).await, RateDecision::Allowed { remaining: 0 });
    assert!(matches!(count(&b).await, RateDecision::Limited { .. }));
    assert!(a.insert_if_absent(&[1; 32], LIFETIME).await.unwrap());
    assert!(!b.insert_if_absent(&[1; 32], LIFETIME).await.unwrap());

    server.stop().await;
    wait_until(async || a.check().await.is_err() && b.check().await.is_err()).await;
    server.restart().await;
    // The cluster is found again with what it had stored.
    wait_until(async || a.insert_if_absent(&[1; 32], LIFETIME).await == Ok(false)).await;
    wait_until(async || b.check().await.is_ok()).await;
    a.publish(b"again").await.unwrap();
    assert_eq!(receive(&mut messages).await, "again");
}
