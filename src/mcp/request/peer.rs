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

/// The client of one request.
pub struct McpPeer {
    era: Era,
    capabilities: ClientCapabilities,
    peer: Peer<RoleServer>,
    input_responses: Option<InputResponses>,
    request_state: Option<String>,
    session_id: Option<String>,
    name: Option<String>,
}

impl McpPeer {
    /// Reads it from the request.
    #[must_use]
    pub fn from_request(
        context: &RequestContext<RoleServer>,
        input_responses: Option<InputResponses>,
        request_state: Option<String>,
    ) -> Self {
        // ISO dates compare as texts in the order of time.
        let stateless = context
            .protocol_version()
            .is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str());
        let mut capabilities = context.client_capabilities().unwrap_or_default();
        let head = context.extensions.get::<http::request::Parts>();
        if !stateless && head.is_some_and(|head| head.extensions.get::<SingleAnswer>().is_some()) {
            capabilities.elicitation = None;
        }
        Self {
            era: if stateless { Era::Stateless } else { Era::Sessions },
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

    /// The era of its protocol.
    #[must_use]
    pub fn era(&self) -> Era {
        self.era
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

    /// The name that the client gives itself.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the client supports tasks (`io.modelcontextprotocol/tasks`).
    #[must_use]
    pub fn supports_tasks(&self) -> bool {
        self.capabilities.supports_tasks()
    }

    /// The connection for requests of the server to the client (era of sessions only).
    #[must_use]
    pub fn peer(&self) -> &Peer<RoleServer> {
        &self.peer
    }

    /// The human's answer to the previous round, if there was one.
    #[must_use]
    pub fn input_responses(&self) -> Option<&InputResponses> {
        self.input_responses.as_ref()
    }

    /// The session of the request, where the transport has sessions.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// The signed state of the previous round, not yet verified.
    #[must_use]
    pub fn request_state(&self) -> Option<&str> {
        self.request_state.as_deref()
    }
}
