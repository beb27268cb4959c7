//! What of the account is seen by other ways than a tool: resources, subscriptions, completions, tasks.
//! Which tool shows the same stands here and nowhere else: who is not offered it sees the thing in no
//! other way either.

use super::offer::Offer;

/// One thing that is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// What became of a call.
    Call,
    /// The ids of all calls.
    Calls,
    /// What was said on a call.
    Transcript,
    /// An agent in full.
    Agent,
    /// The ids of all agents.
    Agents,
    /// The owned numbers.
    Numbers,
    /// The calling rules in full, with the numbers that they name.
    Policy,
}

impl View {
    #[cfg(test)]
    const ALL: [Self; 7] = [
        Self::Call,
        Self::Calls,
        Self::Transcript,
        Self::Agent,
        Self::Agents,
        Self::Numbers,
        Self::Policy,
    ];

    /// The tools of which one must be offered.
    const fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Call => &["get_call_result"],
            Self::Calls => &["list_calls"],
            Self::Transcript => &["get_call_transcript"],
            Self::Agent => &["get_agent"],
            Self::Agents => &["list_agents"],
            Self::Numbers => &["list_numbers"],
            // Whoever calls is held to the rules; whoever lists calls sees whom they were to.
            Self::Policy => &["place_call", "list_calls"],
        }
    }

    /// Whether it is seen with what is offered.
    #[must_use]
    pub fn is_open(self, offer: &Offer) -> bool {
        self.tools().iter().any(|tool| offer.has(tool))
    }

    /// Holds `what`, as the caller named it, against what is offered.
    ///
    /// # Errors
    /// Why it is not seen, for whoever asked.
    pub fn hold(self, offer: &Offer, what: &str) -> Result<(), String> {
        if self.is_open(offer) {
            return Ok(());
        }
        let tools: Vec<String> = self.tools().iter().map(|tool| format!("`{tool}`")).collect();
        let tools = tools.join(" or ");
        Err(format!("{what} is not offered here: it needs the tool {tools}, which is not"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mcp::catalogue::Catalogue;
    use crate::mcp::selection::Selection;

    #[test]
    fn each_is_seen_with_each_of_its_tools_and_with_no_other() {
        let catalogue = Catalogue::new();
        for view in View::ALL {
            for tool in view.tools() {
                assert!(catalogue.get(tool).is_some(), "{view:?}: {tool}");
            }
            for entry in catalogue.index().iter() {
                let tools = vec![entry.name.to_owned()];
                let only = Selection { tools, sandbox: true, ..Selection::default() };
                let offer = Offer::of(catalogue.index(), &Arc::new(only));
                let has = view.tools().contains(&entry.name);
                assert_eq!(view.hold(&offer, "it").is_ok(), has, "{view:?}: {}", entry.name);
            }
        }
    }

    #[test]
    fn what_is_not_seen_is_told_with_what_it_takes() {
        let catalogue = Catalogue::new();
        let tools = vec!["list_numbers".to_owned()];
        let only = Selection { tools, ..Selection::default() };
        let offer = Offer::of(catalogue.index(), &Arc::new(only));
        for (view, text) in [
            (
                View::Call,
                "x is not offered here: it needs the tool `get_call_result`, which is not",
            ),
            (
                View::Policy,
                "x is not offered here: it needs the tool `place_call` or `list_calls`, which is not",
            ),
        ] {
            assert_eq!(view.hold(&offer, "x"), Err(text.to_owned()));
        }
    }
}
