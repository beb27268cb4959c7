//! The chaos test: servers and a simulator with a proxy between them that breaks requests and answers in every way, and
//! servers that are killed (SIGKILL) at any instant and start again with the same ledger. Afterwards the servers' reports
//! are compared with what the simulator really dialed.
//!
//! The seed is fixed; `CHAOS_SEED=n` tries another. Seed and counts are printed
//! (`cargo test --test it chaos -- --ignored --nocapture`).

mod dialer_run;
mod evidence;
mod killed_servers;
mod proxy;
mod random;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use callingbox_sandbox::{ClockMode, Options, Sandbox};

use evidence::{ChaosControl, Tally};
use proxy::Proxy;
use random::Random;

/// No limits and no quiet hours, so that only the proxy and the kills disturb the orders.
const POLICY: &str = "mode = \"off\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "keeps two processors busy for a minute: a step of .ci/run"]
async fn no_call_is_placed_twice_or_lost_whatever_breaks() {
    let begun = Instant::now();
    let seed = std::env::var("CHAOS_SEED").map_or(20_261_122, |seed| seed.parse().unwrap());
    println!("chaos: seed {seed}");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = Options { clock: ClockMode::Manual, ..Options::default() };
    let sandbox =
        Sandbox::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options).await.unwrap();
    let control = ChaosControl::new(sandbox.url());
    let proxy = Proxy::start(sandbox.address(), seed).await;
    let dir = tempfile::tempdir().unwrap();

    let mut dialer_run = dialer_run::DialerRun::prepare(&control, &proxy, dir.path()).await;
    let mut killed = killed_servers::KilledServers::prepare(&control, &proxy).await;
    let tally = Tally::default();
    let (one, other) = (Random::new(seed ^ 1), Random::new(seed ^ 2));
    tokio::join!(dialer_run.send_orders(&one, &tally), killed.send_orders(&other, &tally));
    let sent = begun.elapsed();
    proxy.heal();
    proxy.quiet().await;

    // Whatever is still open is settled by asking for the same once more.
    tokio::join!(dialer_run.settle(&control, &tally), killed.settle(&control, &tally));
    let mut dialed = dialer_run.check(&control, dir.path()).await;
    dialed += killed.check(&control).await;

    let faults = proxy.counts();
    println!("chaos: {} broken requests of {}", broken(&faults), faults.values().sum::<u64>());
    for (fault, count) in &faults {
        println!("chaos: {count:>6} {fault:?}");
    }
    tally.print();
    println!(
        "chaos: {dialed} dialed or bought, {} kills, {:.0} s of chaos, {:.0} s in all",
        killed.kills(),
        sent.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    assert!(tally.asked() >= 2_000, "{} requests", tally.asked());
    assert!(killed.kills() >= 40, "{} kills", killed.kills());
    assert!(proxy::missing(&faults).is_empty(), "{:?} never happened", proxy::missing(&faults));
}

fn broken(faults: &std::collections::BTreeMap<proxy::Fault, u64>) -> u64 {
    faults.iter().filter(|(fault, _)| **fault != proxy::Fault::None).map(|(_, count)| count).sum()
}
