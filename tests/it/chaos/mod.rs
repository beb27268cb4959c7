//! The chaos test: servers and a simulator with a proxy between them that breaks requests and answers
//! in every way, and servers that are killed (SIGKILL) at any instant and begin again with the same
//! ledger. Afterwards the books are compared with what the simulator really dialed.
//!
//! The seed is fixed; `CHAOS_SEED=n` tries another. Seed and counts are printed
//! (`cargo test --test chaos -- --nocapture`).

mod books;
mod killed;
mod proxy;
mod random;
mod storm;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use callingbox_sandbox::{ClockMode, Options, Sandbox};

use books::{Office, Tally};
use proxy::Proxy;
use random::Random;

/// No limit, no quiet hours: here only chance stands in the way.
const POLICY: &str = "mode = \"off\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_breaks_nobody_is_rung_twice_and_no_call_is_lost() {
    let begun = Instant::now();
    let seed = std::env::var("CHAOS_SEED").map_or(20_261_122, |seed| seed.parse().unwrap());
    println!("chaos: seed {seed}");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = Options { clock: ClockMode::Manual, ..Options::default() };
    let sandbox =
        Sandbox::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options).await.unwrap();
    let office = Office::new(sandbox.url());
    let proxy = Proxy::start(sandbox.address(), seed).await;
    let dir = tempfile::tempdir().unwrap();

    let mut storm = storm::Storm::prepare(&office, &proxy, dir.path()).await;
    let mut killed = killed::Killed::prepare(&office, &proxy).await;
    let tally = Tally::default();
    let (one, other) = (Random::new(seed ^ 1), Random::new(seed ^ 2));
    tokio::join!(storm.rage(&one, &tally), killed.rage(&other, &tally));
    let raged = begun.elapsed();
    proxy.heal();
    proxy.quiet().await;

    // Whatever is still open is settled by asking for the same once more.
    tokio::join!(storm.settle(&office, &tally), killed.settle(&office, &tally));
    let mut dialed = storm.check(&office, dir.path()).await;
    dialed += killed.check(&office).await;

    let faults = proxy.counts();
    println!("chaos: {} broken requests of {}", broken(&faults), faults.values().sum::<u64>());
    for (fault, count) in &faults {
        println!("chaos: {count:>6} {fault:?}");
    }
    tally.print();
    println!(
        "chaos: {dialed} dialed or bought, {} kills, {:.0} s of chaos, {:.0} s in all",
        killed.kills(),
        raged.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    assert!(tally.asked() >= 2_000, "{} requests", tally.asked());
    assert!(killed.kills() >= 40, "{} kills", killed.kills());
    assert!(proxy::missing(&faults).is_empty(), "{:?} never happened", proxy::missing(&faults));
}

fn broken(faults: &std::collections::BTreeMap<proxy::Fault, u64>) -> u64 {
    faults.iter().filter(|(fault, _)| **fault != proxy::Fault::None).map(|(_, count)| count).sum()
}
