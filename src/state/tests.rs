//! Against a real server, which the tests start and stop themselves.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::testing::Server;
use super::*;

const IDLE: Duration = Duration::from_secs(60);

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// Tries until it is so.
async fn until(mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it did not become so");
}

/// A replica that listens, and what it hears.
async fn listening(shared: &Shared) -> mpsc::Receiver<Bytes> {
    let (inbox, heard) = mpsc::channel(16);
    tokio::spawn(shared.clone().listen(inbox));
    until(async || shared.check().await.is_ok()).await;
    heard
}

async fn next(heard: &mut mpsc::Receiver<Bytes>) -> Bytes {
    timeout(Duration::from_secs(10), heard.recv()).await.unwrap().unwrap()
}

#[test]
fn a_replica_is_named_in_one_way() {
    let id = ReplicaId::new();
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in
        ["", "1", "+000000000000001", "000000000000000G", "00000000000000000", "ABCDEF0123456789"]
    {
        assert_eq!(text.parse::<ReplicaId>(), Err(NotAReplica), "{text}");
    }
}

#[test]
fn scopes_are_apart_however_their_parts_are_cut() {
    let scopes = [
        Scope::of(&[b"ab", b"c"]),
        Scope::of(&[b"a", b"bc"]),
        Scope::of(&[b"abc"]),
        Scope::of(&[b"abc", b""]),
    ];
    for (at, scope) in scopes.iter().enumerate() {
        assert_eq!(scopes.iter().position(|other| other == scope), Some(at));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn requests_are_counted_over_all_replicas() {
    let server = Server::start().await;
    let replicas = [server.shared(), server.shared(), server.shared()];
    let (one, other) = (Scope::of(&[b"one"]), Scope::of(&[b"other"]));
    let (mut taken, mut waits, mut rooms) = (0, Vec::new(), Vec::new());
    let begun = Instant::now();
    for turn in 0..60 {
        let replica = &replicas[turn % 3];
        match replica.count_request(&one, number(1), number(10)).await.unwrap() {
            Counted::Room(room) => {
                taken += 1;
                rooms.push(room);
            }
            Counted::TooMany(wait) => waits.push(wait),
        }
    }
    let more = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!((10..=10 + more).contains(&taken), "{taken}");
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(1)), "{waits:?}");
    assert_eq!(rooms[..3], [9, 8, 7]);
    let counted = replicas[0].count_request(&other, number(1), number(10)).await.unwrap();
    assert_eq!(counted, Counted::Room(9));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_session_is_found_by_every_replica_in_its_scope_alone() {
    let server = Server::start().await;
    let (a, b) = (server.shared(), server.shared());
    let (one, other) = (Scope::of(&[b"one"]), Scope::of(&[b"other"]));
    assert_eq!(a.keep_session(&one, "s-1", "hello", IDLE, 2).await.unwrap(), [""; 0]);
    assert_eq!(b.session(&one, "s-1").await.unwrap().as_deref(), Some("hello"));
    assert_eq!(b.session(&other, "s-1").await.unwrap(), None);
    // An id is never a way out of the scope.
    for id in ["", "}:x", "s-1\r\nDEL x", "../s-1", &"x".repeat(65)] {
        assert_eq!(b.session(&one, id).await.unwrap(), None, "{id}");
    }
    let large = "x".repeat(MOST_SESSION_BYTES + 1);
    assert!(a.keep_session(&one, "s-9", &large, IDLE, 2).await.is_err());

    a.keep_session(&one, "s-2", "two", IDLE, 2).await.unwrap();
    // One that is kept already needs no room.
    for text in ["2", "two"] {
        assert_eq!(b.keep_session(&one, "s-2", text, IDLE, 2).await.unwrap(), [""; 0]);
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    b.touch_session(&one, "s-1", IDLE).await.unwrap();
    assert_eq!(b.keep_session(&one, "s-3", "three", IDLE, 2).await.unwrap(), ["s-2"]);
    assert_eq!(a.session(&one, "s-2").await.unwrap(), None);
    a.end_session(&one, "s-1").await.unwrap();
    assert_eq!(b.session(&one, "s-1").await.unwrap(), None);
    assert_eq!(a.keep_session(&one, "s-4", "four", IDLE, 2).await.unwrap(), [""; 0]);

    a.keep_session(&other, "s-5", "short", Duration::from_millis(50), 2).await.unwrap();
    until(async || b.session(&other, "s-5").await.unwrap().is_none()).await;

    a.hold_stream(&one, "t").await.unwrap();
    assert_eq!(b.stream_holder(&one, "t").await.unwrap(), Some(a.replica()));
    assert_eq!(b.stream_holder(&other, "t").await.unwrap(), None);
    a.release_stream(&one, "t").await.unwrap();
    assert_eq!(b.stream_holder(&one, "t").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn what_one_has_seen_is_new_to_nobody() {
    let server = Server::start().await;
    let (a, b) = (server.shared(), server.shared());
    assert!(a.is_new(&[1; 32], IDLE).await.unwrap());
    assert!(!b.is_new(&[1; 32], IDLE).await.unwrap());
    assert!(b.is_new(&[2; 32], IDLE).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn replicas_hear_each_other_and_again_after_the_server_was_gone() {
    let mut server = Server::start().await;
    let (a, b) = (server.shared(), server.shared());
    let mut heard_a = listening(&a).await;
    let mut heard_b = listening(&b).await;
    assert!(a.tell(To::All, b"all").await.unwrap());
    assert_eq!((next(&mut heard_a).await, next(&mut heard_b).await), ("all".into(), "all".into()));
    assert!(a.tell(To::One(b.replica()), b"b alone").await.unwrap());
    assert_eq!(next(&mut heard_b).await, "b alone");
    assert!(!a.tell(To::One(ReplicaId::new()), b"nobody").await.unwrap());
    assert!(a.tell(To::All, &vec![0; MOST_BYTES + 1]).await.is_err());

    server.process.kill().await.unwrap();
    until(async || a.check().await.is_err() && b.check().await.is_err()).await;
    // Nobody waits for a server that is gone.
    let begun = Instant::now();
    for _ in 0..20 {
        assert!(a.session(&Scope::of(&[b"x"]), "s").await.is_err());
        assert!(a.count_request(&Scope::of(&[b"x"]), number(1), number(1)).await.is_err());
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.restart().await;
    until(async || a.check().await.is_ok() && b.check().await.is_ok()).await;
    until(async || a.tell(To::All, b"again").await.is_ok_and(|heard| heard)).await;
    assert_eq!(next(&mut heard_b).await, "again");
    assert!(heard_a.recv().await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
async fn a_cluster_does_all_of_it_and_is_found_again() {
    let mut server = Server::cluster().await;
    let url = server.url().replace("redis://", "redis-cluster://");
    let (a, b) = (Shared::open(&url).unwrap(), Shared::open(&url).unwrap());
    let scope = Scope::of(&[b"one"]);
    let mut heard = listening(&b).await;
    assert!(a.tell(To::One(b.replica()), b"hello").await.unwrap());
    assert_eq!(next(&mut heard).await, "hello");
    a.keep_session(&scope, "s", "text", IDLE, 1).await.unwrap();
    assert_eq!(a.keep_session(&scope, "t", "text", IDLE, 1).await.unwrap(), ["s"]);
    b.touch_session(&scope, "t", IDLE).await.unwrap();
    b.end_session(&scope, "t").await.unwrap();
    assert_eq!(b.session(&scope, "t").await.unwrap(), None);
    let count = async |of: &Shared| of.count_request(&scope, number(1), number(1)).await.unwrap();
    assert_eq!(count(&a).await, Counted::Room(0));
    assert!(matches!(count(&b).await, Counted::TooMany(_)));
    assert!(a.is_new(&[1; 32], IDLE).await.unwrap() && !b.is_new(&[1; 32], IDLE).await.unwrap());

    server.process.kill().await.unwrap();
    until(async || a.check().await.is_err() && b.session(&scope, "u").await.is_err()).await;
    server.restart().await;
    until(async || a.keep_session(&scope, "u", "text", IDLE, 1).await.is_ok()).await;
    until(async || b.session(&scope, "u").await.is_ok_and(|found| found.is_some())).await;
    until(async || a.tell(To::One(b.replica()), b"again").await.is_ok() && !heard.is_empty()).await;
}
