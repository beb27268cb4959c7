//! Configuration in the documents is read by the program, and "Configuration" names every key and variable.

use callingbox_mcp::cli::Cli;
use callingbox_mcp::config;
use callingbox_mcp::dialing::policy::Policy;
use clap::{CommandFactory, Parser};
use serde_json::Value;

use super::Page;
use crate::harness::Home;

#[test]
fn every_toml_block_is_read_by_the_program() {
    let mut read = 0;
    for page in Page::all() {
        for block in page.blocks_in("toml") {
            let place = format!("{}: {block}", page.path);
            match block.lines().next().unwrap() {
                "# config.toml" => drop(config::parse_config(block).expect(&place)),
                "# policy.toml" => drop(Policy::from_toml(block).expect(&place)),
                // tests/it/documents/commands.rs starts a simulator with it.
                "# mine.toml" => {}
                other => {
                    panic!("{}: a block begins with the name of its file, not {other}", page.path)
                }
            }
            read += 1;
        }
    }
    assert!(read >= 5, "{read} blocks were read");
}

#[test]
fn the_page_shows_the_default_of_waiting() {
    let file =
        config::parse_config(Page::read("docs/configuration.md").file("toml", "config.toml"))
            .unwrap();
    assert_eq!(file.wait, callingbox_mcp::watch::WaitLimits::default());
}

#[tokio::test]
async fn the_page_names_every_key_of_the_file() {
    let schema: Value =
        serde_json::from_str(&Home::new().print(&["config", "--schema"]).await).unwrap();
    let cells: Vec<String> = Page::read("docs/configuration.md")
        .first_cells()
        .iter()
        .flat_map(|cell| cell.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let mut keys = Vec::new();
    collect_keys(&schema, &schema, "", &mut keys);
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        assert!(cells.contains(&key), "docs/configuration.md has no row for `{key}`");
    }
}

/// The keys of an object's schema, those of tables inside with a dot.
fn collect_keys(root: &Value, object: &Value, prefix: &str, keys: &mut Vec<String>) {
    for (name, schema) in object["properties"].as_object().unwrap() {
        let reference = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
        let table = reference.and_then(|path| root.pointer(path)).unwrap_or(schema);
        if table["properties"].is_object() {
            collect_keys(root, table, &format!("{prefix}{name}."), keys);
        } else {
            keys.push(format!("{prefix}{name}"));
        }
    }
}

#[test]
fn the_documents_name_every_variable() {
    let pages: String = Page::all().into_iter().map(|page| page.text).collect();
    let command = Cli::command();
    let commands = std::iter::once(&command).chain(command.get_subcommands());
    let arguments = commands.flat_map(clap::Command::get_arguments);
    let mut found = 0;
    for variable in arguments.filter_map(clap::Arg::get_env) {
        let variable = variable.to_str().unwrap();
        assert!(pages.contains(&format!("`{variable}`")), "{variable} is in no document");
        found += 1;
    }
    assert!(found > 10, "{found} variables were found");
}

#[test]
fn client_configurations_start_a_server() {
    let page = Page::read("docs/clients.md");
    let blocks = page.blocks_in("json");
    assert_eq!(blocks.len(), 6, "two for each of three clients");
    for block in blocks {
        let config: Value = serde_json::from_str(block).unwrap();
        let servers = config.get("mcpServers").unwrap_or(&config["mcp"]["servers"]);
        let server = &servers["callingbox"];
        assert_eq!(server["command"], "callingbox-mcp", "{block}");
        let arguments = server["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
        let cli = Cli::try_parse_from(["callingbox-mcp"].into_iter().chain(arguments)).unwrap();
        assert!(cli.command.is_none(), "{block}");
        let known = ["CALLINGBOX_API_KEY", "CALLINGBOX_API_KEY_FILE"];
        let has_key = server["env"]
            .as_object()
            .is_some_and(|env| env.keys().all(|name| known.contains(&name.as_str())));
        assert_eq!(cli.global.sandbox.is_none(), has_key, "either the simulator or a key: {block}");
    }
}
