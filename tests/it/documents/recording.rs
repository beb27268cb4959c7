//! The recording of the demo in "Getting started" is what the demo prints, and the picture in the README shows parts of
//! the recording.

use std::fmt::Write as _;

use super::{Page, root, updates};
use crate::harness::Home;

/// Where long lines of the recording are cut off.
const RECORDING_COLUMNS: usize = 118;
/// Where lines of the picture are cut off.
const PICTURE_COLUMNS: usize = 104;
const PICTURE: &str = "docs/demo.svg";

/// Replaces what differs between two runs: the random markers of fences and ids of dispatches.
fn masked(line: &str) -> String {
    let marker = regex_lite::Regex::new("(<<<)?[0-9a-f]{12}(>>>)?( |\\.|$)").unwrap();
    marker.replace_all(line, "MARKER").into_owned()
}

fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    let kept: String = line.chars().take(columns - 1).collect();
    format!("{}…", kept.trim_end())
}

/// The lines that do not depend on when the demo happened to look, masked.
fn comparable(text: &str) -> Vec<String> {
    let is_status = |line: &&str| line.starts_with("  The call is ");
    let lines = text.lines().filter(|line| !is_status(line));
    lines.map(masked).collect()
}

#[tokio::test]
async fn the_recording_and_the_picture_show_what_the_demo_prints() {
    // Slow enough that each status is seen when it is written; as fast as possible when it is compared.
    let speed = if updates() { "20" } else { "500" };
    let printed = Home::new().print(&["demo", "--sandbox-speed", speed]).await;
    let lines: Vec<String> = printed.lines().map(|line| cut(line, RECORDING_COLUMNS)).collect();
    let recording = format!("```text\n{}\n```\n", lines.join("\n"));
    let page = Page::read("docs/getting-started.md");
    page.update("demo", &recording, |present| comparable(present) == comparable(&recording));
    check_picture(&Page::read("docs/getting-started.md"));
}

fn check_picture(page: &Page) {
    let recording = page.blocks_in("text").into_iter().next().expect("the recording");
    let picture = draw(&shown(recording));
    let path = root().join(PICTURE);
    if std::fs::read_to_string(&path).unwrap_or_default() == picture {
        return;
    }
    assert!(
        updates(),
        "{PICTURE} is out of date: UPDATE_DOCS=1 cargo test --test it documents writes it"
    );
    std::fs::write(path, picture).unwrap();
}

/// The lines of the picture: three tool calls, the conversation, the result.
fn shown(recording: &str) -> Vec<String> {
    let lines: Vec<&str> = recording.lines().collect();
    let mut shown = vec!["$ callingbox-mcp demo"];
    for (position, line) in lines.iter().enumerate() {
        let tools = ["create_agent {", "place_call {", "get_call_result {"];
        if tools.iter().any(|tool| line.starts_with(tool)) {
            shown.push(line);
            let answer = lines[position + 1..].iter().take_while(|line| line.starts_with("  "));
            let is_new = |line: &&&str| {
                !is_spoken(line) && !line.starts_with("  The call is ") && !shown.contains(*line)
            };
            if let Some(first) = answer.take(3).find(is_new) {
                shown.push(first);
            }
        }
    }
    shown.extend(lines.iter().filter(|line| is_spoken(line)).copied());
    shown.extend(lines.last());
    shown.iter().map(|line| cut(line, PICTURE_COLUMNS)).collect()
}

/// Whether a line is a part of the conversation.
fn is_spoken(line: &str) -> bool {
    ["  agent: ", "  callee: "].iter().any(|speaker| line.starts_with(speaker))
}

/// The class of a line, which has a color.
fn class(line: &str) -> &'static str {
    match line {
        line if line.starts_with('$') => "prompt",
        line if line.starts_with("  agent: ") => "agent",
        line if line.starts_with("  callee: ") => "callee",
        line if line.starts_with("completed: ") => "result",
        line if line.starts_with("  ") => "answer",
        _ => "tool",
    }
}

/// A terminal window as SVG.
fn draw(lines: &[String]) -> String {
    let (line_height, top, left) = (20, 62, 24);
    let (width, height) = (left * 2 + PICTURE_COLUMNS * 8, top + lines.len() * line_height + 8);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="callingbox-mcp demo">
<style>
  text {{ font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }}
  .prompt {{ fill: #f0f6fc; font-weight: bold }}
  .tool {{ fill: #79c0ff }}
  .answer {{ fill: #8b949e }}
  .agent {{ fill: #7ee787 }}
  .callee {{ fill: #ffa657 }}
  .result {{ fill: #f0f6fc; font-weight: bold }}
</style>
<rect width="{width}" height="{height}" rx="10" fill="#0d1117"/>
<circle cx="24" cy="22" r="6" fill="#ff5f57"/><circle cx="44" cy="22" r="6" fill="#febc2e"/><circle cx="64" cy="22" r="6" fill="#28c840"/>
"##
    );
    for (row, line) in lines.iter().enumerate() {
        let y = top + row * line_height;
        let text = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let class = class(line);
        writeln!(
            svg,
            r#"<text x="{left}" y="{y}" class="{class}" xml:space="preserve">{text}</text>"#
        )
        .unwrap();
    }
    svg.push_str("</svg>\n");
    svg
}
