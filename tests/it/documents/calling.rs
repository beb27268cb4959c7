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

#[tokio::test]
async fn the_rules_for_the_united_states_and_the_european_union_ask_for_consent_and_keep_the_hours()
{
    let page = Page::read("docs/before-you-call-people.md");
    for (place, number, day, night, elsewhere) in [
        (
            "the United States",
            "+12125550123",
            "2026-03-02T17:00:00Z",
            "2026-03-03T03:00:00Z",
            "+442079460018",
        ),
        (
            "the European Union",
            "+4930123456",
            "2026-03-02T11:00:00Z",
            "2026-03-02T20:30:00Z",
            "+12125550123",
        ),
    ] {
        let heading = format!("# policy.toml\n# An example for {place}");
        let rules = page.blocks_in("toml").into_iter().find(|block| block.starts_with(&heading));
        let home = Home::new();
        home.write(".config/callingbox-mcp/policy.toml", rules.expect(place));
        let record = "consent=online form, 3 May 2026";
        for (number, at, metadata, decision) in [
            (
                number,
                day,
                None,
                "refuse. Refused by the calling rule `people who agreed`: This rule needs a record of consent",
            ),
            (
                number,
                day,
                Some("consent=yes"),
                "refuse. Refused by the calling rule `people who agreed`: This rule needs a record of consent",
            ),
            (
                number,
                day,
                Some(record),
                "ask the user, by `people who agreed`: the rule needs a record, and the model wrote",
            ),
            (number, night, Some(record), "refuse. Refused by the calling rule `quiet_hours`"),
            (elsewhere, day, Some(record), "refuse. Refused by the calling rule `"),
        ] {
            let mut words = vec!["policy", "check", number, "--at", at];
            words.extend(metadata.into_iter().flat_map(|pair| ["--metadata", pair]));
            let shown = home.print(&words).await;
            assert!(shown.contains(&format!("decision   {decision}")), "{words:?}: {shown}");
        }
    }
}
