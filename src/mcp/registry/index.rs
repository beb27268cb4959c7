//! What is known of all tools without calling one: what they are called, and what they do to the world.
//! Knows nothing of what a caller is offered.

use std::sync::Arc;

use crate::mcp::registry::effect::ToolEffect;
use crate::mcp::registry::scope::OAuthScope;
use crate::suggest::{UnknownName, most_similar};
use crate::toolset::Toolset;

/// What is known of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolMeta {
    /// The tool's name.
    pub name: &'static str,
    /// The name for people.
    pub title: &'static str,
    /// The tool's group.
    pub toolset: Toolset,
    /// What it does to the world.
    pub effect: ToolEffect,
}

impl ToolMeta {
    /// What a caller must be granted to call it, where callers are granted anything.
    #[must_use]
    pub fn scope(&self) -> OAuthScope {
        OAuthScope::for_tool(self.toolset, self.effect)
    }
}

/// All tools by what is known of them. Cheap to clone.
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

    /// What is said of a tool that does not exist.
    #[must_use]
    pub fn unknown_tool(&self, name: &str) -> UnknownName {
        UnknownName::new("tool", name, self.iter().map(|tool| tool.name.to_owned()))
    }

    /// The existing name that is most like `name`, if any is.
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
