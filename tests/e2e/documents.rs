//! The README is true: its table of tools is the catalogue's, and what it shows can be read by whom
//! it is meant for.

use std::path::Path;

use callingbox_mcp::cli::Cli;
use callingbox_mcp::config;
use callingbox_mcp::sandbox::Options;
use clap::Parser;
use serde_json::Value;

use crate::harness::{Home, simulator};

const BEGIN: &str = "<!-- tools: written by UPDATE_DOCS=1 cargo test --test e2e documents -->\n";
const END: &str = "<!-- /tools -->\n";

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    std::fs::read_to_string(path).unwrap()
}

/// The fenced blocks of one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    text.split(&format!("```{language}\n"))
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_table_of_tools_is_that_of_the_catalogue() {
    let text = readme();
    let (before, rest) = text.split_once(BEGIN).expect("the marker before the table");
    let (table, after) = rest.split_once(END).expect("the marker after the table");
    let expected = Home::new().print(&["catalogue", "--all"]).await;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        std::fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    } else {
        assert!(
            table == expected,
            "README.md is stale: UPDATE_DOCS=1 cargo test --test e2e documents writes it"
        );
    }
}

#[test]
fn client_configurations_start_a_server() {
    let blocks = blocks(&readme(), "json");
    assert_eq!(blocks.len(), 6, "two for each of three clients");
    for block in blocks {
        let config: Value = serde_json::from_str(&block).unwrap();
        let servers = config.get("mcpServers").unwrap_or(&config["mcp"]["servers"]);
        let server = &servers["callingbox"];
        assert_eq!(server["command"], "callingbox-mcp", "{block}");
        let arguments = server["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
        let cli = Cli::try_parse_from(["callingbox-mcp"].into_iter().chain(arguments)).unwrap();
        assert!(cli.command.is_none(), "{block}");
        let key = server["env"].as_object().is_some_and(|env| {
            env.keys().all(|name| {
                ["CALLINGBOX_API_KEY", "CALLINGBOX_API_KEY_FILE"].contains(&name.as_str())
            })
        });
        assert_eq!(cli.global.sandbox.is_none(), key, "either the simulator or a key: {block}");
    }
}

#[test]
fn commands_can_be_typed() {
    let text = readme();
    let lines: Vec<String> = blocks(&text, "sh")
        .iter()
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let inline = text.split('`').skip(1).step_by(2).filter(|code| !code.contains('\n'));
    let mut seen = 0;
    for line in lines.iter().map(String::as_str).chain(inline) {
        let line = line.replace("cargo run --release -- ", "callingbox-mcp ");
        if !line.starts_with("callingbox-mcp ") {
            continue;
        }
        seen += 1;
        let words = line.split_whitespace();
        match Cli::try_parse_from(words) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp, "{line}: {error}");
            }
        }
    }
    assert!(seen >= 10, "{seen} commands were found");
}

#[tokio::test]
async fn the_configuration_and_the_scenario_file_are_read() {
    let blocks = blocks(&readme(), "toml");
    let [scenarios, .., file] = blocks.as_slice() else {
        panic!("a scenario file, the calling rules, a configuration")
    };
    let file = config::parse(file).unwrap();
    assert_eq!(file.wait, config::Wait::default(), "the README shows the defaults");
    let home = Home::new();
    home.write("mine.toml", scenarios);
    let options =
        Options { scenario_files: vec![home.path().join("mine.toml")], ..Options::default() };
    simulator(options).await.shutdown().await.unwrap();
}

#[test]
fn documents_name_only_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/operations.md"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        for code in text.split('`').skip(1).step_by(2) {
            let ours = !code.contains(' ')
                && ["src/", "tests/", "tools/", ".ci/", "docs/", "packaging/"]
                    .iter()
                    .any(|dir| code.starts_with(dir));
            assert!(!ours || root.join(code).exists(), "{name}: {code}");
        }
    }
}
