//! What one caller can use: the tools that it is offered, in which environment. Texts for a caller refer to
//! these tools only.

use std::sync::Arc;

use super::name::ToolName;
use crate::account::Environment;
use crate::mcp::registry::index::ToolIndex;
use crate::mcp::registry::selection::Selection;

/// The tools that one caller can use. Cheap to create: every request has one, and few need it.
#[derive(Clone)]
pub struct AvailableTools {
    index: ToolIndex,
    selection: Arc<Selection>,
    environment: Environment,
}

impl AvailableTools {
    /// The tools that `selection` offers.
    #[must_use]
    pub fn new(index: &ToolIndex, selection: &Arc<Selection>, environment: Environment) -> Self {
        Self { index: index.clone(), selection: Arc::clone(selection), environment }
    }

    #[must_use]
    pub fn contains(&self, tool: ToolName) -> bool {
        self.index.get(tool.as_str()).is_some_and(|meta| self.selection.offers(meta))
    }

    /// Whether the call card is switched on for this caller.
    #[must_use]
    pub fn has_card(&self) -> bool {
        !self.selection.no_ui
    }

    #[must_use]
    pub fn environment(&self) -> Environment {
        self.environment
    }
}
