//! The skill: how to use the telephone well, for clients that take skills (extension
//! `io.modelcontextprotocol/skills`, SEP-2640). The same file lies in `skills/` for those that take
//! them from disk.

use crate::mcp::registry::name::ToolName;
use rmcp::model::{Skill, SkillFrontmatter, SkillResource, SkillResources};

/// Where the skill is read.
pub const URI: &str = "skill://callingbox-telephone/SKILL.md";

/// Its text.
pub const TEXT: &str = include_str!("../../skills/callingbox-telephone/SKILL.md");

/// The tools that it names.
pub const TOOLS: [ToolName; 15] = [
    ToolName::PLACE_CALL,
    ToolName::GET_CALL_RESULT,
    ToolName::GET_CALL_TRANSCRIPT,
    ToolName::LIST_CALLS,
    ToolName::LIST_AGENTS,
    ToolName::CREATE_AGENT,
    ToolName::SET_AGENT_NUMBERS,
    ToolName::LIST_NUMBERS,
    ToolName::SEARCH_NUMBERS,
    ToolName::PURCHASE_NUMBER,
    ToolName::SIMULATE_INBOUND_CALL,
    ToolName::RECORD_OPT_OUT,
    ToolName::PLACE_CALLS,
    ToolName::GET_BATCH,
    ToolName::CANCEL_BATCH,
];

/// Its manifest.
#[must_use]
pub fn skill_manifest() -> Skill {
    let field = |name: &str| {
        TEXT.lines()
            .take_while(|line| !line.starts_with('#'))
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .unwrap_or_default()
    };
    let files = vec![SkillResource::from_bytes(URI, TEXT.as_bytes())];
    Skill::new(
        URI,
        SkillFrontmatter::new(field("name"), field("description")),
        SkillResources::Files(files),
    )
}

/// The text without its front matter.
#[must_use]
pub fn guide_text() -> &'static str {
    TEXT.splitn(3, "---\n").nth(2).unwrap_or(TEXT).trim_start()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::dialing::call_outcome::CallOutcome;
    use crate::mcp::catalogue::Catalogue;

    #[test]
    fn the_manifest_is_valid_and_the_text_names_only_tools_that_exist() {
        let skill = skill_manifest();
        skill.validate().unwrap();
        assert_eq!(skill.name(), "callingbox-telephone");
        assert!(guide_text().starts_with("# Telephone"));
        let catalogue = Catalogue::new();
        let words = TEXT.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let named: BTreeSet<&str> = words.filter(|word| catalogue.get(word).is_some()).collect();
        assert_eq!(named, TOOLS.iter().map(|tool| tool.as_str()).collect());
        let outcomes = CallOutcome::ENDED.into_iter();
        for outcome in outcomes.chain([CallOutcome::InProgress, CallOutcome::Unknown]) {
            let row = format!("| `{}` |", outcome.as_str());
            assert_eq!(guide_text().matches(&row).count(), 1, "{row}");
        }
        for word in TEXT.split('`').skip(1).step_by(2) {
            let verb =
                ["get_", "list_", "create_", "set_", "search_", "purchase_", "place_", "simulate_"];
            if verb.iter().any(|verb| word.starts_with(verb)) {
                assert!(catalogue.get(word).is_some(), "{word}");
            }
        }
    }
}
