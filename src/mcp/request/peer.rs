//! The client of one request: the era of its protocol, its capabilities, and how its human can be asked.

use rmcp::model::{ClientCapabilities, InputResponses, ProtocolVersion};
use rmcp::service::{Peer, RequestContext, RoleServer};

use crate::mcp::card;

/// The two eras of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// `initialize`, sessions, requests from server to client: 2024-11-05 to 2025-11-25.
    Sessions,
    /// Stateless, multi-round requests: 2026-07-28 and later.
    Stateless,
}

/// Marks a request whose transport carries one answer and nothing else, so that the server cannot ask its client anything
/// meanwhile. In the stateless era a question is an answer.
#[derive(Debug, Clone, Copy)]
pub struct SingleAnswer;

impl Era {
    /// The era of the protocol of a request.
    #[must_use]
    pub fn from_request(context: &RequestContext<RoleServer>) -> Self {
        // ISO dates compare as texts in the order of time.
        match context.protocol_version() {
            Some(version) if version.as_str() >= ProtocolVersion::V_2026_07_28.as_str() => {
                Self::Stateless
            }
            _ => Self::Sessions,
        }
    }
}

/// The client of one request.
pub struct McpPeer {
    pub era: Era,
    capabilities: ClientCapabilities,
    /// The connection for requests of the server to the client (era of sessions only).
    pub peer: Peer<RoleServer>,
    /// The human's answer to the previous round, if there was one.
    pub input_responses: Option<InputResponses>,
    /// The signed state of the previous round, not yet verified.
    pub request_state: Option<String>,
    /// The session of the request, where the transport has sessions.
    pub session_id: Option<String>,
    /// The name that the client gives itself.
    pub name: Option<String>,
}

impl McpPeer {
    /// Reads it from the request.
    #[must_use]
    pub fn from_request(
        context: &RequestContext<RoleServer>,
        input_responses: Option<InputResponses>,
        request_state: Option<String>,
    ) -> Self {
        let era = Era::from_request(context);
        let mut capabilities = context.client_capabilities().unwrap_or_default();
        let head = context.extensions.get::<http::request::Parts>();
        if era == Era::Sessions
            && head.is_some_and(|head| head.extensions.get::<SingleAnswer>().is_some())
        {
            capabilities.elicitation = None;
        }
        Self {
            era,
            capabilities,
            peer: context.peer.clone(),
            input_responses,
            request_state,
            session_id: head
                .and_then(|head| head.headers.get("mcp-session-id")?.to_str().ok())
                .map(str::to_owned),
            name: context.client_info().map(|client| client.name),
        }
    }

    /// Whether the client can show a form to its human.
    #[must_use]
    pub fn can_ask_human(&self) -> bool {
        self.capabilities
            .elicitation
            .as_ref()
            .is_some_and(|elicitation| elicitation.form.is_some() || elicitation.url.is_none())
    }

    /// Whether the client can show the call card.
    #[must_use]
    pub fn shows_card(&self) -> bool {
        card::is_supported(&self.capabilities)
    }

    /// Whether the client supports tasks (`io.modelcontextprotocol/tasks`).
    #[must_use]
    pub fn supports_tasks(&self) -> bool {
        self.capabilities.supports_tasks()
    }
}
