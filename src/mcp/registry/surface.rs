//! The data that resources, subscriptions, completions and tasks show, and the tools that show the same. A caller who
//! is not offered such a tool does not get the data in another way either.

use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::name::ToolName;
use crate::mcp::task_subject::TaskSubject;

/// One kind of data of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSurface {
    /// The outcome of a call.
    Call,
    /// The ids of all calls.
    Calls,
    /// What was said on a call.
    Transcript,
    /// A batch and its rows.
    Batch,
    /// An agent in full.
    Agent,
    /// The ids of all agents.
    Agents,
    /// The owned numbers.
    Numbers,
    /// The calling rules in full, with the numbers that they name.
    Policy,
}

impl DataSurface {
    #[cfg(test)]
    const ALL: [Self; 8] = [
        Self::Call,
        Self::Calls,
        Self::Transcript,
        Self::Batch,
        Self::Agent,
        Self::Agents,
        Self::Numbers,
        Self::Policy,
    ];

    /// The data that a task shows.
    #[must_use]
    pub const fn from_task(subject: &TaskSubject) -> Self {
        match subject {
            TaskSubject::Call(_) => Self::Call,
            TaskSubject::Batch(_) => Self::Batch,
        }
    }

    /// The tools that show it; at least one must be offered.
    const fn tools(self) -> &'static [ToolName] {
        match self {
            Self::Call => &[ToolName::GET_CALL_RESULT],
            Self::Calls => &[ToolName::LIST_CALLS],
            Self::Transcript => &[ToolName::GET_CALL_TRANSCRIPT],
            Self::Batch => &[ToolName::GET_BATCH],
            Self::Agent => &[ToolName::GET_AGENT],
            Self::Agents => &[ToolName::LIST_AGENTS],
            Self::Numbers => &[ToolName::LIST_NUMBERS],
            // The rules apply to callers who place calls; callers who list calls see the numbers anyway.
            Self::Policy => &[ToolName::PLACE_CALL, ToolName::LIST_CALLS],
        }
    }

    /// Whether this caller may see the data.
    #[must_use]
    pub fn is_visible(self, tools: &AvailableTools) -> bool {
        self.tools().iter().any(|tool| tools.contains(*tool))
    }

    /// Checks that this caller may see the data, named `what` in the error.
    ///
    /// # Errors
    /// Why the caller may not see it.
    pub fn require(self, tools: &AvailableTools, what: &str) -> Result<(), String> {
        if self.is_visible(tools) {
            return Ok(());
        }
        let tools: Vec<String> = self.tools().iter().map(|tool| format!("`{tool}`")).collect();
        let tools = tools.join(" or ");
        Err(format!(
            "{what} is not available here: it needs the tool {tools}, which is not offered"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::account::Environment;
    use crate::mcp::catalogue::Catalogue;
    use crate::mcp::registry::selection::Selection;

    #[test]
    fn each_is_seen_with_each_of_its_tools_and_with_no_other() {
        let catalogue = Catalogue::new();
        for view in DataSurface::ALL {
            for tool in view.tools() {
                assert!(catalogue.get(tool.as_str()).is_some(), "{view:?}: {tool}");
            }
            for entry in catalogue.index().iter() {
                let tools = vec![entry.name.to_owned()];
                let only = Selection { tools, sandbox: true, ..Selection::default() };
                let tools =
                    AvailableTools::new(catalogue.index(), &Arc::new(only), Environment::Sandbox);
                let has = view.tools().iter().any(|tool| tool.as_str() == entry.name);
                assert_eq!(view.require(&tools, "it").is_ok(), has, "{view:?}: {}", entry.name);
            }
        }
    }

    #[test]
    fn a_refusal_names_the_tools_that_are_not_offered() {
        let tools = AvailableTools::only(&[ToolName::LIST_NUMBERS], Environment::Live);
        for (view, text) in [
            (
                DataSurface::Call,
                "x is not available here: it needs the tool `get_call_result`, which is not offered",
            ),
            (
                DataSurface::Policy,
                "x is not available here: it needs the tool `place_call` or `list_calls`, which is not offered",
            ),
        ] {
            assert_eq!(view.require(&tools, "x"), Err(text.to_owned()));
        }
    }
}
