//! The chapter for operators is true: its commands can be typed, those that end are run, its probes
//! answer, its table of metrics is what the server tells, and the names it gives exist.

use std::collections::BTreeMap;
use std::path::Path;

use callingbox_mcp::cli::{Cli, Command};
use clap::{CommandFactory as _, Parser as _};

use crate::http::support::{Server, program};

fn chapter() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    std::fs::read_to_string(path).unwrap()
}

/// The lines of the shell blocks.
fn lines(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(|block| block.lines().map(str::to_owned)).collect()
}

/// What stands in backquotes, outside of blocks.
fn inline(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The program's own part of a line, from its name on.
fn ours(line: &str) -> Option<Vec<&str>> {
    // To these the name means an image or a unit.
    if ["docker ", "sudo systemctl "].iter().any(|other| line.starts_with(other)) {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| word.rsplit('/').next() == Some("callingbox-mcp"))?;
    Some([&["callingbox-mcp"], &words[at + 1..]].concat())
}

#[tokio::test]
async fn its_commands_can_be_typed_and_those_that_end_are_run() {
    let text = chapter();
    let home = tempfile::tempdir().unwrap();
    let (mut served, mut run) = (0, 0);
    for line in lines(&text) {
        let Some(words) = ours(&line) else { continue };
        match Cli::try_parse_from(&words).map(|cli| cli.command) {
            Ok(Some(Command::Http(_))) => served += 1,
            Ok(Some(Command::Token(_))) if !line.contains("/var/lib") => {
                let output = program(home.path()).args(&words[1..]).output().await.unwrap();
                assert!(output.status.success(), "{line}: {output:?}");
                run += 1;
            }
            Ok(Some(Command::Token(_))) => {}
            other => panic!("{line}: {other:?}"),
        }
    }
    assert_eq!((served, run), (4, 3));
    for code in inline(&text) {
        let Some(words) = code.starts_with("callingbox-mcp ").then(|| ours(&code).unwrap()) else {
            continue;
        };
        if let Err(error) = Cli::try_parse_from(words) {
            assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp, "{code}: {error}");
        }
    }
}

#[tokio::test]
async fn its_probes_answer_and_its_metrics_are_those_of_the_server() {
    let home = tempfile::tempdir().unwrap();
    let mut program = program(home.path());
    program.arg("--sandbox").env("CALLINGBOX_WEBHOOK_SECRET", "whsec_ours");
    let server = Server::run(home, program, &["--admin-listen", "127.0.0.1:0"]).await;
    server.long_call().await;
    let nowhere = server.http.get(format!("{}/nowhere", server.base));
    assert_eq!(nowhere.send().await.unwrap().status(), 404);
    let admin = server.admin.clone().unwrap();
    let text = chapter();
    let mut metrics = String::new();
    for line in lines(&text) {
        let Some(path) = line.strip_prefix("curl http://127.0.0.1:9090") else { continue };
        let answer = server.http.get(format!("{admin}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{line}");
        metrics = answer.text().await.unwrap();
    }

    // Name, kind and labels, as the table has them and as the server tells them.
    let mut table = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `callingbox_mcp_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels: Vec<&str> = cells[3].split(", ").filter(|label| !label.is_empty()).collect();
        let mut labels: Vec<&str> = labels.iter().map(|label| label.trim_matches('`')).collect();
        labels.sort_unstable();
        table
            .insert(cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels.join(",")));
    }
    let mut told = BTreeMap::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let sample = metrics.lines().find(|line| {
            let rest = line.strip_prefix(name).unwrap_or("x");
            rest.starts_with(['{', ' ']) || rest.starts_with("_bucket{")
        });
        let labels =
            sample.unwrap().split_once('{').map_or("", |(_, rest)| rest.split('}').next().unwrap());
        let mut labels: Vec<&str> = labels
            .split(',')
            .filter_map(|pair| Some(pair.split_once('=')?.0))
            .filter(|label| *label != "le")
            .collect();
        labels.sort_unstable();
        told.insert(name.to_owned(), (kind.to_owned(), labels.join(",")));
    }
    // Only with --state: tests/replicas.
    let shared = table.remove("callingbox_mcp_shared_state_up");
    assert_eq!(shared, Some(("gauge".to_owned(), String::new())));
    assert_eq!(table, told);
    let row = text.lines().find(|line| line.contains("webhook_deliveries_total` |")).unwrap();
    for reason in callingbox_mcp::webhook::Refused::ALL {
        assert!(row.contains(&format!("`{}`", reason.as_str())), "{row}");
    }
}

#[test]
fn the_flags_variables_paths_and_figures_it_names_exist() {
    let text = chapter();
    let command = Cli::command();
    let http = command.find_subcommand("http").unwrap();
    let known: Vec<String> = command
        .get_arguments()
        .chain(http.get_arguments())
        .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
        .collect();
    let help = http.clone().render_long_help().to_string();
    let metrics: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("callingbox_mcp_"))
        .collect();
    let mut seen = 0;
    for code in inline(&text) {
        if let Some(flag) = code.split([' ', '=']).next().filter(|word| word.starts_with("--")) {
            assert!(known.contains(&flag.to_owned()), "{code}");
            seen += 1;
        }
        if code.starts_with("CALLINGBOX_") {
            assert!(help.contains(&code), "{code}");
        }
        if code.starts_with("callingbox_mcp_") {
            assert!(metrics.contains(&code.as_str()), "{code}");
        }
    }
    assert!(seen > 20, "{seen}");
    // The limits that it names.
    let limits = callingbox_mcp::http::Settings::default();
    let (connections, tenants) = (limits.connections, limits.tenants);
    for words in [
        format!("{} s for headers", connections.header_time.as_secs()),
        format!(
            "at most {} KiB, {} s for a body",
            connections.header_bytes / 1024,
            limits.body_time.as_secs()
        ),
        format!(
            "{} MiB, {},000 connections",
            limits.body_bytes / 1024 / 1024,
            connections.connections / 1_000
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
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(&words), "{words}");
    }
}
