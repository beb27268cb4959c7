//! Which tools are offered: those that the operator enabled, without those that the request may not use.

use crate::mcp::registry::index::{CardRole, ToolIndex, ToolMeta};
use crate::suggest::UnknownName;
use crate::toolset::Toolset;

/// Which tools are offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// These toolsets; if empty and `tools` is empty too, the default toolsets.
    pub toolsets: Vec<Toolset>,
    /// Additional tools; if `toolsets` is empty, only these.
    pub tools: Vec<String>,
    /// Tools that are never offered.
    pub exclude_tools: Vec<String>,
    /// Offer only tools that change nothing. It is applied last and cannot be overruled.
    pub read_only: bool,
    /// Whether the call card is switched off.
    pub no_ui: bool,
    /// Whether the server uses the simulator.
    pub sandbox: bool,
    /// Tools that this caller or request may not use.
    pub narrowed: Vec<&'static str>,
}

impl Selection {
    const DEFAULT: [Toolset; 5] =
        [Toolset::Calls, Toolset::Account, Toolset::Agents, Toolset::Numbers, Toolset::Sandbox];

    /// Checks that every name exists.
    ///
    /// # Errors
    /// The first name that does not, with the valid ones.
    pub fn check(&self, all: &ToolIndex) -> Result<(), UnknownName> {
        match self.tools.iter().chain(&self.exclude_tools).find(|name| all.get(name).is_none()) {
            None => Ok(()),
            Some(name) => Err(all.unknown_tool(name)),
        }
    }

    /// The toolsets that are enabled.
    pub fn active_toolsets(&self) -> impl Iterator<Item = Toolset> {
        let toolsets: &[Toolset] = match (self.toolsets.as_slice(), self.tools.as_slice()) {
            ([], []) => &Self::DEFAULT,
            (toolsets, _) => toolsets,
        };
        toolsets.iter().copied().filter(|set| self.sandbox || *set != Toolset::Sandbox)
    }

    /// The same selection without the tools that `keep` rejects; it can only shrink. Tools of the card are not asked
    /// about: they go with the tools that they serve.
    #[must_use]
    pub fn narrowed(&self, all: &ToolIndex, keep: impl Fn(&ToolMeta) -> bool) -> Self {
        let mut narrow = self.clone();
        let left_out =
            all.iter().filter(|tool| !tool.card.is_app_only() && !keep(tool)).map(|tool| tool.name);
        narrow.narrowed.extend(left_out);
        narrow
    }

    /// Whether a tool is offered.
    #[must_use]
    pub fn offers(&self, tool: &ToolMeta) -> bool {
        self.withheld_reason(tool).is_none()
    }

    /// Why a tool is not offered, or none if it is.
    #[must_use]
    pub fn withheld_reason(&self, tool: &ToolMeta) -> Option<&'static str> {
        if let CardRole::AppOnly { serves } = tool.card {
            return if self.no_ui {
                Some("the call card is switched off (--no-ui)")
            } else if self.is_excluded(tool) {
                Some("it is switched off by --exclude-tools")
            } else if serves.iter().any(|served| self.offers(served)) {
                None
            } else {
                Some("none of the tools that it serves is offered")
            };
        }
        let named = self.tools.iter().any(|name| name == tool.name);
        if tool.toolset == Toolset::Sandbox && !self.sandbox {
            Some("it exists only with --sandbox")
        } else if !named && !self.active_toolsets().any(|set| set == tool.toolset) {
            Some("its toolset is not switched on (--toolsets, --tools)")
        } else if self.is_excluded(tool) {
            Some("it is switched off by --exclude-tools")
        } else if self.read_only && !tool.effect.is_read_only() {
            Some("the server is read-only (--read-only)")
        } else if self.narrowed.contains(&tool.name) {
            Some("it is not among those that this caller may use and asked for")
        } else {
            None
        }
    }

    fn is_excluded(&self, tool: &ToolMeta) -> bool {
        self.exclude_tools.iter().any(|name| name == tool.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::catalogue::Catalogue;
    use crate::mcp::registry::effect::ToolEffect;

    fn names(selection: &Selection) -> Vec<&'static str> {
        let catalogue = Catalogue::new();
        let offered = catalogue.offered(selection).filter(|entry| !entry.meta.card.is_app_only());
        offered.map(|entry| entry.meta.name).collect()
    }

    #[test]
    fn a_tool_of_the_card_is_offered_with_a_tool_that_it_serves() {
        let catalogue = Catalogue::new();
        let of_card = |selection: &Selection| -> Vec<_> {
            let offered =
                catalogue.offered(selection).filter(|entry| entry.meta.card.is_app_only());
            offered.map(|entry| entry.meta.name).collect()
        };
        let only = |tool: &str| Selection { tools: vec![tool.to_owned()], ..Selection::default() };
        for (tool, expected) in [
            ("get_call_result", &["follow_call"][..]),
            ("place_call", &["confirm_call"]),
            ("place_calls", &["confirm_call"]),
            ("purchase_number", &["confirm_call"]),
            ("follow_call", &[]),
            ("list_calls", &[]),
        ] {
            let selection = only(tool);
            assert_eq!(of_card(&selection), expected, "{tool}");
            assert_eq!(of_card(&Selection { no_ui: true, ..selection }), [""; 0], "{tool}");
        }
        let all = Selection::default();
        assert_eq!(of_card(&all), ["follow_call", "confirm_call"]);
        assert_eq!(of_card(&Selection { read_only: true, ..all.clone() }), ["follow_call"]);
        let less = Selection { exclude_tools: vec!["follow_call".to_owned()], ..all.clone() };
        assert_eq!(of_card(&less), ["confirm_call"]);
        let narrowed = all.narrowed(catalogue.index(), |tool| tool.name == "place_call");
        assert_eq!(of_card(&narrowed), ["confirm_call"]);
    }

    #[test]
    fn the_default_offers_calls_agents_and_numbers() {
        let catalogue = Catalogue::new();
        let expected: Vec<_> = catalogue
            .index()
            .iter()
            .filter(|entry| !matches!(entry.toolset, Toolset::Webhooks | Toolset::Sandbox))
            .filter(|entry| !entry.card.is_app_only())
            .map(|entry| entry.name)
            .collect();
        assert_eq!(names(&Selection::default()), expected);
        assert!(expected.contains(&"place_call"));
    }

    #[test]
    fn read_only_is_last_and_nothing_overrules_it() {
        let offered = names(&Selection {
            toolsets: Toolset::ALL.to_vec(),
            tools: vec!["place_call".into(), "purchase_number".into()],
            read_only: true,
            sandbox: true,
            ..Selection::default()
        });
        let catalogue = Catalogue::new();
        assert!(!offered.is_empty());
        for name in offered {
            assert_eq!(catalogue.index().get(name).unwrap().effect, ToolEffect::Reads, "{name}");
        }
    }

    #[test]
    fn tools_alone_are_all_there_is_and_exclusion_beats_them() {
        let only = Selection { tools: vec!["get_call_result".into()], ..Selection::default() };
        assert_eq!(names(&only), ["get_call_result"]);
        let both = Selection { toolsets: vec![Toolset::Numbers], ..only };
        let mut expected = Catalogue::new()
            .names_where(|tool| tool.name == "get_call_result" || tool.toolset == Toolset::Numbers);
        assert_eq!(names(&both), expected);
        let less = Selection { exclude_tools: vec!["purchase_number".into()], ..both };
        expected.retain(|name| *name != "purchase_number");
        assert_eq!(names(&less), expected);
    }

    #[test]
    fn the_sandbox_toolset_needs_the_sandbox() {
        let asked = Selection { toolsets: vec![Toolset::Sandbox], ..Selection::default() };
        assert_eq!(names(&asked), [""; 0]);
        assert_eq!(names(&Selection { sandbox: true, ..asked }), ["simulate_inbound_call"]);
    }

    #[test]
    fn unknown_names_are_refused_with_the_valid_ones() {
        let selection = Selection { tools: vec!["place_cal".into()], ..Selection::default() };
        let text = selection.check(Catalogue::new().index()).unwrap_err().to_string();
        assert!(
            text.starts_with("there is no tool `place_cal` (did you mean `place_call`?)"),
            "{text}"
        );
        let text = "call".parse::<Toolset>().unwrap_err().to_string();
        assert_eq!(
            text,
            "there is no toolset `call` (did you mean `calls`?); the valid names are: calls, account, agents, numbers, webhooks, sandbox"
        );
    }
}
