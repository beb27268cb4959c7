//! The soak: many mixed calls through the real binary, over standard input and output and over /mcp in
//! both eras at once, while the simulator behind it fails in every way. No answer is lost, memory is
//! flat once it is warm, and no log line holds the key or a whole telephone number.
//!
//! 100,000 calls unless `SOAK_CALLS` says otherwise; `SOAK_SEED` tries another order of things, and
//! `CALLINGBOX_MCP` names another binary. The first twentieth runs with every log line there is (trace),
//! the rest with `debug`. `cargo test --test soak -- --ignored --nocapture` prints what was measured.

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

/// What no log line may hold.
pub(crate) const KEY: &str = "sk_live_5oak5ecret";
/// The longest that any answer may take: a wait, and three attempts of the API client.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Calls under way at once, of each way.
const AT_ONCE: usize = 64;

/// The binary in this home, which is a user's with a key and without limits.
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

/// Starts a program that listens, and gives its address.
pub(crate) async fn listening(mut program: Command, log: &Log) -> (Child, String) {
    let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    log.read(child.stderr.take().unwrap());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        if let Some(url) = line.expect("an address").strip_prefix("listening on ") {
            return (child, url.to_owned());
        }
    }
}

fn a_home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("config/callingbox-mcp");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "[dialing]\nconfirm = \"never\"\n").unwrap();
    std::fs::write(folder.join("policy.toml"), "mode = \"off\"\n").unwrap();
    home
}

/// Asks the simulator's controls.
pub(crate) async fn control(http: &reqwest::Client, base: &str, path: &str, body: Value) {
    let request = http.post(format!("{base}{path}")).bearer_auth(KEY);
    let request = request.header("content-type", "application/json").body(body.to_string());
    let answer = request.send().await.unwrap();
    // Too many faults may wait already.
    assert!(answer.status().is_success() || path.ends_with("/faults"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: .ci/run runs it"]
async fn a_hundred_thousand_calls_leave_nothing_behind() {
    let number = |name: &str, or: usize| std::env::var(name).map_or(or, |n| n.parse().unwrap());
    let calls = number("SOAK_CALLS", 100_000);
    let random = Arc::new(Random::new(number("SOAK_SEED", 20_261_122) as u64));
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A process of its own, so that what it remembers is its own; a call of a minute takes 60 ms.
    let home = tempfile::tempdir().unwrap();
    let arguments = ["sandbox", "--listen", "127.0.0.1:0", "--speed", "1000"];
    let (_sandbox, upstream) =
        listening(program(home.path(), "", &arguments), &Log::default()).await;
    let slice = calls / 20;
    soak(&upstream, "trace", slice, &random, None).await;
    let memories = soak(&upstream, "debug", calls - slice, &random, Some(Memory::default())).await;
    for (way, memory) in memories {
        memory.judge(way, calls);
    }
}

/// That many calls through new servers that log this much, and how their memory went.
async fn soak(
    upstream: &str,
    log: &str,
    calls: usize,
    random: &Arc<Random>,
    memory: Option<Memory>,
) -> Vec<(&'static str, Memory)> {
    let begun = Instant::now();
    let home = a_home();
    let plain = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
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
    control(&plain, upstream, "/sandbox/credits", credit).await;
    let mix = Mix::prepare(&lines, Arc::clone(random)).await;
    let sessions = join_all((0..4).map(|_| http.session())).await;

    let done = AtomicUsize::new(0);
    let mut memories =
        [("stdio", lines.pid()), ("http", http.pid())].map(|(way, pid)| (way, memory.clone(), pid));
    let next = || done.fetch_add(1, Ordering::Relaxed) < calls;
    let workers = (0..AT_ONCE).map(|worker| {
        let (mix, lines, http, session) = (&mix, &lines, &http, &sessions[worker % sessions.len()]);
        async move {
            tokio::join!(
                async {
                    while next() {
                        mix.stdio(lines).await
                    }
                },
                async {
                    while next() {
                        mix.http(http, &Era::Modern).await
                    }
                },
                async {
                    while next() {
                        mix.http(http, session).await
                    }
                },
            );
        }
    });
    let trouble = async {
        let (mut seen, mut broken) = (0, 0);
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = done.load(Ordering::Relaxed);
            // One in a hundred calls, or a few after it, meets a fault.
            if now >= broken + 100 {
                broken = now;
                control(&plain, upstream, "/sandbox/faults", mix.fault()).await;
            }
            if now >= seen + calls / 200 {
                seen = now;
                for (_, memory, pid) in &mut memories {
                    memory.iter_mut().for_each(|memory| memory.look(now, *pid));
                }
            }
        }
    };
    tokio::select! {
        _ = join_all(workers) => {}
        () = trouble => {}
    }
    mix.check(calls);
    lines.finish().await;
    http.finish().await;
    let took = begun.elapsed().as_secs_f64();
    for (way, lines) in [("stdio", &lines_log), ("http", &http_log)] {
        println!("soak: {way} logged {} lines at {log}", lines.check().await);
    }
    println!("soak: {calls} calls in {took:.0} s; {}", mix.summary());
    memories.into_iter().filter_map(|(way, memory, _)| Some((way, memory?))).collect()
}
