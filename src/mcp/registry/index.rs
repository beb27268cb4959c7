//! The names and effects of all tools. This module does not know which tools a caller is offered.

use std::sync::Arc;

use crate::mcp::registry::effect::ToolEffect;
use crate::mcp::registry::scope::OAuthScope;
use crate::suggest::{UnknownName, most_similar};
use crate::toolset::Toolset;

/// The name, toolset and effect of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolMeta {
    /// The tool's name.
    pub name: &'static str,
    /// The name for people.
    pub title: &'static str,
    /// The tool's group.
    pub toolset: Toolset,
    /// The effect of a call.
    pub effect: ToolEffect,
    /// What the call card has to do with it.
    pub card: CardRole,
}

impl ToolMeta {
    /// The OAuth scope that a call of this tool requires.
    #[must_use]
    pub fn scope(&self) -> OAuthScope {
        OAuthScope::for_tool(self.toolset, self.effect)
    }
}

/// What the call card has to do with a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardRole {
    /// Nothing.
    Unrelated,
    /// The card shows its results. Only a tool that changes something has this role: a model repeats tools that read, and
    /// each result would open another card.
    ShowsResult,
    /// The card calls it and the model should not. It is offered as long as one of the tools that it serves is.
    AppOnly { serves: &'static [ToolMeta] },
}

impl CardRole {
    /// Whether only the card calls the tool.
    #[must_use]
    pub const fn is_app_only(self) -> bool {
        matches!(self, Self::AppOnly { .. })
    }
}

/// The metadata of all tools. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ToolIndex(Arc<[ToolMeta]>);

impl ToolIndex {
    /// All tools in their order.
    pub fn iter(&self) -> impl Iterator<Item = &ToolMeta> {
        self.0.iter()
    }

    /// The tool of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ToolMeta> {
        self.iter().find(|tool| tool.name == name)
    }

    /// The error for a tool that does not exist.
    #[must_use]
    pub fn unknown_tool(&self, name: &str) -> UnknownName {
        UnknownName::new("tool", name, self.iter().map(|tool| tool.name.to_owned()))
    }

    /// The existing name that is most similar to `name`, if any is.
    #[must_use]
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        most_similar(name, self.iter().map(|tool| tool.name))
    }
}

impl FromIterator<ToolMeta> for ToolIndex {
    fn from_iter<T: IntoIterator<Item = ToolMeta>>(tools: T) -> Self {
        Self(tools.into_iter().collect())
    }
}
