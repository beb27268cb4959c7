//! On whose behalf one request comes, where a transport has many callers. The transport puts it beside
//! the request; without it, the server's own word stands. Knows nothing of how callers are told apart.

use std::sync::Arc;

use rmcp::model::Extensions;

use crate::mcp::registry::selection::Selection;

/// Who calls, and what this request may use.
#[derive(Debug, Clone)]
pub struct Caller {
    /// A short name for logs, from which nothing about the caller can be found.
    pub tenant: Arc<str>,
    /// What is offered to this request: never more than the server offers.
    pub selection: Arc<Selection>,
}

impl Caller {
    /// The caller of a request. rmcp's HTTP transport hands on the whole head of the HTTP request, and
    /// what the server put beside it is in there.
    #[must_use]
    pub fn from_extensions(extensions: &Extensions) -> Option<&Self> {
        let beside = || extensions.get::<http::request::Parts>()?.extensions.get::<Self>();
        extensions.get::<Self>().or_else(beside)
    }
}
