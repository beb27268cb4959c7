//! The README stays short, its table of tools is that of the program, and the registry finds its name.

use serde_json::Value;

use super::{Page, root};
use crate::harness::Home;

#[test]
fn the_readme_is_at_most_200_lines_and_12_kilobytes() {
    let text = Page::read("README.md").text;
    let (lines, bytes) = (text.lines().count(), text.len());
    assert!(lines <= 200 && bytes <= 12 * 1024, "{lines} lines, {bytes} bytes");
}

#[tokio::test]
async fn the_table_of_tools_lists_the_tools_of_the_program() {
    let table = Home::new().print(&["catalogue", "--all"]).await;
    Page::read("README.md").update("tools", &table, |present| present == table);
}

#[test]
fn the_readme_holds_the_name_in_the_registry() {
    let server = std::fs::read_to_string(root().join("packaging/server.json")).unwrap();
    let server: Value = serde_json::from_str(&server).unwrap();
    let line = format!("\nmcp-name: {}\n", server["name"].as_str().unwrap());
    assert!(Page::read("README.md").text.contains(&line), "{line}");
}
