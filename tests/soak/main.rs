//! The soak test: many mixed tool calls through the real binary, concurrently over stdio and over /mcp in both eras,
//! while the simulator injects faults. Every request is answered, memory stays level after the warm-up, and no log line
//! has the key or a full telephone number.
//!
//! 100,000 calls unless `SOAK_CALLS` says otherwise; `SOAK_SEED` sets another seed, and
//! `CALLINGBOX_MCP` names another binary. The first twentieth runs with `--log trace`, the
//! rest with `debug`. `cargo test --test soak -- --ignored --nocapture` prints the measurements.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test may panic, and this one prints its figures"
)]

mod bench;
mod http;
mod mix;
mod observed;
#[path = "../it/chaos/random.rs"]
mod random;
mod stdio;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use http::{Era, Http};
use mix::Mix;
use observed::{Log, Memory};
use random::Random;
use stdio::Stdio as Lines;

/// The key, which no log line may have.
pub(crate) const KEY: &str = "sk_live_5oak5ecret";
/// The longest time for an answer: a wait, and three attempts of the API client.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(90);
/// Concurrent calls on each of the three connections.
const CONCURRENCY: usize = 64;

/// A command that starts the binary in this home folder, with a key.
fn program(home: &Path, upstream: &str, arguments: &[&str]) -> Command {
    let binary = std::env::var_os("CALLINGBOX_MCP")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_callingbox-mcp").into());
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_DATA_HOME", home.join("data"))
        .env("CALLINGBOX_API_KEY", KEY)
        .env("CALLINGBOX_BASE_URL", upstream)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Starts a program that listens, and returns its address.
pub(crate) async fn start_listener(mut program: Command, log: &Log) -> (Child, String) {
    let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    log.read(child.stderr.take().unwrap());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    loop {
        let line = tokio::time::timeout(TIMEOUT, lines.next_line()).await.unwrap().unwrap();
        if let Some(url) = line.expect("an address").strip_prefix("listening on ") {
            return (child, url.to_owned());
        }
    }
}

fn create_home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("config/callingbox-mcp");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "[dialing]\nconfirm = \"never\"\n").unwrap();
    std::fs::write(folder.join("policy.toml"), "mode = \"off\"\n").unwrap();
    home
}

/// Sends a request to a control endpoint of the simulator.
pub(crate) async fn post_control(http: &reqwest::Client, base: &str, path: &str, body: Value) {
    let request = http.post(format!("{base}{path}")).bearer_auth(KEY);
    let request = request.header("content-type", "application/json").body(body.to_string());
    let answer = request.send().await.unwrap();
    // The list of faults may be full.
    assert!(answer.status().is_success() || path.ends_with("/faults"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: .ci/run runs it"]
async fn a_hundred_thousand_calls_are_answered_without_a_leak() {
    let number = |name: &str, or: usize| std::env::var(name).map_or(or, |n| n.parse().unwrap());
    let calls = number("SOAK_CALLS", 100_000);
    let random = Arc::new(Random::new(number("SOAK_SEED", 20_261_122) as u64));
    let _ = rustls::crypto::ring::default_provider().install_default();
    // In another process, so that its memory is not counted; a call of a minute takes 60 ms.
    let home = tempfile::tempdir().unwrap();
    let arguments = ["sandbox", "--listen", "127.0.0.1:0", "--speed", "1000"];
    let (_sandbox, upstream) =
        start_listener(program(home.path(), "", &arguments), &Log::default()).await;
    let traced = calls / 20;
    soak(&upstream, "trace", traced, &random, None).await;
    let memories = soak(&upstream, "debug", calls - traced, &random, Some(Memory::default())).await;
    for (way, memory) in memories {
        memory.assert_level(way, calls);
    }
}

/// Makes so many calls through new servers with this log level, and returns the memory of each server.
async fn soak(
    upstream: &str,
    log: &str,
    calls: usize,
    random: &Arc<Random>,
    memory: Option<Memory>,
) -> Vec<(&'static str, Memory)> {
    let start = Instant::now();
    let home = create_home();
    let plain = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().unwrap();
    let http_log = Log::default();
    let http = Http::start(
        program(
            home.path(),
            upstream,
            &["--log", log, "http", "--listen", "127.0.0.1:0", "--requests-per-second", "1000000"],
        ),
        &http_log,
    )
    .await;
    let lines_log = Log::default();
    let lines = Lines::start(program(home.path(), upstream, &["--log", log]), &lines_log).await;

    let credit = json!({"balance_milli_cents": 1_000_000_000_000_u64});
    post_control(&plain, upstream, "/sandbox/credits", credit).await;
    let mix = Mix::prepare(&lines, Arc::clone(random)).await;
    let sessions = join_all((0..4).map(|_| http.session())).await;

    let done = AtomicUsize::new(0);
    let mut memories =
        [("stdio", lines.pid()), ("http", http.pid())].map(|(way, pid)| (way, memory.clone(), pid));
    let next = || done.fetch_add(1, Ordering::Relaxed) < calls;
    let workers = (0..CONCURRENCY).map(|worker| {
        let (mix, lines, http, session) = (&mix, &lines, &http, &sessions[worker % sessions.len()]);
        async move {
            tokio::join!(
                async {
                    while next() {
                        mix.send_over_stdio(lines).await
                    }
                },
                async {
                    while next() {
                        mix.send_over_http(http, &Era::Modern).await
                    }
                },
                async {
                    while next() {
                        mix.send_over_http(http, session).await
                    }
                },
            );
        }
    });
    let disturb = async {
        let (mut measured, mut faulty) = (0, 0);
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = done.load(Ordering::Relaxed);
            // About one in a hundred calls meets a fault.
            if now >= faulty + 100 {
                faulty = now;
                post_control(&plain, upstream, "/sandbox/faults", mix.draw_fault()).await;
            }
            if now >= measured + calls / 200 {
                measured = now;
                for (_, memory, pid) in &mut memories {
                    memory.iter_mut().for_each(|memory| memory.measure(now, *pid));
                }
            }
        }
    };
    tokio::select! {
        _ = join_all(workers) => {}
        () = disturb => {}
    }
    mix.assert_mixed(calls);
    lines.finish().await;
    http.finish().await;
    let took = start.elapsed().as_secs_f64();
    for (way, lines) in [("stdio", &lines_log), ("http", &http_log)] {
        println!("soak: {way} logged {} lines at {log}", lines.check().await);
    }
    println!("soak: {calls} calls in {took:.0} s; {}", mix.summary());
    memories.into_iter().filter_map(|(way, memory, _)| Some((way, memory?))).collect()
}
