//! Runs the benchmarks for a few seconds, so that they keep working. Only the shape of
//! the curve is checked, because the speed of a test machine varies.
//!
//! `CALLINGBOX_MCP` names another binary, such as a published one.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn binary() -> OsString {
    std::env::var_os("CALLINGBOX_MCP")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_callingbox-mcp").into())
}

/// Runs one of the programs and returns its figures.
fn run_benchmark(program: &str, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("figures.json");
    let output = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(program))
        .args(["--quick", "--binary"])
        .arg(binary())
        .arg("--json")
        .arg(&file)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap()
}

fn is_measured(figures: &Value, name: &str) -> bool {
    figures[name].as_f64().is_some_and(|figure| figure > 0.0)
}

#[test]
#[ignore = "needs Python 3: .ci/release runs it"]
fn waits_do_not_make_reads_slower_or_memory_grow_out_of_proportion() {
    let figures = run_benchmark("waits.py", &["--check"]);
    let points = figures["points"].as_object().unwrap();
    let numbers: Vec<_> = points.keys().collect();
    assert_eq!(numbers, ["1", "10", "100"]);
    for (number, point) in points {
        assert!(
            is_measured(point, "p50_us") && is_measured(point, "memory_mb"),
            "{number}: {point}"
        );
    }
}

#[test]
#[ignore = "needs Python 3: .ci/release runs it"]
fn every_transport_of_this_server_is_measured() {
    let figures = run_benchmark("compare.py", &[]);
    let servers = figures["servers"].as_object().unwrap();
    assert_eq!(servers.keys().collect::<Vec<_>>(), ["stdio", "http-2026", "http-2025"]);
    for (name, server) in servers {
        for figure in
            ["start_ms", "p50_us", "calls_per_second", "idle_mb", "used_mb", "tools", "list_bytes"]
        {
            assert!(is_measured(server, figure), "{name}: {figure} is missing: {server}");
        }
    }
}

#[test]
#[ignore = "needs Python 3 and the published program: .ci/release sets CALLINGBOX_MCP to it"]
fn the_published_program_is_small_when_idle() {
    let program = std::env::var_os("CALLINGBOX_MCP");
    assert!(program.is_some(), "set CALLINGBOX_MCP to the published program");
    let figures = run_benchmark("compare.py", &[]);
    let idle = figures["servers"]["stdio"]["idle_mb"].as_f64().unwrap();
    assert!(idle <= 16.0, "{idle} MB over stdio");
}
