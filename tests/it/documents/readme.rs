//! The README stays short, its table of tools is that of the program, the registry finds its name, and the way to get the
//! program can be switched when packages are published.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Page, root};
use crate::harness::Home;

fn assert_short(readme: &str) {
    let (lines, bytes) = (readme.lines().count(), readme.len());
    assert!(lines <= 200 && bytes <= 12 * 1024, "{lines} lines, {bytes} bytes");
}

#[test]
fn the_readme_is_at_most_200_lines_and_12_kilobytes() {
    assert_short(&Page::read("README.md").text);
}

/// README.md and docs/install.md as `packaging/first_screen.py` writes them in a state.
fn first_screen(state: &str) -> [Page; 2] {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.current_dir(root()).args(["packaging/first_screen.py", state, "--to"]);
    assert!(command.arg(folder.path()).status().unwrap().success());
    ["README.md", "docs/install.md"].map(|path| Page {
        path: path.to_owned(),
        text: std::fs::read_to_string(folder.path().join(path)).unwrap(),
    })
}

/// Commands that run a package from a registry, which must be ours before anybody copies them.
const PACKAGE_COMMANDS: [&str; 7] =
    ["npx", "uvx", "npm install", "uv tool", "pipx", "binstall", "ghcr.io"];

#[test]
fn the_first_screen_names_a_package_only_after_it_was_published() {
    if Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "python3 is missing");
        println!("skipped: python3 is missing");
        return;
    }
    let source = first_screen("source");
    let released = first_screen("released");
    let present = ["README.md", "docs/install.md"].map(|path| Page::read(path).text);
    let is_current = |pages: &[Page; 2]| [0, 1].map(|i| pages[i].text == present[i]) == [true; 2];
    assert!(
        is_current(&source) || is_current(&released),
        "packaging/first_screen.py source writes the pages anew"
    );

    let first_block = |page: &Page| page.blocks_in("sh")[0].to_owned();
    assert_eq!(first_block(&source[0]), "cargo run -- demo\ncargo install --path . --locked\n");
    for page in &source {
        let code = [page.blocks_in("sh").join("\n"), page.inline_code().join("\n")].concat();
        for command in PACKAGE_COMMANDS {
            assert!(!code.contains(command), "{}: {command}", page.path);
        }
        assert!(!page.text.contains(".mcpb"), "{}: a bundle", page.path);
    }

    assert!(first_block(&released[0]).starts_with("npx -y callingbox-mcp demo\n"));
    let install = released[1].blocks_in("sh").join("\n");
    for command in PACKAGE_COMMANDS {
        assert!(install.contains(command), "{command}");
    }
    for page in &released {
        assert!(!page.text.contains("${"), "{}: a placeholder", page.path);
        for bundle in ["darwin", "win32", "linux"] {
            let name = format!("-{}-{bundle}.mcpb)", env!("CARGO_PKG_VERSION"));
            assert!(page.text.contains(&name), "{}: {name}", page.path);
        }
    }
    assert_short(&source[0].text);
    assert_short(&released[0].text);
}

#[tokio::test]
async fn the_table_of_tools_lists_the_tools_of_the_program() {
    let table = Home::new().print(&["catalogue", "--all"]).await;
    Page::read("README.md").update("tools", &table, |present| present == table);
}

#[test]
fn the_readme_has_the_name_of_the_registry_entry() {
    let server = std::fs::read_to_string(root().join("packaging/server.json")).unwrap();
    let server: Value = serde_json::from_str(&server).unwrap();
    let line = format!("\nmcp-name: {}\n", server["name"].as_str().unwrap());
    assert!(Page::read("README.md").text.contains(&line), "{line}");
}
