//! "Operations": its probes answer, its table of metrics is that of the server, and its flags and limits are real.

use std::collections::BTreeMap;

use callingbox_mcp::cli::Cli;
use clap::CommandFactory as _;

use super::Page;
use serde_json::json;

use crate::http::support::{Server, program};

fn page() -> Page {
    Page::read("docs/operations.md")
}

/// Name to kind and labels, as the table has them.
fn documented_metrics(page: &Page) -> BTreeMap<String, (String, String)> {
    let rows = page.text.lines().filter(|line| line.starts_with("| `callingbox_mcp_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[3].split(", ").map(|label| label.trim_matches('`'));
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), sorted(labels)))
    })
    .collect()
}

/// The same, as the server's answer has them.
fn served_metrics(metrics: &str) -> BTreeMap<String, (String, String)> {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let is_sample = |line: &&str| {
                let rest = line.strip_prefix(name).unwrap_or("x");
                rest.starts_with(['{', ' ']) || rest.starts_with("_bucket{")
            };
            let sample = metrics.lines().find(is_sample).unwrap();
            // The value of a label may contain braces, as in a path.
            let labels = sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
            let labels = labels.map_or("", |(labels, _)| labels);
            let labels = labels.split(',').filter_map(|pair| Some(pair.split_once('=')?.0));
            (name.to_owned(), (kind.to_owned(), sorted(labels.filter(|label| *label != "le"))))
        })
        .collect()
}

fn sorted<'a>(labels: impl Iterator<Item = &'a str>) -> String {
    let mut labels: Vec<&str> = labels.filter(|label| !label.is_empty()).collect();
    labels.sort_unstable();
    labels.join(",")
}

#[tokio::test]
async fn the_probes_answer_and_the_metrics_are_those_of_the_server() {
    let home = tempfile::tempdir().unwrap();
    let mut program = program(home.path());
    program.arg("--sandbox").env("CALLINGBOX_WEBHOOK_SECRET", "whsec_ours");
    let server = Server::run(home, program, &["--admin-listen", "127.0.0.1:0"]).await;
    server.long_call().await;
    let agent = server.agent().await;
    // A premium number is refused.
    let people = json!([{"to": "+13105550101"}, {"to": "+19005550100"}]);
    server.tool(None, "place_calls", json!({"agent_id": agent, "people": people})).await;
    let card = "ui://callingbox/call-1.html";
    let read = server.modern("resources/read", serde_json::json!({"uri": card}));
    assert_eq!(read.header("mcp-name", card).send().await.unwrap().status(), 200);
    let nowhere = server.http.get(format!("{}/nowhere", server.base));
    assert_eq!(nowhere.send().await.unwrap().status(), 404);
    let admin = server.admin.clone().unwrap();
    let page = page();
    let mut metrics = String::new();
    for line in page.blocks_in("sh").iter().flat_map(|block| block.lines()) {
        let Some(path) = line.strip_prefix("curl http://127.0.0.1:9090") else { continue };
        let response = server.http.get(format!("{admin}{path}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{line}");
        metrics = response.text().await.unwrap();
    }
    let mut documented = documented_metrics(&page);
    // Only with --state: tests/replicas.
    let shared = documented.remove("callingbox_mcp_shared_state_up");
    assert_eq!(shared, Some(("gauge".to_owned(), String::new())));
    assert_eq!(documented, served_metrics(&metrics));
}

#[test]
fn the_documents_name_every_outcome_of_a_webhook_delivery() {
    let operations = page();
    let row =
        operations.text.lines().find(|line| line.contains("webhook_deliveries_total` |")).unwrap();
    let webhooks = Page::read("docs/webhooks.md");
    for reason in callingbox_mcp::webhook::Rejection::ALL {
        let outcome = format!("`{}`", reason.as_str());
        assert!(row.contains(&outcome), "{row}");
        assert!(webhooks.text.contains(&outcome), "docs/webhooks.md: {outcome}");
    }
}

#[test]
fn the_flags_variables_and_metrics_that_documents_name_exist() {
    let command = Cli::command();
    let all = std::iter::once(&command).chain(command.get_subcommands());
    let all = all.chain(command.get_subcommands().flat_map(clap::Command::get_subcommands));
    let arguments: Vec<&clap::Arg> = all.flat_map(clap::Command::get_arguments).collect();
    let flags: Vec<String> =
        arguments.iter().filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect();
    let metrics: Vec<String> = documented_metrics(&page()).into_keys().collect();
    let mut seen = 0;
    for page in Page::all() {
        for code in page.inline_code() {
            let flag = code.split([' ', '=', '[']).next().unwrap();
            if flag.starts_with("--") && page.path.starts_with("docs/") {
                assert!(flags.contains(&flag.to_owned()), "{}: {code}", page.path);
                seen += 1;
            }
            if code.starts_with("callingbox_mcp_") && page.path.starts_with("docs/") {
                assert!(metrics.contains(&code), "{}: {code}", page.path);
            }
        }
    }
    assert!(seen > 40, "{seen} flags were checked");
}

#[test]
fn the_limits_are_those_of_the_program() {
    let limits = callingbox_mcp::http::server::HttpSettings::default();
    let (connections, tenants) = (limits.connections, limits.tenants);
    let text = page().text.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        format!("{} s for headers", connections.header_time.as_secs()),
        format!(
            "at most {} KiB, {} s for a body",
            connections.header_bytes / 1024,
            limits.body.timeout.as_secs()
        ),
        format!(
            "{} KiB, {},000 connections",
            limits.body.max_bytes / 1024,
            connections.connections / 1_000
        ),
        format!(
            "{} MiB of one account and {} MiB of all",
            tenants.body_bytes_per_tenant / 1024 / 1024,
            tenants.body_bytes / 1024 / 1024
        ),
        format!("`--grace` seconds ({})", limits.grace.as_secs()),
        format!(
            "the defaults ({},000 sessions, {} minutes idle)",
            tenants.sessions / 1_000,
            tenants.session_idle.as_secs() / 60
        ),
        format!("at least {},000;", tenants.tenants / 1_000),
        format!("({} unless changed)", callingbox_mcp::watch::WaitLimits::default().max_seconds),
    ] {
        assert!(text.contains(&words), "{words}");
    }
}
