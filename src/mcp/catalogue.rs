//! The list of all tools, shared by all sessions.

use std::sync::Arc;

use crate::mcp::registry::index::ToolIndex;
use crate::mcp::registry::selection::Selection;
use crate::mcp::tool::ToolEntry;
use crate::mcp::tools;

/// All tools, offered or not.
pub struct Catalogue {
    entries: Vec<ToolEntry>,
    index: ToolIndex,
}

impl Catalogue {
    /// The whole catalogue. It is cheap: schemas are built at their first use.
    #[must_use]
    pub fn new() -> Self {
        Self::from_entries(tools::all())
    }

    /// A catalogue of these tools.
    pub(super) fn from_entries(entries: Vec<ToolEntry>) -> Self {
        let index = entries.iter().map(|entry| entry.meta).collect();
        Self { entries, index }
    }

    /// The metadata of its tools.
    #[must_use]
    pub fn index(&self) -> &ToolIndex {
        &self.index
    }

    /// All tools in their order.
    pub fn iter(&self) -> impl Iterator<Item = &ToolEntry> {
        self.entries.iter()
    }

    /// The tool of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ToolEntry> {
        self.entries.iter().find(|entry| entry.meta.name == name)
    }

    /// The tools that `selection` offers, in their order.
    pub fn offered<'a>(&'a self, selection: &'a Selection) -> impl Iterator<Item = &'a ToolEntry> {
        self.entries.iter().filter(|entry| selection.offers(&entry.meta))
    }
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::new()
    }
}

/// The catalogue as it is shared by sessions.
pub type SharedCatalogue = Arc<Catalogue>;

#[cfg(test)]
impl Catalogue {
    /// The names of the tools that `choose` accepts, in their order.
    pub(crate) fn names_where(
        &self,
        choose: impl Fn(&crate::mcp::registry::index::ToolMeta) -> bool,
    ) -> Vec<&'static str> {
        self.index.iter().filter(|tool| choose(tool)).map(|tool| tool.name).collect()
    }
}

#[cfg(test)]
impl crate::mcp::registry::available::AvailableTools {
    /// These tools and no others.
    pub(crate) fn only(
        tools: &[crate::mcp::registry::name::ToolName],
        environment: crate::account::Environment,
    ) -> Self {
        let tools = tools.iter().map(|tool| tool.as_str().to_owned()).collect();
        let selection = Selection { tools, ..Selection::default() };
        Self::new(Catalogue::new().index(), &Arc::new(selection), environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise the server would have to give rmcp the schemas, to compare these headers with the arguments.
    #[test]
    fn no_tool_wants_arguments_in_headers() {
        for entry in Catalogue::new().iter() {
            let schema = serde_json::to_string(&entry.definition().input_schema).unwrap();
            assert!(!schema.contains("x-mcp-header"), "{}", entry.meta.name);
        }
    }
}
