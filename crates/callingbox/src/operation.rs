//! The operations of the API: for each one the method, the path, and whether it may be sent twice.

use std::fmt;

/// The HTTP methods that the API uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates or starts something. The only method of this API that is not idempotent: a second request may ring a
    /// second telephone or buy a second number.
    Post,
    /// Sets a value.
    Put,
    /// Writes the fields that are sent.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// The method's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a second request has no further effect (RFC 9110 section 9.2.2; PATCH is idempotent in this API, because
    /// it sets fields to values).
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post)
    }
}

/// An operation of the API. It names no ids, so it may be shown, logged and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is documented at the client's method of the same name")]
pub enum ApiOperation {
    ListAgents,
    CreateAgent,
    GetAgent,
    UpdateAgent,
    ArchiveAgent,
    AttachNumber,
    DetachNumber,
    SetPrimaryNumber,
    PlaceCall,
    ListCalls,
    GetCall,
    GetTranscript,
    ListNumbers,
    SearchNumbers,
    PurchaseNumber,
    ListWebhooks,
    CreateWebhook,
    GetWebhook,
    UpdateWebhook,
    DeleteWebhook,
    RotateWebhookSecret,
    ListWebhookDeliveries,
    GetWebhookDelivery,
    RedeliverWebhook,
}

impl ApiOperation {
    /// The HTTP method.
    #[must_use]
    pub const fn method(self) -> Method {
        self.endpoint().0
    }

    /// The template of the path, with a name in braces in place of each id: `/v1/calls/{id}`.
    #[must_use]
    pub const fn path(self) -> &'static str {
        self.endpoint().1
    }

    const fn endpoint(self) -> (Method, &'static str) {
        use Method::{Delete, Get, Patch, Post, Put};
        match self {
            Self::ListAgents => (Get, "/v1/agents"),
            Self::CreateAgent => (Post, "/v1/agents"),
            Self::GetAgent => (Get, "/v1/agents/{id}"),
            Self::UpdateAgent => (Patch, "/v1/agents/{id}"),
            Self::ArchiveAgent => (Delete, "/v1/agents/{id}"),
            Self::AttachNumber => (Post, "/v1/agents/{id}/numbers"),
            Self::DetachNumber => (Delete, "/v1/agents/{id}/numbers/{number_id}"),
            Self::SetPrimaryNumber => (Put, "/v1/agents/{id}/primary-number"),
            Self::PlaceCall => (Post, "/v1/calls"),
            Self::ListCalls => (Get, "/v1/calls"),
            Self::GetCall => (Get, "/v1/calls/{id}"),
            Self::GetTranscript => (Get, "/v1/calls/{id}/transcript"),
            Self::ListNumbers => (Get, "/v1/numbers"),
            Self::SearchNumbers => (Get, "/v1/numbers/available"),
            Self::PurchaseNumber => (Post, "/v1/numbers/purchase"),
            Self::ListWebhooks => (Get, "/v1/webhook_endpoints"),
            Self::CreateWebhook => (Post, "/v1/webhook_endpoints"),
            Self::GetWebhook => (Get, "/v1/webhook_endpoints/{id}"),
            Self::UpdateWebhook => (Patch, "/v1/webhook_endpoints/{id}"),
            Self::DeleteWebhook => (Delete, "/v1/webhook_endpoints/{id}"),
            Self::RotateWebhookSecret => (Post, "/v1/webhook_endpoints/{id}/rotate_secret"),
            Self::ListWebhookDeliveries => (Get, "/v1/webhook_deliveries"),
            Self::GetWebhookDelivery => (Get, "/v1/webhook_deliveries/{id}"),
            Self::RedeliverWebhook => (Post, "/v1/webhook_deliveries/{id}/redeliver"),
        }
    }
}

/// Method and path, such as `GET /v1/calls/{id}`.
impl fmt::Display for ApiOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method().as_str(), self.path())
    }
}
