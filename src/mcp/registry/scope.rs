//! The OAuth scopes, and the scope that each tool requires. It follows from the tool's toolset and effect, so every
//! tool has one. This module does not know about tokens.

use std::fmt;

use crate::mcp::registry::effect::ToolEffect;
use crate::toolset::Toolset;

/// An OAuth scope (RFC 6749, section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OAuthScope {
    /// `calls:read`: reads calls, transcripts, agents and numbers.
    CallsRead,
    /// `calls:place`: rings telephones.
    CallsPlace,
    /// `agents:write`: creates, changes and archives agents.
    AgentsWrite,
    /// `numbers:purchase`: buys numbers.
    NumbersPurchase,
    /// `webhooks:write`: reads and changes webhooks. Reading needs it too, because their addresses often hold secrets.
    WebhooksWrite,
}

impl OAuthScope {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::CallsRead,
        Self::CallsPlace,
        Self::AgentsWrite,
        Self::NumbersPurchase,
        Self::WebhooksWrite,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CallsRead => "calls:read",
            Self::CallsPlace => "calls:place",
            Self::AgentsWrite => "agents:write",
            Self::NumbersPurchase => "numbers:purchase",
            Self::WebhooksWrite => "webhooks:write",
        }
    }

    /// The scope that a tool of this toolset and effect requires.
    #[must_use]
    pub const fn for_tool(toolset: Toolset, kind: ToolEffect) -> Self {
        match (kind, toolset) {
            (ToolEffect::RingsPhone, _) => Self::CallsPlace,
            (ToolEffect::CostsMoney, _) => Self::NumbersPurchase,
            (ToolEffect::Reads | ToolEffect::Writes { .. }, Toolset::Webhooks) => {
                Self::WebhooksWrite
            }
            (ToolEffect::Reads, _) => Self::CallsRead,
            (ToolEffect::Writes { .. }, Toolset::Calls | Toolset::Sandbox) => Self::CallsPlace,
            (ToolEffect::Writes { .. }, Toolset::Account | Toolset::Agents) => Self::AgentsWrite,
            (ToolEffect::Writes { .. }, Toolset::Numbers) => Self::NumbersPurchase,
        }
    }
}

impl fmt::Display for OAuthScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The scopes that a caller was granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GrantedScopes([bool; OAuthScope::ALL.len()]);

impl GrantedScopes {
    /// Parses names separated by spaces; unknown names are ignored.
    #[must_use]
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut granted = Self::default();
        for name in names.into_iter().flat_map(|names| names.split(' ')) {
            for (scope, has) in OAuthScope::ALL.into_iter().zip(&mut granted.0) {
                *has |= scope.as_str() == name;
            }
        }
        granted
    }

    /// Whether the scope was granted.
    #[must_use]
    pub fn contains(self, scope: OAuthScope) -> bool {
        OAuthScope::ALL.into_iter().zip(self.0).any(|(known, has)| has && known == scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::catalogue::Catalogue;

    #[test]
    fn every_tool_needs_the_scope_of_its_effect() {
        let catalogue = Catalogue::new();
        let tools = |scope: OAuthScope| catalogue.names_where(|tool| tool.scope() == scope);
        let reads = catalogue.names_where(|tool| {
            tool.toolset != Toolset::Webhooks && tool.effect == ToolEffect::Reads
        });
        assert_eq!(tools(OAuthScope::CallsRead), reads);
        assert_eq!(
            tools(OAuthScope::CallsPlace),
            [
                "place_call",
                "place_calls",
                "cancel_batch",
                "record_opt_out",
                "confirm_call",
                "simulate_inbound_call"
            ]
        );
        assert_eq!(
            tools(OAuthScope::AgentsWrite),
            ["create_agent", "update_agent", "set_agent_numbers", "archive_agent"]
        );
        assert_eq!(tools(OAuthScope::NumbersPurchase), ["purchase_number"]);
        let webhooks = catalogue.names_where(|tool| tool.toolset == Toolset::Webhooks);
        assert_eq!(tools(OAuthScope::WebhooksWrite), webhooks);
    }

    #[test]
    fn whole_names_are_granted_and_nothing_like_them() {
        let granted = |text: &str| {
            let scopes = GrantedScopes::parse([text]);
            OAuthScope::ALL.into_iter().filter(|scope| scopes.contains(*scope)).collect::<Vec<_>>()
        };
        assert_eq!(
            granted("openid webhooks:write  calls:read"),
            [OAuthScope::CallsRead, OAuthScope::WebhooksWrite]
        );
        for none in ["", "calls", "calls:*", "CALLS:READ", "calls:read,calls:place", "calls:reader"]
        {
            assert_eq!(granted(none), [], "{none}");
        }
    }
}
