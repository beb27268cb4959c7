//! "Calling safely": its rules are read, `policy check` prints what the page shows, and its configuration works.

use callingbox_mcp::config::{self, DialingConfig};
use callingbox_mcp::dialing::confirm::ConfirmMode;
use callingbox_mcp::dialing::policy::{Action, Policy};

use super::Page;
use crate::dialing::{DialingFixture, LEGACY, cannot_ask};
use crate::harness::Home;

fn page() -> Page {
    Page::read("docs/calling-safely.md")
}

#[tokio::test]
async fn policy_check_prints_what_the_page_shows() {
    let page = page();
    let home = Home::new();
    home.write(".config/callingbox-mcp/policy.toml", page.file("toml", "policy.toml"));
    let mut compared = 0;
    for pair in page.blocks().windows(2) {
        let [("sh", command), ("text", shown)] = pair else { continue };
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        assert_eq!(&home.print(&words).await, shown, "{command}");
        compared += 1;
    }
    assert_eq!(compared, 3);
}

#[test]
fn the_rules_and_the_configuration_are_as_the_page_says() {
    let page = page();
    let policy = Policy::from_toml(page.file("toml", "policy.toml")).unwrap();
    assert_eq!((policy.default, policy.rules.len()), (Some(Action::Ask), 3));
    let file = config::parse_config(page.file("toml", "config.toml")).unwrap();
    let defaults = DialingConfig { confirm: Some(ConfirmMode::Always), ..DialingConfig::default() };
    assert_eq!(file.dialing, defaults, "apart from `confirm` the page shows the defaults");
}

#[tokio::test]
async fn the_configuration_of_the_page_leads_to_a_preview_on_the_simulator() {
    let fixture = DialingFixture::new(page().file("toml", "config.toml"), "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let data = session.data("place_call", fixture.call("+12025550123", "Remind.")).await;
    assert!(data["confirmation_token"].is_string(), "{data}");
    assert_eq!(fixture.dialed().await, 0);
}
