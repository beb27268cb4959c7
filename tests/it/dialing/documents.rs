//! The README's chapter "Calling safely" is true: its rules are read, its commands are run and print
//! what stands there, its configuration holds the defaults.

use std::path::Path;

use callingbox_mcp::config::{self, DialingConfig};
use callingbox_mcp::dialing::confirm::ConfirmMode;
use callingbox_mcp::dialing::policy::{Action, Policy};

use super::harness::Home;
use super::{LEGACY, World, cannot_ask};

fn chapter() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once("\n## Calling safely\n").expect("the chapter");
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The fenced blocks, with their languages, in order.
fn blocks(text: &str) -> Vec<(String, String)> {
    let fenced = text.split("```").skip(1).step_by(2);
    fenced
        .map(|block| block.split_once('\n').unwrap())
        .map(|(language, code)| (language.to_owned(), code.to_owned()))
        .collect()
}

fn of(language: &str) -> Vec<String> {
    blocks(&chapter()).into_iter().filter(|(l, _)| l == language).map(|(_, code)| code).collect()
}

#[tokio::test]
async fn commands_print_what_the_chapter_shows() {
    let home = Home::new();
    home.write(".config/callingbox-mcp/policy.toml", &of("toml")[0]);
    let blocks = blocks(&chapter());
    let mut compared = 0;
    for pair in blocks.windows(2) {
        let [(sh, command), (text, shown)] = pair else { continue };
        if (sh.as_str(), text.as_str()) != ("sh", "text") {
            continue;
        }
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        assert_eq!(&home.print(&words).await, shown, "{command}");
        compared += 1;
    }
    assert_eq!(compared, 3);
    for command in of("sh").last().unwrap().lines() {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        home.print(&words).await;
    }
}

#[test]
fn the_rules_and_the_configuration_are_as_the_chapter_says() {
    let [rules, dialing] = of("toml").try_into().unwrap();
    let policy = Policy::from_toml(&rules).unwrap();
    assert_eq!((policy.default, policy.rules.len()), (Action::Ask, 3));
    let file = config::parse_config(&dialing).unwrap();
    let defaults = DialingConfig { confirm: Some(ConfirmMode::Always), ..DialingConfig::default() };
    assert_eq!(file.dialing, defaults, "the chapter shows the defaults");
}

#[tokio::test]
async fn the_configuration_of_the_chapter_shows_a_preview_in_the_simulator() {
    let world = World::new(&of("toml")[1], "").await;
    let mut session = world.session(LEGACY, cannot_ask()).await;
    let data = session.data("place_call", world.call("+12025550123", "Remind.")).await;
    assert!(data["confirmation_token"].is_string(), "{data}");
    assert_eq!(world.dialed().await, 0);
}
