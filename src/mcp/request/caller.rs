//! The caller of one request, where a transport serves many callers. The transport attaches it to the request; without
//! it, the server's own selection applies. This module does not know how callers authenticate.

use std::sync::Arc;

use rmcp::model::Extensions;

use crate::dialing::caller::CallerName;
use crate::mcp::registry::selection::Selection;

/// The caller of a request, and the tools that it may use.
#[derive(Debug, Clone)]
pub struct Caller {
    /// A short name for logs that does not identify the caller.
    pub tenant: Arc<str>,
    /// The name in receipts, limits and rules.
    pub name: CallerName,
    /// The tools offered to this request: never more than the server offers.
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
