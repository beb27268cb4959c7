//! The tests of every ledger against a real server, which each test starts and stops.

use std::sync::Arc;

use super::*;
use crate::dialing::ledger::DispatchState;
use crate::dialing::ledger::conformance::{self, constraints, intent, noon};
use crate::state::testing::RedisServer;
use crate::state::{RedisConnection, RedisEndpoint};

async fn open(server: &RedisServer, environment: Environment) -> Result<RedisLedger, LedgerError> {
    RedisLedger::open(server.connection(), "test", environment).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn conforms() {
    let server = RedisServer::start().await;
    conformance::test_ledger(|| async {
        Arc::new(open(&server, Environment::Live).await.unwrap()) as Arc<dyn Ledger>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn conforms_in_a_cluster() {
    let server = RedisServer::start_cluster().await;
    let url = server.url().replace("redis://", "redis-cluster://");
    conformance::test_ledger(|| async {
        let connection = RedisConnection::new(&RedisEndpoint::parse(&url).unwrap()).unwrap();
        Arc::new(RedisLedger::open(connection, "test", Environment::Live).await.unwrap())
            as Arc<dyn Ledger>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn an_intent_survives_the_server_and_the_connection_heals() {
    let mut server = RedisServer::start().await;
    let (ledger, account) =
        (open(&server, Environment::Live).await.unwrap(), conformance::account());
    let asked = intent(&account, 1, "x");
    assert!(matches!(
        ledger.begin(asked.clone(), constraints(noon())).await.unwrap(),
        BeginResult::Begun(_)
    ));
    server.process.kill().await.unwrap();
    let error = ledger.begin(intent(&account, 2, "x"), constraints(noon())).await.unwrap_err();
    assert!(
        error.to_string().starts_with("dialing is refused: the ledger's Redis server"),
        "{error}"
    );
    server.restart().await;
    let mut found = Err(error);
    for _ in 0..100 {
        found = ledger.find(account.id(), asked.dispatch_id).await;
        if found.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(found.unwrap().map(|record| record.state), Some(DispatchState::Intent));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn refuses_records_that_it_cannot_store() {
    let server = RedisServer::start().await;
    open(&server, Environment::Sandbox).await.unwrap();
    let other = open(&server, Environment::Live).await.unwrap_err();
    assert!(
        matches!(
            other,
            LedgerError::WrongEnvironment {
                found: Environment::Sandbox,
                wanted: Environment::Live
            }
        ),
        "{other}"
    );
    let mut connection = server.connection();
    let _: () = connection.hset("test:meta", "version", 99).await.unwrap();
    let newer = open(&server, Environment::Sandbox).await.unwrap_err();
    assert!(matches!(newer, LedgerError::Newer { found: 99, supported: 3 }), "{newer}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_list_is_read_no_further_than_it_is_long() {
    let server = RedisServer::start().await;
    let (ledger, account) =
        (open(&server, Environment::Live).await.unwrap(), conformance::account());
    for number in 0..20 {
        ledger.begin(intent(&account, number, "x"), constraints(noon())).await.unwrap();
    }
    let mut connection = server.connection();
    let _: () = redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut connection).await.unwrap();
    assert_eq!(ledger.list_records(newest(3)).await.unwrap().len(), 3);
    let info: String = redis::cmd("INFO").arg("stats").query_async(&mut connection).await.unwrap();
    let read = info.lines().find_map(|line| line.strip_prefix("keyspace_hits:")).unwrap();
    // The set of accounts, the index and the three.
    assert_eq!(read, "5");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn additions_while_a_list_is_read_repeat_no_entry() {
    let server = RedisServer::start().await;
    let (ledger, account) =
        (open(&server, Environment::Live).await.unwrap(), conformance::account());
    let begin = async |number: i64| {
        let constraints = constraints(noon() + jiff::SignedDuration::from_secs(number));
        ledger.begin(intent(&account, 1, &number.to_string()), constraints).await.unwrap();
    };
    for number in 0..450 {
        begin(number).await;
    }
    let mut more = Box::pin(async {
        for number in 450.. {
            begin(number).await;
        }
    });
    for _ in 0..20 {
        let listed = tokio::select! {
            () = &mut more => unreachable!(),
            listed = ledger.list_records(newest(400)) => listed.unwrap(),
        };
        let mut ids: Vec<_> = listed.iter().map(|record| record.dispatch_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), listed.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn the_time_of_the_server_is_read() {
    let server = RedisServer::start().await;
    let ledger = open(&server, Environment::Live).await.unwrap();
    let time = ledger.server_time().await.unwrap().unwrap();
    assert!(jiff::Timestamp::now().duration_since(time).abs().as_secs() < 60, "{time}");
}

fn newest(limit: u32) -> RecordFilter {
    RecordFilter { limit, ..RecordFilter::default() }
}
