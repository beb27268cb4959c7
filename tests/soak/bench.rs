//! The benchmark harness, for a few seconds on this server alone: so that it cannot rot. No figure
//! is judged here, for a test's machine has no steady speed; only that no curve grows worse than in
//! proportion. `CALLINGBOX_MCP` names another binary, such as a release build.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

fn binary() -> OsString {
    std::env::var_os("CALLINGBOX_MCP")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_callingbox-mcp").into())
}

/// Builds the direct client as this test was built, which `cargo test --test bench` does not.
fn direct() -> PathBuf {
    let cargo =
        Command::new(env!("CARGO")).args(["build", "--quiet", "--example", "direct"]).status();
    assert!(cargo.unwrap().success());
    Path::new(env!("CARGO_BIN_EXE_callingbox-mcp")).with_file_name("examples").join("direct")
}

/// Runs one of the programs, and gives its figures.
fn figures(program: &str, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("figures.json");
    let run = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(program))
        .args(["--quick", "--binary"])
        .arg(binary())
        .arg("--json")
        .arg(&file)
        .args(arguments)
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap()
}

#[test]
#[ignore = "needs Python 3: .ci/run runs it"]
fn no_curve_grows_worse_than_in_proportion() {
    let figures = figures("curves.py", &["--check"]);
    let curves = figures["curves"].as_object().unwrap();
    let names: Vec<_> = curves.keys().collect();
    assert_eq!(names, ["sessions", "waits", "pages", "results", "list"]);
    for (name, points) in curves {
        let points = points.as_object().unwrap();
        assert!(points.len() >= 2, "{name}: {points:?}");
        for (at, point) in points {
            for figure in ["p50_us", "memory_mb"] {
                assert!(point[figure].as_f64() > Some(0.0), "{name} {at}: {figure}");
            }
        }
    }
}

#[test]
#[ignore = "needs Python 3: .ci/run runs it"]
fn the_harness_measures_every_way_to_this_server() {
    let figures = figures("compare.py", &["--direct", direct().to_str().unwrap()]);

    let measured = |target: &Value, name: &str| target[name].as_f64().is_some_and(|n| n > 0.0);
    let names: Vec<_> = figures["targets"].as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        ["direct", "http.client", "socket", "cat", "stdio", "mcp-2026", "mcp-2025", "sse"]
    );
    for name in names {
        let target = &figures["targets"][name];
        let mut expected = vec!["p50_us", "p99_us"];
        if name != "http.client" {
            expected.extend(["rate_at_50", "p99_at_50_us"]);
        }
        if !["direct", "http.client", "socket", "cat"].contains(&name.as_str()) {
            expected.extend(["start_to_initialize_ms", "start_to_list_ms", "list_bytes"]);
            expected.extend(["memory_idle_mb", "memory_after_mb"]);
            assert!(target["calls"].as_u64() >= Some(500), "{name}: {target}");
        }
        for figure in expected {
            assert!(measured(target, figure), "{name}: {figure} is missing: {target}");
        }
    }
    // Those with a bound, and what else is compared.
    let (goals, besides): (Vec<_>, Vec<_>) =
        figures["goals"].as_array().unwrap().iter().partition(|goal| goal["bound"].is_string());
    let names = |goals: Vec<&Value>| goals.iter().map(|goal| goal["goal"].clone()).collect();
    let (goals, besides): (Value, Value) = (names(goals), names(besides));
    assert_eq!(
        goals,
        json!([
            "p50, stdio / direct",
            "p50, /mcp 2026-07-28 / direct",
            "calls/s at 50, /mcp / direct"
        ])
    );
    assert_eq!(besides, json!(["p50, stdio / http.client", "p50, /mcp 2026-07-28 / http.client"]));
}

/// What `link/start.ld` names is found in the program: half of its memory at idle hangs on that.
#[test]
#[ignore = "needs a release build, which CALLINGBOX_MCP names: .ci/run runs it"]
fn what_a_start_runs_lies_side_by_side() {
    let sections = Command::new("size").args(["-A", "-d"]).arg(binary()).output().unwrap();
    let sections = String::from_utf8(sections.stdout).unwrap();
    let bytes = |name: &str| -> Option<u64> {
        let line = sections.lines().find(|line| line.split(' ').next() == Some(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let (start, rest) = (bytes(".text.start").unwrap_or(0), bytes(".text").unwrap());
    assert!(start > rest / 5, "{sections}");
}

#[test]
#[ignore = "needs Python 3: .ci/run runs it"]
fn a_peer_that_cannot_be_installed_is_skipped_and_the_reason_is_said() {
    // The peers of this machine may be there; the folder of this test is empty.
    const MEASURE: &str = "import pathlib, sys
sys.path.insert(0, sys.argv[1])
import peers
peers.WORK = pathlib.Path(sys.argv[2])
import compare
del sys.argv[1:3]
compare.main()";
    let folder = tempfile::tempdir().unwrap();
    let npm = folder.path().join("npm");
    std::fs::write(&npm, "#!/bin/sh\necho there is no network >&2\nexit 1\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&npm, executable).unwrap();
    let path = std::env::var("PATH").unwrap();
    let run = Command::new("python3")
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .args(["-c", MEASURE])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches"))
        .arg(folder.path().join("peers"))
        .args(["--quick", "--only", "socket,ivotoby", "--binary"])
        .arg(binary())
        .output()
        .unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{said}");
    assert!(said.contains("| socket |"), "{said}");
    assert!(said.contains("skipped ivotoby: npm failed: there is no network"), "{said}");
}
